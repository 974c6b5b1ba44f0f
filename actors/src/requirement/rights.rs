//! Whose rights a server runs with that refuses to be root, when we are.
//!
//! First choice: a user namespace in which we are a uid that exists in passwd. The data stays ours, nothing is chowned.
//! Second, where user namespaces are refused (most containers): an account of the machine, which the data is given to.

use crate::process::RunAs;

/// There is no account that the server could run as: none of these.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("find an account for a server that refuses to run as root: there is neither a user namespace nor {}", accounts(.0))]
pub struct NoAccount(pub Vec<String>);

/// The accounts to be mapped to, best first: they own nothing, and it shows in `ps` who it is.
const MAPPED: [&str; 2] = ["nobody", "postgres"];

/// Decides. `accounts` are those to run as, best first; `passwd` is the text of /etc/passwd.
///
/// # Errors
/// If we are root and there is no other account to be.
pub fn choose(root: bool, user_namespaces: bool, (accounts, passwd): (&[String], &str)) -> Result<RunAs, NoAccount> {
    if !root {
        return Ok(RunAs::Caller);
    }
    if user_namespaces && let Some((uid, gid)) = account(passwd, &MAPPED).or_else(|| any_account(passwd)) {
        return Ok(RunAs::MappedUser { uid, gid });
    }
    let names: Vec<&str> = accounts.iter().map(String::as_str).collect();
    match account(passwd, &names) {
        Some((uid, gid)) => Ok(RunAs::Account { uid, gid }),
        None => Err(NoAccount(accounts.to_vec())),
    }
}

/// The account to try a user namespace with.
pub fn mapped_account(passwd: &str) -> Option<(u32, u32)> {
    account(passwd, &MAPPED).or_else(|| any_account(passwd))
}

fn account(passwd: &str, names: &[&str]) -> Option<(u32, u32)> {
    names.iter().find_map(|name| entries(passwd).find(|(found, _)| found == name).map(|(_, ids)| ids))
}

fn accounts(names: &[String]) -> String {
    match names {
        [] => "an account of its own".to_owned(),
        names => {
            format!("an account {}", names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" or "))
        }
    }
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

    /// As PostgreSQL's preset asks.
    fn choose(root: bool, user_namespaces: bool, passwd: &str) -> Result<RunAs, NoAccount> {
        super::choose(root, user_namespaces, (&["postgres".to_owned(), "_postgres".to_owned()], passwd))
    }

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
        let none = NoAccount(vec!["postgres".to_owned(), "_postgres".to_owned()]);
        assert_eq!(choose(true, false, "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:"), Err(none.clone()));
        assert_eq!(choose(true, true, "root:x:0:0::/root:/bin/sh"), Err(none.clone()));
        assert!(none.to_string().contains("an account `postgres`"));
    }
}
