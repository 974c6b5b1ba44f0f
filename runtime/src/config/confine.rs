//! What a unit may use and whose rights it has: `limits`, `nice`, `umask`, `user`, `stdin`.

use std::path::PathBuf;

use envctl_actors::process::Limits;

use super::diagnostic::Findings;
use super::duration::parse_size;
use super::origin::At;
use super::reader::{Reader, Wanted, wrong_type};
use super::tree::Value;
use crate::spec::Confines;

/// Less memory than this starts no program: the first page of its C library would be one too many.
const MEMORY_MIN_BYTES: u64 = 1024 * 1024;
/// The kernel measures processor time out in slices of a millisecond or more in 100 ms (cgroups(7), `cpu.max`).
const CPU_MIN_MILLI: u64 = 10;
/// More processors than any machine has; beyond, a slip of the pen.
const CPU_MAX_MILLI: u64 = 4_096_000;
/// Fewer descriptors are too few to load a shared library.
const OPEN_FILES_MIN: u32 = 16;
/// Longest name of an account (useradd(8)).
const ACCOUNT_NAME_MAX: usize = 32;
/// No limit, as setrlimit(2) has it.
const UNLIMITED: u64 = u64::MAX;

const CPU: Wanted = Wanted { what: "a number of processors", example: "a number such as 1.5 or 2, without quotes" };
const CORE: Wanted = Wanted { what: "a size in quotes, \"0\" or \"unlimited\"", example: "\"0\" or \"unlimited\"" };
const NICE: Wanted = Wanted { what: "an integer from -20 to 19", example: "a whole number such as 5" };
const UMASK: Wanted = Wanted { what: "octal digits in quotes", example: "\"027\" or \"077\", with quotes" };

/// Reads what units of all kinds have: `limits` and `nice`.
pub(super) fn shared(findings: &mut Findings, reader: &mut Reader<'_>) -> Confines {
    let mut limits = limits(findings, reader);
    limits.nice = nice(findings, reader);
    Confines { limits, ..Confines::default() }
}

/// Reads what only services and tasks have: `umask`, `user` and `stdin`.
pub(super) fn own(findings: &mut Findings, reader: &mut Reader<'_>, confines: &mut Confines) {
    confines.limits.umask = umask(findings, reader);
    confines.user = user(findings, reader);
    confines.stdin = stdin(findings, reader);
}

fn limits(findings: &mut Findings, reader: &mut Reader<'_>) -> Limits {
    let path = reader.path("limits");
    let Some((keys, _)) = reader.table(findings, "limits") else { return Limits::default() };
    let mut inner = Reader::new(path, keys);
    let limits = Limits {
        memory: at_least(findings, &mut inner, "memory"),
        cpu_milli: cpu(findings, &mut inner),
        processes: count(findings, &mut inner, "processes", 1),
        open_files: count(findings, &mut inner, "open_files", OPEN_FILES_MIN),
        core: core(findings, &mut inner),
        file_size: inner.size(findings, "file_size"),
        ..Limits::default()
    };
    inner.finish(findings);
    limits
}

fn at_least(findings: &mut Findings, reader: &mut Reader<'_>, key: &'static str) -> Option<u64> {
    let bytes = reader.size(findings, key)?;
    let at = &reader.node(key)?.at;
    if bytes < MEMORY_MIN_BYTES {
        let message = format!("{} must be 1MiB or more", reader.path(key));
        findings.error("out-of-range", at, message).hint("write what it needs with room to spare, such as \"512MiB\"");
        return None;
    }
    Some(bytes)
}

fn count(findings: &mut Findings, reader: &mut Reader<'_>, key: &'static str, min: u32) -> Option<u64> {
    let count = reader.count(findings, key)?;
    let at = &reader.node(key)?.at;
    if count < min {
        let message = format!("{} must be {min} or more", reader.path(key));
        findings.error("out-of-range", at, message).hint(format!("write {key} = {}", min.max(256)));
        return None;
    }
    Some(u64::from(count))
}

fn cpu(findings: &mut Findings, reader: &mut Reader<'_>) -> Option<u64> {
    let node = reader.node("cpu")?;
    let path = reader.path("cpu");
    let processors = match &node.value {
        Value::Integer(whole) => whole.to_string().parse::<f64>().ok(),
        Value::Float(text) => text.replace('_', "").parse::<f64>().ok(),
        _ => return wrong_type(findings, node, &path, &CPU),
    };
    let milli = processors.map(|processors| (processors * 1000.0).round()).filter(|milli| milli.is_finite());
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast of a float saturates")]
    let milli = milli.map(|milli| milli as u64).filter(|milli| (CPU_MIN_MILLI..=CPU_MAX_MILLI).contains(milli));
    if milli.is_none() {
        let message = format!("{path} must be from 0.01 to 4096 processors");
        findings.error("out-of-range", &node.at, message).hint("write cpu = 1.5 for one processor and a half");
    }
    milli
}

/// A size, or one of two words; `0` without a unit is no guess.
fn core(findings: &mut Findings, reader: &mut Reader<'_>) -> Option<u64> {
    let node = reader.node("core")?;
    let path = reader.path("core");
    match &node.value {
        Value::Text(word) if word == "unlimited" => Some(UNLIMITED),
        Value::Text(word) if word == "0" => Some(0),
        Value::Integer(0) => Some(0),
        Value::Text(text) => match parse_size(text) {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                let message = format!("{path} is not a size: {error}");
                findings.error("bad-size", &node.at, message).hint("write \"0\", \"unlimited\" or a size: \"64MiB\"");
                None
            }
        },
        _ => wrong_type(findings, node, &path, &CORE),
    }
}

fn nice(findings: &mut Findings, reader: &mut Reader<'_>) -> Option<i32> {
    let node = reader.node("nice")?;
    let path = reader.path("nice");
    let Value::Integer(value) = node.value else { return wrong_type(findings, node, &path, &NICE) };
    let nice = i32::try_from(value).ok().filter(|nice| (-20..=19).contains(nice));
    if nice.is_none() {
        let message = format!("{path} must be from -20 to 19");
        findings.error("out-of-range", &node.at, message).hint("write 19 for what may wait, 0 for what may not");
    }
    nice
}

fn umask(findings: &mut Findings, reader: &mut Reader<'_>) -> Option<u32> {
    let node = reader.node("umask")?;
    let path = reader.path("umask");
    let Value::Text(text) = &node.value else { return wrong_type(findings, node, &path, &UMASK) };
    let digits = !text.is_empty() && text.len() <= 4 && text.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
    let mask = u32::from_str_radix(text, 8).ok().filter(|mask| digits && *mask <= 0o777);
    if mask.is_none() {
        let message = format!("{path} is not a file mode mask");
        findings
            .error("bad-value", &node.at, message)
            .hint("write octal digits from \"000\" to \"777\", as in \"027\"");
    }
    mask
}

fn user(findings: &mut Findings, reader: &mut Reader<'_>) -> Option<String> {
    let user = reader.text(findings, "user")?;
    if user.value.is_empty() {
        let message = format!("{} is empty", reader.path("user"));
        findings.error("bad-value", &user.at, message).hint("write the name of an account, or take `user` away");
        return None;
    }
    if !is_account_name(user.value) {
        let message = format!("{} cannot be \"{}\": it is not the name of an account", reader.path("user"), user.value);
        let hint =
            "a name begins with a letter or `_` and goes on with letters, digits, `_`, `-` and `.`; a uid is no name";
        findings.error("bad-value", &user.at, message).hint(hint);
        return None;
    }
    Some(user.value.to_owned())
}

/// What useradd(8) lets through, and a little more. A name that begins with a digit might be read as a uid, and as root's.
fn is_account_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    first && name.len() <= ACCOUNT_NAME_MAX && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
}

/// A file of the project; `"null"` is none.
fn stdin(findings: &mut Findings, reader: &mut Reader<'_>) -> Option<PathBuf> {
    let written: At<&str> = reader.text(findings, "stdin")?;
    match written.value {
        "null" => None,
        "" => {
            let message = format!("{} is empty", reader.path("stdin"));
            findings.error("bad-value", &written.at, message).hint("write \"null\" or the path of a file");
            None
        }
        path => {
            let path = findings.root().join(path);
            if !path.is_file() {
                let message = format!("the file \"{}\" is not there", written.value);
                findings.warning("missing-file", &written.at, message).hint("it must be there when the unit starts");
            }
            Some(path)
        }
    }
}
