//! What a process is to the session, as a type and as the text that heart keeps.

use std::fmt;
use std::str::FromStr;

use envctl_supervisors::Name;

/// What a process is to the session.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag {
    /// The project's key in the session.
    pub project: String,
    /// The unit.
    pub unit: Name,
    /// The unit's life.
    pub incarnation: u32,
    /// What it does for the unit.
    pub role: Role,
}

/// What a process does for its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// It is the unit.
    Main,
    /// It prepares the unit (`initdb`).
    Step,
    /// It asks about the unit's health.
    Probe,
}

// === impl Tag ===

impl Tag {
    /// Whether it is of the same life of the same unit.
    pub(super) fn is_of_life(&self, other: &Self) -> bool {
        (self.incarnation, &self.unit, &self.project) == (other.incarnation, &other.unit, &other.project)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = match self.role {
            Role::Main => "main",
            Role::Step => "step",
            Role::Probe => "probe",
        };
        write!(f, "{}#{}#{}#{role}", self.project, self.unit, self.incarnation)
    }
}

impl FromStr for Tag {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("not a tag: {text:?}");
        let mut parts = text.rsplitn(4, '#');
        let role = match parts.next() {
            Some("main") => Role::Main,
            Some("step") => Role::Step,
            Some("probe") => Role::Probe,
            _ => return Err(bad()),
        };
        let incarnation = parts.next().and_then(|part| part.parse().ok()).ok_or_else(bad)?;
        let unit = parts.next().and_then(|part| Name::new(part).ok()).ok_or_else(bad)?;
        let project = parts.next().ok_or_else(bad)?.to_owned();
        Ok(Self { project, unit, incarnation, role })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_survives_the_way_to_heart_and_back() {
        let tag = Tag {
            project: "repo-0123456789ab/feature#1".to_owned(),
            unit: Name::new("api").unwrap(),
            incarnation: 12,
            role: Role::Probe,
        };
        assert_eq!(tag.to_string().parse(), Ok(tag));
        assert!("a#b".parse::<Tag>().is_err());
    }
}
