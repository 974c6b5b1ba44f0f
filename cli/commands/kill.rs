//! `envctl kill`.

use envctl_runtime::control::wire::Kill;
use nix::sys::signal::Signal;

use crate::context::Context;
use crate::error::CliError;
use crate::exit::Exit;

/// Send a signal to the main process of units
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The signal: HUP, SIGHUP or 1
    #[arg(short, long, value_name = "SIGNAL", default_value = "TERM", value_parser = signal)]
    pub(crate) signal: i32,

    /// The units
    #[arg(required = true, value_name = "UNIT")]
    pub(crate) units: Vec<String>,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<Exit, CliError> {
    let target = context.locate().await?;
    let (client, view) = context.running(&target).await?;
    target.check_units(&args.units, Some(&view))?;
    if let Some(idle) = view.units.iter().find(|unit| args.units.contains(&unit.name) && unit.pid.is_none()) {
        return Err(CliError::new("not-running", format!("{} is not running", idle.name))
            .hint(format!("it is {}; nothing was signalled", idle.state.as_str())));
    }
    let accepted = client.request(Kill { project: target.reference, signal: args.signal, units: args.units }).await?;
    super::operate::accepted(context, "kill", &accepted, "signalled")
}

/// A signal by name, with or without `SIG`, or by number.
fn signal(text: &str) -> Result<i32, String> {
    let upper = text.to_ascii_uppercase();
    let named = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    let number = text.parse::<i32>().ok().and_then(|number| Signal::try_from(number).ok());
    let found = number.or_else(|| named.parse::<Signal>().ok());
    found.map(|signal| signal as i32).ok_or_else(|| "a signal such as HUP, USR1 or 9 is needed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_known_by_name_and_number() {
        for (text, number) in [("HUP", 1), ("sighup", 1), ("SIGKILL", 9), ("15", 15), ("usr1", 10)] {
            assert_eq!(signal(text), Ok(number), "{text}");
        }
        for bad in ["", "0", "99", "-1", "SIGNOPE"] {
            assert!(signal(bad).is_err(), "{bad}");
        }
    }
}
