//! A life with a ring, one system call after the other.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Stdio;

use nix::errno::Errno;
use nix::libc;
use tests::{Call, Fate, Lab, Traced};

/// What a victim was told that a call belongs to, and the call.
pub(crate) type Step = (&'static str, Call);

/// A victim at `path` lives through `life`, and `fate` decides on the calls
/// that it makes for it; its exit code and its answers. An error where that
/// cannot be done.
pub(crate) fn live(
    lab: &Lab,
    path: &Path,
    life: &'static [&'static str],
    mut fate: impl FnMut(&Step) -> Option<Fate>,
) -> Result<(i32, Vec<String>), Errno> {
    let script = lab.file("life", life.join("\n").as_bytes());
    let mut command = lab.prepared(env!("CARGO_BIN_EXE_victim").as_ref());
    command.arg(path).stdin(fs::File::open(script).unwrap()).stderr(Stdio::inherit());
    let mut traced = Traced::start(&mut command)?;
    let mut stdout = traced.process().stdout.take().expect("stdout is piped");
    traced.run_until_trap()?;
    let mut answered = 0;
    let code = traced.finish_meddling(|call| {
        let is_answer = call.number == libc::SYS_write && call.arguments[0] == 1;
        let is_question = call.number == libc::SYS_read && call.arguments[0] == 0;
        answered += is_answer as usize;
        match life.get(answered) {
            // After the last answer it ends.
            Some(word) if !is_answer && !is_question => fate(&(word, *call)),
            _ => Some(Fate::Made),
        }
    })?;
    let mut answers = String::new();
    stdout.read_to_string(&mut answers).unwrap();
    Ok((code, answers.lines().map(str::to_owned).collect()))
}

/// All steps of a life that nothing happens to, at `usual`'s mercy, and its
/// answers.
pub(crate) fn record(
    lab: &Lab,
    path: &Path,
    life: &'static [&'static str],
    usual: impl Fn(&Step) -> Fate,
) -> Result<(Vec<Step>, Vec<String>), Errno> {
    let mut steps = Vec::new();
    let (code, answers) = live(lab, path, life, |step| {
        steps.push(*step);
        Some(usual(step))
    })?;
    assert!(code == 0 && answers.len() == life.len(), "{code}: {answers:?}");
    Ok((steps, answers))
}

/// What a file system without unnamed files says to who asks for one.
pub(crate) fn without_unnamed_files((_, call): &Step) -> Fate {
    let asks =
        call.number == libc::SYS_openat && call.arguments[2] as i32 & libc::O_TMPFILE == libc::O_TMPFILE;
    if asks { Fate::Fails(Errno::EOPNOTSUPP) } else { Fate::Made }
}

/// The calls that decide something: all but those that only ask the process
/// about itself, which cannot fail.
pub(crate) fn can_fail(call: &Call) -> bool {
    ![
        libc::SYS_getpid,
        libc::SYS_geteuid,
        libc::SYS_prlimit64,
        libc::SYS_sched_yield,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_sigaltstack,
        libc::SYS_brk,
    ]
    .contains(&call.number)
}
