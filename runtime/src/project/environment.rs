//! A unit's environment, each value with its origin.
//!
//! From the bottom: what the caller's environment lets through, what the runtime derives, the project's values, the
//! unit's, and last the envelope, which nobody can override. The daemon's own environment is no part of it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;

use envctl_actors::requirement::preset::Value;
use indexmap::IndexMap;

use crate::control::view::VariableView;
use crate::spec::{Attributes, Inherit, MissingAttribute, Origin, Piece, ProjectSpec, Sourced, Template, UnitSpec};

/// The environment of whoever ran `up`.
pub type Capture = BTreeMap<OsString, OsString>;

/// Shown instead of a secret.
pub const MASK: &str = "********";

/// What a unit with a terminal is told of it, unless it is told by whoever ran `up` or by the configuration: what terminals are today.
const TERM_DEFAULT: &str = "xterm-256color";

/// Variables that describe the caller's own shell or session of ours: never passed on.
const NEVER_INHERITED: [&str; 5] = ["ENVCTL_RT_VARS", "ENVCTL_SESSION", "ENVCTL_UNIT", "ENVCTL_PROJECT", "_"];
/// Parts of a name that make its value a secret for `env` and `config show`.
const SECRET_WORDS: [&str; 9] =
    ["PASSWORD", "PASSWD", "SECRET", "TOKEN", "APIKEY", "API_KEY", "PRIVATE_KEY", "CREDENTIAL", "PASSPHRASE"];

/// One variable of a unit.
#[derive(Debug, Clone)]
pub struct Variable {
    /// Its value.
    pub value: OsString,
    /// Where it came from.
    pub origin: Origin,
    /// Whether it holds a secret attribute.
    pub secret: bool,
}

/// A unit's whole environment.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    variables: BTreeMap<OsString, Variable>,
}

// === impl Environment ===

impl Environment {
    /// Puts a unit's environment together. `derived` are the runtime's variables without the envelope, `ready_made` those of
    /// the requirements it needs.
    pub fn of_unit(
        project: &ProjectSpec,
        unit: &UnitSpec,
        capture: &Capture,
        derived: Vec<(String, String)>,
        ready_made: Vec<(String, Value)>,
        attributes: &Attributes,
    ) -> Result<Self, MissingAttribute> {
        let mut this = Self::default();
        this.inherit(capture, &project.inherit);
        for (name, value) in derived {
            this.set(name, value.into(), Origin::Derived, false);
        }
        for (name, value) in ready_made {
            this.set(name, value.text.into(), Origin::Derived, value.secret);
        }
        this.declare(&project.env, attributes)?;
        this.declare(&unit.env, attributes)?;
        if unit.kind.tty().is_some() && !this.names_a_terminal() {
            this.set("TERM".to_owned(), TERM_DEFAULT.into(), Origin::Derived, false);
        }
        Ok(this)
    }

    /// Adds the envelope, which wins over everything.
    pub fn seal(&mut self, (name, value): (String, String)) {
        self.set(name, value.into(), Origin::Derived, false);
    }

    /// The variables as a process gets them.
    pub fn into_pairs(self) -> BTreeMap<OsString, OsString> {
        self.variables.into_iter().map(|(name, variable)| (name, variable.value)).collect()
    }

    /// The variables as people see them.
    pub fn views(&self, reveal: bool) -> Vec<VariableView> {
        let view = |(name, variable): (&OsString, &Variable)| {
            let name = name.to_string_lossy().into_owned();
            let text = variable.value.to_string_lossy().into_owned();
            let masked = mask(&name, &text, variable.secret);
            let secret = masked != text;
            let value = if reveal { text } else { masked };
            VariableView { name, value, origin: describe(&variable.origin), secret }
        };
        self.variables.iter().map(view).collect()
    }

    fn inherit(&mut self, capture: &Capture, inherit: &Inherit) {
        for (name, value) in capture {
            let passes = match inherit {
                Inherit::All => true,
                Inherit::Nothing => false,
                Inherit::Names(names) => names.iter().any(|wanted| wanted.as_str() == name),
            };
            if passes && !NEVER_INHERITED.iter().any(|never| *never == name) {
                let variable = Variable { value: value.clone(), origin: Origin::Caller, secret: false };
                self.variables.insert(name.clone(), variable);
            }
        }
    }

    fn declare(
        &mut self,
        declared: &IndexMap<String, Sourced<Template>>,
        attributes: &Attributes,
    ) -> Result<(), MissingAttribute> {
        for (name, template) in declared {
            let value = template.value.fill(attributes)?;
            let secret = is_secret(&template.value, attributes);
            self.set(name.clone(), value.into(), template.origin.clone(), secret);
        }
        Ok(())
    }

    /// Whether `TERM` says what the unit's terminal can do. What a caller without a terminal has there does not.
    fn names_a_terminal(&self) -> bool {
        let term = self.variables.get(OsStr::new("TERM"));
        term.is_some_and(|term| term.origin != Origin::Caller || term.value != "dumb")
    }

    fn set(&mut self, name: String, value: OsString, origin: Origin, secret: bool) {
        self.variables.insert(name.into(), Variable { value, origin, secret });
    }
}

/// The capture from its wire form.
pub fn capture_from_bytes(pairs: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> Capture {
    pairs.into_iter().map(|(name, value)| (OsString::from_vec(name), OsString::from_vec(value))).collect()
}

/// The value as it may be shown. A variable with a telling name is masked whole; of other values the user information of
/// every URL, and a secret attribute that has none is masked whole.
pub fn mask(name: &str, value: &str, secret: bool) -> String {
    let name = name.to_ascii_uppercase();
    if value.is_empty() {
        return String::new();
    }
    if SECRET_WORDS.iter().any(|word| name.contains(word)) {
        return MASK.to_owned();
    }
    match mask_userinfo(value) {
        Some(masked) => masked,
        None if secret => MASK.to_owned(),
        None => value.to_owned(),
    }
}

/// Where a value came from, in words.
pub fn describe(origin: &Origin) -> String {
    match origin {
        Origin::Default => "default".to_owned(),
        Origin::File(position) => position.to_string(),
        Origin::Caller => "caller".to_owned(),
        Origin::Derived => "derived".to_owned(),
    }
}

/// `scheme://user:password@host` → `scheme://user:********@host`, for every URL in the value; a token without a colon is
/// masked whole. A password may hold any character, so the user information ends at the last `@` before the next URL.
fn mask_userinfo(value: &str) -> Option<String> {
    let mut masked = String::new();
    let (mut rest, mut found) = (value, false);
    while let Some(at) = rest.find("://") {
        let (scheme, tail) = rest.split_at(at + "://".len());
        masked.push_str(scheme);
        let end = tail.find("://").map_or(tail.len(), |next| tail[..next].rfind([',', ' ', ';', '"']).unwrap_or(next));
        let (url, after) = tail.split_at(end);
        match url.rsplit_once('@') {
            None => masked.push_str(url),
            Some((userinfo, host)) => {
                found = true;
                let user = userinfo.split_once(':').map_or(String::new(), |(user, _)| format!("{user}:"));
                masked.push_str(&format!("{user}{MASK}@{host}"));
            }
        }
        rest = after;
    }
    masked.push_str(rest);
    found.then_some(masked)
}

fn is_secret(template: &Template, attributes: &Attributes) -> bool {
    template.pieces.iter().any(|piece| match piece {
        Piece::Text(_) => false,
        Piece::Attribute { unit, attribute } => {
            attributes.get(unit).and_then(|of_unit| of_unit.get(attribute)).is_some_and(|found| found.secret)
        }
    })
}

/// The `PATH` of a capture.
pub fn path_of(capture: &Capture) -> OsString {
    const PATH_DEFAULT: &str = "/usr/local/bin:/usr/bin:/bin";
    capture.get(std::ffi::OsStr::new("PATH")).cloned().unwrap_or_else(|| PATH_DEFAULT.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_a_url_is_masked_and_the_rest_stays_readable() {
        assert_eq!(mask("DATABASE_URL", "postgresql://u:pw@h:1/d", true), "postgresql://u:********@h:1/d");
        assert_eq!(mask("R", "https://ghp_TOKEN@github.com/x", false), "https://********@github.com/x");
        assert_eq!(mask("D", "postgres://u:p/w@h/d", false), "postgres://u:********@h/d");
        let two = "redis://a:P1@h1,redis://c:P2@h2";
        assert_eq!(mask("R", two, false), "redis://a:********@h1,redis://c:********@h2");
        assert_eq!(mask("URL", "http://h/a?b=c", false), "http://h/a?b=c");
        assert_eq!(mask("API_TOKEN", "x", false), MASK);
        assert_eq!(mask("AUTHOR", "me", false), "me");
        assert_eq!(mask("KEYBOARD", "de", false), "de");
    }
}
