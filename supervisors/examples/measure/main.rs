//! Measures three supervisors with one workload: ours, bare ractor and Erlang/OTP.
//!
//! ```text
//! cargo run --release -p envctl-supervisors --example measure [-- SUBJECT… OPTION…]
//!
//! subjects: ours ractor otp          (default: all, interleaved; otp is left out where erl is not installed)
//! --n N            children of the largest runs (100000); smaller ones have a tenth and a hundredth of it
//! --restarts N     restarts of the latency run (10000); among siblings a fifth of it
//! --rounds N       rounds; their medians are printed (5)
//! --runtime R      multi (one worker for each core) or current (one thread; one scheduler for Erlang)
//! --only A,B       start, chain, restart, siblings, burst (all)
//! --limit SECONDS  a run that takes longer has no result and is not tried again (120)
//! ```
//!
//! Stdout has `subject.metric value unit` lines, stderr the progress and a table with the range of the rounds.
//!
//! | metric | what is timed |
//! |---|---|
//! | `start_N` | the first request to start a child → N-th `pre_start` (Erlang: `init`), children of no order, one request after another |
//! | `stop_N` | the request to stop → the supervisor and the state of every child are gone; each is asked, none killed |
//! | `mem_per_child` | resident memory with N children less that without, over N |
//! | `start_chain_N`, `stop_chain_N` | the same for an ordered list: stopped one after another, in reverse |
//! | `restart_p50`, `restart_p99` | a message that makes a child fail → `pre_start` of its successor, back to back |
//! | `restart_first_p50` | of those, the first hundred |
//! | `…_among_N` | the same with N siblings |
//! | `restarts_per_second_N` | N children are killed at once → N successors have started |
//!
//! Every run of one subject is a process of its own, warmed up by the start and stop of a hundred children, so memory
//! and caches of one do not touch another.
//!
//! Two things govern the figures of OTP 25, so quote them along: its restarts cost more the more there were within the
//! period (compare `restart_first_p50` with `restart_p50`), and its `start_link` costs more the more lies in the
//! supervisor's mailbox, which in `restarts_per_second_N` are the ends of all other children.
//!
//! The allocator of the system governs the figures of both subjects in Rust: actors are made on one thread and dropped on
//! another. `cargo run --release --features measure-mimalloc …` tells what they cost without that.
//!
//! Memory is what is resident: what an allocator holds back for later counts. What OTP is made to do stands in
//! `measure.erl`, what ractor is in `bare.rs`; `ours.rs` has all that touches our shell.

mod bare;
mod otp;
mod ours;
mod plan;
mod rounds;
mod table;
mod witness;
mod workload;

use std::error::Error;
use std::sync::mpsc;
use std::time::Duration;

use plan::{Flavour, Plan, Run, Subject};

/// With `--features measure-mimalloc`, for the subjects in Rust.
#[cfg(feature = "measure-mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The exit status of a run that has reached its limit; `timeout` of the coreutils has the same.
const LIMIT_REACHED: i32 = 124;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((first, run)) if first == plan::RUN => measure(&Run::parse(run)?),
        Some(_) | None => rounds::play(&Plan::parse(&arguments)?),
    }
}

/// One run, in this process.
fn measure(run: &Run) -> Result<(), Box<dyn Error>> {
    let runtime = match run.flavour {
        Flavour::Multi => tokio::runtime::Builder::new_multi_thread().enable_all().build()?,
        Flavour::Current => tokio::runtime::Builder::new_current_thread().enable_all().build()?,
    };
    let _watch = watch(run.limit);
    let workload = run.workload;
    // As a task, so that the workload shares the workers with the actors it waits for.
    let results = match run.subject {
        Subject::Ours => runtime.spawn(workload::run::<ours::Ours>(workload)),
        Subject::Ractor => runtime.spawn(workload::run::<bare::Bare>(workload)),
        Subject::Otp => return Err("otp is not measured in this process".into()),
    };
    table::print(&runtime.block_on(results)?);
    Ok(())
}

/// Ends the process when the limit is reached, whatever its workers are busy with. Not when dropped before.
fn watch(limit: Duration) -> mpsc::Sender<()> {
    let (alive, over) = mpsc::channel();
    std::thread::spawn(move || {
        if over.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
            std::process::exit(LIMIT_REACHED);
        }
    });
    alive
}
