//! A URL of a server, taken apart (RFC 3986, as far as databases use it). Pure.

/// The parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url {
    scheme: String,
    /// The user, decoded.
    pub(super) user: Option<String>,
    /// The password, decoded.
    pub(super) password: Option<String>,
    /// The host, without brackets.
    pub(super) host: String,
    /// The port, if it is written.
    pub(super) port: Option<u16>,
    /// The path without its first slash, decoded; `None` if there is none.
    pub(super) path: Option<String>,
}

// === impl Url ===

impl Url {
    /// Takes a text apart; `None` if it is no URL with a host.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.trim().split_once("://")?;
        let end = rest.find(['?', '#']).unwrap_or(rest.len());
        let (authority, path) = match rest[..end].split_once('/') {
            Some((authority, path)) => (authority, Some(path)),
            None => (&rest[..end], None),
        };
        let (userinfo, host) = match authority.rsplit_once('@') {
            Some((userinfo, host)) => (Some(userinfo), host),
            None => (None, authority),
        };
        let (user, password) = match userinfo.map(|info| info.split_once(':').unwrap_or((info, ""))) {
            Some((user, password)) => (part(user), part(password)),
            None => (None, None),
        };
        let (host, port) = host_and_port(host)?;
        let scheme = scheme.to_ascii_lowercase();
        Some(Self { scheme, user, password, host, port, path: path.and_then(part) })
    }

    /// Whether it is of this scheme, also with a driver behind it: `postgresql+asyncpg`.
    pub(super) fn is_of(&self, scheme: &str) -> bool {
        self.scheme.split('+').next() == Some(scheme)
    }
}

fn host_and_port(text: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None => match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        Some(port) => Some(port.parse().ok()?),
        None => None,
    };
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

fn part(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| decoded(text))
}

/// Undoes percent-encoding; what is none stays as it is.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).filter(|_| *first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart_and_decoded() {
        let url = Url::parse("postgresql+asyncpg://me%40home:p%2Fw@db.example:6543/shop?sslmode=require").unwrap();
        assert!(url.is_of("postgresql") && !url.is_of("mysql"));
        assert_eq!((url.user.as_deref(), url.password.as_deref()), (Some("me@home"), Some("p/w")));
        assert_eq!((url.host.as_str(), url.port, url.path.as_deref()), ("db.example", Some(6543), Some("shop")));
    }

    #[test]
    fn what_is_left_out_is_none() {
        let url = Url::parse("redis://[::1]").unwrap();
        assert_eq!((url.host.as_str(), url.port, url.path, url.user), ("::1", None, None, None));
        for bad in ["", "localhost:5432", "redis://", "redis://h:port"] {
            assert_eq!(Url::parse(bad), None, "{bad}");
        }
    }
}
