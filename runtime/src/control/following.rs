//! A stream that outlives daemons: when one goes, it goes on with the next one where it broke off.
//!
//! ```text
//! next ─▶ item ─▶ noted, so that it is never asked for again
//!      └▶ connection lost ─▶ the caller's way to another daemon ─▶ subscribe from there
//! ```
//!
//! How another daemon is found is the caller's: [`Client::successor`] waits for one, `session::launch` starts one. Never asks
//! anything twice but the subscription itself.

use super::client::{Client, ClientError, Subscription};
use super::wire::{FollowEvents, Subscribe, WatchLogs, WatchProject};

/// Daemons tried in a row that end before they have said a word.
const DAEMONS_MAX: u32 = 5;

/// A stream that can be taken up again.
pub trait Resume: Subscribe + Clone {
    /// Takes note of what has come: a later subscription begins after it.
    fn seen(&mut self, item: &Self::Item);
}

/// A stream over any number of daemons.
#[derive(Debug)]
pub struct Following<S: Resume, R> {
    subscribe: S,
    client: Client,
    /// `None` until it is subscribed, and after a connection was lost.
    items: Option<Subscription<S::Item>>,
    reconnect: R,
    silent: u32,
}

// === impl Resume ===

impl Resume for FollowEvents {
    fn seen(&mut self, event: &Self::Item) {
        self.after = self.after.max(event.seq);
    }
}

impl Resume for WatchProject {
    /// Every subscription begins with the state as it is.
    fn seen(&mut self, _: &Self::Item) {}
}

impl Resume for WatchLogs {
    /// It carries no bytes: whoever reads the files knows how far.
    fn seen(&mut self, _: &Self::Item) {}
}

// === impl Following ===

impl<S, R, E> Following<S, R>
where
    S: Resume,
    R: AsyncFnMut() -> Result<Client, E>,
    E: From<ClientError>,
{
    /// Follows, beginning with this daemon; `reconnect` gives another one, or the error that ends the stream. It has the
    /// deadline.
    pub fn new(client: Client, subscribe: S, reconnect: R) -> Self {
        Self { subscribe, client, items: None, reconnect, silent: 0 }
    }

    /// The next item; `None` after a daemon ended the stream in order. After an error there is nothing more to come.
    pub async fn next(&mut self) -> Option<Result<S::Item, E>> {
        loop {
            match self.take().await {
                Some(Ok(item)) => {
                    self.subscribe.seen(&item);
                    self.silent = 0;
                    return Some(Ok(item));
                }
                Some(Err(ClientError::Lost)) if self.silent < DAEMONS_MAX => {
                    (self.items, self.silent) = (None, self.silent + 1);
                    match (self.reconnect)().await {
                        Ok(client) => self.client = client,
                        Err(error) => return Some(Err(error)),
                    }
                }
                Some(Err(error)) => return Some(Err(error.into())),
                None => return None,
            }
        }
    }

    async fn take(&mut self) -> Option<Result<S::Item, ClientError>> {
        if self.items.is_none() {
            match self.client.subscribe(self.subscribe.clone()).await {
                Ok(items) => self.items = Some(items),
                Err(error) => return Some(Err(error)),
            }
        }
        self.items.as_mut()?.next().await
    }
}

#[cfg(test)]
mod tests;
