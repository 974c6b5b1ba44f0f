//! Secrets of a requirement: made once, kept in its directory (0600), never anywhere else.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::model::{Claim, Jwt, Preset};

/// Bytes of a block of SHA-256 (FIPS 180-4), which HMAC pads its key to (RFC 2104).
const BLOCK_BYTES: usize = 64;

/// All secrets of a requirement, by name: those that are kept, else new ones, which are kept first.
///
/// # Errors
/// With the path in the text.
pub fn secrets(preset: &Preset, dir: &Path) -> io::Result<BTreeMap<String, String>> {
    let mut made = BTreeMap::new();
    for (name, secret) in preset.secrets.iter().filter(|(_, secret)| secret.jwt.is_none()) {
        made.insert(name.clone(), kept_or_new(dir, name, secret.bytes)?);
    }
    for (name, secret) in &preset.secrets {
        let Some(jwt) = &secret.jwt else { continue };
        let Some(key) = made.get(&jwt.key) else { continue };
        let token = token(jwt, key.as_bytes());
        made.insert(name.clone(), token);
    }
    Ok(made)
}

/// Where a secret is kept.
pub fn path(dir: &Path, name: &str) -> PathBuf {
    dir.join(name)
}

fn kept_or_new(dir: &Path, name: &str, bytes: u8) -> io::Result<String> {
    let path = path(dir, name);
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    match fs::read_to_string(&path) {
        Ok(kept) if !kept.trim().is_empty() => return Ok(kept.trim().to_owned()),
        Ok(_) => fs::remove_file(&path).map_err(named)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(named(error)),
    }
    make(dir, &path, bytes).map_err(named)
}

fn make(dir: &Path, path: &Path, bytes: u8) -> io::Result<String> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let mut random = vec![0u8; usize::from(bytes)];
    fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
    let secret: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut file = tempfile::NamedTempFile::new_in(dir)?; // 0600
    writeln!(file, "{secret}")?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(secret),
        // Somebody else was quicker: one of the two is the secret, not one each.
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            Ok(fs::read_to_string(path)?.trim().to_owned())
        }
        Err(error) => Err(error.error),
    }
}

/// A token: header and claims, signed with HMAC-SHA256 (RFC 7515, HS256). The same input gives the same token.
fn token(jwt: &Jwt, key: &[u8]) -> String {
    let claims: serde_json::Map<String, serde_json::Value> = jwt
        .claims
        .iter()
        .map(|(name, claim)| {
            let value = match claim {
                Claim::Number(number) => (*number).into(),
                Claim::Text(text) => text.clone().into(),
            };
            (name.clone(), value)
        })
        .collect();
    let header = base64url(br#"{"alg":"HS256","typ":"JWT"}"#);
    let signed = format!("{header}.{}", base64url(serde_json::Value::Object(claims).to_string().as_bytes()));
    let signature = base64url(&hmac(key, signed.as_bytes()));
    format!("{signed}.{signature}")
}

/// HMAC-SHA256 (RFC 2104).
fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0u8; BLOCK_BYTES];
    if key.len() > BLOCK_BYTES {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let padded = |pad: u8| block.map(|byte| byte ^ pad);
    let inner = Sha256::new().chain_update(padded(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize().into()
}

/// Base64 for URLs, without padding (RFC 4648, section 5).
fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, byte| (word << 8) | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for at in 0..=chunk.len() {
            let index = (word >> (18 - 6 * at)) & 0x3f;
            text.push(char::from(ALPHABET[index as usize]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_examples_of_the_rfcs_come_out() {
        // RFC 4231, test case 2.
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let mac = hmac(b"Jefe", b"what do ya want for nothing?");
        assert_eq!(hex(&mac), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        assert_eq!(
            hex(&hmac(&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First")),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        );
        // RFC 4648, section 10.
        for (plain, coded) in [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64url(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn a_secret_is_made_once_and_kept_for_us_alone() {
        let dir = tempfile::TempDir::new().unwrap();
        let preset = super::super::builtin("postgres").unwrap();
        let first = secrets(&preset, dir.path()).unwrap();
        assert_eq!(first["password"].len(), 32);
        assert_eq!(secrets(&preset, dir.path()).unwrap(), first);
        let mode = fs::metadata(path(dir.path(), "password")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
    }
}
