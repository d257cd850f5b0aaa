//! The loops, one for each side: the same for every contestant.

use std::hint::spin_loop;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use nix::time::{ClockId, clock_gettime};

use crate::{Check, Measure, Outcome, Percentiles, Plan, Receiver, Result, Sender, Source, buffer};

/// Processor time of this process so far.
fn cpu_nanos() -> u64 {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map_or(0, nanos)
}

/// The clock that all processes share.
fn now() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, nanos)
}

fn nanos(time: nix::sys::time::TimeSpec) -> u64 {
    Duration::from(time).as_nanos() as u64
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("sound bounds")
}

/// Sends what the plan says.
pub(crate) fn send(plan: &Plan, number: u32, sender: &mut impl Sender) -> Result<Outcome> {
    let mut source = Source::new(plan.size, number);
    let before = cpu_nanos();
    match plan.measure {
        Measure::OneWay { messages, warmup, batch: 1, work } if plan.settings.in_place => {
            for _ in 0..warmup + messages {
                (0..work).for_each(|_| spin_loop());
                sender.send_in_place(&mut source)?;
            }
        }
        Measure::OneWay { messages, warmup, batch: 1, work: 0 } => {
            for _ in 0..warmup + messages {
                sender.send(source.next_message())?;
            }
        }
        Measure::OneWay { messages, warmup, batch: 1, work } => {
            for _ in 0..warmup + messages {
                (0..work).for_each(|_| spin_loop());
                sender.send(source.next_message())?;
            }
        }
        Measure::OneWay { messages, warmup, batch, .. } => {
            let mut left = warmup + messages;
            while left > 0 {
                let count = left.min(batch as u64);
                sender.send_batch(&mut source, count as u32)?;
                left -= count;
            }
        }
        Measure::Wake { messages, every } => {
            let message = buffer(plan.size);
            for _ in 0..messages {
                thread::sleep(Duration::from_micros(every));
                message[..8].copy_from_slice(&now().to_le_bytes());
                sender.send(message)?;
            }
        }
        Measure::Idle { millis } => thread::sleep(Duration::from_millis(millis)),
        Measure::RoundTrip { .. } => anyhow::bail!("a round trip has a client and a server"),
    }
    if matches!(plan.measure, Measure::Idle { .. }) {
        sender.send(source.next_message())?;
    }
    sender.finish()?;
    Ok(Outcome { cpu_nanos: cpu_nanos() - before, ..Outcome::default() })
}

/// Receives what the senders send. The clock runs from the last message of the
/// warm-up to the last of all.
pub(crate) fn receive(plan: &Plan, receiver: &mut impl Receiver) -> Result<Outcome> {
    match plan.measure {
        Measure::OneWay { messages, warmup, .. } => {
            let senders = plan.settings.senders;
            let mut check = Check::new(plan.size, senders);
            for _ in 0..warmup * senders as u64 {
                receiver.receive(|message| check.look(message))?;
            }
            let messages = messages * senders as u64;
            let (begun, before) = (Instant::now(), cpu_nanos());
            for _ in 0..messages {
                receiver.receive(|message| check.look(message))?;
            }
            Ok(Outcome {
                messages,
                nanos: begun.elapsed().as_nanos() as u64,
                lost: check.lost,
                wrong: check.wrong,
                cpu_nanos: cpu_nanos() - before,
                latency: None,
            })
        }
        Measure::Wake { messages, .. } => {
            let mut latency = histogram();
            let (begun, before) = (now(), cpu_nanos());
            for _ in 0..messages {
                let sent =
                    receiver.receive(|message| message.first_chunk().map(|at| u64::from_le_bytes(*at)))?;
                latency.saturating_record(now().saturating_sub(sent.unwrap_or(0)).max(1));
            }
            Ok(Outcome {
                messages,
                nanos: now() - begun,
                cpu_nanos: cpu_nanos() - before,
                latency: Some(Percentiles::of(&latency)),
                ..Outcome::default()
            })
        }
        Measure::Idle { .. } => {
            let (begun, before) = (now(), cpu_nanos());
            receiver.receive(|_| ())?;
            Ok(Outcome {
                messages: 1,
                nanos: now() - begun,
                cpu_nanos: cpu_nanos() - before,
                ..Outcome::default()
            })
        }
        Measure::RoundTrip { .. } => anyhow::bail!("a round trip has a client and a server"),
    }
}

/// Sends back what it gets.
pub(crate) fn answer(plan: &Plan, receiver: &mut impl Receiver, sender: &mut impl Sender) -> Result<Outcome> {
    let Measure::RoundTrip { messages, warmup } = plan.measure else {
        anyhow::bail!("only a round trip has a server")
    };
    let message = buffer(plan.size);
    for _ in 0..warmup + messages {
        receiver.receive(|found| message.copy_from_slice(found))?;
        sender.send(message)?;
    }
    Ok(Outcome::default())
}

/// Sends, waits for what comes back, and takes the time of each.
pub(crate) fn ask(plan: &Plan, receiver: &mut impl Receiver, sender: &mut impl Sender) -> Result<Outcome> {
    let Measure::RoundTrip { messages, warmup } = plan.measure else {
        anyhow::bail!("only a round trip has a client")
    };
    let (mut source, mut check) = (Source::new(plan.size, 0), Check::new(plan.size, 1));
    for _ in 0..warmup {
        sender.send(source.next_message())?;
        receiver.receive(|message| check.look(message))?;
    }
    let mut latency = histogram();
    let before = cpu_nanos();
    let begun = Instant::now();
    let mut last = begun;
    for _ in 0..messages {
        sender.send(source.next_message())?;
        receiver.receive(|message| check.look(message))?;
        // One look at the clock ends a round trip and begins the next.
        let now = Instant::now();
        latency.saturating_record(((now - last).as_nanos() as u64).max(1));
        last = now;
    }
    Ok(Outcome {
        messages,
        nanos: (last - begun).as_nanos() as u64,
        lost: check.lost,
        wrong: check.wrong,
        cpu_nanos: cpu_nanos() - before,
        latency: Some(Percentiles::of(&latency)),
    })
}
