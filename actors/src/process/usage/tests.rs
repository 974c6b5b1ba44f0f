use super::*;

const HEART: u32 = 2;

/// A process by (pid, parent, session), in a group of its session's number.
fn seen(pid: u32, parent: u32, session: u32) -> Seen {
    let (state, cpu_ticks, resident_pages) = ('S', 10, 100);
    let stat = Stat {
        pid,
        state,
        is_kernel: false,
        parent,
        group: session,
        session,
        cpu_ticks,
        start_time: 500,
        resident_pages,
        exit_code: None,
    };
    Seen { stat, reaped_ticks: 0 }
}

fn asked(leaders: &[u32]) -> Asked {
    let owner = |value: &[u8]| std::str::from_utf8(value).ok()?.parse().ok();
    Asked { leaders: leaders.to_vec(), heart: Some(HEART), owner: Box::new(owner) }
}

/// Who counts for the units of `leaders`; envelopes by (pid, place of the unit it names).
#[track_caller]
fn check(leaders: &[u32], processes: &[Seen], envelopes: &[(u32, usize)], expected: &[&[u32]]) {
    let envelope = |pid: u32| {
        let found = envelopes.iter().find(|(of, _)| *of == pid)?;
        Some(found.1.to_string().into_bytes())
    };
    let claims = Claims::of(&asked(leaders), processes, envelope);
    for (place, expected) in expected.iter().enumerate() {
        let mut counted: Vec<u32> =
            claims.processes.iter().filter(|(_, of)| **of == place).map(|(pid, _)| *pid).collect();
        counted.sort_unstable();
        assert_eq!(counted, *expected, "the unit of {}", leaders[place]);
    }
}

#[test]
fn a_tree_counts_for_its_unit_and_nobody_else_does() {
    let processes =
        [seen(2, 1, 2), seen(10, 2, 10), seen(11, 10, 10), seen(20, 2, 20), seen(21, 20, 20), seen(99, 1, 99)];
    check(&[10, 20], &processes, &[], &[&[10, 11], &[20, 21]]);
}

#[test]
fn a_child_in_a_session_of_its_own_counts_by_descent_also_where_it_has_the_lower_number() {
    check(&[50], &[seen(7, 9, 9), seen(9, 50, 9), seen(50, 2, 50)], &[], &[&[7, 9, 50]]);
}

#[test]
fn an_orphan_counts_by_the_session_it_was_born_in() {
    // 12 lost its parent; 11, its session's leader, still descends from the unit. 13's group is the unit's.
    let grouped = Seen { stat: Stat { group: 10, ..seen(13, 2, 77).stat }, ..seen(13, 2, 77) };
    check(&[10], &[seen(10, 2, 10), seen(11, 10, 11), seen(12, 2, 11), grouped], &[], &[&[10, 11, 12, 13]]);
}

#[test]
fn an_orphan_of_a_dead_session_counts_by_its_envelope_and_brings_its_family() {
    let processes = [seen(10, 2, 10), seen(30, 2, 29), seen(31, 30, 31), seen(40, 2, 40), seen(50, 1, 50)];
    // 40 has no envelope; 50 is nobody heart knows, so its envelope is not even read.
    check(&[10], &processes, &[(30, 0), (50, 0)], &[&[10, 30, 31]]);
}

#[test]
fn the_daemon_and_heart_never_count_whatever_they_carry() {
    let us = std::process::id();
    let processes =
        [seen(HEART, 1, HEART), seen(us, HEART, us), seen(10, HEART, 10), seen(11, HEART, us), seen(12, 1, us)];
    // 11 is a unit's orphan, but in the daemon's session: that session does not become the unit's.
    check(&[10], &processes, &[(us, 0), (HEART, 0), (11, 0)], &[&[10, 11]]);
}

#[test]
fn processes_of_sessions_outside_this_pid_namespace_are_not_drawn_in() {
    let outside = Seen { stat: Stat { session: 0, group: 0, ..seen(11, 10, 0).stat }, ..seen(11, 10, 0) };
    check(&[10], &[seen(10, 2, 10), outside, seen(3, 0, 0), seen(4, 3, 0)], &[], &[&[10, 11]]);
}

#[test]
fn a_stranger_with_a_leaders_number_is_not_that_leader() {
    check(&[10], &[seen(10, 1, 8)], &[], &[&[]]);
    let processes = [seen(10, 1, 8)];
    let claims = Claims::of(&asked(&[10]), &processes, |_| None);
    assert_eq!(sum(&[10], &processes, &claims, Duration::from_secs(6)), [None]);
}

#[test]
fn time_and_memory_are_summed_with_what_was_waited_for_and_what_zombies_tell() {
    let zombie = Seen { stat: Stat { state: 'Z', resident_pages: 0, ..seen(12, 10, 10).stat }, ..seen(12, 10, 10) };
    let busy = Seen { reaped_ticks: 70, ..seen(11, 10, 10) };
    let processes = [seen(10, 2, 10), busy, zombie];
    let claims = Claims::of(&asked(&[10, 66]), &processes, |_| None);
    let units = Units::read();
    let usage = Usage {
        cpu: units.time(100),
        memory_bytes: 200 * units.page_bytes,
        age: Duration::from_secs(60) - units.time(500),
    };
    assert_eq!(sum(&[10, 66], &processes, &claims, Duration::from_secs(60)), [Some(usage), None]);
}

#[test]
fn ticks_become_time_exactly() {
    let units = Units { ticks_per_second: 100, page_bytes: 4096 };
    assert_eq!(units.time(1), Duration::from_millis(10));
    assert_eq!(units.time(u64::MAX / 2), Duration::new(u64::MAX / 200, 70_000_000));
}

#[test]
fn what_children_used_is_read_behind_a_hostile_name() {
    let line = b"7 (a) S 1 1 1) S 3 4 5 0 -1 0 0 0 0 0 10 20 30 40 20 0 1 0 12345 1000 6 0\n";
    assert_eq!(parse(7, line).map(|seen| (seen.stat.cpu_ticks, seen.reaped_ticks)), Some((30, 70)));
    assert_eq!(parse(7, b"7 (cut S 3 4"), None);
    assert_eq!(parse(7, b"7 (cut) S 3 4 5"), None);
}

#[test]
fn a_look_at_this_machine_sees_this_process() {
    let me = look().into_iter().find(|seen| seen.stat.pid == std::process::id()).unwrap();
    assert!(me.stat.resident_pages > 0);
    assert!(uptime() > Units::read().time(me.stat.start_time));
    assert_eq!(measure(&asked(&[])), []);
}
