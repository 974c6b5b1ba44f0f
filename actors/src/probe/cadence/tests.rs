use super::*;

const EVERY: Duration = Duration::from_secs(10);

fn cadence(purpose: Purpose, failures: u32, successes: u32) -> Cadence {
    Cadence::new(Schedule { every: EVERY, timeout: Duration::from_secs(5), failures, successes }, purpose)
}

fn no() -> Result<(), ProbeFailure> {
    Err(ProbeFailure("no".to_owned()))
}

/// Feeds a row of answers (`+` good, `-` bad) and returns the events as letters, one per answer: `R`eady, `U`nready,
/// `L`ivenessLost, `F`ailing, `.` nothing.
fn check(mut cadence: Cadence, answers: &str, expect: &str) {
    let events: String = answers
        .chars()
        .map(|answer| match cadence.step(if answer == '+' { Ok(()) } else { no() }).event {
            Some(ProbeEvent::Ready) => 'R',
            Some(ProbeEvent::Unready(_)) => 'U',
            Some(ProbeEvent::LivenessLost(_)) => 'L',
            Some(ProbeEvent::Failing(_)) => 'F',
            None => '.',
        })
        .collect();
    assert_eq!(events, expect, "for {answers}");
}

#[test]
fn a_unit_is_ready_at_the_first_success_and_the_first_failure_is_told_once() {
    check(cadence(Purpose::Ready, 3, 1), "---+", "F..R");
    check(cadence(Purpose::Ready, 3, 1), "+++", "R..");
}

#[test]
fn readiness_needs_as_many_successes_in_a_row_as_the_schedule_says() {
    check(cadence(Purpose::Ready, 3, 3), "++-++-+++", "..F.....R");
}

#[test]
fn readiness_is_lost_only_after_consecutive_failures_and_can_be_regained() {
    check(cadence(Purpose::Ready, 3, 1), "+--+--+---", "R........U");
    check(cadence(Purpose::Ready, 3, 1), "+---+---+", "R..UR..UR");
}

#[test]
fn a_probe_that_flaps_every_other_time_never_costs_a_unit_its_life() {
    check(cadence(Purpose::Alive, 2, 1), &"-+".repeat(50), &".".repeat(100));
}

#[test]
fn liveness_is_lost_after_consecutive_failures_and_counts_anew_after_that() {
    check(cadence(Purpose::Alive, 3, 1), "---------", "..L..L..L");
}

#[test]
fn zero_thresholds_mean_one() {
    check(cadence(Purpose::Ready, 0, 0), "+-", "RU");
}

#[test]
fn readiness_checks_come_soon_and_then_more_and_more_rarely_up_to_a_second() {
    let mut cadence = cadence(Purpose::Ready, 3, 1);
    assert_eq!(cadence.first(), DELAY_FIRST);
    let delays: Vec<u128> = (0..18).map(|_| cadence.step(no()).next.as_millis()).collect();
    assert_eq!(delays, [10, 13, 17, 23, 31, 42, 56, 74, 99, 133, 177, 236, 315, 420, 561, 748, 997, 1000]);
}

#[test]
fn a_short_interval_bounds_the_delay_while_waiting_too() {
    let every = Duration::from_millis(10);
    let schedule = Schedule { every, timeout: every, failures: 3, successes: 1 };
    let mut cadence = Cadence::new(schedule, Purpose::Ready);
    assert_eq!(cadence.first(), every);
    assert_eq!(cadence.step(no()).next, every);
}

#[test]
fn a_ready_unit_is_asked_at_its_interval_and_a_lost_one_sooner() {
    let mut cadence = cadence(Purpose::Ready, 1, 1);
    assert_eq!(cadence.step(Ok(())).next, EVERY);
    assert_eq!(cadence.step(no()).next, DELAY_NOT_READY_MAX);
    assert_eq!(cadence.step(Ok(())).next, EVERY);
}

#[test]
fn liveness_is_asked_at_its_interval_from_the_start() {
    let mut cadence = cadence(Purpose::Alive, 3, 1);
    assert_eq!(cadence.first(), EVERY);
    assert_eq!(cadence.step(no()).next, EVERY);
}

#[test]
fn a_new_reason_is_told_but_only_so_many_of_them() {
    let mut cadence = cadence(Purpose::Ready, 3, 1);
    let events = (0..100).filter_map(|n| cadence.step(Err(ProbeFailure(format!("reason {n}")))).event).count();
    assert_eq!(events, FAILING_REPORTS_MAX as usize);
}
