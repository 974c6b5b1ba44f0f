//! Whether one thread is enough. Pure.

/// What one round of a thread has moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Round {
    pub(super) bytes: usize,
    /// Units that write faster than they are read: one of their pipes was full.
    pub(super) full: usize,
}

/// Bytes moved while several units waited for the thread at once.
#[derive(Debug)]
pub(super) struct Load {
    bytes: u64,
    limit: u64,
}

// === impl Load ===

impl Load {
    /// A thread is crowded when it has moved so many bytes while several units waited.
    pub(super) fn new(limit: u64) -> Self {
        Self { bytes: 0, limit }
    }

    /// Whether the thread is crowded, now that this round is over. Then counting begins anew.
    pub(super) fn note(&mut self, round: Round) -> bool {
        if round.full < 2 {
            // One unit alone cannot be shared out. Forgotten by and by: a crowd may miss a round.
            self.bytes /= 2;
            return false;
        }
        self.bytes += round.bytes as u64;
        let crowded = self.bytes >= self.limit;
        if crowded {
            self.bytes = 0;
        }
        crowded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crowded_after(full: impl Fn(u32) -> usize) -> Option<u32> {
        let mut load = Load::new(1000);
        (1..1000).find(|&n| load.note(Round { bytes: 100, full: full(n) }))
    }

    #[test]
    fn a_thread_is_crowded_when_several_units_wait_for_it_for_long() {
        assert_eq!(crowded_after(|_| 2), Some(10));
        assert_eq!(crowded_after(|_| 20), Some(10));
        assert_eq!(crowded_after(|_| 1), None);
        assert_eq!(crowded_after(|_| 0), None);
        assert_eq!(crowded_after(|n| if n == 5 { 1 } else { 2 }), Some(13));
        assert_eq!(crowded_after(|n| 1 + n as usize % 2), None);
    }

    #[test]
    fn what_was_counted_once_is_not_counted_again() {
        let mut load = Load::new(1000);
        let round = Round { bytes: 600, full: 2 };
        assert_eq!([(); 5].map(|()| load.note(round)), [false, true, false, true, false]);
    }
}
