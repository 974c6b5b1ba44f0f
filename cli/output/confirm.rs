//! A question before something that cannot be undone.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};

use super::harmless;
use crate::context::Context;
use crate::error::CliError;

/// Longest answer that is read.
const ANSWER_MAX_BYTES: u64 = 64;

/// Asks on the terminal; only `y` and `yes` are a yes. Where nobody can be asked it is an error, with what to type instead.
pub(crate) fn confirm(context: &Context, question: &str, without_asking: &str) -> Result<bool, CliError> {
    if context.output.json || !io::stdin().is_terminal() {
        return Err(CliError::new("usage", format!("nobody can be asked: {question}"))
            .hint(format!("`{without_asking}` does not ask")));
    }
    let mut stderr = io::stderr().lock();
    write!(stderr, "{} [y/N] ", harmless(question))?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().lock().take(ANSWER_MAX_BYTES).read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
