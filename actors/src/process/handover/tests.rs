//! The table's side of an upgrade, with a heart that the test plays.

use std::collections::BTreeMap;
use std::time::Duration;

use envctl_supervisors::Name;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::*;
use crate::process::command::{Command, Limits, RunAs};
use crate::process::heart::wire::{Ending, Inbox, Key, ToHeart, VERSION, encode};
use crate::process::sys::child::WaitStatus;
use crate::process::table::{Order, Role, Scope, Spawned, Tag};

const SOON: Duration = Duration::from_secs(20);

/// Somebody for the table to be linked to.
struct Nobody;

impl Actor for Nobody {
    type Msg = ();
    type State = ();
    type Arguments = ();
    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

/// Heart, played by the test.
struct Heart {
    stream: UnixStream,
    inbox: Inbox,
    root: ActorRef<()>,
}

impl Heart {
    async fn new() -> (Processes, Self) {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let (root, _) = Nobody::spawn(None, Nobody, ()).await.unwrap();
        let processes = Processes::start(theirs, root.get_cell()).await.unwrap();
        let mut heart = Self { stream: UnixStream::from_std(ours).unwrap(), inbox: Inbox::default(), root };
        let (build, rescued) = (Some("9".to_owned()), Some("it ended".to_owned()));
        heart
            .say(&FromHeart::Hello {
                version: VERSION,
                pid: 1,
                held: Vec::new(),
                build,
                rescued,
                terminals: false,
                replaced: false,
            })
            .await;
        (processes, heart)
    }

    async fn say(&mut self, word: &FromHeart) {
        self.stream.write_all(&encode(word).unwrap()).await.unwrap();
    }

    async fn hear(&mut self) -> ToHeart {
        let hear = async {
            loop {
                if let Some(order) = self.inbox.take().unwrap() {
                    return order;
                }
                let mut buffer = [0; 4096];
                let count = self.stream.read(&mut buffer).await.unwrap();
                self.inbox.feed(&buffer[..count]);
            }
        };
        timeout(SOON, hear).await.expect("an order")
    }

    /// Lets the table start a process that nobody really started.
    async fn start(&mut self, processes: &Processes) -> Spawned {
        let (spawned, ()) = tokio::join!(processes.spawn(order()), async {
            let ToHeart::Spawn(order) = self.hear().await else { panic!("not a start") };
            self.say(&FromHeart::Spawned { key: order.key, pid: 77, hold: None, terminal: None }).await;
        });
        spawned.unwrap()
    }

    async fn ended(&mut self, key: Key) {
        self.say(&FromHeart::Exited { key, status: WaitStatus::Code(7), oom: false, alone: false }).await;
    }
}

impl Drop for Heart {
    fn drop(&mut self) {
        self.root.stop(None);
    }
}

fn order() -> Order {
    let unit = Name::new("unit").unwrap();
    let command = Command {
        program: "/bin/true".into(),
        args: Vec::new(),
        env: BTreeMap::new(),
        dir: "/".into(),
        run_as: RunAs::Caller,
        limits: Limits::default(),
        stdin: None,
    };
    let tag = Tag { project: "p".to_owned(), unit, incarnation: 1, role: Role::Main };
    Order { tag, command: command.into(), out: "/nowhere".into(), err: "/nowhere".into(), ending: Ending::default() }
}

#[tokio::test]
async fn b14_the_table_comes_to_rest_when_the_ends_under_way_have_been_dealt_with() {
    let (processes, mut heart) = Heart::new().await;
    let mut spawned = heart.start(&processes).await;
    heart.ended(spawned.key).await;
    timeout(SOON, &mut spawned.exit).await.expect("its end is told").unwrap();
    let mut calm = Box::pin(processes.calm());
    // Asked after the rest, and answered before it: somebody still deals with that end.
    tokio::select! {
        biased;
        _ = &mut calm => panic!("an end is under way"),
        held = processes.list() => assert_eq!(held.len(), 1),
    }
    processes.release(spawned.key);
    timeout(SOON, calm).await.expect("it comes to rest").unwrap();
    assert_eq!(heart.hear().await, ToHeart::Ack { key: spawned.key });
}

#[tokio::test]
async fn b14_ends_and_starts_that_come_later_are_left_to_the_next_program() {
    let (processes, mut heart) = Heart::new().await;
    let mut spawned = heart.start(&processes).await;
    timeout(SOON, processes.calm()).await.expect("nothing is under way").unwrap();
    heart.ended(spawned.key).await;
    let starting = processes.spawn(order());
    let over = async {
        let handed = processes.hand_over(Path::new("/new"));
        let (handed, ()) = tokio::join!(handed, async {
            assert_eq!(heart.hear().await, ToHeart::HandOver { program: b"/new".to_vec().into() });
            heart.say(&FromHeart::HandingOver).await;
        });
        handed.unwrap();
        // Nothing may be said any more: the sentinel is the next word.
        processes.signal(spawned.key, 15, Scope::Group);
        processes.release(spawned.key);
        processes.keep();
        assert_eq!(heart.hear().await, ToHeart::Keep);
    };
    tokio::select! {
        biased;
        _ = starting => panic!("it was started, or refused"),
        end = &mut spawned.exit => panic!("its end would be told twice: {end:?}"),
        () = over => {}
    }
}

#[tokio::test]
async fn what_heart_said_of_itself_is_known() {
    let (processes, _heart) = Heart::new().await;
    let said = processes.heart_said().await.unwrap();
    assert_eq!((said.version, said.build.as_deref(), said.rescued.as_deref()), (VERSION, Some("9"), Some("it ended")));
}
