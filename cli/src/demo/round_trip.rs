//! How long a message and its answer take.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use clap::Args;
use hdrhistogram::Histogram;
use shmring::{Consumer, Producer, Read, Region};
use shmring_grammar::{Exit, Verbosity};

use super::{Ring, finish, start};

const SIZES: [usize; 3] = [8, 64, 1024];
const ROUND_TRIPS: u64 = 200_000;
/// A busy machine measures less instead of longer.
const AT_MOST: Duration = Duration::from_secs(5);
/// An answer takes microseconds; this only ends a demo whose child died.
const NO_ANSWER: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
pub(crate) struct EchoArguments {
    /// The ring to read
    ping: String,
    /// The ring to answer in
    pong: String,
    #[command(flatten)]
    pub(crate) verbosity: Verbosity,
}

pub(super) fn measure() -> anyhow::Result<()> {
    let [ping, pong] = ["ping", "pong"].map(|n| Ring::named(&format!("demo-{n}-{}", std::process::id())));
    let (ping, pong) = (ping?, pong?);
    let child = start(&["echo".as_ref(), ping.path.as_ref(), pong.path.as_ref()])?;
    let mut to = Region::open(&ping.path)?.producer()?;
    let mut from = Region::open(&pong.path)?.consumer()?;
    say!("   message      half within    90 % within    99 % within  99.9 % within        slowest")?;
    for size in SIZES {
        let times = measure_size(&mut to, &mut from, size)?;
        let at = |quantile| micros(times.value_at_quantile(quantile));
        say!(
            "   {size:5} B {:>15}{:>15}{:>15}{:>15}{:>15}",
            at(0.5),
            at(0.9),
            at(0.99),
            at(0.999),
            micros(times.max())
        )?;
    }
    say!()?;
    to.close();
    finish("echo", child)
}

fn measure_size(to: &mut Producer, from: &mut Consumer, size: usize) -> anyhow::Result<Histogram<u64>> {
    let mut times = Histogram::new(3)?;
    let mut message = vec![0; size];
    let end = Instant::now() + AT_MOST;
    for number in 0..ROUND_TRIPS {
        message[..8].copy_from_slice(&number.to_le_bytes());
        let sent = Instant::now();
        to.send(&message)?;
        match from.read_timeout(NO_ANSWER)? {
            Read::Message(answer) => ensure!(answer.payload == message, "the answer is not the message"),
            other => bail!("no answer: {other:?}"),
        }
        let now = Instant::now();
        from.commit();
        times.record((now - sent).as_nanos() as u64)?;
        if now > end {
            break;
        }
    }
    Ok(times)
}

fn micros(nanos: u64) -> String {
    format!("{:.2} us", nanos as f64 / 1000.0)
}

/// The child: sends back what comes, until the stream ends.
pub(crate) fn echo(arguments: &EchoArguments) -> Result<(), Exit> {
    let mut from = Region::open(&arguments.ping)?.consumer()?;
    let mut to = Region::open(&arguments.pong)?.producer()?;
    loop {
        match from.read()? {
            Read::Message(message) => to.send(message.payload)?,
            Read::End => break,
            _ => {}
        }
        from.commit();
    }
    from.commit();
    Ok(())
}
