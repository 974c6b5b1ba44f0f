//! `GET`, and nothing more: one request on one connection, a bounded answer, no redirects, no decompression.

use std::pin::pin;

use futures::future::{Either, select};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Most that is read of a body; a longer one is taken as given.
const BODY_MAX_BYTES: usize = 64 * 1024;
/// Most that a response's head may have: hyper refuses more.
const HEAD_MAX_BYTES: usize = 64 * 1024;
/// Most that is shown of the body of a refusal.
const BODY_SHOWN_MAX_BYTES: usize = 200;

/// `Ok` for 200–399 with a body that ends or is longer than anybody needs.
pub(super) async fn get(stream: TcpStream, port: u16, path: &str) -> Result<(), String> {
    let told = |error: hyper::Error| format!("GET {path} on port {port}: {}", chain(&error));
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(HEAD_MAX_BYTES).handshake(TokioIo::new(stream)).await.map_err(told)?;
    let request = request(port, path)?;
    let exchange = pin!(async {
        let response = sender.send_request(request).await.map_err(told)?;
        verdict(response, port, path).await
    });
    // The connection makes progress only while it is polled; polled here, it dies with this future.
    match select(exchange, pin!(connection)).await {
        Either::Left((answer, _)) => answer,
        // The connection ended first: the answer, if there is one, is complete by now.
        Either::Right((_, exchange)) => exchange.await,
    }
}

fn request(port: u16, path: &str) -> Result<Request<Empty<Bytes>>, String> {
    Request::get(path)
        .header("host", format!("localhost:{port}"))
        .header("user-agent", "envctl-probe")
        .header("accept", "*/*")
        // A single-threaded server that waits for the next request of this connection would answer nobody else.
        .header("connection", "close")
        .body(Empty::new())
        .map_err(|error| format!("{path:?} is no path to ask for: {error}"))
}

async fn verdict(response: Response<Incoming>, port: u16, path: &str) -> Result<(), String> {
    let status = response.status();
    let body = read_some(response.into_body()).await.map_err(|error| {
        format!("GET {path} on port {port} answered {status}, but its body broke off: {}", chain(&error))
    })?;
    if status.is_success() || status.is_redirection() {
        return Ok(());
    }
    let start = body.get(..BODY_SHOWN_MAX_BYTES.min(body.len())).unwrap_or_default();
    match super::shown(start) {
        text if text.is_empty() => Err(format!("GET {path} on port {port} answered {status}")),
        text => Err(format!("GET {path} on port {port} answered {status}: {text}")),
    }
}

async fn read_some(mut body: Incoming) -> Result<Vec<u8>, hyper::Error> {
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        let room = BODY_MAX_BYTES - read.len();
        read.extend_from_slice(data.get(..room.min(data.len())).unwrap_or_default());
        if read.len() == BODY_MAX_BYTES {
            break;
        }
    }
    Ok(read)
}

/// An error with its sources in one line: hyper's own Display leaves them out.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = error.source();
    }
    text
}
