//! The name somebody meant.

/// Candidates looked at: a hostile file must not buy quadratic time.
const CANDIDATES_MAX: usize = 1000;

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

/// What to say about an unknown key where `known` ones are allowed.
pub(super) fn key_hint(word: &str, known: &[&'static str]) -> String {
    let alias = ALIASES.iter().find(|(other, ours)| *other == word && known.contains(ours)).map(|(_, ours)| *ours);
    match alias.or_else(|| nearest(word, known.iter().copied())) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("known keys: {}", known.join(", ")),
    }
}
