//! How long to wait before the next life.

use std::time::Duration;

use crate::spec::Backoff;

/// Doublings after which every `base` of a nanosecond or more has passed every sensible `max`; bounds the shift.
const DOUBLINGS_MAX: u32 = 62;

/// The delay after `failures` failed lives in a row (from 1).
///
/// The first is zero: what ran well until now deserves to be back at once. Then `base`, doubling to `max`, and of that a
/// seeded share between half and all, so that children that died together do not come back in step. The share is taken
/// after the cap: a delay never exceeds `max`.
pub(super) fn delay(backoff: Backoff, failures: u32, rng: &mut fastrand::Rng) -> Duration {
    match backoff {
        Backoff::None => Duration::ZERO,
        Backoff::Exponential { .. } if failures <= 1 => Duration::ZERO,
        Backoff::Exponential { base, max } => jitter(doubled(base, max, failures - 2), rng),
    }
}

fn doubled(base: Duration, max: Duration, doublings: u32) -> Duration {
    let factor = 1u128 << doublings.min(DOUBLINGS_MAX);
    let nanos = base.as_nanos().saturating_mul(factor).min(max.as_nanos());
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

fn jitter(delay: Duration, rng: &mut fastrand::Rng) -> Duration {
    let nanos = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(rng.u64(nanos / 2..=nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENTH: Backoff = Backoff::Exponential { base: Duration::from_millis(100), max: Duration::from_millis(1500) };

    #[test]
    fn the_first_restart_is_immediate_and_the_next_double_up_to_the_cap() {
        let mut rng = fastrand::Rng::with_seed(7);
        assert_eq!(delay(TENTH, 1, &mut rng), Duration::ZERO);
        for (failures, full) in [(2, 100), (3, 200), (4, 400), (5, 800), (6, 1500), (7, 1500), (u32::MAX, 1500)] {
            for _ in 0..100 {
                let got = delay(TENTH, failures, &mut rng);
                let full = Duration::from_millis(full);
                assert!(full / 2 <= got && got <= full, "{failures}: {got:?} is not in [{:?}, {full:?}]", full / 2);
            }
        }
    }

    #[test]
    fn e24_equal_seeds_give_equal_delays_and_others_differ() {
        let run = |seed| {
            let mut rng = fastrand::Rng::with_seed(seed);
            (2..20).map(|failures| delay(TENTH, failures, &mut rng)).collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }
}
