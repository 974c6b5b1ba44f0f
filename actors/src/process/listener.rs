//! Who listens on a port: the proof behind "ready", and the name of the culprit when a port is taken.
//!
//! Asks the kernel for the sockets of a port (`diag`), or reads `/proc/net/tcp` and `/proc/net/tcp6` (proc(5)) where it does not
//! answer; and reads the descriptors of processes. Plain blocking reads, so callers on a runtime use a blocking task. Never
//! connects, never signals, never changes anything.
//! Where there is no `/proc`, every question is answered with an error or with nothing, never with a guess.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use super::diag;

/// A listening TCP socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listener {
    /// Where it listens; `[::ffff:a.b.c.d]` is given as the IPv4 address it means.
    pub address: SocketAddr,
    /// The socket's inode, as in the links of `/proc/PID/fd`.
    pub inode: u64,
    /// The user it belongs to, also where its process may not be looked into.
    pub uid: u32,
}

/// What could be learnt about the processes behind some sockets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Holders {
    /// Inode → a process that has it open.
    pub found: HashMap<u64, u32>,
    /// Whether the descriptors of some process could not be read for want of rights.
    pub unreadable: bool,
}

/// What `/proc/PID/stat` says of a process's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    pid: u32,
    parent: u32,
    group: u32,
    session: u32,
}

/// The variable that carries a unit's envelope; its value is the same in all processes of one incarnation.
const ENVELOPE: &[u8] = b"ENVCTL_RT_VARS=";
/// `TCP_LISTEN` in the state column.
const STATE_LISTEN: &str = "0A";

/// Who holds a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// This process.
    Process(u32),
    /// Some process of this user, which may not be looked into.
    User(u32),
}

// === impl Owner ===

impl fmt::Display for Owner {
    /// `pid 123 (nginx)`, or the user where the process cannot be seen.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&match self {
            Self::Process(pid) => describe_pid(*pid),
            Self::User(uid) => describe_uid(*uid),
        })
    }
}

// === impl Listener ===

impl Listener {
    /// Whether a connection to `127.0.0.1` or `::1` can end here.
    pub fn answers_loopback(&self) -> bool {
        let ip = self.address.ip();
        ip == Ipv4Addr::LOCALHOST || ip == Ipv6Addr::LOCALHOST || ip.is_unspecified()
    }
}

/// All sockets that listen on `port`, of either family.
pub fn listeners(port: u16) -> io::Result<Vec<Listener>> {
    diag::listeners(port).or_else(|_| listeners_in_tables(port))
}

pub(super) fn listeners_in_tables(port: u16) -> io::Result<Vec<Listener>> {
    let mut found = parse_table(&fs::read_to_string("/proc/net/tcp")?, port);
    match fs::read_to_string("/proc/net/tcp6") {
        Ok(table) => found.extend(parse_table(&table, port)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(found)
}

/// The first of `pids` that has one of `inodes` open.
pub fn owner_among(inodes: &[u64], pids: impl Iterator<Item = u32>) -> Option<u32> {
    let wanted: HashSet<u64> = inodes.iter().copied().collect();
    pids.into_iter().find(|&pid| open_sockets(pid).is_ok_and(|open| open.iter().any(|inode| wanted.contains(inode))))
}

/// Which of `pids` hold which of `inodes`; stops as soon as every inode has its holder.
pub fn holders(inodes: &[u64], pids: impl Iterator<Item = u32>) -> Holders {
    let mut holders = Holders::default();
    for pid in pids {
        if inodes.iter().all(|inode| holders.found.contains_key(inode)) {
            break;
        }
        match open_sockets(pid) {
            Ok(open) => {
                for inode in open.into_iter().filter(|inode| inodes.contains(inode)) {
                    holders.found.entry(inode).or_insert(pid);
                }
            }
            Err(error) => holders.unreadable |= error.kind() == io::ErrorKind::PermissionDenied,
        }
    }
    holders
}

/// Who holds `port`; `None` if nobody does.
pub fn owner(port: u16) -> Option<Owner> {
    let found = listeners(port).ok()?;
    let first = *found.first()?;
    let inodes: Vec<u64> = found.iter().map(|listener| listener.inode).collect();
    let process = owner_among(&inodes, all_pids().into_iter());
    Some(process.map_or(Owner::User(first.uid), Owner::Process))
}

/// The same for people.
pub fn describe_owner(port: u16) -> Option<String> {
    owner(port).map(|owner| owner.to_string())
}

/// `pid 123 (nginx)`.
pub fn describe_pid(pid: u32) -> String {
    match fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(name) => format!("pid {pid} ({})", name.trim_end()),
        Err(_) => format!("pid {pid}"),
    }
}

/// How an owner is called of whom only the user is known.
pub fn describe_uid(uid: u32) -> String {
    format!("a process of user {uid}")
}

/// `leader` itself and every process of its session, of its process group, or descended from either.
pub fn session_members(leader: u32) -> Vec<u32> {
    let places: Vec<Place> = all_pids().into_iter().filter_map(place).collect();
    members_of(leader, &places)
}

/// Whether `pid` carries the same envelope as `leader`: a daemon that left its session behind still belongs.
pub fn same_envelope(leader: u32, pid: u32) -> bool {
    let Some(of_leader) = envelope(leader) else { return false };
    envelope(pid) == Some(of_leader)
}

/// Every process of this machine that can be seen.
pub fn all_pids() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn members_of(leader: u32, places: &[Place]) -> Vec<u32> {
    let mut members: HashSet<u32> = places
        .iter()
        .filter(|place| place.pid == leader || place.session == leader || place.group == leader)
        .map(|place| place.pid)
        .collect();
    // Pids are in no order of age, so descent is followed until nothing new is found: as many rounds as the tree is deep.
    loop {
        let before = members.len();
        let children = places.iter().filter(|place| members.contains(&place.parent)).map(|place| place.pid);
        let children: Vec<u32> = children.collect();
        members.extend(children);
        if members.len() == before {
            break;
        }
    }
    let mut members: Vec<u32> = members.into_iter().collect();
    members.sort_unstable_by_key(|&pid| (pid != leader, pid));
    members
}

fn place(pid: u32) -> Option<Place> {
    parse_stat(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Fields 4, 5 and 6 of `/proc/PID/stat`; the name in field 2 may hold spaces and parentheses.
fn parse_stat(pid: u32, stat: &str) -> Option<Place> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(1).map(|field| field.parse::<u32>().ok());
    Some(Place { pid, parent: fields.next()??, group: fields.next()??, session: fields.next()?? })
}

fn open_sockets(pid: u32) -> io::Result<Vec<u64>> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd"))?;
    Ok(entries.flatten().filter_map(|entry| socket_inode(&fs::read_link(entry.path()).ok()?)).collect())
}

/// `socket:[12345]` → 12345.
fn socket_inode(link: &std::path::Path) -> Option<u64> {
    link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

fn envelope(pid: u32) -> Option<Vec<u8>> {
    let environ = fs::read(PathBuf::from(format!("/proc/{pid}/environ"))).ok()?;
    environ.split(|&byte| byte == 0).find_map(|variable| variable.strip_prefix(ENVELOPE)).map(<[u8]>::to_vec)
}

fn parse_table(table: &str, port: u16) -> Vec<Listener> {
    table.lines().skip(1).filter_map(parse_row).filter(|listener| listener.address.port() == port).collect()
}

/// A row: `sl local remote st tx:rx tr:when retrnsmt uid timeout inode …`.
fn parse_row(row: &str) -> Option<Listener> {
    let mut fields = row.split_ascii_whitespace();
    let local = fields.nth(1)?;
    if fields.nth(1)? != STATE_LISTEN {
        return None;
    }
    let uid = fields.nth(3)?.parse().ok()?;
    let inode = fields.nth(1)?.parse().ok()?;
    Some(Listener { address: parse_address(local)?, inode, uid })
}

fn parse_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(parse_word(ip)?)),
        32 => IpAddr::V6(parse_v6(ip)?).to_canonical(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

fn parse_v6(text: &str) -> Option<Ipv6Addr> {
    let mut octets = [0u8; 16];
    for (at, word) in octets.chunks_exact_mut(4).enumerate() {
        word.copy_from_slice(&parse_word(text.get(at * 8..at * 8 + 8)?)?);
    }
    Some(Ipv6Addr::from(octets))
}

/// The kernel prints each 32-bit word of an address in the machine's own byte order.
fn parse_word(text: &str) -> Option<[u8; 4]> {
    Some(u32::from_str_radix(text, 16).ok()?.to_ne_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    const TCP: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 111 1 0000 100 0 0 10 0
   1: 00000000:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 222 1 0000 100 0 0 10 0
   2: 0100007F:1F40 0100007F:D431 01 00000000:00000000 00:00000000 00000000  1000        0 333 1 0000 20 4 30 10 -1
   3: 0100007F:1F41 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 444 1 0000 100 0 0 10 0
   4: garbage
";
    const TCP6: &str = "\
  sl  local_address                         remote_address                        st tx rx tr
   0: 00000000000000000000000001000000:1F40 00000000000000000000000000000000:0000 0A 0:0 00:0 0  1000 0 555 1
   1: 0000000000000000FFFF00000100007F:1F40 00000000000000000000000000000000:0000 0A 0:0 00:0 0  1000 0 666 1
   2: 00000000000000000000000000000000:1F40 00000000000000000000000000000000:0000 0A 0:0 00:0 0  1000 0 777 1
";

    fn check(table: &str, expect: &[(&str, u64, u32)]) {
        let found: Vec<_> =
            parse_table(table, 8000).into_iter().map(|l| (l.address.to_string(), l.inode, l.uid)).collect();
        let found: Vec<_> = found.iter().map(|(address, inode, uid)| (address.as_str(), *inode, *uid)).collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn only_listening_sockets_of_the_port_are_found_and_a_malformed_row_is_passed_over() {
        check(TCP, &[("127.0.0.1:8000", 111, 1000), ("0.0.0.0:8000", 222, 0)]);
        check("", &[]);
    }

    #[test]
    fn ipv6_any_loopback_and_mapped_addresses_are_understood() {
        check(TCP6, &[("[::1]:8000", 555, 1000), ("127.0.0.1:8000", 666, 1000), ("[::]:8000", 777, 1000)]);
    }

    #[test]
    fn a_process_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let place = parse_stat(7, "7 (a) b (c)) S 1 2 3 0 -1").unwrap();
        assert_eq!(place, Place { pid: 7, parent: 1, group: 2, session: 3 });
        assert_eq!(parse_stat(7, "7 (x"), None);
    }

    #[test]
    fn members_are_the_session_the_group_and_all_descendants_in_any_order_of_pids() {
        let place = |pid, parent, group, session| Place { pid, parent, group, session };
        let places = [
            place(5, 90, 5, 5),    // grandchild, in a session of its own, with the lowest pid
            place(50, 1, 50, 50),  // the leader
            place(60, 50, 50, 50), // child
            place(70, 1, 70, 50),  // same session, reparented
            place(90, 60, 90, 90), // setsid grandchild
            place(99, 1, 99, 99),  // a stranger
        ];
        assert_eq!(members_of(50, &places), [50, 5, 60, 70, 90]);
    }

    #[test]
    fn the_listener_of_this_very_process_is_found_and_described() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let found = listeners(port).unwrap();
        assert_eq!(found.len(), 1);
        let me = std::process::id();
        assert_eq!(owner_among(&[found[0].inode], session_members(me).into_iter()), Some(me));
        assert!(describe_owner(port).unwrap().starts_with(&format!("pid {me} (")));
        drop(socket);
        // Another test's child may hold a copy for the moment between its fork and its exec; it is never ours again.
        assert!(describe_owner(port).is_none_or(|owner| !owner.starts_with(&format!("pid {me} ("))));
    }
}
