use super::*;
use crate::control::client::tests::{Daemon, connected};
use crate::control::frame::{self, KIND_END, KIND_ERROR, KIND_ITEM};
use crate::control::view::EventView;
use crate::control::wire::{ProjectRef, Refusal};
use crate::journal::EventKind;

fn follow() -> FollowEvents {
    FollowEvents { project: ProjectRef { root: "/p".into() }, after: 0 }
}

fn event(seq: u64) -> EventView {
    EventView { seq, ..EventKind::RunUp.event("r", "up").build() }
}

/// Answers a subscription with the events after what was asked for, up to `last`, and goes.
async fn serve(mut daemon: Daemon, last: u64) -> u64 {
    let frame = daemon.receive().await.unwrap();
    let asked: FollowEvents = frame::decode_body(&frame).unwrap();
    for seq in asked.after + 1..=last {
        daemon.send(frame.id, KIND_ITEM, &event(seq)).await;
    }
    asked.after
}

#[tokio::test]
async fn b14_a_stream_goes_on_with_the_next_daemon_after_the_last_event_it_has_seen() {
    let (client, first) = connected().await;
    let (next, second) = connected().await;
    let mut next = Some(next);
    let reconnect = async || next.take().ok_or(ClientError::Lost);
    let mut events = Following::new(client, follow(), reconnect);
    let read = async {
        let mut seen = Vec::new();
        while let Some(Ok(event)) = events.next().await {
            seen.push(event.seq);
        }
        seen
    };
    let daemons = async { (serve(first, 3).await, serve(second, 5).await) };
    let (seen, asked) = tokio::join!(read, daemons);
    assert_eq!((seen, asked), (vec![1, 2, 3, 4, 5], (0, 3)));
}

#[tokio::test]
async fn daemons_that_never_say_a_word_are_given_up() {
    let (client, daemon) = connected().await;
    drop(daemon);
    let mut tried = 0;
    let reconnect = async || {
        tried += 1;
        Ok::<_, ClientError>(connected().await.0)
    };
    let mut events = Following::new(client, follow(), reconnect);
    assert!(matches!(events.next().await, Some(Err(ClientError::Lost))));
    assert_eq!(tried, DAEMONS_MAX);
}

#[tokio::test]
async fn an_end_and_a_refusal_are_final() {
    for (kind, is_end) in [(KIND_END, true), (KIND_ERROR, false)] {
        let (client, mut daemon) = connected().await;
        let reconnect = async || -> Result<Client, ClientError> { panic!("nobody is looked for") };
        let mut events = Following::new(client, follow(), reconnect);
        let answer = async {
            let id = daemon.receive().await.unwrap().id;
            let refusal = Refusal { code: "not-found".into(), message: "no".into(), hint: None };
            if is_end {
                daemon.send(id, kind, &()).await
            } else {
                daemon.send(id, kind, &refusal).await
            }
            daemon
        };
        let (next, _daemon) = tokio::join!(events.next(), answer);
        assert_eq!(next.is_none(), is_end);
        assert!(is_end || matches!(next, Some(Err(ClientError::Refused(_)))));
    }
}
