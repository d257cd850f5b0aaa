//! A memory cgroup that is smaller than the ring.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{self, Stdio};

use nix::sys::signal::Signal;
use shmring::{ProducerOptions, Read, Region, RegionOptions, Status};
use tests::{Lab, Victim, is_root, on_tmpfs, skipped};

const LIMIT: u64 = 16 << 20;
const TOO_MUCH: u64 = 64 << 20;

/// A cgroup that may have `LIMIT` bytes, of any version.
struct Cgroup(PathBuf);

impl Cgroup {
    /// `None`, and said so, where none can be made.
    fn new(test: &str) -> Option<Cgroup> {
        let made = is_root().then(|| Self::under_own().or_else(Self::under_root)).flatten();
        if made.is_none() {
            skipped(test, "no memory cgroup can be made");
        }
        made
    }

    fn under_own() -> Option<Cgroup> {
        let all = fs::read_to_string("/proc/self/cgroup").ok()?;
        let own = all.lines().find_map(|line| line.split_once(":memory:"))?.1;
        Self::at(
            &Path::new("/sys/fs/cgroup/memory").join(own.trim_start_matches('/')),
            "memory.limit_in_bytes",
        )
    }

    /// With version 2 a group that has processes has no groups with a limit.
    fn under_root() -> Option<Cgroup> {
        Self::at(Path::new("/sys/fs/cgroup"), "memory.max")
    }

    fn at(parent: &Path, limit: &str) -> Option<Cgroup> {
        let cgroup = Cgroup(parent.join(format!("shmring-test-{}", process::id())));
        fs::create_dir(&cgroup.0).ok()?;
        fs::write(cgroup.0.join(limit), LIMIT.to_string()).ok()?;
        // Where there is swap, that counts too.
        for swap in ["memory.memsw.limit_in_bytes", "memory.swap.max"].map(|name| cgroup.0.join(name)) {
            let most = if swap.ends_with("memory.swap.max") { 0 } else { LIMIT };
            let _ = if swap.exists() { fs::write(swap, most.to_string()) } else { Ok(()) };
        }
        Some(cgroup)
    }

    /// A victim in it.
    fn victim(&self, lab: &Lab, path: &Path, flags: &[&str]) -> Victim {
        let mut command = lab.prepared("sh".as_ref());
        command.args(["-c", "echo $$ >\"$CGROUP\" && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_victim")]);
        command.env("CGROUP", self.0.join("cgroup.procs")).arg(path).args(flags).stderr(Stdio::piped());
        Victim::start(&mut command)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Its processes are gone by then.
        let _ = fs::remove_dir(&self.0);
    }
}

fn expect_killed(victim: Victim) {
    let done = victim.finish();
    assert_eq!(done.status.signal(), Some(Signal::SIGKILL as i32), "{}", done.stderr);
}

/// No file system says how much a cgroup may still have, so whoever asks for
/// more is killed; that is as any other death.
#[test]
fn a_cgroup_smaller_than_the_ring() {
    let test = "a_cgroup_smaller_than_the_ring";
    let Some(folder) = on_tmpfs(test) else { return };
    let Some(cgroup) = Cgroup::new(test) else { return };
    let (lab, path) = (Lab::new(), folder.path().join("ring"));
    let names =
        || -> Vec<_> { fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect() };

    // Who creates it is killed, and leaves nothing.
    let mut poor = cgroup.victim(&lab, &path, &["--capacity", &TOO_MUCH.to_string()]);
    poor.tell("create");
    assert_eq!(poor.answer(), None);
    expect_killed(poor);
    assert!(names().is_empty(), "{:?}", names());

    // So is who takes a further lane. The others go on.
    let region = RegionOptions::new().capacity(TOO_MUCH).max_producers(3).create(&path).unwrap();
    let mut producer = region.producer_with(&ProducerOptions::new().name("first")).unwrap();
    producer.send(b"before").unwrap();
    let mut poor = cgroup.victim(&lab, &path, &[]);
    poor.must(&["plain", "open"]);
    poor.tell("named 1");
    assert_eq!(poor.answer(), None);
    expect_killed(poor);
    assert!(
        Status::of(&path).unwrap().lanes.iter().skip(1).all(|l| l.producer.is_none() && l.name.is_none())
    );
    producer.send(b"after").unwrap();

    // What others paid for can be used.
    let mut poor = cgroup.victim(&lab, &path, &[]);
    poor.must(&["plain", "open", "consumer"]);
    assert_eq!(poor.ask("read"), "message 0 of 6");
    poor.must(&["commit", "leave"]);
    let mut other = Region::open(&path).unwrap().producer_with(&ProducerOptions::new().name("p1")).unwrap();
    assert_eq!(other.lane(), 1);
    other.send(b"other").unwrap();
    drop((producer, other));
    let mut consumer = region.consumer().unwrap();
    let mut left = Vec::new();
    loop {
        match consumer.read().unwrap() {
            Read::Message(m) => left.push(m.payload.to_owned()),
            Read::End => break,
            other => panic!("{other:?}"),
        }
    }
    left.sort_unstable();
    assert_eq!(left, [&b"after"[..], b"other"]);
    poor.finish();
}
