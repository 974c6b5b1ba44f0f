//! The one place that reads wall time: for people and for the order of records, never for decisions.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Now, as it stands in the journal: RFC 3339 in UTC with microseconds.
pub fn now() -> String {
    format!("{:.6}", Timestamp::now())
}

/// A new run's id: the second it began and four hex digits, `20261121T102030Z-3f9a`.
pub fn new_run_id() -> String {
    format!("{}-{:04x}", Timestamp::now().strftime("%Y%m%dT%H%M%SZ"), fastrand::u16(..))
}

/// The time of day of a journal's time in `zone`, `10:20:31`; the text itself where it is no time.
pub(super) fn time_of_day(time: &str, zone: &TimeZone) -> String {
    let at = time.parse::<Timestamp>().map(|at| at.to_zoned(zone.clone()));
    at.map_or_else(|_| time.to_owned(), |at| at.strftime("%H:%M:%S").to_string())
}
