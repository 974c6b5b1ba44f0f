//! What a unit is confined to: as whom it runs, and what is told when a limit cannot be held, is reached, or when the
//! machine itself is short of something.

use std::fs;

use envctl_actors::process::RunAs;
use envctl_actors::process::account::{self, Account};
use envctl_supervisors::Name;
use envctl_supervisors::reason::StartError;
use envctl_supervisors::spec::Incarnation;

use super::state::Project;
use crate::config::format_size;
use crate::journal::events::EventKind;
use crate::spec::Confines;

/// How a cause begins that is the machine's and not the unit's.
pub(super) const SHORT: &str = "cannot be started yet";

/// The account a unit runs as; `None`: ours.
pub(super) fn account_of(confines: &Confines) -> Result<Option<Account>, StartError> {
    let Some(user) = &confines.user else { return Ok(None) };
    // A machine without accounts has none of this name either.
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    choose(user, nix::unistd::geteuid().as_raw(), &passwd)
}

/// Whose rights a unit has.
pub(super) fn run_as(account: Option<&Account>) -> RunAs {
    account.map_or(RunAs::Caller, |account| RunAs::User { uid: account.uid, gid: account.gid })
}

/// What login(1) sets: a program that looks for its files must not look for ours.
pub(super) fn variables(account: &Account) -> [(String, String); 3] {
    [("HOME", &account.home), ("USER", &account.name), ("LOGNAME", &account.name)]
        .map(|(name, value)| (name.to_owned(), value.clone()))
}

/// What a unit that reached its memory limit died of.
pub(super) fn oom_text(limit: Option<u64>) -> String {
    match limit {
        Some(bytes) => format!("killed by the kernel: out of memory (limit {})", format_size(bytes)),
        None => "killed by the kernel: out of memory".to_owned(),
    }
}

fn choose(user: &str, ours: u32, passwd: &str) -> Result<Option<Account>, StartError> {
    let refuse = |message: String, hint: String| StartError { message, hint: Some(hint), retry: false };
    let Some(account) = account::by_name(passwd, user) else {
        let message = format!("run as `{user}`: this machine has no such account");
        return Err(refuse(message, "write a name from /etc/passwd in `user`, or make it: `useradd`".to_owned()));
    };
    match (account.uid == ours, ours == 0) {
        (true, _) => Ok(None),
        (false, true) => Ok(Some(account)),
        (false, false) => {
            let message = format!("run as `{user}`: only root may run a unit as another user");
            Err(refuse(message, "take `user` away, or run envctl as root or as that user".to_owned()))
        }
    }
}

// === impl Project ===

impl Project {
    /// This machine is short of something: told once, and shown while it lasts.
    pub(super) fn short(&mut self, id: &Name, incarnation: Incarnation, error: &StartError) {
        let message = format!("{id} failed to {error}; it is tried again until there is enough");
        let mut event = EventKind::UnitStartFailed.event("", message).unit(id).incarnation(incarnation);
        if let Some(hint) = &error.hint {
            event = event.hint(hint.as_str());
        }
        self.append(event.detail("retry", true));
        let unit = &mut self.units[id];
        (unit.cause, unit.hint) = (Some(format!("{SHORT}: {error}; it is tried again")), error.hint.clone());
        self.publish_soon();
    }

    /// Limits of a life are not in force. Told when that changes, not for each life.
    pub(super) fn unheld(&mut self, id: &Name, incarnation: Incarnation, lines: Vec<String>) {
        if self.units[id].warnings == lines {
            return;
        }
        for line in &lines {
            self.append(EventKind::UnitUnheld.event("", format!("{id}: {line}")).unit(id).incarnation(incarnation));
        }
        self.units[id].warnings = lines;
        self.publish_soon();
    }

    /// The end that is told next was the kernel's doing.
    pub(super) fn out_of_memory(&mut self, id: &Name) {
        let text = oom_text(self.memory_limit(id));
        let unit = &mut self.units[id];
        (unit.oom, unit.cause) = (true, Some(text));
    }

    /// The unit's memory limit in bytes.
    pub(super) fn memory_limit(&self, id: &Name) -> Option<u64> {
        self.spec.units.get(id)?.confines.limits.memory
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nme:x:1000:1000::/home/me:/bin/sh\nwww:x:33:33::/var/www:/bin/sh\n";

    #[test]
    fn only_root_may_run_a_unit_as_another_user() {
        let error = choose("www", 1000, PASSWD).unwrap_err();
        assert!(error.message.contains("only root") && error.hint.is_some() && !error.retry, "{error:?}");
        assert_eq!(choose("www", 0, PASSWD).unwrap().unwrap().uid, 33);
    }

    #[test]
    fn our_own_name_changes_nothing() {
        assert_eq!(choose("me", 1000, PASSWD), Ok(None));
        assert_eq!(choose("root", 0, PASSWD), Ok(None));
    }

    #[test]
    fn an_account_that_is_not_there_is_told_by_its_name() {
        let error = choose("wwww", 0, PASSWD).unwrap_err();
        assert!(error.message.contains("`wwww`") && !error.retry, "{error:?}");
    }

    #[test]
    fn the_limit_stands_in_the_reason() {
        assert_eq!(oom_text(Some(512 << 20)), "killed by the kernel: out of memory (limit 512MiB)");
        assert_eq!(oom_text(None), "killed by the kernel: out of memory");
    }
}
