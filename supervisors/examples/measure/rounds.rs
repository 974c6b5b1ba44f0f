//! The rounds: every workload once for every subject, each in a process of its own, again and again.
#![expect(clippy::disallowed_methods, reason = "a program that runs itself; no unit of a project")]

use std::error::Error;
use std::process::{Command, Output, Stdio};

use crate::otp::Otp;
use crate::plan::{Plan, RUN, Run, Subject, Workload};
use crate::table::{Table, Value, say};

/// Measures all, then prints.
pub(crate) fn play(plan: &Plan) -> Result<(), Box<dyn Error>> {
    let otp = compiled(plan);
    let mut subjects = plan.subjects.clone();
    subjects.retain(|subject| *subject != Subject::Otp || otp.is_some());
    let mut table = Table::default();
    let mut without_result: Vec<(Subject, Workload)> = Vec::new();
    for round in 1..=plan.rounds {
        for workload in plan.workloads() {
            for &subject in &subjects {
                if without_result.contains(&(subject, workload)) {
                    continue;
                }
                say(&format!("round {round}: {} {} {}", subject.name(), workload.kind.name(), workload.children));
                match values(plan, &plan.run(subject, workload), otp.as_ref())? {
                    Some(values) => values.into_iter().for_each(|value| table.add(subject, value)),
                    None => without_result.push((subject, workload)),
                }
            }
        }
        // Who comes first meets the machine as the others do.
        let first = 1.min(subjects.len());
        subjects.rotate_left(first);
    }
    table.print();
    table.show();
    Ok(())
}

/// Erlang's module, if it is wanted and can be had.
fn compiled(plan: &Plan) -> Option<Otp> {
    if !plan.subjects.contains(&Subject::Otp) {
        return None;
    }
    Otp::compile().inspect_err(|error| say(&format!("otp is left out: failed to {error}"))).ok()
}

/// What one run has measured, under the names of the results; `None` if it came to nothing.
fn values(plan: &Plan, run: &Run, otp: Option<&Otp>) -> Result<Option<Vec<Value>>, Box<dyn Error>> {
    let Output { status, stdout, .. } = command(run, otp)?.stderr(Stdio::inherit()).output()?;
    if !status.success() {
        say(&format!("{} {} came to nothing: {status}", run.subject.name(), run.workload.kind.name()));
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&stdout);
    let heavy = |value: &Value| value.metric != "mem_per_child" || plan.weighs(&run.workload);
    let named = |value: Value| Value { metric: run.workload.metric(&value.metric), ..value };
    Ok(Some(text.lines().filter_map(Value::parse).filter(heavy).map(named).collect()))
}

fn command(run: &Run, otp: Option<&Otp>) -> Result<Command, Box<dyn Error>> {
    match (run.subject, otp) {
        (Subject::Otp, Some(otp)) => Ok(otp.command(run)),
        (Subject::Otp, None) => Err("otp is not compiled".into()),
        (Subject::Ours | Subject::Ractor, _) => {
            let mut command = Command::new(std::env::current_exe()?);
            command.arg(RUN).args(run.arguments());
            Ok(command)
        }
    }
}
