//! The name somebody probably meant.

/// Least similarity of a suggestion that is no mere slip (Jaro-Winkler, 0 to 1): a wrong suggestion is worse than none.
const SIMILARITY_MIN: f64 = 0.85;

/// The candidate most like `name`, if any is like it at all. Case and separators do not count.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = plain(name);
    // A third of the letters may be wrong, missing or swapped.
    let slips_max = (wanted.chars().count() / 3).clamp(1, 4);
    let mut best: Option<(usize, f64, &str)> = None;
    for candidate in candidates {
        let plain = plain(candidate);
        let slips = strsim::damerau_levenshtein(&wanted, &plain);
        let similarity = strsim::jaro_winkler(&wanted, &plain);
        let likely = slips <= slips_max || similarity >= SIMILARITY_MIN;
        let better = best.is_none_or(|(least, most, _)| slips < least || (slips == least && similarity > most));
        if likely && better {
            best = Some((slips, similarity, candidate));
        }
    }
    best.map(|(_, _, candidate)| candidate)
}

fn plain(name: &str) -> String {
    name.to_lowercase().replace(['_', ' '], "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_its_name_and_nonsense_finds_none() {
        let units = ["postgres", "redis", "api", "web-1"];
        for (typed, meant) in [
            ("postgers", "postgres"),
            ("API", "api"),
            ("web_1", "web-1"),
            ("rediss", "redis"),
            ("wbe-1", "web-1"),
            ("apu", "api"),
            ("post", "postgres"),
        ] {
            assert_eq!(nearest(typed, units), Some(meant), "{typed}");
        }
        for nonsense in ["", "zzzz", "nosuch"] {
            assert_eq!(nearest(nonsense, units), None, "{nonsense}");
        }
        assert_eq!(nearest("api", []), None);
    }
}
