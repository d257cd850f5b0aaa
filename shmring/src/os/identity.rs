//! Who this process is, for people to read.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{SystemTime, UNIX_EPOCH};

/// What a process says of itself. What cannot be found out is 0 or empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) pid: u64,
    pub(crate) pid_namespace: u64,
    pub(crate) start_ticks: u64,
    pub(crate) uid: u64,
    pub(crate) command: [u8; 16],
}

impl Identity {
    /// This process.
    pub(crate) fn own() -> Identity {
        let mut command = [0; 16];
        let name = fs::read("/proc/self/comm").unwrap_or_default();
        let name = name.trim_ascii_end();
        let len = name.len().min(16);
        command[..len].copy_from_slice(&name[..len]);
        Identity {
            pid: std::process::id() as u64,
            pid_namespace: fs::metadata("/proc/self/ns/pid").map_or(0, |m| m.ino()),
            start_ticks: start_ticks().unwrap_or(0),
            uid: nix::unistd::geteuid().as_raw() as u64,
            command,
        }
    }
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
        let own = Identity::own();
        assert_eq!(own.pid, std::process::id() as u64);
        assert!(own.pid_namespace > 0 && own.start_ticks > 0 && own.command[0] != 0);
        assert_eq!(own, Identity::own());
    }
}
