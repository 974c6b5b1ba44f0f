//! Whose rights PostgreSQL runs with when we are root, which it refuses to be.
//!
//! First choice: a user namespace in which we are a uid that exists in passwd. The data stays ours, nothing is chowned.
//! Second, where user namespaces are refused (most containers): an account of the machine, which the data is given to.

use crate::process::RunAs;

/// There is no account that PostgreSQL could run as.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "find an account for postgres, which refuses to run as root: there is neither a user namespace nor a `postgres` account"
)]
pub struct NoAccount;

/// The accounts to run as, best first.
const ACCOUNTS: [&str; 2] = ["postgres", "_postgres"];
/// The accounts to be mapped to, best first: they own nothing, and it shows in `ps` who it is.
const MAPPED: [&str; 2] = ["nobody", "postgres"];

/// Decides. `passwd` is the text of /etc/passwd.
///
/// # Errors
/// If we are root and there is no other account to be.
pub fn choose(root: bool, user_namespaces: bool, passwd: &str) -> Result<RunAs, NoAccount> {
    if !root {
        return Ok(RunAs::Caller);
    }
    if user_namespaces && let Some((uid, gid)) = account(passwd, &MAPPED).or_else(|| any_account(passwd)) {
        return Ok(RunAs::MappedUser { uid, gid });
    }
    match account(passwd, &ACCOUNTS) {
        Some((uid, gid)) => Ok(RunAs::Account { uid, gid }),
        None => Err(NoAccount),
    }
}

/// The account to try a user namespace with.
pub fn mapped_account(passwd: &str) -> Option<(u32, u32)> {
    account(passwd, &MAPPED).or_else(|| any_account(passwd))
}

fn account(passwd: &str, names: &[&str]) -> Option<(u32, u32)> {
    names.iter().find_map(|name| entries(passwd).find(|(found, _)| found == name).map(|(_, ids)| ids))
}

fn any_account(passwd: &str) -> Option<(u32, u32)> {
    entries(passwd).next().map(|(_, ids)| ids)
}

/// `name:x:uid:gid:…`, root left out.
fn entries(passwd: &str) -> impl Iterator<Item = (&str, (u32, u32))> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let uid: u32 = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        (uid != 0).then_some((name, (uid, gid)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0::/root:/bin/sh\nbroken\ndaemon:x:1:1::/:/bin/false\n\
        nobody:x:65534:65533::/:/bin/false\npostgres:x:101:104::/var/lib/postgresql:/bin/bash\n";

    #[test]
    fn an_ordinary_user_keeps_its_rights() {
        assert_eq!(choose(false, false, ""), Ok(RunAs::Caller));
    }

    #[test]
    fn root_is_mapped_to_an_account_that_exists_where_the_kernel_lets_it() {
        assert_eq!(choose(true, true, PASSWD), Ok(RunAs::MappedUser { uid: 65534, gid: 65533 }));
        assert_eq!(choose(true, true, "daemon:x:1:2::/:"), Ok(RunAs::MappedUser { uid: 1, gid: 2 }));
    }

    #[test]
    fn root_becomes_the_postgres_account_where_user_namespaces_are_refused() {
        assert_eq!(choose(true, false, PASSWD), Ok(RunAs::Account { uid: 101, gid: 104 }));
    }

    #[test]
    fn without_any_account_the_error_says_what_is_missing() {
        assert_eq!(choose(true, false, "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:"), Err(NoAccount));
        assert_eq!(choose(true, true, "root:x:0:0::/root:/bin/sh"), Err(NoAccount));
        assert!(NoAccount.to_string().contains("`postgres` account"));
    }
}
