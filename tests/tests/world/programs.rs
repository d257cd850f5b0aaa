//! Every system call of the programs fails once: each says in a sentence what
//! failed, and what it did so far holds.

use std::fs;
use std::io::Read;

use nix::errno::Errno;
use nix::libc;
use shmring::{Producer, Read as Found, Region, RegionOptions};
use tests::{Call, Fate, Lab, Program, Program::*, Traced, skipped};

use crate::calls::can_fail;
use crate::faults::{errors, fate};

const LINES: &str = "first\nsecond\nthird\n";

/// How a program ended: exit code, stdout, stderr.
type Ended = (i32, String, String);

/// Runs a program on the ring `ring`; `fate` decides on its calls from the one
/// on that looks for the folder of rings.
fn run(
    lab: &Lab,
    which: Program,
    verb: &str,
    mut fate: impl FnMut(&Call) -> Option<Fate>,
) -> Result<Ended, Errno> {
    let mut command = lab.command(which);
    command.args((!verb.is_empty()).then_some(verb)).arg("ring");
    command.stdin(fs::File::open(lab.file("lines", LINES.as_bytes())).unwrap());
    let mut traced = Traced::start(&mut command)?;
    let (mut stdout, mut stderr) = (String::new(), String::new());
    let process = traced.process();
    let (mut out, mut err) = (process.stdout.take().unwrap(), process.stderr.take().unwrap());
    let mut begun = false;
    let code = traced.finish_meddling(|call| {
        begun |= [libc::SYS_mkdir, libc::SYS_mkdirat].contains(&call.number);
        // Nobody promises anything of a message that cannot be written.
        let is_message = call.number == libc::SYS_write && call.arguments[0] == 2;
        if begun && !is_message { fate(call) } else { Some(Fate::Made) }
    })?;
    out.read_to_string(&mut stdout).unwrap();
    err.read_to_string(&mut stderr).unwrap();
    Ok((code, stdout, stderr))
}

fn send(producer: &mut Producer, lines: &str) {
    lines.lines().for_each(|line| producer.send(line.as_bytes()).unwrap());
}

/// All that is in the ring, a line each.
fn drain(region: &Region) -> String {
    let mut consumer = region.consumer().unwrap();
    consumer.check_producers().unwrap();
    let mut found = String::new();
    loop {
        match consumer.try_read().unwrap() {
            Found::Message(m) => found += &format!("{}\n", str::from_utf8(m.payload).unwrap()),
            Found::End | Found::Empty => return found,
            _ => {}
        }
    }
}

/// Each call of a program fails once, on a ring that is made anew by `prepare`
/// each time; `check` says whether what it did holds.
fn each_call_fails(
    name: &str,
    (which, verb): (Program, &str),
    prepare: impl Fn(&Lab) -> Option<Region>,
    check: impl Fn(Option<&Region>, &Ended) -> bool,
) {
    let fresh = || {
        let lab = Lab::new();
        fs::DirBuilder::create(
            std::os::unix::fs::DirBuilderExt::mode(&mut fs::DirBuilder::new(), 0o700),
            lab.path("rings"),
        )
        .unwrap();
        let region = prepare(&lab);
        (lab, region)
    };
    let mut calls = Vec::new();
    let (lab, region) = fresh();
    let whole = run(&lab, which, verb, |call| {
        calls.push(*call);
        Some(Fate::Made)
    });
    match whole {
        Ok(ended) => assert!(ended.0 == 0 && check(region.as_ref(), &ended), "{ended:?}"),
        Err(errno) => return skipped(name, errno),
    }
    let mut failures = 0;
    for (at, call) in calls.iter().enumerate().filter(|(_, call)| can_fail(call)) {
        let Some(&error) = errors(call).iter().find(|e| **e != Errno::EINTR) else { continue };
        let (lab, region) = fresh();
        let mut next = 0;
        let ended = run(&lab, which, verb, |call| {
            next += 1;
            match next - 1 {
                before if before < at => Some(Fate::Made),
                now if now == at => Some(fate(call, error)),
                _ => None,
            }
        });
        let ended = ended.expect("it was possible before");
        let story = format!("call {at}, {call:x?}: {error}: {ended:?}");
        let (code, _, stderr) = &ended;
        failures += (*code != 0) as u32;
        let is_sentence = stderr.starts_with(&format!("{name}: ")) && stderr.lines().count() == 1;
        assert!(if *code == 0 { stderr.is_empty() } else { *code == 1 && is_sentence }, "{story}");
        assert!(check(region.as_ref(), &ended), "{story}");
        let others = [lab.path("lines"), lab.path("rings"), lab.ring("ring")];
        assert!(lab.listing().iter().all(|found| others.contains(found)), "{:?}: {story}", lab.listing());
    }
    assert!(failures > 0, "nothing failed");
    println!("{name} {verb}: {} calls, {failures} errors", calls.len());
}

fn create(lab: &Lab) -> Option<Region> {
    Some(RegionOptions::new().capacity(65536).create(lab.ring("ring")).unwrap())
}

#[test]
fn each_system_call_of_a_producer_fails_once() {
    each_call_fails("producer", (Producer, ""), create, |region, (code, ..)| {
        let found = drain(region.unwrap());
        if *code == 0 { found == LINES } else { LINES.starts_with(&found) }
    });
}

#[test]
fn each_system_call_of_a_consumer_fails_once() {
    let filled = |lab: &Lab| {
        let region = create(lab)?;
        send(&mut region.producer().unwrap(), LINES);
        Some(region)
    };
    each_call_fails("consumer", (Consumer, ""), filled, |region, (code, stdout, _)| {
        let left = drain(region.unwrap());
        // What was written and not committed is there again.
        if *code == 0 {
            stdout == LINES && left.is_empty()
        } else {
            LINES.starts_with(stdout) && LINES.ends_with(&left) && stdout.len() + left.len() >= LINES.len()
        }
    });
}

#[test]
fn each_system_call_of_a_creation_by_program_fails_once() {
    each_call_fails("shmring", (Shmring, "create"), |_| None, |_, (code, ..)| *code <= 1);
}

#[test]
fn each_system_call_of_a_look_and_of_a_removal_fails_once() {
    each_call_fails("shmring", (Shmring, "info"), create, |_, (code, stdout, _)| {
        *code != 0 || stdout.contains("region id")
    });
    each_call_fails("shmring", (Shmring, "rm"), create, |region, (code, ..)| {
        (*code == 0) == region.unwrap().producer().is_err()
    });
}
