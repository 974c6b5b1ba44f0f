//! What both sides of a connection understand, also of an older build.

use proptest::prelude::*;

use super::*;

#[test]
fn a_frame_comes_out_whole_however_it_is_cut() {
    let message = ToHeart::Signal { key: 7, signal: 15, group: true };
    let frame = encode(&message).unwrap();
    for cut in 0..frame.len() {
        let mut inbox = Inbox::default();
        inbox.feed(&frame[..cut]);
        assert_eq!(inbox.take::<ToHeart>().unwrap(), None);
        inbox.feed(&frame[cut..]);
        assert_eq!(inbox.take::<ToHeart>().unwrap(), Some(message.clone()));
        assert_eq!(inbox.take::<ToHeart>().unwrap(), None);
    }
}

#[test]
fn what_an_older_daemon_or_heart_does_not_know_is_not_there() {
    #[derive(Serialize)]
    enum Older {
        Spawned { key: Key, pid: u32 },
        Exited { key: Key, status: WaitStatus },
    }
    let read = |older: &Older| {
        let mut inbox = Inbox::default();
        inbox.feed(&encode(older).unwrap());
        inbox.take::<FromHeart>().unwrap().unwrap()
    };
    assert_eq!(
        read(&Older::Spawned { key: 1, pid: 2 }),
        FromHeart::Spawned { key: 1, pid: 2, hold: None, terminal: None }
    );
    let status = WaitStatus::Code(0);
    assert_eq!(read(&Older::Exited { key: 1, status }), FromHeart::Exited { key: 1, status, oom: false, alone: false });
    let newer = StubOrder { nice: Some(5), user: Some((33, 33)), ..StubOrder::default() };
    let text = serde_json::to_string(&newer).unwrap();
    assert_eq!(serde_json::from_str::<StubOrder>(&text).unwrap(), newer);
    assert_eq!(serde_json::from_str::<StubOrder>("{}").unwrap(), StubOrder::default());
}

#[test]
fn a_length_over_the_limit_is_refused_before_anything_is_kept() {
    let mut inbox = Inbox::default();
    inbox.feed(&u32::MAX.to_be_bytes());
    assert!(matches!(inbox.take::<ToHeart>(), Err(FrameError::TooLong(_))));
}

fn upgrade_orders() -> impl Strategy<Value = ToHeart> {
    let program = proptest::collection::vec(any::<u8>(), 0..300);
    prop_oneof![
        program.prop_map(|program| ToHeart::HandOver { program: ByteBuf::from(program) }),
        Just(ToHeart::Greet),
        Just(ToHeart::Keep),
        any::<Key>().prop_map(|key| ToHeart::Ack { key }),
    ]
}

#[test]
fn a_greeting_of_an_older_heart_is_understood_and_one_of_this_heart_by_an_older_daemon() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum First {
        Hello { version: u32, pid: u32, held: Vec<Held> },
    }
    let old = rmp_serde::to_vec_named(&First::Hello { version: 1, pid: 7, held: Vec::new() }).unwrap();
    let hello = |version, build, rescued| FromHeart::Hello {
        version,
        pid: 7,
        held: Vec::new(),
        build,
        rescued,
        terminals: false,
        replaced: false,
    };
    assert_eq!(rmp_serde::from_slice::<FromHeart>(&old).unwrap(), hello(1, None, None));
    let new = hello(VERSION, Some("9".to_owned()), Some("it ended".to_owned()));
    let new = rmp_serde::to_vec_named(&new).unwrap();
    let read = rmp_serde::from_slice::<First>(&new).unwrap();
    assert_eq!(read, First::Hello { version: VERSION, pid: 7, held: Vec::new() });
}

#[test]
fn what_was_said_before_there_were_terminals_is_understood() {
    #[derive(Serialize)]
    enum Older {
        Hello { version: u32, pid: u32, held: Vec<u32> },
        Spawned { key: Key, pid: u32 },
    }
    let heard = |older: &Older| {
        let mut inbox = Inbox::default();
        inbox.feed(&encode(older).unwrap());
        inbox.take::<FromHeart>().unwrap().unwrap()
    };
    let hello = heard(&Older::Hello { version: 1, pid: 2, held: Vec::new() });
    assert_eq!(
        hello,
        FromHeart::Hello {
            version: 1,
            pid: 2,
            held: Vec::new(),
            build: None,
            rescued: None,
            terminals: false,
            replaced: false
        }
    );
    let spawned = heard(&Older::Spawned { key: 3, pid: 4 });
    assert_eq!(spawned, FromHeart::Spawned { key: 3, pid: 4, hold: None, terminal: None });
}

proptest! {
    #[test]
    fn orders_come_out_as_they_went_in_however_they_are_cut(
        orders in proptest::collection::vec(upgrade_orders(), 1..8),
        cuts in proptest::collection::vec(1usize..40, 1..40),
    ) {
        let bytes: Vec<u8> = orders.iter().flat_map(|order| encode(order).unwrap()).collect();
        let (mut inbox, mut rest, mut came) = (Inbox::default(), bytes.as_slice(), Vec::new());
        for cut in cuts.iter().cycle() {
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            inbox.feed(now);
            while let Some(order) = inbox.take::<ToHeart>().unwrap() {
                came.push(order);
            }
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(came, orders);
    }

    #[test]
    fn a_damaged_order_never_panics(order in upgrade_orders(), at in 0usize..64, byte in any::<u8>()) {
        let mut bytes = encode(&order).unwrap();
        if let Some(place) = bytes.get_mut(at) {
            *place = byte;
        }
        let mut inbox = Inbox::default();
        inbox.feed(&bytes);
        while let Ok(Some(_)) = inbox.take::<ToHeart>() {}
        let mut inbox = Inbox::default();
        inbox.feed(&bytes);
        while let Ok(Some(_)) = inbox.take::<FromHeart>() {}
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        let mut inbox = Inbox::default();
        inbox.feed(&bytes);
        while let Ok(Some(_)) = inbox.take::<ToHeart>() {}
    }
}
