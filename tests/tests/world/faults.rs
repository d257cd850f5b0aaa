//! Every system call fails once.

use nix::errno::Errno::{self, *};
use nix::libc;
use tests::{Call, Fate, Lab, skipped};

use crate::calls::{Step, can_fail, live, record, without_unnamed_files};

/// One that attaches in every role and goes through all of it. What fails is
/// done once more.
const LIFE: [&str; 22] = [
    "trap", "plain", "create", "again", "open", "again", "producer", "again", "named 1", "again", "consumer",
    "again", "send 8", "again", "read", "again", "commit", "again", "leave", "again", "remove", "again",
];

/// The errors that a kernel may give at a call.
pub(crate) fn errors(call: &Call) -> &'static [Errno] {
    match call.number {
        libc::SYS_openat => &[EINTR, ENOMEM, ENOSPC, EMFILE, ENFILE, EACCES, EIO],
        libc::SYS_statx | libc::SYS_fstat | libc::SYS_newfstatat => &[ENOMEM, EIO, EACCES],
        libc::SYS_read | libc::SYS_pread64 | libc::SYS_getdents64 => &[EINTR, EIO, ENOMEM],
        libc::SYS_write | libc::SYS_pwrite64 => &[EINTR, EIO, ENOSPC],
        libc::SYS_ftruncate => &[EINTR, EIO, ENOSPC, EFBIG],
        libc::SYS_fallocate => &[EINTR, EIO, ENOSPC, ENOMEM, EOPNOTSUPP],
        // Only file systems behind a network are interrupted, and no ring is there.
        libc::SYS_fstatfs => &[EIO, ENOMEM, ENOSYS],
        libc::SYS_fcntl => match call.arguments[1] as i32 {
            // Somebody else has the lock, is EAGAIN.
            libc::F_OFD_SETLK => &[EINTR, ENOLCK, EAGAIN],
            libc::F_DUPFD_CLOEXEC => &[EMFILE],
            _ => &[EINVAL, ENOLCK],
        },
        libc::SYS_mmap => &[ENOMEM, EAGAIN, ENFILE, EACCES],
        libc::SYS_munmap | libc::SYS_mprotect => &[ENOMEM],
        libc::SYS_madvise => &[EINVAL, ENOMEM, EAGAIN],
        libc::SYS_membarrier => &[ENOSYS, EINVAL, EPERM],
        libc::SYS_linkat | libc::SYS_link => &[ENOSPC, EIO, EPERM, ENOENT, EACCES],
        libc::SYS_unlink | libc::SYS_unlinkat => &[EIO, EACCES, EPERM, EBUSY],
        libc::SYS_close => &[EINTR],
        libc::SYS_getrandom => &[EINTR, ENOSYS],
        libc::SYS_pipe2 | libc::SYS_pipe => &[EMFILE, ENFILE, ENOMEM],
        libc::SYS_futex => &[EINTR, EAGAIN, ETIMEDOUT],
        libc::SYS_fchmod | libc::SYS_fchown => &[EPERM, EIO],
        _ => &[EIO, ENOMEM],
    }
}

pub(crate) fn fate(call: &Call, error: Errno) -> Fate {
    // What failed to close is closed.
    if call.number == libc::SYS_close { Fate::MadeAndFails(error) } else { Fate::Fails(error) }
}

/// Each call of a life at `usual`'s mercy fails once, in each way: what it was
/// for is done or fails with an error of its own, the same again is done, and
/// so is all that follows; nothing is left behind.
fn each_call_fails(test: &str, usual: impl Fn(&Step) -> Fate, concerns: impl Fn(&Step) -> bool) {
    let lab = Lab::new();
    let path = lab.path("ring");
    let (steps, expected) = match record(&lab, &path, &LIFE, &usual) {
        Ok(recorded) => recorded,
        Err(errno) => return skipped(test, errno),
    };
    let read = LIFE.iter().position(|word| *word == "read").unwrap();
    assert!((0..LIFE.len()).all(|i| expected[i] == if i == read { "message 0 of 8" } else { "Ok(())" }));

    let (mut failures, mut wrong) = (0, Vec::new());
    let points = steps.iter().enumerate().filter(|(_, step)| concerns(step) && can_fail(&step.1));
    for (at, (word, call)) in points {
        for &error in errors(call) {
            let mut next = 0;
            let lived = live(&lab, &path, &LIFE, |step| {
                next += 1;
                match next - 1 {
                    before if before < at => Some(usual(step)),
                    now if now == at => Some(fate(&step.1, error)),
                    _ => None,
                }
            });
            let (code, answers) = lived.expect("it was possible before");
            let mut is_wrong = code != 0 || answers.len() != LIFE.len();
            for (i, answer) in answers.iter().enumerate() {
                // What failed may fail, but for an interruption; the same again is done.
                let failed = LIFE[i] == *word && answer.starts_with("Err(");
                failures += failed as u32;
                let again = i > 0 && LIFE[i] == "again" && answers[i - 1].starts_with("Err(");
                let done = &expected[if again { i - 1 } else { i }];
                is_wrong |= if failed { error == EINTR } else { answer != done };
            }
            let left = lab.listing();
            if is_wrong || left != [lab.path("life")] {
                wrong.push(format!("{word}, call {at}, {call:x?}: {error}: {code} {answers:?} {left:?}"));
                let _ = std::fs::remove_file(&path);
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(failures > 0, "nothing failed");
    println!("{test}: {} calls, {failures} errors", steps.len());
}

#[test]
fn each_system_call_fails_once() {
    each_call_fails("each_system_call_fails_once", |_| Fate::Made, |_| true);
}

#[test]
fn each_system_call_of_a_creation_without_unnamed_files_fails_once() {
    let test = "each_system_call_of_a_creation_without_unnamed_files_fails_once";
    each_call_fails(test, without_unnamed_files, |(word, _)| *word == "create");
}
