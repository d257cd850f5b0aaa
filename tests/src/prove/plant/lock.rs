//! An attach whose system calls are changed on their way: who comes besides
//! must be refused, and must not be told that a living one died.

use std::mem::{forget, offset_of};
use std::path::Path;

use anyhow::{Result, bail};
use nix::libc;
use shmring::{AttachError, Read, Region, RegionOptions, Role};
use tests::Call;

use super::Plant;
use crate::prove::scenario::CAPACITY;
use crate::prove::trace::{Progress, until_returned};
use crate::prove::tracee::Tracee;
use crate::prove::watch::{Tally, Verdict};

/// Attaches a consumer and a producer, each in a child, and others while it
/// lives and after it.
pub(super) fn run(plant: Option<Plant>, path: &Path, progress: &Progress) -> Result<Tally> {
    let mut tally = Tally::default();
    for role in [Role::Consumer, Role::Producer(0)] {
        let region = RegionOptions::new().capacity(CAPACITY).max_producers(1).create(path)?;
        let attach = || {
            match role {
                Role::Consumer => forget(region.consumer()?),
                Role::Producer(_) => forget(region.producer()?),
            }
            Ok(())
        };
        let (mut calls, mut locks) = (0, 0);
        let child = until_returned(progress, attach, |child, call| {
            calls += 1;
            if is_lock(child, call)? {
                locks += 1;
                if plant == Some(Plant::LockOnTheWrongByte) {
                    move_lock(child, call)?;
                }
            }
            Ok(())
        })?;
        if locks == 0 {
            bail!("an attach that takes no lock");
        }
        tally.add(&Tally { scenarios: 1, images: 1, ..Tally::default() });
        let found = while_it_lives(role, &region).and_then(|()| {
            drop(child);
            after_it(role, &region)
        });
        if let Err(violation) = found {
            tally.violated(|| format!("{violation} (it attached with {calls} system calls)"));
        }
        std::fs::remove_file(path)?;
    }
    Ok(tally)
}

/// True for one that takes a lock of the description.
fn is_lock(child: &Tracee, call: &Call) -> Result<bool> {
    const TYPE: usize = offset_of!(libc::flock, l_type);
    let [_, command, at, ..] = call.arguments;
    if call.number != libc::SYS_fcntl || command as i32 != libc::F_OFD_SETLK {
        return Ok(false);
    }
    Ok(child.word(at + TYPE as u64)? as u16 == libc::F_WRLCK as u16)
}

/// Makes it lock the byte after the one that was meant.
fn move_lock(child: &Tracee, call: &Call) -> Result<()> {
    let start = call.arguments[2] + offset_of!(libc::flock, l_start) as u64;
    child.set_word(start, child.word(start)? + 1)
}

/// There can be no second one, and nobody is told of a death.
fn while_it_lives(role: Role, region: &Region) -> Verdict<()> {
    let second = match role {
        Role::Consumer => region.consumer().map(drop),
        Role::Producer(_) => match look_for_deaths(region)? {
            0 => region.producer().map(drop),
            _ => return Err("the death of the producer is told while it lives".into()),
        },
    };
    match second {
        Err(AttachError::Busy { .. }) => Ok(()),
        Ok(()) => Err(format!("a second {role} attaches while the first lives")),
        Err(e) => Err(format!("a second {role}: {e}")),
    }
}

/// The role is free.
fn after_it(role: Role, region: &Region) -> Verdict<()> {
    let deaths = look_for_deaths(region)?;
    if deaths != matches!(role, Role::Producer(_)) as usize {
        return Err(format!("the {role} is dead, and {deaths} deaths are told"));
    }
    region.producer().map(drop).map_err(|e| format!("the next producer: {e}"))
}

/// How many deaths a new consumer is told of.
fn look_for_deaths(region: &Region) -> Verdict<usize> {
    let mut consumer = region.consumer().map_err(|e| format!("a consumer: {e}"))?;
    consumer.check_producers().map_err(|e| format!("a consumer: {e}"))?;
    let mut deaths = 0;
    while let Read::Died(_) = consumer.try_read().map_err(|e| format!("a consumer: {e}"))? {
        deaths += 1;
    }
    Ok(deaths)
}
