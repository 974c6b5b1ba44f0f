//! Durations and sizes.

use std::time::Duration;

use crate::config::{QuantityError, format_duration, format_size, parse_duration, parse_size};

#[test]
fn a_duration_is_numbers_with_units_from_the_largest() {
    for (text, millis) in [
        ("200ms", 200),
        ("10s", 10_000),
        ("2m", 120_000),
        ("1h30m", 5_400_000),
        ("1d", 86_400_000),
        ("0s", 0),
        ("1m500ms", 60_500),
    ] {
        assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
    }
}

#[test]
fn anything_else_is_no_duration() {
    for text in [
        "",
        "10",
        "s",
        "-1s",
        "1.5s",
        "5 s",
        "1s1m",
        "1s2s",
        "1ss",
        "1S",
        "1s ",
        "99999999999999999999s",
        "400000000d",
        "1s5",
    ] {
        assert!(parse_duration(text).is_err(), "{text:?} was accepted");
    }
    assert_eq!(parse_duration("10"), Err(QuantityError::NoUnit("10".into())));
    assert_eq!(parse_duration("1m2h"), Err(QuantityError::Order("h".into())));
}

#[test]
fn a_size_is_a_number_with_a_unit() {
    for (text, bytes) in [("100B", 100), ("512KiB", 512 << 10), ("256MiB", 256 << 20), ("1GB", 1_000_000_000)] {
        assert_eq!(parse_size(text), Ok(bytes), "{text}");
    }
    for text in ["", "1", "MiB", "1 MiB", "1MiB2", "1mib", "99999999999TiB"] {
        assert!(parse_size(text).is_err(), "{text:?} was accepted");
    }
}

#[test]
fn quantities_are_shown_as_people_write_them() {
    assert_eq!(format_duration(Duration::from_millis(5_400_200)), "1h30m200ms");
    assert_eq!(format_duration(Duration::ZERO), "0s");
    assert_eq!(format_size(256 << 20), "256MiB");
    assert_eq!(format_size(1000), "1000B");
    assert_eq!(format_size(0), "0B");
}
