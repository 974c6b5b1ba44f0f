//! The codec: length-delimited frames of MessagePack with named fields.
//!
//! ```text
//! u32 length, big endian │ {id, kind, body: bytes} │ body again MessagePack
//! ```
//!
//! Both sides of the socket encode and decode here and nowhere else. What comes in is measured by [`survey`] before serde
//! sees it, because the decoder's own depth limit does not count enum nesting and a claimed length costs memory before it
//! is believed. Nothing here does I/O.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_bytes::ByteBuf;
use tokio_util::codec::LengthDelimitedCodec;

use super::wire::{FRAME_CLIENT_MAX_BYTES, FRAME_INBOUND_MAX_BYTES, Frame};

/// The greeting's kind, in both directions.
pub const KIND_HELLO: &str = "hello";
/// The one answer to a request.
pub const KIND_REPLY: &str = "reply";
/// One answer to a subscription.
pub const KIND_ITEM: &str = "item";
/// The end of a subscription, said by either side.
pub const KIND_END: &str = "end";
/// A refusal of a request, or the failed end of a subscription; its body is a [`Refusal`](super::wire::Refusal).
pub const KIND_ERROR: &str = "error";

/// Deepest nesting of arrays and maps. Ours need eight; an event's details may nest a little.
pub const DEPTH_MAX: usize = 32;
/// Most values in one frame: bounds the memory that a frame of tiny values can claim (24 bytes each, so 6 MiB).
pub const VALUES_MAX: usize = 256 * 1024;
/// Longest text. Bytes (environment values) are bounded by the frame alone.
pub const TEXT_MAX_BYTES: usize = 64 * 1024;

/// Why bytes are no frame of ours, or a value could not become one.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The value does not fit into the format.
    #[error("encode `{kind}`")]
    Encode {
        /// The kind of frame.
        kind: String,
        /// What serde says.
        source: rmp_serde::encode::Error,
    },
    /// The bytes are not MessagePack, or not of the expected shape.
    #[error("decode `{kind}`: {detail}")]
    Decode {
        /// The kind of frame, or `frame` for the envelope.
        kind: String,
        /// What is wrong.
        detail: String,
    },
    /// The frame is longer than any receiver accepts.
    #[error("send `{kind}`: {bytes} bytes are more than the {max} that are accepted")]
    TooLong {
        /// The kind of frame.
        kind: String,
        /// Its length.
        bytes: usize,
        /// The limit.
        max: usize,
    },
}

/// The reading half of a daemon: refuses what is longer than [`FRAME_INBOUND_MAX_BYTES`] before it is read.
pub fn daemon_inbound() -> LengthDelimitedCodec {
    codec(FRAME_INBOUND_MAX_BYTES)
}

/// The writing half of a daemon.
pub fn daemon_outbound() -> LengthDelimitedCodec {
    codec(FRAME_CLIENT_MAX_BYTES)
}

/// Both halves of a client.
pub fn client_codec() -> LengthDelimitedCodec {
    codec(FRAME_CLIENT_MAX_BYTES)
}

/// One frame's bytes, without the length in front (the codec adds it).
pub fn encode<T: Serialize>(id: u64, kind: &str, body: &T) -> Result<Bytes, WireError> {
    let failed = |source| WireError::Encode { kind: kind.to_owned(), source };
    let body = rmp_serde::to_vec_named(body).map_err(failed)?;
    let frame = Frame { id, kind: kind.to_owned(), body: ByteBuf::from(body) };
    let bytes = rmp_serde::to_vec_named(&frame).map_err(failed)?;
    check_length(kind, bytes.len(), FRAME_CLIENT_MAX_BYTES)?;
    Ok(bytes.into())
}

/// The envelope, with its body not yet understood.
pub fn decode_frame(bytes: &[u8]) -> Result<Frame, WireError> {
    decode("frame", bytes)
}

/// The body of a frame.
pub fn decode_body<T: DeserializeOwned>(frame: &Frame) -> Result<T, WireError> {
    decode(&frame.kind, &frame.body)
}

/// Refuses what the other side would refuse: better said here, by name, than by a closed connection.
pub fn check_length(kind: &str, bytes: usize, max: usize) -> Result<(), WireError> {
    if bytes <= max {
        return Ok(());
    }
    Err(WireError::TooLong { kind: kind.to_owned(), bytes, max })
}

fn codec(max: usize) -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder().length_field_type::<u32>().max_frame_length(max).new_codec()
}

fn decode<T: DeserializeOwned>(kind: &str, bytes: &[u8]) -> Result<T, WireError> {
    let failed = |detail: String| WireError::Decode { kind: printable(kind), detail };
    survey(bytes).map_err(|wrong| failed(wrong.to_owned()))?;
    rmp_serde::from_slice(bytes).map_err(|error| failed(error.to_string()))
}

/// A kind comes from the other side: it stands in messages only short and harmless.
fn printable(kind: &str) -> String {
    kind.chars().take(64).map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect()
}

/// Walks exactly one MessagePack value without building anything: depth, count and lengths within bounds, no bytes left.
fn survey(bytes: &[u8]) -> Result<(), &'static str> {
    let mut rest = bytes;
    let mut open: Vec<u64> = vec![1]; // Values still missing at each level.
    let mut values = 0_usize;
    while let Some(missing) = open.last_mut() {
        if *missing == 0 {
            open.pop();
            continue;
        }
        *missing -= 1;
        values += 1;
        if values > VALUES_MAX {
            return Err("too many values");
        }
        let children = head(&mut rest)?;
        if children > 0 {
            if open.len() > DEPTH_MAX {
                return Err("nested too deeply");
            }
            open.push(children);
        }
    }
    if rest.is_empty() { Ok(()) } else { Err("bytes after the end") }
}

/// Takes one value's marker and scalar content off `rest`; the number of values inside it.
fn head(rest: &mut &[u8]) -> Result<u64, &'static str> {
    let marker = number(rest, 1)?;
    match marker {
        0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => Ok(0),
        0x80..=0x8f => Ok(2 * (marker & 0x0f)),
        0x90..=0x9f => Ok(marker & 0x0f),
        0xa0..=0xbf => skip(rest, marker & 0x1f),
        0xc4..=0xc6 => number(rest, 1 << (marker - 0xc4)).and_then(|length| skip(rest, length)),
        0xcc..=0xcf => skip(rest, 1 << (marker - 0xcc)),
        0xd0..=0xd3 => skip(rest, 1 << (marker - 0xd0)),
        0xca => skip(rest, 4),
        0xcb => skip(rest, 8),
        0xd9..=0xdb => number(rest, 1 << (marker - 0xd9)).and_then(|length| text(rest, length)),
        0xdc | 0xdd => number(rest, 2 << (marker - 0xdc)),
        0xde | 0xdf => number(rest, 2 << (marker - 0xde)).map(|pairs| 2 * pairs),
        // Extensions and the reserved marker: nothing of ours is written so.
        _ => Err("a type that is not used"),
    }
}

fn text(rest: &mut &[u8], length: u64) -> Result<u64, &'static str> {
    if length > TEXT_MAX_BYTES as u64 {
        return Err("a text that is too long");
    }
    skip(rest, length)
}

fn skip(rest: &mut &[u8], length: u64) -> Result<u64, &'static str> {
    let length = usize::try_from(length).map_err(|_| "a length beyond the end")?;
    *rest = rest.get(length..).ok_or("a length beyond the end")?;
    Ok(0)
}

/// A big-endian number of 1, 2, 4 or 8 bytes.
fn number(rest: &mut &[u8], size: usize) -> Result<u64, &'static str> {
    let (bytes, after) = rest.split_at_checked(size).ok_or("cut short")?;
    *rest = after;
    Ok(bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests;
