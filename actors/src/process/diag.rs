//! Listening sockets by asking the kernel for just these, over netlink (sock_diag(7)).
//!
//! `/proc/net/tcp` walks through the table of all connections, which takes 5 ms on a machine with much memory however few
//! there are; this takes microseconds. Where the kernel or a sandbox refuses, the caller reads `/proc` instead.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;

use nix::libc::{AF_INET, AF_INET6, IPPROTO_TCP, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

use super::listener::Listener;

/// `SOCK_DIAG_BY_FAMILY` (linux/sock_diag.h).
const BY_FAMILY: u16 = 20;
/// `TCP_LISTEN` (net/tcp_states.h), as a bit.
const LISTENING: u32 = 1 << 10;
/// Of `struct nlmsghdr` (netlink(7)).
const HEADER_BYTES: usize = 16;
/// Of `struct inet_diag_req_v2`, and of `struct inet_diag_msg` (linux/inet_diag.h).
const REQUEST_BYTES: usize = 56;
const ANSWER_BYTES: usize = 72;
/// Where an answer has the port, the address, the user and the inode.
const PORT_AT: usize = 4;
const ADDRESS_AT: usize = 8;
const UID_AT: usize = 64;
const INODE_AT: usize = 68;
/// The kernel fills no more than so much of a buffer at once.
const BUFFER_BYTES: usize = 32 * 1024;

/// All sockets that listen on `port`, of either family.
///
/// # Errors
/// The kernel's, also where it does not know the question.
pub(super) fn listeners(port: u16) -> io::Result<Vec<Listener>> {
    let protocol = SockProtocol::NetlinkSockDiag;
    let link = socket(AddressFamily::Netlink, SockType::Datagram, SockFlag::SOCK_CLOEXEC, protocol)?;
    let mut found = Vec::new();
    for family in [AF_INET, AF_INET6] {
        send(link.as_raw_fd(), &question(family, port), MsgFlags::empty())?;
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let count = recv(link.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            if take(&buffer[..count], port, &mut found)? {
                break;
            }
        }
    }
    Ok(found)
}

/// "Every listening TCP socket of this port."
fn question(family: i32, port: u16) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + REQUEST_BYTES);
    bytes.extend(((HEADER_BYTES + REQUEST_BYTES) as u32).to_ne_bytes());
    bytes.extend(BY_FAMILY.to_ne_bytes());
    bytes.extend(((NLM_F_REQUEST | NLM_F_DUMP) as u16).to_ne_bytes());
    // Sequence number and sender: nobody else speaks on this socket.
    bytes.extend([0; 8]);
    bytes.extend([family as u8, IPPROTO_TCP as u8, 0, 0]);
    bytes.extend(LISTENING.to_ne_bytes());
    bytes.extend(port.to_be_bytes());
    bytes.resize(HEADER_BYTES + REQUEST_BYTES, 0);
    bytes
}

/// Takes what one piece of the answer tells. `true`: that was all.
fn take(mut piece: &[u8], port: u16, found: &mut Vec<Listener>) -> io::Result<bool> {
    while let Some(length) = word(piece, 0).map(|length| length as usize).filter(|length| *length >= HEADER_BYTES) {
        let Some(message) = piece.get(..length) else { break };
        match i32::from(u16::from_ne_bytes([message[4], message[5]])) {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => {
                let errno = word(message, HEADER_BYTES).map_or(0, |word| (word as i32).wrapping_neg());
                return Err(io::Error::from_raw_os_error(errno));
            }
            _ => found.extend(listener(&message[HEADER_BYTES..]).filter(|found| found.address.port() == port)),
        }
        // Messages begin at multiples of four.
        piece = piece.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

fn listener(answer: &[u8]) -> Option<Listener> {
    let answer = answer.get(..ANSWER_BYTES)?;
    let octets: [u8; 16] = answer[ADDRESS_AT..ADDRESS_AT + 16].try_into().ok()?;
    let ip = match i32::from(answer[0]) {
        AF_INET => IpAddr::V4(Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3])),
        AF_INET6 => IpAddr::V6(Ipv6Addr::from(octets)).to_canonical(),
        _ => return None,
    };
    let port = u16::from_be_bytes([answer[PORT_AT], answer[PORT_AT + 1]]);
    let (uid, inode) = (word(answer, UID_AT)?, word(answer, INODE_AT)?);
    Some(Listener { address: SocketAddr::new(ip, port), inode: inode.into(), uid })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::process::listener;

    #[test]
    fn the_kernel_tells_the_same_as_its_tables_of_all_connections() {
        let sockets = ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"].map(TcpListener::bind);
        let _connection = std::net::TcpStream::connect(sockets[0].as_ref().unwrap().local_addr().unwrap()).unwrap();
        for socket in sockets.into_iter().flatten() {
            let port = socket.local_addr().unwrap().port();
            let found = match listeners(port) {
                Ok(found) => found,
                Err(error) => return println!("NOT RUN: sockets by netlink ({error})"),
            };
            assert_eq!(found, listener::listeners_in_tables(port).unwrap(), "port {port}");
            assert_eq!(found.len(), 1);
        }
        assert_eq!(listeners(1).unwrap_or_default(), []);
    }

    #[test]
    fn an_answer_that_is_cut_short_or_makes_no_sense_is_passed_over() {
        let mut found = Vec::new();
        for length in 0..HEADER_BYTES + ANSWER_BYTES {
            let mut bytes = vec![0xff; length];
            if let Some(head) = bytes.first_chunk_mut::<4>() {
                *head = (length as u32).to_ne_bytes();
            }
            assert!(!take(&bytes, 80, &mut found).unwrap());
        }
        assert_eq!(found, []);
    }

    #[test]
    fn a_refusal_is_an_error() {
        let mut bytes = 36_u32.to_ne_bytes().to_vec();
        bytes.extend((NLMSG_ERROR as u16).to_ne_bytes());
        bytes.resize(HEADER_BYTES, 0);
        bytes.extend((-nix::libc::ENOENT).to_ne_bytes());
        bytes.resize(36, 0);
        assert_eq!(take(&bytes, 80, &mut Vec::new()).unwrap_err().raw_os_error(), Some(nix::libc::ENOENT));
    }
}
