//! Accounts of this machine, from the texts of passwd(5) and group(5). Reads no directory service and changes nothing.

/// An account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its directory.
    pub home: String,
}

/// The account called `name` in the text of /etc/passwd.
pub fn by_name(passwd: &str, name: &str) -> Option<Account> {
    accounts(passwd).find(|account| account.name == name)
}

/// The account with this uid in the text of /etc/passwd; the first, if several share it.
pub fn by_uid(passwd: &str, uid: u32) -> Option<Account> {
    accounts(passwd).find(|account| account.uid == uid)
}

/// All groups of an account by the text of /etc/group: its own first, then those that name it.
pub fn groups(group: &str, account: &Account) -> Vec<u32> {
    let mut groups = vec![account.gid];
    for line in group.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        let [_, _, gid, members] = fields[..] else { continue };
        let Ok(gid) = gid.parse() else { continue };
        if members.split(',').any(|member| member == account.name) && !groups.contains(&gid) {
            groups.push(gid);
        }
    }
    groups
}

/// `name:password:uid:gid:comment:directory:shell`.
fn accounts(passwd: &str) -> impl Iterator<Item = Account> {
    passwd.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, _, home, ..] = fields[..] else { return None };
        Some(Account { name: name.to_owned(), uid: uid.parse().ok()?, gid: gid.parse().ok()?, home: home.to_owned() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbroken:x:one\nwww:x:33:34:,,:/var/www:/bin/false\n";

    #[test]
    fn an_account_is_found_by_name_and_by_uid() {
        let www = by_name(PASSWD, "www").unwrap();
        assert_eq!((www.uid, www.gid, www.home.as_str()), (33, 34, "/var/www"));
        assert_eq!(by_uid(PASSWD, 33), Some(www));
        assert_eq!(by_name(PASSWD, "ww"), None);
        assert_eq!(by_name(PASSWD, "broken"), None);
    }

    #[test]
    fn its_groups_are_its_own_and_those_that_name_it() {
        let www = by_name(PASSWD, "www").unwrap();
        let group = "www:x:34:\nssl:x:110:root,www\nadm:x:4:wwwx\nbad:x:y:www\nown:x:34:www\n";
        assert_eq!(groups(group, &www), [34, 110]);
    }
}
