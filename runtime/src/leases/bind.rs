//! Whether a TCP port of this machine is free: in both families, on loopback and on every address.
//!
//! A socket is bound and closed again, without ever listening: nobody can connect to it by mistake.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::TcpSocket;

/// What is tried. The wildcards also see listeners on the machine's other addresses.
const ADDRESSES: [IpAddr; 4] = [
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::UNSPECIFIED),
];

/// Whether all four addresses can be bound. A listener makes a port taken; connections in TIME_WAIT do not.
pub(super) fn is_free(port: u16) -> io::Result<bool> {
    for address in ADDRESSES {
        if !can_bind(SocketAddr::new(address, port))? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn can_bind(address: SocketAddr) -> io::Result<bool> {
    let Some(probe) = open(address)? else { return Ok(true) };
    match probe.bind(address) {
        Ok(()) => Ok(true),
        Err(error) => match error.kind() {
            // The machine has the family but not the address (no `::1`): nobody can listen there either.
            ErrorKind::AddrNotAvailable => Ok(true),
            // A privileged port cannot be used by this user: for a lease that is as good as taken.
            ErrorKind::AddrInUse | ErrorKind::PermissionDenied => Ok(false),
            _ => Err(error),
        },
    }
}

/// A socket to try with; `None` if the machine does not have the family.
fn open(address: SocketAddr) -> io::Result<Option<TcpSocket>> {
    let opened = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let probe = match opened {
        Ok(probe) => probe,
        Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => return Ok(None),
        Err(error) => return Err(error),
    };
    // With it TIME_WAIT is no conflict, a listener still is (Linux socket(7)): what the unit's own bind will meet.
    probe.set_reuseaddr(true)?;
    Ok(Some(probe))
}
