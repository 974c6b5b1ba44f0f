//! Makes a script smaller as long as it still shows what it showed.

use crate::script::{Answer, Op, Script};

/// A script that cannot lose any one thing and still fail. `first_failing` runs many candidates and tells the first that
/// fails as the script did: all at once, because some of them take seconds.
pub(crate) fn shrink(script: Script, mut first_failing: impl FnMut(&[Script]) -> Option<usize>) -> Script {
    let mut smallest = script;
    loop {
        let mut candidates = candidates(&smallest);
        candidates.retain(Script::is_sound);
        match first_failing(&candidates) {
            Some(at) => smallest = candidates.swap_remove(at),
            None => return smallest,
        }
    }
}

/// The script without one of its things, the weightiest first.
fn candidates(script: &Script) -> Vec<Script> {
    let ops = without_each(&script.ops).into_iter().map(|ops| Script { ops, ..script.clone() });
    let children = without_each(&script.children).into_iter().map(|children| Script { children, ..script.clone() });
    let answers = replace_each(&script.answers, |(id, answers)| {
        smaller_answers(answers).into_iter().map(|fewer| (*id, fewer)).collect()
    });
    let answers = answers.into_iter().map(|answers| Script { answers, ..script.clone() });
    let acts = replace_each(&script.ops, smaller_op).into_iter().map(|ops| Script { ops, ..script.clone() });
    ops.chain(children).chain(answers).chain(acts).collect()
}

fn smaller_answers(answers: &[Answer]) -> Vec<Vec<Answer>> {
    let quieter = |answer: &Answer| {
        let meanwhiles = without_each(&answer.meanwhile).into_iter();
        meanwhiles.map(|meanwhile| Answer { meanwhile, outcome: answer.outcome }).collect()
    };
    let mut smaller = if answers.is_empty() { vec![] } else { vec![vec![]] };
    smaller.extend(without_each(answers));
    smaller.extend(replace_each(answers, quieter));
    smaller
}

fn smaller_op(op: &Op) -> Vec<Op> {
    match op {
        Op::Together(acts) if acts.len() > 1 => without_each(acts).into_iter().map(Op::Together).collect(),
        Op::Together(acts) => acts.iter().cloned().map(Op::One).collect(),
        Op::One(_) | Op::Advance(_) => vec![],
    }
}

/// The list without its first, without its second, and so on.
fn without_each<T: Clone>(items: &[T]) -> Vec<Vec<T>> {
    (0..items.len()).map(|at| [&items[..at], &items[at + 1..]].concat()).collect()
}

/// The list with one item replaced, for each item and each of its replacements.
fn replace_each<T: Clone>(items: &[T], replacements: impl Fn(&T) -> Vec<T>) -> Vec<Vec<T>> {
    let with = |at: usize, item: T| [&items[..at], &[item], &items[at + 1..]].concat();
    items
        .iter()
        .enumerate()
        .flat_map(|(at, item)| replacements(item).into_iter().map(move |item| with(at, item)))
        .collect()
}
