//! Who this process is, for people to read.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::prctl;
use nix::unistd::{geteuid, getpid, gettid};

/// What a process says of itself. What cannot be found out is 0 or empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) pid: u64,
    pub(crate) pid_namespace: u64,
    pub(crate) start_ticks: u64,
    pub(crate) uid: u64,
    pub(crate) command: [u8; 16],
}

/// What of it never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Origin {
    pid: u64,
    pid_namespace: u64,
    start_ticks: u64,
}

impl Identity {
    /// This process. `process` is a number for it that is not that of a process
    /// which forked it, so that no child passes for its parent.
    pub(crate) fn of(process: u64) -> Identity {
        let Origin { pid, pid_namespace, start_ticks } = Origin::of(process);
        Identity { pid, pid_namespace, start_ticks, uid: geteuid().as_raw() as u64, command: command(pid) }
    }
}

impl Origin {
    /// To ask takes more time than the rest of an attach: once a process.
    fn of(process: u64) -> Origin {
        // Never waited for: a child may have been forked with it taken, for ever.
        let mut known = KNOWN.try_lock().ok();
        match known.as_deref() {
            Some(&Some((number, origin))) if number == process => origin,
            _ => {
                let pid = getpid().as_raw() as u64;
                let start_ticks = start_ticks().unwrap_or(0);
                let origin = Origin { pid, pid_namespace: pid_namespace(), start_ticks };
                if let Some(known) = &mut known {
                    **known = Some((process, origin));
                }
                origin
            }
        }
    }
}

/// Of the process that has this number, if it is this one.
static KNOWN: Mutex<Option<(u64, Origin)>> = Mutex::new(None);

/// A child takes over its parent's number.
pub(super) fn forget() {
    if let Ok(mut known) = KNOWN.try_lock() {
        *known = None;
    }
}

/// The pid namespace of this process, for life.
pub(crate) fn pid_namespace() -> u64 {
    fs::metadata("/proc/self/ns/pid").map_or(0, |found| found.ino())
}

/// The name of this process: that of its first thread, which may change it at
/// any time.
fn command(pid: u64) -> [u8; 16] {
    let name = match prctl::get_name() {
        Ok(name) if gettid().as_raw() as u64 == pid => name.into_bytes(),
        _ => fs::read("/proc/self/comm").unwrap_or_default(),
    };
    let name = name.trim_ascii_end();
    let len = name.len().min(16);
    let mut command = [0; 16];
    command[..len].copy_from_slice(&name[..len]);
    command
}

/// Field 22 of stat; the command in field 2 may hold blanks and brackets.
fn start_ticks() -> Option<u64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// Nanoseconds since 1970.
pub(crate) fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_itself() {
        let own = Identity::of(1);
        assert_eq!(own.pid, std::process::id() as u64);
        assert!(own.pid_namespace > 0 && own.start_ticks > 0 && own.command[0] != 0);
        assert_eq!(own, Identity::of(1));
        assert_eq!(own, Identity::of(2));
    }
}
