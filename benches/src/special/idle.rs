//! What waiting costs: processor time of a process that is blocked, by the
//! time that it is.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use shmring::{Consumer, Producer, Read, Region, SendError};

use super::child::{Side, tell};
use super::{place, result, series};
use crate::report::{CaseResult, Kind};

pub(super) const SIDE: &str = "idle";

/// After so long, who waits looks whether the file is still what it was.
const PERIOD: Duration = Duration::from_millis(50);

/// What a side that waited has used.
#[derive(Debug, Serialize, Deserialize)]
struct Waited {
    wall_nanos: u64,
    cpu_nanos: u64,
}

pub(super) fn measure(quick: bool) -> Result<Vec<CaseResult>> {
    let (rounds, time) = if quick { (1, Duration::from_millis(500)) } else { (3, Duration::from_secs(2)) };
    let (mut consumers, mut producers, mut sleepers) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        consumers.push(of_consumer(time)?);
        producers.push(of_producer(time)?);
        sleepers.push(of_sleeper(time)?);
    }
    let row = |who: &str, rounds| {
        let options = format!("{who} for {} ms", time.as_millis());
        let floor = series("sleeps of 50 ms", Kind::Floor, sleepers.clone());
        result("idle_cpu_percent", options, "%", vec![series("ours", Kind::Ours, rounds), floor])
    };
    Ok(vec![row("consumer blocked in read", consumers), row("producer blocked on a full ring", producers)])
}

fn of_consumer(time: Duration) -> Result<f64> {
    let place = place()?;
    let path = place.path().join("ring");
    let mut producer = Region::create(&path)?.producer()?;
    let mut side = start("consumer", path.to_str().context("a path of ours")?)?;
    thread::sleep(time);
    producer.send(b"there is something")?;
    percent(&side.line()?, time)
}

fn of_producer(time: Duration) -> Result<f64> {
    let place = place()?;
    let path = place.path().join("ring");
    let mut consumer = Region::create(&path)?.consumer()?;
    let mut side = start("producer", path.to_str().context("a path of ours")?)?;
    thread::sleep(time);
    // All that there was when it went to sleep, so that there is room.
    while let Read::Message(_) = consumer.try_read()? {}
    consumer.commit();
    percent(&side.line()?, time)
}

/// Who does nothing but wake up as often as who waits for a message.
fn of_sleeper(time: Duration) -> Result<f64> {
    let count = time.as_nanos() / PERIOD.as_nanos();
    let mut side = start("sleeper", &count.to_string())?;
    percent(&side.line()?, time)
}

/// A side that is about to wait.
fn start(role: &str, what: &str) -> Result<Side> {
    let mut side = Side::start(SIDE, &[role, what].map(str::to_owned))?;
    let line = side.line()?;
    ensure!(line == "ready", "not {line:?}");
    Ok(side)
}

fn percent(line: &str, at_least: Duration) -> Result<f64> {
    let waited: Waited = serde_json::from_str(line)?;
    // The side's clock began a moment after it said that it is ready, or before.
    let enough = at_least.as_nanos() as u64 * 9 / 10;
    ensure!(waited.wall_nanos >= enough, "it was blocked for {} ns only", waited.wall_nanos);
    Ok(100.0 * waited.cpu_nanos as f64 / waited.wall_nanos as f64)
}

pub(super) fn play(arguments: &[String]) -> Result<()> {
    let [role, what] = arguments else { bail!("a role and its own were expected, not {arguments:?}") };
    let waited = match role.as_str() {
        "consumer" => read_one(Region::open(what)?.consumer()?)?,
        "producer" => send_one(Region::open(what)?.producer()?)?,
        "sleeper" => {
            let count: u32 = what.parse()?;
            waited(|| {
                (0..count).for_each(|_| thread::sleep(PERIOD));
                Ok(())
            })?
        }
        role => bail!("nothing here is called {role:?}"),
    };
    tell(&serde_json::to_string(&waited)?)
}

fn read_one(mut consumer: Consumer) -> Result<Waited> {
    waited(|| match consumer.read()? {
        Read::Message(_) => Ok(()),
        other => bail!("a message was expected, not {other:?}"),
    })
}

fn send_one(mut producer: Producer) -> Result<Waited> {
    let message = [0x5a; 64];
    loop {
        match producer.try_send(&message) {
            Ok(()) => {}
            Err(SendError::Full) => break,
            Err(e) => return Err(e.into()),
        }
    }
    waited(|| Ok(producer.send(&message)?))
}

fn waited(wait: impl FnOnce() -> Result<()>) -> Result<Waited> {
    tell("ready")?;
    // User and system time of all threads.
    let cpu = || clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map(Duration::from);
    let (begun, before) = (Instant::now(), cpu()?);
    wait()?;
    let (wall, used) = (begun.elapsed(), cpu()? - before);
    Ok(Waited { wall_nanos: wall.as_nanos() as u64, cpu_nanos: used.as_nanos() as u64 })
}
