//! The proof that the listener on a port is the unit's own: a stranger that answers must never make a unit ready.
//!
//! All listeners that a connection to loopback can reach count, not only the one that answered: with a stranger on
//! `[::1]` and the unit on `127.0.0.1`, every client that resolves `localhost` would reach one or the other by chance.

use crate::process::listener::{self, Listener};

use super::Target;

/// `Err` names the owner. Where the kernel does not tell (no `/proc`), there is nothing to hold against the unit.
pub(super) fn prove(port: u16, target: Target) -> Result<(), String> {
    let Ok(found) = listener::listeners(port) else { return Ok(()) };
    let found: Vec<Listener> = found.into_iter().filter(Listener::answers_loopback).collect();
    let Some(leader) = target.leader else {
        return Err(format!("port {port} answers, but this unit has no process"));
    };
    if found.is_empty() {
        return Err(format!("port {port} answers, but no process of this machine listens on it"));
    }
    let inodes: Vec<u64> = found.iter().map(|listener| listener.inode).collect();
    // The usual case, without a look at any other process.
    let by_leader = listener::holders(&inodes, std::iter::once(leader));
    if inodes.iter().all(|inode| by_leader.found.contains_key(inode)) {
        return Ok(());
    }
    let members = listener::session_members(leader);
    let ours = listener::holders(&inodes, members.iter().copied());
    let strange: Vec<Listener> =
        found.into_iter().filter(|listener| !ours.found.contains_key(&listener.inode)).collect();
    prove_strange(port, leader, &strange, ours.unreadable)
}

/// The listeners that no member of the session holds: daemons of the unit that left its session, or strangers.
fn prove_strange(port: u16, leader: u32, strange: &[Listener], unreadable: bool) -> Result<(), String> {
    if strange.is_empty() {
        return Ok(());
    }
    let inodes: Vec<u64> = strange.iter().map(|listener| listener.inode).collect();
    let all = listener::holders(&inodes, listener::all_pids().into_iter());
    for listener in strange {
        let owner = match all.found.get(&listener.inode) {
            Some(&pid) if listener::same_envelope(leader, pid) => continue,
            Some(&pid) => listener::describe_pid(pid),
            // A member that may not be looked into (a set-uid program) is the likely owner: no proof either way.
            None if unreadable => continue,
            None => listener::describe_uid(listener.uid),
        };
        return Err(format!("port {port} is held by {owner}, not by this unit"));
    }
    Ok(())
}
