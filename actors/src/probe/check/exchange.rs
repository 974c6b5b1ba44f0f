//! The two stores, asked in their own protocols: an open port says nothing of a database that is still recovering.

use std::net::IpAddr;

use tokio::task::JoinSet;
use tokio_postgres::NoTls;
use tokio_postgres::config::Host;
use tokio_postgres::error::SqlState;

/// `SELECT 1`.
pub(super) async fn postgres(url: &str) -> Result<(), String> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.map_err(|error| postgres_text(&error))?;
    // The connection is driven by a task that dies with this set, so with this future.
    let mut driver = JoinSet::new();
    driver.spawn(async move { connection.await.is_ok() });
    client.simple_query("SELECT 1").await.map_err(|error| postgres_text(&error))?;
    // Takes leave, so that the server does not log a client that vanished.
    drop(client);
    driver.join_next().await;
    Ok(())
}

/// The port in a `postgresql://` URL, if it is one of this machine.
pub(super) fn postgres_port(url: &str) -> Option<u16> {
    let config: tokio_postgres::Config = url.parse().ok()?;
    match (config.get_hosts(), config.get_ports()) {
        ([Host::Tcp(host)], [port]) => is_loopback(host).then_some(*port),
        _ => None,
    }
}

/// The port in a `redis://` URL, if it is one of this machine.
pub(super) fn redis_port(url: &str) -> Option<u16> {
    let client = redis::Client::open(url).ok()?;
    match client.get_connection_info().addr() {
        redis::ConnectionAddr::Tcp(host, port) => is_loopback(host).then_some(*port),
        _ => None,
    }
}

pub(super) fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// `PING`, answered with `PONG`.
pub(super) async fn redis(url: &str) -> Result<(), String> {
    let client = redis::Client::open(url).map_err(|error| redis_text(&error))?;
    // The check's own deadline is the only one: the crate's half second is short on a machine that is starting up.
    let config = redis::AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(None);
    let connecting = Box::pin(client.get_multiplexed_async_connection_with_config(&config));
    let mut connection = connecting.await.map_err(|error| redis_text(&error))?;
    let answer: String = redis::cmd("PING").query_async(&mut connection).await.map_err(|error| redis_text(&error))?;
    if answer == "PONG" { Ok(()) } else { Err(format!("Redis answered PING with {answer:?}")) }
}

/// The server's own words, without the connection's parameters.
pub(crate) fn postgres_text(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(refusal) if *refusal.code() == SqlState::CANNOT_CONNECT_NOW => {
            format!("PostgreSQL is not taking connections yet: {}", refusal.message())
        }
        Some(refusal) => format!("PostgreSQL refused: {} ({})", refusal.message(), refusal.code().code()),
        None => format!("PostgreSQL does not answer: {}", chain(error)),
    }
}

fn redis_text(error: &redis::RedisError) -> String {
    match error.kind() {
        redis::ErrorKind::Server(redis::ServerErrorKind::BusyLoading) => "Redis is still loading its data".to_owned(),
        redis::ErrorKind::Io => format!("Redis does not answer: {error}"),
        _ => format!("Redis refused: {error}"),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}
