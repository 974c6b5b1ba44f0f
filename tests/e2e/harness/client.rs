//! The smallest HTTP client: one request, one connection.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// `GET url` (`http://host:port/path`): the whole answer, head and body.
pub(crate) fn http_get(url: &str) -> std::io::Result<String> {
    request("GET", url, "")
}

/// `POST url` with a JSON body.
pub(crate) fn http_post(url: &str, body: &str) -> std::io::Result<String> {
    request("POST", url, body)
}

fn request(method: &str, url: &str, body: &str) -> std::io::Result<String> {
    let rest = url.strip_prefix("http://").ok_or_else(|| std::io::Error::other("not an http URL"))?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut connection = TcpStream::connect(authority)?;
    connection.set_read_timeout(Some(Duration::from_secs(10)))?;
    let head = format!(
        "{method} /{path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    connection.write_all(head.as_bytes())?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    Ok(answer)
}
