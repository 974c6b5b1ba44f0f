//! The pump's first thread: it is spoken to, moves bytes (`lane`), has segments compressed (`press`), and shares its streams with a
//! second thread while there is too much to do for one.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::lane::Lane;
use super::load::{Load, Round};
use super::second::{Lost, Second};
use super::{Command, LogStreamId, Order, Tuning};
use crate::log_stream::press::{Outcome, Press};
use crate::process::sys::pipe::EventFd;

/// How long a segment that could not be compressed (a full disk) is left alone.
const PRESS_RETRY: Duration = Duration::from_secs(600);

/// All that the thread owns.
pub(super) struct Worker {
    commands: Receiver<Command>,
    lane: Lane,
    /// Begun with the first segment that is to be compressed.
    press: Option<Press>,
    load: Load,
    /// There while several units write faster than one thread can store.
    second: Option<Second>,
    /// Found out when it is first asked for.
    threads_max: Option<usize>,
    threads: watch::Sender<usize>,
}

/// What ends the thread.
enum End {
    /// It was told to.
    Told,
    /// It cannot go on.
    Failed,
}

// === impl Worker ===

impl Worker {
    pub(super) fn new(
        commands: Receiver<Command>,
        waker: Arc<EventFd>,
        tuning: Tuning,
        threads: watch::Sender<usize>,
    ) -> io::Result<Self> {
        let Tuning { quiet, crowded_bytes, threads_max } = tuning;
        let (lane, load) = (Lane::new(waker, quiet)?, Load::new(crowded_bytes));
        Ok(Self { commands, lane, press: None, load, second: None, threads_max, threads })
    }

    pub(super) fn run(mut self) {
        if let End::Failed = self.work() {
            tracing::error!("the log pump ends");
        }
        if let Err(Lost) = self.unite() {
            tracing::error!("the second log pump had panicked");
        }
        for (_, flow) in self.lane.streams.drain() {
            flow.close(&mut self.lane.scratch);
        }
    }

    fn work(&mut self) -> End {
        loop {
            if let Err(error) = self.lane.wait() {
                tracing::error!(%error, "the log pump cannot wait for output");
                return End::Failed;
            }
            if let Err(end) = self.obey() {
                return end;
            }
            let press = self.press.as_ref();
            let moved = self.lane.round(|stream| press.into_iter().for_each(|press| press.cancel(stream)));
            let now = Instant::now();
            self.tend(now);
            if let Err(Lost) = self.balance(moved, now) {
                return End::Failed;
            }
            self.lane.breathe(moved);
        }
    }

    /// Carries out what waits in the queue.
    fn obey(&mut self) -> Result<(), End> {
        loop {
            match self.commands.try_recv() {
                Ok(Command::To(stream, order)) => self.carry_out(stream, order).map_err(|Lost| End::Failed)?,
                Ok(Command::Halt { done }) => {
                    self.halt(done);
                    return Err(End::Told);
                }
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return Err(End::Told),
                Err(TryRecvError::Empty) => return Ok(()),
            }
        }
    }

    fn carry_out(&mut self, stream: LogStreamId, order: Order) -> Result<(), Lost> {
        if let (Order::Remove { .. }, Some(press)) = (&order, &self.press) {
            press.cancel(stream);
        }
        match self.second.as_mut().filter(|second| second.has(stream)) {
            Some(second) => second.pass_on(stream, order)?,
            None => self.lane.obey(stream, order),
        }
        Ok(())
    }

    /// Stores what is there, and nothing more, until the program ends or is replaced.
    fn halt(&mut self, done: oneshot::Sender<()>) {
        if let Err(Lost) = self.unite() {
            tracing::error!("the second log pump had panicked");
        }
        for flow in self.lane.streams.values_mut() {
            flow.empty(&mut self.lane.scratch);
        }
        // Whoever asked may be gone; there is nothing to go on with all the same.
        let _ = done.send(());
        // Kept, not refused: a start that waits for its log must not fail in the last moment.
        let mut unanswered = Vec::new();
        while let Ok(command) = self.commands.recv()
            && !matches!(command, Command::Stop)
        {
            unanswered.push(command);
        }
    }

    /// Looks whether one thread is enough, or two are still needed.
    fn balance(&mut self, moved: Round, now: Instant) -> Result<(), Lost> {
        if let Some(second) = &self.second {
            // Where one has nothing to do and the other too much, they share anew.
            let lopsided = second.was_crowded() && self.lane.busy(now).next().is_none();
            if lopsided || second.is_done() {
                self.unite()?;
            }
        }
        if self.load.note(moved) { self.share(now) } else { Ok(()) }
    }

    /// Lends half of what is busy to the second thread.
    fn share(&mut self, now: Instant) -> Result<(), Lost> {
        let threads_max = *self.threads_max.get_or_insert_with(processors);
        // What the press has said about a segment must reach its stream.
        let is_pressed = |stream| self.press.as_ref().is_some_and(|press| press.works_on(stream));
        let busy: Vec<_> = self.lane.busy(now).filter(|&stream| !is_pressed(stream)).collect();
        let lent = self.second.as_ref().map_or(0, Second::lent);
        let surplus = busy.len().saturating_sub(lent) / 2;
        if surplus == 0 || threads_max < 2 {
            return Ok(());
        }
        let second = match self.second.take().map_or_else(|| self.start_second(), Ok) {
            Ok(second) => self.second.insert(second),
            Err(error) => {
                tracing::warn!(%error, "one thread stores all logs: a second one cannot be made");
                self.threads_max = Some(1);
                return Ok(());
            }
        };
        for stream in busy.into_iter().take(surplus) {
            if let Some(flow) = self.lane.release(stream) {
                second.lend(stream, flow)?;
            }
        }
        Ok(())
    }

    fn start_second(&self) -> io::Result<Second> {
        let second = Second::start(Arc::clone(&self.lane.waker), self.lane.quiet)?;
        self.threads.send_replace(2);
        Ok(second)
    }

    /// Takes everything back from the second thread, if there is one.
    fn unite(&mut self) -> Result<(), Lost> {
        let Some(second) = self.second.take() else { return Ok(()) };
        let streams = second.take_back()?;
        for (stream, flow) in streams {
            self.lane.add(stream, flow);
        }
        self.threads.send_replace(1);
        Ok(())
    }

    /// What is due without an event.
    fn tend(&mut self, now: Instant) {
        self.note_pressed(now);
        if self.lane.care(now) {
            self.press_next(now);
        }
    }

    fn note_pressed(&mut self, now: Instant) {
        let Some(Outcome { stream, number, result }) = self.press.as_mut().and_then(Press::outcome) else { return };
        self.lane.care_soon(now);
        let quiet = self.lane.quiet;
        let Some(flow) = self.lane.streams.get_mut(&stream) else { return };
        match result {
            Ok(bytes) => {
                flow.store.note_packed(number, Some(bytes));
                flow.settle();
            }
            Err(error) => {
                tracing::info!(store = ?flow.store, number, %error, "segment is not compressed now");
                let left_off = flow.is_busy(now, quiet);
                flow.unpressed_until = now + if left_off { quiet } else { PRESS_RETRY };
            }
        }
    }

    /// Gives the press the next segment of a quiet stream.
    fn press_next(&mut self, now: Instant) {
        if self.press.as_ref().is_some_and(|press| !press.is_idle()) {
            return;
        }
        let mut quiet = self.lane.streams.iter().filter(|(_, flow)| flow.may_press(now, self.lane.quiet));
        let Some((&stream, store, number)) =
            quiet.find_map(|(id, flow)| Some((id, &flow.store, flow.store.unpacked()?)))
        else {
            return;
        };
        if self.press.is_none() {
            match Press::start(Arc::clone(&self.lane.waker)) {
                Ok(press) => self.press = Some(press),
                Err(error) => {
                    return tracing::warn!(%error, "logs are not compressed: the thread for it cannot be made");
                }
            }
        }
        if let Some(press) = &mut self.press {
            press.begin(stream, store.dir(), number);
        }
    }
}

/// Threads that can run at the same time; 1 where nobody knows.
fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
