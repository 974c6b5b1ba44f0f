//! Scripts as Erlang terms, one a line, as `driver.escript` reads them.

use std::fmt::Display;

use crate::script::{Act, Answer, Call, Child, Op, Script};

/// The script as the line that gets the number `at` back in its answer.
pub(crate) fn line(at: usize, script: &Script) -> String {
    let flags = &script.flags;
    let answers = |(id, answers): &(_, Vec<Answer>)| format!("{{{id},{}}}", list(answers, answer));
    format!(
        "{{script,{at},{{{},{},{},{}}},{},{},{}}}.\n",
        flags.strategy,
        flags.intensity,
        flags.period,
        flags.auto_shutdown,
        list(&script.children, child),
        list(&script.answers, answers),
        list(&script.ops, op),
    )
}

fn list<T>(items: &[T], term: impl Fn(&T) -> String) -> String {
    format!("[{}]", items.iter().map(term).collect::<Vec<_>>().join(","))
}

fn child(child: &Child) -> String {
    let Child { id, restart, shutdown, significant, habit } = child;
    format!("{{{id},{restart},{shutdown},{significant},{habit}}}")
}

fn answer(answer: &Answer) -> String {
    format!("{{{},{}}}", answer.outcome, list(&answer.meanwhile, act))
}

fn op(op: &Op) -> String {
    match op {
        Op::One(one) => format!("{{one,{}}}", act(one)),
        Op::Together(acts) => format!("{{together,{}}}", list(acts, act)),
        Op::Advance(ms) => format!("{{advance,{ms}}}"),
    }
}

fn act(act: &Act) -> String {
    match act {
        Act::Exit(id, reason) => format!("{{exit,{id},{reason}}}"),
        Act::Call(asked) => format!("{{call,{}}}", call(asked)),
        Act::Stop => "stop".to_owned(),
    }
}

fn call(call: &Call) -> String {
    let with = |argument: &dyn Display| {
        let name = call.to_string();
        let name = name.split(' ').next().unwrap_or_default();
        format!("{{{name},{argument}}}")
    };
    match call {
        Call::StartChild(spec) => with(&child(spec)),
        Call::TerminateChild(id) | Call::RestartChild(id) | Call::DeleteChild(id) | Call::GetChildspec(id) => with(id),
        Call::WhichChildren | Call::CountChildren => call.to_string(),
    }
}
