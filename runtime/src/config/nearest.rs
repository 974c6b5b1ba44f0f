//! The name somebody meant.

/// Candidates looked at: a hostile file must not buy quadratic time.
const CANDIDATES_MAX: usize = 1000;

/// Most units listed in a hint: more are not read.
const SHOWN_MAX: usize = 24;

/// Keys of other tools and old habits, with ours.
const ALIASES: [(&str, &str); 30] = [
    ("args", "cmd"),
    ("command", "cmd"),
    ("cwd", "dir"),
    ("daemon", "services"),
    ("daemons", "services"),
    ("depends", "needs"),
    ("depends_on", "needs"),
    ("directory", "dir"),
    ("dotenv", "env_file"),
    ("entrypoint", "cmd"),
    ("environment", "env"),
    ("exec", "cmd"),
    ("group", "groups"),
    ("health", "alive"),
    ("healthcheck", "ready"),
    ("interval", "every"),
    ("liveness_probe", "alive"),
    ("process", "services"),
    ("processes", "services"),
    ("readiness_probe", "ready"),
    ("require", "requirements"),
    ("requires", "needs"),
    ("retries", "failures"),
    ("run", "cmd"),
    ("script", "sh"),
    ("shell", "sh"),
    ("task", "tasks"),
    ("vars", "env"),
    ("working_dir", "dir"),
    ("workdir", "dir"),
];

/// The candidate closest to `word`, if it is close enough to be a slip.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let reach = (word.chars().count() / 3).clamp(1, 4);
    let lower = word.to_lowercase();
    candidates
        .into_iter()
        .take(CANDIDATES_MAX)
        .map(|candidate| (strsim::damerau_levenshtein(&lower, candidate), candidate))
        .filter(|(distance, _)| *distance <= reach)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// What to say about a unit that is not there, where `others` could be meant.
pub(super) fn unit_hint(word: &str, others: &[&str]) -> String {
    if let Some(near) = nearest(word, others.iter().copied()) {
        return format!("did you mean `{near}`?");
    }
    if others.is_empty() {
        return "there is no other unit; add one with a header such as `[services.db]`".to_owned();
    }
    let shown = others[..others.len().min(SHOWN_MAX)].join(", ");
    match others.len().saturating_sub(SHOWN_MAX) {
        0 => format!("units here: {shown}"),
        more => format!("units here: {shown} and {more} more"),
    }
}

/// What to say about an unknown key where `known` ones are allowed.
pub(super) fn key_hint(word: &str, known: &[&'static str]) -> String {
    let alias = ALIASES.iter().find(|(other, ours)| *other == word && known.contains(ours)).map(|(_, ours)| *ours);
    match alias.or_else(|| nearest(word, known.iter().copied())) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("known keys: {}", known.join(", ")),
    }
}
