//! Servers asked in their own protocols: the first words of each, as far as only the real thing would answer them.
//!
//! | server | asked | good answer | source |
//! |---|---|---|---|
//! | MySQL, MariaDB | nothing | a handshake packet of protocol 10 | MySQL internals, "Protocol::HandshakeV10" |
//! | memcached | `version` | `VERSION …` | memcached's protocol.txt |
//! | AMQP | the protocol header | `Connection.Start` | AMQP 0-9-1, 4.2.2 and 1.4.2.1 |
//! | NATS | `PING` | `INFO …`, `PONG` | NATS client protocol |
//! | MQTT | `CONNECT` | `CONNACK`, accepted | MQTT 3.1.1, 3.1 and 3.2 |
//!
//! A bounded number of bytes is read. The deadline is the caller's.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{exchange, http, shown};
use crate::probe::spec::Exchange;

/// Most that is read of one answer: the longest of them, a handshake of NATS, has about 500 bytes.
const ANSWER_MAX_BYTES: usize = 16 * 1024;
/// The protocol header of AMQP 0-9-1.
const AMQP_HEADER: &[u8] = b"AMQP\0\0\x09\x01";
/// `CONNECT` with an empty client id, a clean session and no keep-alive; then `DISCONNECT`.
const MQTT_CONNECT: &[u8] = &[0x10, 12, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0, 0, 0];
const MQTT_DISCONNECT: &[u8] = &[0xe0, 0];

/// Asks once.
pub(super) async fn ask(host: &str, port: u16, question: &Exchange) -> Result<(), String> {
    match question {
        Exchange::Postgres(url) => return exchange::postgres(url).await,
        Exchange::Redis(url) => return exchange::redis(url).await,
        _ => {}
    }
    let mut stream = connect(host, port).await?;
    match question {
        Exchange::Tcp => Ok(()),
        Exchange::Http(path) => http::get(stream, port, path).await,
        Exchange::Mysql => mysql(&mut stream).await,
        Exchange::Greeting(expected) => greeting(&mut stream, expected.as_bytes()).await,
        Exchange::Memcached => memcached(&mut stream).await,
        Exchange::Amqp => amqp(&mut stream).await,
        Exchange::Nats => nats(&mut stream).await,
        Exchange::Mqtt => mqtt(&mut stream).await,
        Exchange::Postgres(_) | Exchange::Redis(_) => Ok(()),
    }
}

/// A connection to a server, wherever it is.
async fn connect(host: &str, port: u16) -> Result<TcpStream, String> {
    if super::exchange::is_loopback(host) {
        return super::connect(port).await;
    }
    TcpStream::connect((host, port)).await.map_err(|error| format!("{host}:{port} cannot be reached: {error}"))
}

async fn mysql(stream: &mut TcpStream) -> Result<(), String> {
    let mut head = [0u8; 5];
    read(stream, &mut head).await?;
    match head {
        [_, _, _, 0, 10] => Ok(()),
        // An error packet: code, then text.
        [_, _, _, _, 0xff] => {
            let rest = read_some(stream).await?;
            Err(format!("the server refused: {}", shown(rest.get(2..).unwrap_or_default())))
        }
        _ => Err("what answers is no MySQL".to_owned()),
    }
}

async fn greeting(stream: &mut TcpStream, expected: &[u8]) -> Result<(), String> {
    let mut found = vec![0u8; expected.len()];
    read(stream, &mut found).await?;
    if found == expected { Ok(()) } else { Err(format!("it greets with \"{}\"", shown(&found))) }
}

async fn memcached(stream: &mut TcpStream) -> Result<(), String> {
    write(stream, b"version\r\n").await?;
    expect_line(stream, b"VERSION ").await
}

async fn amqp(stream: &mut TcpStream) -> Result<(), String> {
    write(stream, AMQP_HEADER).await?;
    let mut head = [0u8; 11];
    read(stream, &mut head).await?;
    match head {
        // A method frame on channel 0: class connection (10), method start (10).
        [1, 0, 0, _, _, _, _, 0, 10, 0, 10] => Ok(()),
        [b'A', b'M', b'Q', b'P', ..] => Err("the server wants another version of AMQP".to_owned()),
        _ => Err("what answers speaks no AMQP".to_owned()),
    }
}

async fn nats(stream: &mut TcpStream) -> Result<(), String> {
    expect_line(stream, b"INFO ").await?;
    write(stream, b"CONNECT {\"verbose\":false,\"name\":\"envctl-probe\"}\r\nPING\r\n").await?;
    expect_line(stream, b"PONG").await
}

async fn mqtt(stream: &mut TcpStream) -> Result<(), String> {
    write(stream, MQTT_CONNECT).await?;
    let mut answer = [0u8; 4];
    read(stream, &mut answer).await?;
    match answer {
        [0x20, 2, _, 0] => write(stream, MQTT_DISCONNECT).await,
        [0x20, 2, _, code] => Err(format!("the broker refused the connection with code {code}")),
        _ => Err("what answers speaks no MQTT".to_owned()),
    }
}

/// Reads one line, which must begin so.
async fn expect_line(stream: &mut TcpStream, beginning: &[u8]) -> Result<(), String> {
    let mut line = Vec::new();
    while line.len() < ANSWER_MAX_BYTES {
        let mut byte = [0u8; 1];
        read(stream, &mut byte).await?;
        if byte == *b"\n" {
            break;
        }
        line.extend(byte);
    }
    if line.starts_with(beginning) {
        return Ok(());
    }
    Err(format!("it answers \"{}\"", shown(&line)))
}

async fn read(stream: &mut TcpStream, into: &mut [u8]) -> Result<(), String> {
    stream.read_exact(into).await.map(drop).map_err(|error| format!("it broke off its answer: {error}"))
}

async fn read_some(stream: &mut TcpStream) -> Result<Vec<u8>, String> {
    let mut answer = vec![0u8; ANSWER_MAX_BYTES];
    let bytes = stream.read(&mut answer).await.map_err(|error| format!("it broke off its answer: {error}"))?;
    answer.truncate(bytes);
    Ok(answer)
}

async fn write(stream: &mut TcpStream, bytes: &[u8]) -> Result<(), String> {
    stream.write_all(bytes).await.map_err(|error| format!("it does not listen to what it is asked: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// Asks a server that reads `reads` bytes, if any, and answers so.
    async fn check(question: Exchange, script: &'static [(usize, &'static [u8])]) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            for (reads, answer) in script {
                let mut read = vec![0u8; *reads];
                stream.read_exact(&mut read).await.unwrap();
                stream.write_all(answer).await.unwrap();
            }
        };
        tokio::join!(ask("127.0.0.1", port, &question), server).0
    }

    #[tokio::test]
    async fn each_server_is_known_by_its_own_words() {
        let nats: &[(usize, &[u8])] = &[(0, b"INFO {}\r\n"), (50, b"PONG\r\n")];
        assert_eq!(check(Exchange::Nats, nats).await, Ok(()));
        assert_eq!(check(Exchange::Mysql, &[(0, &[78, 0, 0, 0, 10, 49])]).await, Ok(()));
        assert_eq!(check(Exchange::Memcached, &[(9, b"VERSION 1.6.18\r\n")]).await, Ok(()));
        assert_eq!(check(Exchange::Amqp, &[(8, &[1, 0, 0, 0, 0, 1, 252, 0, 10, 0, 10])]).await, Ok(()));
        assert_eq!(check(Exchange::Mqtt, &[(14, &[0x20, 2, 0, 0])]).await, Ok(()));
        assert_eq!(check(Exchange::Greeting("220 ".to_owned()), &[(0, b"220 mail\r\n")]).await, Ok(()));
    }

    #[tokio::test]
    async fn a_stranger_and_a_refusal_are_told_apart() {
        let told = |answer: Result<(), String>| answer.unwrap_err();
        assert_eq!(told(check(Exchange::Memcached, &[(9, b"ERROR\r\n")]).await), "it answers \"ERROR\"");
        assert_eq!(told(check(Exchange::Mysql, &[(0, b"HTTP/1.1 400")]).await), "what answers is no MySQL");
        let refusal = [(0usize, &b"\x17\0\0\0\xff\x10\x04Too many connections"[..])];
        let refusal: &'static [(usize, &'static [u8])] = Box::leak(Box::new(refusal));
        assert_eq!(told(check(Exchange::Mysql, refusal).await), "the server refused: Too many connections");
        let mqtt = told(check(Exchange::Mqtt, &[(14, &[0x20, 2, 0, 5])]).await);
        assert_eq!(mqtt, "the broker refused the connection with code 5");
        assert!(told(check(Exchange::Amqp, &[(8, b"AMQP\0\0\x09\x01\0\0\0")]).await).contains("another version"));
        assert!(told(check(Exchange::Nats, &[(0, b"")]).await).contains("broke off"));
    }
}
