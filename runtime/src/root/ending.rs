//! How a session ends: by itself when nothing needs it any more, or when told to, users before the servers they use.

use ractor::{ActorRef, RpcReplyPort};
use tokio::sync::oneshot;

use super::actor::State;
use super::handle::{Escaped, Project, RootMessage};
use super::recovery::end_orphans;
use crate::control::wire::DownReply;
use crate::project::share::server::is_server;
use crate::project::supervisor::{DownOrder, ProjectMessage};

// === impl State ===

impl State {
    /// Starts the time after which a session that nobody asks looks whether it is needed.
    pub(super) fn arm_idle(&mut self, myself: &ActorRef<RootMessage>) {
        self.disarm_idle();
        if let Some(after) = self.idle_after.filter(|_| self.clients == 0) {
            let myself = myself.clone();
            self.idle_timer = Some(self.tasks.spawn(async move {
                tokio::time::sleep(after).await;
                let _ = myself.cast(RootMessage::IdleCheck);
            }));
        }
    }

    /// Somebody is there.
    pub(super) fn disarm_idle(&mut self) {
        if let Some(timer) = self.idle_timer.take() {
            timer.abort();
        }
    }

    /// Asks every project whether it is at work; the answer comes as [`RootMessage::Idle`].
    pub(super) fn check_idle(&mut self, myself: &ActorRef<RootMessage>) {
        // Runs that wait for their configuration to be corrected live, and nobody else looks after them.
        if self.clients > 0 || self.shutdown.is_some() || !self.orphans.is_empty() {
            return;
        }
        let (myself, projects) = (myself.clone(), self.projects.values().cloned().collect::<Vec<_>>());
        self.tasks.spawn(async move {
            let active = futures::future::join_all(projects.iter().map(|project| async {
                let (reply, answer) = oneshot::channel();
                let _ = project.actor.cast(ProjectMessage::IsActive(reply.into()));
                answer.await.unwrap_or(false)
            }));
            let idle = !active.await.into_iter().any(|active| active);
            let _ = myself.cast(RootMessage::Idle(idle));
        });
    }

    /// Stops everything; all who asked are answered when it is done.
    pub(super) fn shut_down(&mut self, myself: &ActorRef<RootMessage>, reply: RpcReplyPort<Escaped>) {
        if let Some(waiting) = &mut self.shutdown {
            return waiting.push(reply);
        }
        self.shutdown = Some(vec![reply]);
        let orphans = std::mem::take(&mut self.orphans).into_values().collect();
        let processes = self.session.processes.clone();
        let (myself, projects) = (myself.clone(), self.projects.values().cloned().collect::<Vec<_>>());
        let places = self.session.places.clone();
        self.tasks.spawn(async move {
            // What others use goes last.
            let (servers, users): (Vec<_>, Vec<_>) =
                projects.into_iter().partition(|project| is_server(&places, &project.root));
            let mut replies = all_down(&users).await;
            replies.extend(all_down(&servers).await);
            end_orphans(&processes, orphans).await;
            let _ = myself.cast(RootMessage::Down(replies));
        });
    }

    /// A shutdown that somebody is impatient about: every unit is killed, whatever its grace.
    pub(super) fn hurry(&self) {
        if self.shutdown.is_none() {
            return;
        }
        tracing::info!("asked to end a second time: what is left is killed");
        for project in self.projects.values() {
            // The first `down` gets the answer that counts; nobody waits for this one.
            let (reply, _) = oneshot::channel();
            let order = DownOrder { units: Vec::new(), timeout: None, kill: true };
            let _ = project.actor.cast(ProjectMessage::Down(order, reply.into()));
        }
    }

    /// Everything is down: who waited hears what could not be ended.
    pub(super) fn answer_shutdown(&mut self, replies: Vec<DownReply>) {
        let escaped: Escaped = replies.into_iter().flat_map(|reply| reply.escaped).collect();
        for reply in self.shutdown.take().into_iter().flatten() {
            let _ = reply.send(escaped.clone());
        }
    }
}

async fn all_down(projects: &[Project]) -> Vec<DownReply> {
    let downs = futures::future::join_all(projects.iter().map(|project| async {
        let (reply, answer) = oneshot::channel();
        let order = DownOrder { units: Vec::new(), timeout: None, kill: false };
        let _ = project.actor.cast(ProjectMessage::Down(order, reply.into()));
        answer.await.ok().and_then(Result::ok)
    }));
    downs.await.into_iter().flatten().collect()
}
