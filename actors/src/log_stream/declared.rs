//! Whose the bytes are that come from now on.

use std::sync::atomic::{AtomicU64, Ordering};

use super::layout::Life;

/// The life that bytes belong to which are taken from now on. Said by whoever starts it, while the pump's thread may be moving
/// bytes; asked by that thread with bytes in its hand.
#[derive(Debug)]
pub(super) struct Declared(AtomicU64);

// === impl Declared ===

impl Declared {
    pub(super) fn new(life: Life) -> Self {
        Self(AtomicU64::new(pack(life)))
    }

    pub(super) fn get(&self) -> Life {
        unpack(self.0.load(Ordering::SeqCst))
    }

    pub(super) fn set(&self, life: Life) {
        self.0.store(pack(life), Ordering::SeqCst);
    }
}

fn pack(life: Life) -> u64 {
    u64::from(life.run) << u32::BITS | u64::from(life.incarnation)
}

#[expect(clippy::cast_possible_truncation, reason = "the two halves are taken apart")]
fn unpack(packed: u64) -> Life {
    Life { run: (packed >> u32::BITS) as u32, incarnation: packed as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_is_what_was_set() {
        for life in [Life { run: u32::MAX, incarnation: 1 }, Life { run: 1, incarnation: u32::MAX }, Life::default()] {
            let declared = Declared::new(Life { run: 7, incarnation: 7 });
            declared.set(life);
            assert_eq!(declared.get(), life);
        }
    }
}
