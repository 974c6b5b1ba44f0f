use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;
use crate::control::view::{DaemonView, EventView, ProjectState, ProjectView};
use crate::control::wire::*;

/// Every request and subscription once, with the bytes a client sends for it.
fn samples() -> Vec<(&'static str, Bytes)> {
    let project = || ProjectRef { root: "/p".into() };
    let up = Up {
        project: project(),
        file: Some("/p/other.toml".into()),
        user_config: None,
        units: vec!["api".into()],
        no_deps: true,
        environment: vec![(ByteBuf::from(*b"A"), ByteBuf::from([0xff, 0]))],
    };
    let down = Down { project: project(), units: Vec::new(), timeout_ms: Some(5000), kill: false };
    let ps = Ps { project: Some(project()), usage: true };
    let operate = Operate { project: project(), verb: Verb::Restart, units: vec!["api".into()] };
    let kill = Kill { project: project(), signal: 15, units: vec!["api".into()] };
    let env = UnitEnv { project: project(), unit: "api".into(), reveal: false };
    let exec = Exec { project: project(), unit: "api".into() };
    let info = RequirementInfo { project: project(), unit: "db".into(), reveal: true };
    let dropping = DropData { project: project(), units: vec!["db".into()] };
    let attach = Attach { project: project(), unit: "api".into(), rows: 40, columns: 120 };
    let typed = TypeIn { project: project(), unit: "api".into(), incarnation: 2, bytes: ByteBuf::from(*b"ls\r") };
    let clear = ClearLogs { project: project(), units: vec!["api".into()] };
    let follow = FollowEvents { project: project(), after: 7 };
    let logs = WatchLogs { project: project(), units: Vec::new() };
    vec![
        (Up::KIND, sent(&up)),
        (Down::KIND, sent(&down)),
        (Ps::KIND, sent(&ps)),
        (Operate::KIND, sent(&operate)),
        (Kill::KIND, sent(&kill)),
        (UnitEnv::KIND, sent(&env)),
        (Exec::KIND, sent(&exec)),
        (RequirementInfo::KIND, sent(&info)),
        (DropData::KIND, sent(&dropping)),
        (Attach::KIND, sent(&attach)),
        (TypeIn::KIND, sent(&typed)),
        (ClearLogs::KIND, sent(&clear)),
        (DaemonStatus::KIND, sent(&DaemonStatus {})),
        (DaemonStop::KIND, sent(&DaemonStop {})),
        (DaemonUpgrade::KIND, sent(&DaemonUpgrade { program: "/new/envctl".into() })),
        (WatchProject::KIND, subscribed(&WatchProject { project: project() })),
        (FollowEvents::KIND, subscribed(&follow)),
        (WatchLogs::KIND, subscribed(&logs)),
    ]
}

/// One answer of each kind: these are what an old client must go on to understand.
fn answers() -> Vec<(&'static str, Bytes)> {
    let hello = Hello {
        protocol_min: 1,
        protocol_max: 1,
        build: "0.1.0".into(),
        session: "default".into(),
        capabilities: vec![],
    };
    let refusal = Refusal { code: "not-found".into(), message: "no".into(), hint: None };
    let view = ProjectView {
        name: "shop".into(),
        root: "/p".into(),
        run: Some("r".into()),
        state: ProjectState::Up,
        units: vec![],
        cause: None,
        caused_by: None,
    };
    let up = UpReply { project: "shop".into(), run: "r".into(), joined: false, started: vec!["api".into()] };
    let exec = ExecReply { environment: vec![(ByteBuf::from(*b"A"), ByteBuf::from([0xff]))], dir: "/p".into() };
    let bytes = |kind, encoded: Result<Bytes, WireError>| (kind, encoded.unwrap());
    vec![
        bytes("hello", encode(0, KIND_HELLO, &hello)),
        bytes("reply-up", encode(1, KIND_REPLY, &up)),
        bytes("item-watch-project", encode(2, KIND_ITEM, &view)),
        bytes("error", encode(3, KIND_ERROR, &refusal)),
        bytes("end", encode(4, KIND_END, &())),
        bytes("reply-attach", encode(5, KIND_REPLY, &AttachReply { incarnation: 2, run: 7 })),
        bytes("reply-type-in", encode(6, KIND_REPLY, &TypeInReply { taken: true })),
        bytes("reply-exec", encode(7, KIND_REPLY, &exec)),
        bytes("reply-clear-logs", encode(7, KIND_REPLY, &ClearLogsReply { cleared: vec![("api".into(), 4096)] })),
    ]
}

fn sent<R: Request>(request: &R) -> Bytes {
    encode(1, R::KIND, request).unwrap()
}

fn subscribed<S: Subscribe>(subscribe: &S) -> Bytes {
    encode(2, S::KIND, subscribe).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// `kind hex` per line, of every protocol version there ever was.
const GOLDEN: [&str; 1] = [include_str!("../golden/v1.txt")];

fn golden(text: &str) -> impl Iterator<Item = (&str, Vec<u8>)> {
    text.lines().filter_map(|line| line.split_once(' ')).map(|(kind, bytes)| (kind, unhex(bytes)))
}

#[test]
fn the_bytes_of_every_kind_are_those_of_the_golden_file() {
    let all: Vec<_> = samples().into_iter().chain(answers()).collect();
    let text = all.iter().fold(String::new(), |mut text, (kind, bytes)| {
        let _ = writeln!(text, "{kind} {}", hex(bytes));
        text
    });
    assert_eq!(text, GOLDEN[0], "golden/v1.txt differs; a changed line breaks clients of that version");
}

#[test]
fn the_golden_file_covers_every_kind() {
    let kinds: Vec<_> = samples().into_iter().map(|(kind, _)| kind).collect();
    let known: Vec<_> = REQUEST_KINDS.iter().chain(SUBSCRIBE_KINDS).copied().collect();
    assert_eq!(kinds, known);
}

#[test]
fn the_golden_frames_of_every_version_are_understood() {
    for (kind, bytes) in GOLDEN.into_iter().flat_map(golden) {
        let frame = decode_frame(&bytes).unwrap();
        let understood = match kind {
            "up" => decode_body::<Up>(&frame).map(drop),
            "down" => decode_body::<Down>(&frame).map(drop),
            "ps" => decode_body::<Ps>(&frame).map(drop),
            "operate" => decode_body::<Operate>(&frame).map(drop),
            "kill" => decode_body::<Kill>(&frame).map(drop),
            "unit-env" => decode_body::<UnitEnv>(&frame).map(drop),
            "exec" => decode_body::<Exec>(&frame).map(drop),
            "requirement-info" => decode_body::<RequirementInfo>(&frame).map(drop),
            "drop-data" => decode_body::<DropData>(&frame).map(drop),
            "attach" => decode_body::<Attach>(&frame).map(drop),
            "type-in" => decode_body::<TypeIn>(&frame).map(drop),
            "clear-logs" => decode_body::<ClearLogs>(&frame).map(drop),
            "daemon-status" => decode_body::<DaemonStatus>(&frame).map(drop),
            "daemon-stop" => decode_body::<DaemonStop>(&frame).map(drop),
            "daemon-upgrade" => decode_body::<DaemonUpgrade>(&frame).map(drop),
            "watch-project" => decode_body::<WatchProject>(&frame).map(drop),
            "follow-events" => decode_body::<FollowEvents>(&frame).map(drop),
            "watch-logs" => decode_body::<WatchLogs>(&frame).map(drop),
            "hello" => decode_body::<Hello>(&frame).map(drop),
            "reply-up" => decode_body::<UpReply>(&frame).map(drop),
            "reply-attach" => decode_body::<AttachReply>(&frame).map(drop),
            "reply-type-in" => decode_body::<TypeInReply>(&frame).map(drop),
            "reply-exec" => decode_body::<ExecReply>(&frame).map(drop),
            "reply-clear-logs" => decode_body::<ClearLogsReply>(&frame).map(drop),
            "item-watch-project" => decode_body::<ProjectView>(&frame).map(drop),
            "error" => decode_body::<Refusal>(&frame).map(drop),
            "end" => decode_body::<()>(&frame),
            other => panic!("no type for {other}"),
        };
        understood.unwrap_or_else(|error| panic!("{kind}: {error}"));
    }
}

#[test]
fn a_new_field_of_a_newer_side_is_passed_over_and_a_missing_one_has_its_default() {
    #[derive(serde::Serialize)]
    struct NewerPs {
        invented: Vec<u32>,
        usage: bool,
    }
    let bytes = encode(1, "ps", &NewerPs { invented: vec![1, 2], usage: true }).unwrap();
    let ps: Ps = decode_body(&decode_frame(&bytes).unwrap()).unwrap();
    assert_eq!(ps, Ps { project: None, usage: true });
}

#[test]
fn bombs_are_refused_before_serde_sees_them() {
    let deep = [vec![0x91; 200_000], vec![0xc0]].concat();
    let wide = [vec![0xdd, 0x7f, 0xff, 0xff, 0xff], vec![0xc0; VALUES_MAX + 1]].concat();
    let claim = vec![0xdb, 0xff, 0xff, 0xff, 0xff];
    let long_text = [vec![0xdb, 0, 1, 0, 1], vec![b'a'; TEXT_MAX_BYTES + 1]].concat();
    let bombs =
        [(deep, "deep"), (wide, "many"), (claim, "too long"), (long_text, "too long"), (vec![0xc1], "not used")];
    for (bytes, why) in bombs {
        let error = decode_frame(&bytes).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    assert!(decode_frame(&[0xc0, 0xc0]).unwrap_err().to_string().contains("after the end"));
}

#[test]
fn a_frame_that_nobody_would_accept_is_not_sent() {
    let huge = ByteBuf::from(vec![0; FRAME_CLIENT_MAX_BYTES + 1]);
    assert!(matches!(encode(1, "up", &huge), Err(WireError::TooLong { .. })));
}

#[test]
fn a_hostile_kind_stands_harmlessly_in_the_message() {
    let frame = Frame { id: 1, kind: "\u{1b}]0;x\u{7}".repeat(100), body: ByteBuf::from(vec![0xc1]) };
    let text = decode_body::<Ps>(&frame).unwrap_err().to_string();
    assert!(!text.chars().any(char::is_control) && text.len() < 200, "{text:?}");
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        if let Ok(frame) = decode_frame(&bytes) {
            let _ = decode_body::<Up>(&frame);
        }
        let frame = Frame { id: 1, kind: "x".into(), body: ByteBuf::from(bytes) };
        let _ = decode_body::<Up>(&frame);
        let _ = decode_body::<ProjectView>(&frame);
        let _ = decode_body::<EventView>(&frame);
        let _ = decode_body::<DaemonView>(&frame);
    }

    #[test]
    fn a_damaged_frame_never_panics(at in 0usize..64, byte in any::<u8>(), cut in 0usize..200) {
        for (_, bytes) in samples() {
            let mut bytes = bytes.to_vec();
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            bytes.truncate(cut.max(1));
            if let Ok(frame) = decode_frame(&bytes) {
                let _ = decode_body::<Up>(&frame);
                let _ = decode_body::<Operate>(&frame);
            }
        }
    }

    #[test]
    fn what_is_encoded_is_decoded(id in any::<u64>(), root in "[a-z/]{0,40}", value in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let up = Up {
            project: ProjectRef { root: root.into() },
            file: None,
            user_config: None,
            units: Vec::new(),
            no_deps: false,
            environment: vec![(ByteBuf::from(*b"K"), ByteBuf::from(value))],
        };
        let frame = decode_frame(&encode(id, Up::KIND, &up).unwrap()).unwrap();
        prop_assert_eq!((frame.id, frame.kind.as_str()), (id, "up"));
        prop_assert_eq!(decode_body::<Up>(&frame).unwrap(), up);
    }
}
