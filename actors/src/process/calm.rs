//! Whether a burst of work is over, so that what only the burst needed can be given back.
//!
//! Pure: whoever works tells it, and takes the look that it asks for. Nothing happens while nothing is done.

use std::time::Duration;

/// Time between the end of a burst and the look that finds it over.
pub const LOOK_AFTER: Duration = Duration::from_secs(2);

/// How much has been done since the last rest.
#[derive(Debug)]
pub struct Calm {
    burst: u32,
    work: u32,
    /// What had been done when the look was asked for that is to come, if one is.
    before: Option<u32>,
}

// === impl Calm ===

impl Calm {
    /// `burst`: pieces of work that make a rest worth its price. The start of a program counts as so much.
    pub fn new(burst: u32) -> Self {
        Self { burst, work: burst, before: None }
    }

    /// A piece of work was done. `true`: call [`Calm::is_over`] after [`LOOK_AFTER`].
    pub fn worked(&mut self) -> bool {
        self.work = self.work.saturating_add(1);
        let asks = self.before.is_none() && self.work > self.burst;
        if asks {
            self.before = Some(self.work);
        }
        asks
    }

    /// The look. `true`: the burst is over. `false`: it goes on, so look again after [`LOOK_AFTER`].
    pub fn is_over(&mut self) -> bool {
        let since = self.work - self.before.unwrap_or(self.work);
        let is_over = since < self.burst;
        if is_over {
            (self.work, self.before) = (0, None);
        } else {
            self.before = Some(self.work);
        }
        is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_is_a_burst_and_after_it_only_much_work_is() {
        let mut calm = Calm::new(10);
        assert!(calm.worked(), "the start");
        assert!(!calm.worked(), "a look is on its way");
        assert!(calm.is_over());
        assert!((0..10).all(|_| !calm.worked()));
        assert!(calm.worked());
    }

    #[test]
    fn a_burst_that_goes_on_is_looked_at_again_and_a_trickle_is_none() {
        let mut calm = Calm::new(10);
        calm.worked();
        (0..10).for_each(|_| assert!(!calm.worked()));
        assert!(!calm.is_over());
        (0..9).for_each(|_| assert!(!calm.worked()));
        assert!(calm.is_over());
    }
}
