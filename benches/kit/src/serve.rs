use std::io::{self, BufRead, Write};
use std::thread;

use anyhow::Context;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::{Measure, Outcome, Pair, Plan, Result, Role, Step, Transport, sides};

/// The `main` of a contestant: the one argument is a [`Plan`] as JSON. `play`
/// calls [`serve`] or [`serve_pair`] for the contestant that the plan names.
pub fn main(play: impl FnOnce(&Plan) -> Result<()>) -> Result<()> {
    let plan = std::env::args().nth(1).context("the runner starts this, with a plan")?;
    // A side whose runner is gone would wait for ever.
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
    play(&serde_json::from_str(&plan)?)
}

/// Plays the side of `plan`, step by step as the runner says.
pub fn serve<T: Transport>(plan: &Plan) -> Result<()> {
    if plan.role == Role::Describe {
        return say(&T::describe(plan));
    }
    pin(plan.core)?;
    let (there, back) = ("there", "back");
    match plan.role {
        Role::Sender(number) => {
            step(Step::Bind)?;
            step(Step::Connect)?;
            let mut sender = T::sender(plan, there)?;
            step(Step::Go)?;
            // The sender stays until all is received: what it leaves behind must
            // not count.
            tell(&sides::send(plan, number, &mut sender)?)?;
            wait_for_end()
        }
        Role::Receiver => {
            step(Step::Bind)?;
            let mut receiver = T::receiver(plan, there)?;
            step(Step::Connect)?;
            step(Step::Go)?;
            tell(&sides::receive(plan, &mut receiver)?)
        }
        Role::Server => {
            step(Step::Bind)?;
            let mut receiver = T::receiver(plan, there)?;
            step(Step::Connect)?;
            let mut sender = T::sender(plan, back)?;
            step(Step::Go)?;
            tell(&sides::answer(plan, &mut receiver, &mut sender)?)?;
            wait_for_end()
        }
        Role::Client => {
            step(Step::Bind)?;
            let mut receiver = T::receiver(plan, back)?;
            step(Step::Connect)?;
            let mut sender = T::sender(plan, there)?;
            step(Step::Go)?;
            tell(&sides::ask(plan, &mut receiver, &mut sender)?)
        }
        Role::Both => anyhow::bail!("its two sides are processes"),
        Role::Describe => Ok(()),
    }
}

/// Plays both sides of `plan`, as threads.
pub fn serve_pair<P: Pair>(plan: &Plan) -> Result<()> {
    if plan.role == Role::Describe {
        return say(&P::describe(plan));
    }
    anyhow::ensure!(plan.role == Role::Both, "its two sides are threads");
    let count = thread::available_parallelism()?.get();
    let other_core = plan.core.map(|core| (core + 1) % count);
    step(Step::Bind)?;
    let (mut senders, mut receiver) = P::pair(plan)?;
    if matches!(plan.measure, Measure::RoundTrip { .. }) {
        let (mut back, mut answers) = P::pair(plan)?;
        let (Some(mut there), Some(mut back)) = (senders.pop(), back.pop()) else {
            anyhow::bail!("a round trip has a sender each way")
        };
        step(Step::Connect)?;
        step(Step::Go)?;
        let server_plan = plan.clone();
        let server = thread::spawn(move || {
            pin(server_plan.core)?;
            sides::answer(&server_plan, &mut receiver, &mut back)
        });
        pin(other_core)?;
        let outcome = sides::ask(plan, &mut answers, &mut there)?;
        server.join().map_err(|_| anyhow::anyhow!("the server panicked"))??;
        return tell(&outcome);
    }
    step(Step::Connect)?;
    step(Step::Go)?;
    let sending: Vec<_> = senders
        .into_iter()
        .zip(0..)
        .map(|(mut sender, number)| {
            let plan = plan.clone();
            thread::spawn(move || {
                pin(plan.core)?;
                sides::send(&plan, number, &mut sender)
            })
        })
        .collect();
    pin(other_core)?;
    let outcome = sides::receive(plan, &mut receiver)?;
    for sent in sending {
        sent.join().map_err(|_| anyhow::anyhow!("a sender panicked"))??;
    }
    tell(&outcome)
}

/// Keeps this thread on a core.
pub fn pin(core: Option<usize>) -> Result<()> {
    let Some(core) = core else { return Ok(()) };
    let mut set = CpuSet::new();
    set.set(core)?;
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("core {core}"))
}

/// Waits for that step's turn; the one before is done.
fn step(step: Step) -> Result<()> {
    if step != Step::Bind {
        say("ok")?;
    }
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    anyhow::ensure!(line.trim_end() == step.word(), "expected the step {}, got {line:?}", step.word());
    Ok(())
}

fn tell(outcome: &Outcome) -> Result<()> {
    say(&serde_json::to_string(outcome)?)
}

fn say(line: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// The runner closes our input when all sides are done.
fn wait_for_end() -> Result<()> {
    io::copy(&mut io::stdin().lock(), &mut io::sink())?;
    Ok(())
}
