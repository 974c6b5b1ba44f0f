//! What follows from a failure: another life now or later, or giving up, and then what that means for the others.

use std::collections::BTreeSet;

use super::child::{Birth, Charge, Next, Pending, State};
use super::fall::Member;
use super::groups::ROOT;
use super::strategy::{Companions, Loss};
use super::table::Key;
use super::{Cause, Desired, Ending, Engine, How, Limit, TimerKind, What, backoff};
use crate::spec::{AutoShutdown, Backoff, Escalate, Restart, Rules, Strategy, Then, UNSTABLE_MAX_DEFAULT};

/// A start that failed is never tried again at once: it counts as the second failure of its row at least.
const START_FAILURES_MIN: u32 = 2;

/// What has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// A life, which is over.
    OfLife,
    /// A start: there was no life.
    OfStart,
}

/// What giving a child up comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It alone has failed.
    Isolate,
    /// This group is started again by the one above it.
    RestartGroup(usize),
    /// This group has failed.
    FailGroup(usize),
    /// Everything ends.
    End,
}

// === impl Engine ===

impl Engine {
    /// Counts a failure and decides whether another life may follow, and when.
    pub(super) fn charge(&mut self, at: Key, cause: Cause, stable: bool, failure: Failure) {
        self.children[at].budget.fail(stable);
        let is_due = failure == Failure::OfStart && self.options.flags.rules == Rules::Otp;
        match if is_due { None } else { self.over_budget(at) } {
            Some(limit) => self.give_up(at, limit, cause),
            None => self.schedule(at, cause, failure, if is_due { Charge::Due } else { Charge::Paid }),
        }
    }

    /// Charges one restart to the budget of a child, or to the one that its group shares.
    fn over_budget(&mut self, at: Key) -> Option<Limit> {
        let (now, child) = (self.now, &mut self.children[at]);
        let group = self.groups.get_mut(child.seat.group);
        let limit = match group.intensity {
            Some(intensity) => group.record.window.charge(intensity, now),
            None => child.budget.window.charge(child.spec.intensity, now),
        };
        limit.or_else(|| child.budget.over_unstable(&child.spec))
    }

    fn schedule(&mut self, at: Key, cause: Cause, failure: Failure, charge: Charge) {
        let failures = match failure {
            Failure::OfLife => self.children[at].budget.failures(),
            Failure::OfStart => self.children[at].budget.failures().max(START_FAILURES_MIN),
        };
        let is_alone = self.strategy_of(at) == Strategy::OneForOne;
        if failure == Failure::OfLife || is_alone {
            self.leave_batch(at);
        }
        let delay = backoff::delay(self.children[at].spec.backoff, failures, &mut self.rng);
        self.children[at].cause = Some(cause);
        if delay.is_zero() && failure == Failure::OfLife {
            self.enter(at, State::Pending(Pending::new(Birth::Automatic)));
        } else {
            // Also without a delay: between two tries of a failing start everybody else has a turn (OTP-9549).
            let until = self.now.saturating_add(delay);
            self.enter(at, State::Backoff { until, charge });
            self.lead_batch(at);
            self.arm(at, TimerKind::Backoff, until);
        }
        self.report_state(at, What::RestartScheduled { delay, failures: self.children[at].budget.failures() });
        match failure {
            Failure::OfLife => self.restart_with(at, self.companions(at), How::Crashed),
            // Its companions are restarted when it is tried again.
            Failure::OfStart => self.take_along(at, Loss::Life, How::Crashed),
        }
    }

    fn strategy_of(&self, at: Key) -> Strategy {
        self.groups.get(self.children[at].seat.group).strategy
    }

    /// The delay is over.
    pub(super) fn try_again(&mut self, at: Key) {
        let State::Backoff { charge, .. } = self.children[at].state else { return };
        if charge == Charge::Due
            && let Some(limit) = self.over_budget(at)
        {
            let last = self.children[at].cause.clone().unwrap_or(Cause::Operator);
            return self.give_up(at, limit, last);
        }
        self.enter(at, State::Pending(Pending::new(Birth::Automatic)));
        let companions = self.companions(at);
        let is_anyone_up = companions.who.iter().any(|&other| self.children[other].life().is_some());
        if is_anyone_up || self.options.flags.rules == Rules::Otp {
            self.restart_with(at, companions, How::Crashed);
        }
    }

    /// Restarts companions of a child, and followers of them all, in one fall; the child, which is down, comes up with them.
    fn restart_with(&mut self, at: Key, companions: Companions, how: How) {
        let Companions { group, strategy, who } = companions;
        let cause = Cause::Group { group: group.clone(), by: self.id(at), how };
        let mut members: Vec<Member> = Vec::new();
        for other in who.into_iter().filter(|&other| other != at) {
            members.extend(self.next_of_companion(other).map(|next| Member { at: other, next, cause: cause.clone() }));
        }
        self.obey_stop_edges(at, &mut members);
        let again = |member: &&Member| matches!(member.next, Next::Again(_));
        let batch: Vec<_> = members.iter().filter(again).map(|member| member.at).collect();
        if !members.is_empty() {
            let what = What::GroupRestarting { group, strategy, members: members.len() };
            self.report_state(at, what);
        }
        let mut roots = vec![at];
        roots.extend(members.iter().filter(|member| self.children[member.at].life().is_some()).map(|member| member.at));
        members.extend(self.members_following(&roots, Loss::Life, how));
        self.bring_down(members, Some(at));
        if !batch.is_empty() {
            self.form_batch([vec![at], batch].concat(), Some(at));
        }
    }

    /// What a group's restart means for one that it concerns; `None`: nothing.
    fn next_of_companion(&self, at: Key) -> Option<Next> {
        let child = &self.children[at];
        let is_up = child.life().is_some();
        let is_stopping = is_up && child.desired == Desired::Down;
        match (child.spec.restart, self.options.flags.rules) {
            (Restart::Temporary, _) if matches!(child.state, State::Pending(_)) => Some(Next::Again(Birth::Start)),
            (Restart::Temporary, _) => is_up.then_some(Next::Down),
            // All are down before the first comes up: also those that go down for another reason.
            (Restart::Permanent | Restart::Transient, Rules::Operator) if is_stopping => Some(Next::Down),
            (Restart::Permanent | Restart::Transient, Rules::Otp) => Some(Next::Again(Birth::Automatic)),
            (Restart::Permanent | Restart::Transient, Rules::Operator) => {
                let is_coming = matches!(child.state, State::Pending(_) | State::Backoff { .. });
                (child.desired == Desired::Up && (is_up || is_coming)).then_some(Next::Again(Birth::Automatic))
            }
        }
    }

    /// A member that says `stop` of one that goes down with it stays down.
    fn obey_stop_edges(&self, at: Key, members: &mut [Member]) {
        let falling: BTreeSet<Key> = members.iter().map(|member| member.at).chain([at]).collect();
        for member in members {
            let needs = &self.children[member.at].needs;
            if needs.iter().any(|link| link.then == Then::Stop && falling.contains(&link.to)) {
                member.next = Next::Down;
            }
        }
    }

    // --- giving up ---

    fn give_up(&mut self, at: Key, limit: Limit, last: Cause) {
        self.report(at, What::GaveUp { limit, last: Box::new(last.clone()) }, Some(limit.into()));
        self.fall_of_given_up(at, limit, limit.into(), last);
    }

    /// Trying again cannot help: as good as given up.
    pub(super) fn give_up_hopeless(&mut self, at: Key, cause: Cause) {
        self.fall_of_given_up(at, Limit::Hopeless, cause.clone(), cause);
    }

    fn fall_of_given_up(&mut self, at: Key, limit: Limit, cause: Cause, last: Cause) {
        match self.judge_giving_up(at, limit) {
            Verdict::Isolate => {
                self.fail(at, cause);
                self.take_along(at, Loss::Life, How::Failed);
            }
            Verdict::RestartGroup(group) => self.restart_group(group, at, last),
            Verdict::FailGroup(group) => self.fail_group(group, at, cause),
            Verdict::End => self.end(at, cause, Ending::GaveUp),
        }
    }

    /// Climbs from the group of a child as far as escalation leads.
    fn judge_giving_up(&mut self, at: Key, limit: Limit) -> Verdict {
        let child = &self.children[at];
        let group = child.seat.group;
        let shares = self.groups.get(group).intensity.is_some();
        let escalate = if shares { self.groups.get(group).escalate } else { child.spec.escalate };
        match escalate {
            _ if !child.spec.critical => Verdict::Isolate,
            Escalate::Isolate => Verdict::Isolate,
            Escalate::Project => Verdict::End,
            Escalate::Group if group != ROOT => self.judge_group(group, at, limit),
            // A group of one is its child.
            Escalate::Group if !shares => Verdict::Isolate,
            Escalate::Group => Verdict::End,
        }
    }

    /// A group was given up: one crash in the group above it.
    fn judge_group(&mut self, mut group: usize, by: Key, mut limit: Limit) -> Verdict {
        loop {
            let known = self.groups.get(group);
            let (id, escalate, parent) = (known.id.clone(), known.escalate, known.parent.unwrap_or(ROOT));
            self.report(by, What::GroupGaveUp { group: id, limit, escalate }, Some(limit.into()));
            match self.charge_group(group, parent, by) {
                None => return Verdict::FailGroup(group),
                Some(None) => return Verdict::RestartGroup(group),
                Some(Some(over)) => limit = over,
            }
            match self.groups.get(parent).escalate {
                Escalate::Isolate => return Verdict::FailGroup(group),
                Escalate::Project => return Verdict::End,
                Escalate::Group if parent == ROOT => return Verdict::End,
                Escalate::Group => group = parent,
            }
        }
    }

    /// Charges a restart of `group` to its parent. `None`: that has no budget for groups.
    fn charge_group(&mut self, group: usize, parent: usize, by: Key) -> Option<Option<Limit>> {
        let intensity = self.groups.get(parent).intensity?;
        let now = self.now;
        let over = self.groups.get_mut(parent).record.window.charge(intensity, now);
        let record = &mut self.groups.get_mut(group).record;
        record.failures += 1;
        record.offender = Some(by);
        let lives = record.failures;
        let has_delays = self.children[by].spec.backoff != Backoff::None;
        // What makes giving up reachable when the delays outgrow the window, as for a child.
        let unstable = (has_delays && lives >= UNSTABLE_MAX_DEFAULT).then_some(Limit::Unstable { lives });
        Some(over.or(unstable))
    }

    /// Starts a group again that was given up, as new: with the companions that the group above has for it.
    fn restart_group(&mut self, group: usize, by: Key, last: Cause) {
        let failures = self.groups.get(group).record.failures;
        let own = self.groups.children(group);
        for inner in self.groups_in(group) {
            self.groups.get_mut(inner).record.window = super::budget::Window::default();
        }
        for &at in &own {
            self.children[at].budget.reset();
        }
        let delay = backoff::delay(self.children[by].spec.backoff, failures, &mut self.rng);
        let until = self.now.saturating_add(delay);
        self.leave_batch(by);
        self.children[by].cause = Some(last);
        if delay.is_zero() {
            self.enter(by, State::Pending(Pending::new(Birth::Automatic)));
        } else {
            self.enter(by, State::Backoff { until, charge: Charge::Paid });
            self.arm(by, TimerKind::Backoff, until);
        }
        self.report_state(by, What::RestartScheduled { delay, failures });
        let companions = self.companions_of_group(group);
        self.restart_with(by, companions, How::Failed);
    }

    /// A group has failed as a whole.
    fn fail_group(&mut self, group: usize, by: Key, reason: Cause) {
        let id = self.groups.get(group).id.clone();
        self.groups.get_mut(group).record.failed = true;
        self.fail(by, reason.clone());
        let others: Vec<_> = self.groups.children(group).into_iter().filter(|&at| at != by).collect();
        let cause = id.map_or(reason, |group| Cause::GroupGaveUp { group, by: self.id(by) });
        let mut roots = vec![by];
        roots.extend(others.iter().copied().filter(|&at| self.children[at].life().is_some()));
        let wanted = others.into_iter().filter(|&at| self.children[at].desired == Desired::Up);
        let mut members: Vec<_> = wanted.map(|at| Member { at, next: Next::Fail, cause: cause.clone() }).collect();
        members.extend(self.members_following(&roots, Loss::Life, How::Failed));
        self.bring_down(members, None);
    }

    fn groups_in(&self, group: usize) -> Vec<usize> {
        let mut found = vec![group];
        let mut nth = 0;
        while nth < found.len() {
            found.extend(self.groups.get(found[nth]).inner());
            nth += 1;
        }
        found
    }

    /// A life of this child became stable: the groups that had failed because of it have recovered.
    pub(super) fn forgive_groups(&mut self, at: Key) {
        let around: Vec<_> = self.groups.upwards(self.children[at].seat.group).collect();
        for group in around {
            let record = &mut self.groups.get_mut(group).record;
            if record.offender == Some(at) {
                (record.failures, record.offender) = (0, None);
            }
        }
    }

    // --- the end ---

    /// Everything ends, because of one.
    pub(super) fn end(&mut self, at: Key, cause: Cause, why: Ending) {
        self.fail(at, cause);
        self.end_because_of(at, why);
    }

    fn end_because_of(&mut self, at: Key, why: Ending) {
        if self.ending.is_none() {
            let by = self.id(at);
            self.report(at, What::Ending(why.clone()), None);
            self.ending = Some((by.clone(), why.clone()));
            self.stop_all(&Cause::Ending { by, why: Box::new(why) });
        }
    }

    /// A child ended by itself and is not restarted: OTP's auto-shutdown.
    pub(super) fn auto_shutdown(&mut self, at: Key) {
        let is_due = self.children[at].spec.significant
            && match self.options.flags.auto_shutdown {
                AutoShutdown::Never => false,
                AutoShutdown::AnySignificant => true,
                AutoShutdown::AllSignificant => !self.children.iter().any(|(at, _)| self.is_significant_alive(at)),
            };
        if is_due {
            self.end_because_of(at, Ending::AutoShutdown);
        }
    }

    /// Whether a significant child lives, or is about to.
    fn is_significant_alive(&self, at: Key) -> bool {
        let child = &self.children[at];
        let is_coming = matches!(child.state, State::Pending(_)) && !self.is_stalled(at);
        child.spec.significant && (child.is_active() || is_coming)
    }
}
