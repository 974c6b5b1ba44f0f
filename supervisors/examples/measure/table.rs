//! Results: the lines a run prints, their medians over the rounds, and the table of them.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program: data on stdout, talk on stderr")]

use indexmap::IndexMap;

use crate::plan::Subject;

/// One measured value: a line `metric value unit`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Value {
    pub(crate) metric: String,
    pub(crate) value: f64,
    pub(crate) unit: String,
}

/// The values of all rounds.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: IndexMap<String, Row>,
}

#[derive(Debug, Default)]
struct Row {
    unit: String,
    /// Values of each subject, in the order of [`Subject::ALL`].
    values: [Vec<f64>; Subject::ALL.len()],
}

// === impl Value ===

impl Value {
    pub(crate) fn new(metric: &str, value: f64, unit: &str) -> Self {
        Self { metric: metric.to_owned(), value, unit: unit.to_owned() }
    }

    /// Reads a line; `None` if it is none of ours.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let (metric, value, unit) = (words.next()?, words.next()?, words.next()?);
        Some(Self::new(metric, value.parse().ok()?, unit))
    }
}

/// Prints the results of one run.
pub(crate) fn print(values: &[Value]) {
    for Value { metric, value, unit } in values {
        println!("{metric} {value:.3} {unit}");
    }
}

/// Says something to whoever waits.
pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}

// === impl Table ===

impl Table {
    pub(crate) fn add(&mut self, subject: Subject, value: Value) {
        let row = self.rows.entry(value.metric).or_default();
        row.unit = value.unit;
        row.values[subject as usize].push(value.value);
    }

    /// One line for each subject and metric: the median of the rounds.
    pub(crate) fn print(&self) {
        for (metric, row) in &self.rows {
            for subject in Subject::ALL {
                if let Some(median) = quantile(&row.values[subject as usize], 0.5) {
                    println!("{}.{metric} {median:.3} {}", subject.name(), row.unit);
                }
            }
        }
    }

    /// One line for each metric: median and range of each subject.
    pub(crate) fn show(&self) {
        let [ours, ractor, otp] = Subject::ALL.map(Subject::name);
        eprintln!("{:<30} {:<11} {ours:>32} {ractor:>32} {otp:>32}", "median (least … most)", "unit");
        for (metric, row) in &self.rows {
            let [ours, ractor, otp] = row.values.each_ref().map(|values| cell(values));
            eprintln!("{metric:<30} {:<11} {ours:>32} {ractor:>32} {otp:>32}", row.unit);
        }
    }
}

fn cell(values: &[f64]) -> String {
    let (least, median, most) = (quantile(values, 0.0), quantile(values, 0.5), quantile(values, 1.0));
    match (least, median, most) {
        (Some(least), Some(median), Some(most)) => {
            format!("{} ({} … {})", rounded(median), rounded(least), rounded(most))
        }
        (None, _, _) | (_, None, _) | (_, _, None) => "–".to_owned(),
    }
}

/// Digits that mean something.
fn rounded(value: f64) -> String {
    if value < 100.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}

/// The value below which `share` of all lie, by the nearest rank; `None` of nothing.
pub(crate) fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    sorted.get((last as f64 * share).round() as usize).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(quantile(&[5.0, 1.0, 3.0], 0.5), Some(3.0));
        assert_eq!(quantile(&[5.0, 1.0, 3.0], 1.0), Some(5.0));
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn a_line_without_a_number_is_no_result() {
        assert_eq!(Value::parse("start 12.5 children/s"), Some(Value::new("start", 12.5, "children/s")));
        assert_eq!(Value::parse("it went well"), None);
    }
}
