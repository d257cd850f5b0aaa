//! What can happen to one lane from outside: each is an error of its own that
//! names what happened.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::resource::{Resource, getrlimit};
use shmring::{AttachError, OpenError, Read, ReadError, Refusal, Region, RegionOptions};
use tests::{
    CONSUMER_SLEEP, Lab, PRODUCER_SLEEP, Program::Shmring, Victim, is_root, on_tmpfs, program, skipped,
    until_asleep, victim,
};

const DATA: u64 = 0x10000;
const CAPACITY: u64 = 65536;
const PROGRAM: &str = env!("CARGO_BIN_EXE_victim");

fn user(lab: &Lab, path: &Path, flags: &[&str]) -> Victim {
    victim(lab, PROGRAM, path, flags)
}

fn writable(path: &Path) -> File {
    File::options().write(true).open(path).unwrap()
}

fn punch(path: &Path, offset: u64, len: u64) {
    let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    fallocate(writable(path), flags, offset as i64, len as i64).unwrap();
}

/// A shell that mounts what `mount` says at `mounted` in a mount namespace of
/// its own, then does `then` with the victim as `$VICTIM`; `None` where that
/// cannot be done.
fn mounted(lab: &Lab, test: &str, mount: &str, then: &str) -> Option<Victim> {
    if !is_root() {
        skipped(test, "mounting needs root");
        return None;
    }
    fs::create_dir_all(lab.path("mounted")).unwrap();
    let script = format!("{mount} mounted >&2 || {{ echo no; exit; }}; echo yes; {then}");
    let mut command = lab.prepared("unshare".as_ref());
    command.current_dir(lab.path("")).args(["-m", "sh", "-c", &script]);
    command.env("VICTIM", PROGRAM).env("SHMRING", program(Shmring));
    let mut user = Victim::start(&mut command);
    if user.answer().as_deref() != Some("yes") {
        skipped(test, user.finish().stderr);
        return None;
    }
    Some(user)
}

#[test]
fn no_proc_to_open_descriptions_by() {
    let lab = Lab::new();
    let (mount, then) = ("mount -t tmpfs none", "mount -t tmpfs none /proc; exec \"$VICTIM\" ring");
    let Some(mut user) = mounted(&lab, "no_proc_to_open_descriptions_by", mount, then) else { return };
    user.must(&["create", "producer"]);
    // From here on its path says nothing of it.
    fs::rename(lab.path("ring"), lab.path("moved")).unwrap();
    assert_eq!(user.ask("consumer"), "Err(Lack(Proc))");
}

#[test]
fn a_full_file_system_refuses_the_creation() {
    // 64 KiB before the ring, and the ring.
    let no_space = |path: &str| format!("Err(NoSpace {{ path: {path:?}, needed: 1114112 }})");
    let lab = Lab::new();
    let path = lab.path("ring");
    let mut small = user(&lab, &path, &["--capacity", "1048576", "--fsize", "1000000"]);
    assert_eq!(small.ask("create"), "Err(Lack(FileSize { needed: 1114112, limit: 1000000 }))");
    assert!(!path.exists());

    let mount = "mount -t tmpfs -o size=256k,mode=0700 none";
    let then = "exec \"$VICTIM\" mounted/ring --capacity 1048576";
    let test = "a_full_file_system_refuses_the_creation";
    let Some(mut small) = mounted(&lab, test, mount, then) else { return };
    assert_eq!(small.ask("create"), no_space("mounted/ring"));
    assert_eq!(small.ask("open"), "Err(NotFound { path: \"mounted/ring\" })");
    // And not what fits.
    let then = "exec \"$VICTIM\" mounted/ring";
    let Some(mut fits) = mounted(&lab, test, mount, then) else { return };
    fits.must(&["create", "producer", "send 60000"]);
}

#[test]
fn a_full_file_system_refuses_a_further_lane() {
    let lab = Lab::new();
    // Room for two rings of 1 MiB and what is before them.
    let mount = "mount -t tmpfs -o size=2500k,mode=0700 none";
    let then = "exec \"$VICTIM\" mounted/ring";
    let test = "a_full_file_system_refuses_a_further_lane";
    let Some(mut user) = mounted(&lab, test, mount, then) else { return };
    user.must(&["plain", "create", "named 0", "named 1"]);
    assert_eq!(user.ask("named 2"), "Err(NoSpace { lane: 2, needed: 1048576 })");
    // Who has one goes on.
    user.must(&["send 1000000"]);
}

#[test]
fn truncated_before_attach() {
    let lab = Lab::new();
    let path = lab.path("ring");
    let mut early = user(&lab, &path, &[]);
    early.must(&["create"]);
    for len in [0, 4096, DATA, DATA + CAPACITY - 1] {
        writable(&path).set_len(len).unwrap();
        for role in ["producer", "consumer"] {
            assert_eq!(early.ask(role), format!("Err(Truncated {{ found: {len} }})"));
        }
        let expected = match len {
            0 => Refusal::Empty,
            _ => Refusal::FileLen { expected: DATA + CAPACITY, found: len },
        };
        // What was cut off stays gone when the length comes back.
        if len >= 4096 {
            match Region::open(&path) {
                Err(OpenError::Refused { source, .. }) => assert_eq!(source, expected),
                other => panic!("{other:?}"),
            }
        }
        writable(&path).set_len(DATA + CAPACITY).unwrap();
        if len == 0 {
            assert!(is_zeros(Region::open(&path)));
            fs::remove_file(&path).unwrap();
            early.must(&["create"]);
        }
    }
}

fn is_zeros(opened: Result<Region, OpenError>) -> bool {
    matches!(opened, Err(OpenError::Refused { source: Refusal::Zeros, .. }))
}

/// A consumer that waits at an empty ring and a producer that waits at a full
/// one, each at a region of its own in `folder`; then `strike` is done to the
/// file, and each must say `expected`.
fn strike_both(lab: &Lab, folder: &Path, expected: &str, strike: impl Fn(&Path)) {
    for role in ["consumer", "producer"] {
        let path = folder.join(role);
        let mut waiting = user(lab, &path, &[]);
        waiting.must(&["create", role]);
        if role == "consumer" {
            waiting.tell("read");
            until_asleep(&path, CONSUMER_SLEEP);
        } else {
            assert_eq!(waiting.ask("fill 1000"), "Full");
            waiting.tell("send-blocking 1000");
            until_asleep(&path, PRODUCER_SLEEP);
        }
        strike(&path);
        assert_eq!(waiting.answer().unwrap(), format!("Err({expected})"), "{role}");
        let check = if role == "consumer" { "read" } else { "check" };
        assert_eq!(waiting.ask(check), format!("Err({expected})"), "{role}, again");
    }
}

#[test]
fn truncated_while_attached_and_waiting() {
    let lab = Lab::new();
    // The pages that those who wait look at are still there.
    strike_both(&lab, &lab.path(""), "Truncated", |path| {
        writable(path).set_len(DATA + CAPACITY - 4096).unwrap();
    });
}

#[test]
fn removed_or_replaced_while_attached_and_waiting() {
    let lab = Lab::new();
    strike_both(&lab, &lab.path(""), "Removed", |path| fs::remove_file(path).unwrap());
    let folder = lab.path("replaced");
    fs::create_dir(&folder).unwrap();
    strike_both(&lab, &folder, "Removed", |path| {
        let other = path.with_extension("other");
        RegionOptions::new().capacity(CAPACITY).max_producers(1).create(&other).unwrap();
        fs::rename(other, path).unwrap();
    });
    // Opened before, attached after.
    let path = lab.path("early");
    let early = Region::create(&path).unwrap();
    fs::rename(folder.join("producer"), &path).unwrap();
    assert!(matches!(early.producer(), Err(AttachError::Removed)));
    assert!(matches!(early.consumer(), Err(AttachError::Removed)));
    Region::open(&path).unwrap().producer().unwrap();
}

/// A move is not noticed; and who has the file goes on with it until it is
/// noticed that it has no name.
#[test]
fn moved_or_removed_while_nobody_waits() {
    let lab = Lab::new();
    let [path, moved] = ["ring", "moved"].map(|name| lab.path(name));
    let region = Region::create(&path).unwrap();
    let (mut producer, mut consumer) = (region.producer().unwrap(), region.consumer().unwrap());
    let mut exchange = |sequence: u64| {
        producer.send(b"message").unwrap();
        assert!(matches!(consumer.try_read(), Ok(Read::Message(m)) if m.sequence == sequence));
        consumer.commit();
        consumer.check_producers()
    };
    fs::rename(&path, &moved).unwrap();
    assert_eq!(exchange(0), Ok(1));
    assert!(matches!(Region::open(&path), Err(OpenError::NotFound { .. })));
    assert_eq!(Region::open_or_create(&path).unwrap().producer().unwrap().sequence(), 0);
    assert!(matches!(Region::open(&moved).unwrap().consumer(), Err(AttachError::Busy { .. })));
    assert_eq!(exchange(1), Ok(1));
    fs::remove_file(&moved).unwrap();
    assert_eq!(exchange(2), Err(ReadError::Removed));
    assert_eq!(exchange(3), Err(ReadError::Removed));
}

#[test]
fn a_hole_punched_while_attached() {
    let Some(folder) = on_tmpfs("a_hole_punched_while_attached") else { return };
    let lab = Lab::new();
    let whole = (0, DATA + CAPACITY);
    for (offset, len) in [(DATA, CAPACITY), (0x1000, DATA - 0x1000), whole, (DATA + CAPACITY - 4096, 4096)] {
        strike_both(&lab, folder.path(), "Punched", |path| punch(path, offset, len));
        for role in ["consumer", "producer"] {
            fs::remove_file(folder.path().join(role)).unwrap();
        }
    }
    // A head of zeros is impossible where one was committed; it was the hole.
    let path = folder.path().join("used");
    let mut used = user(&lab, &path, &[]);
    used.must(&["create", "producer", "consumer", "send 1000"]);
    assert_eq!(used.ask("try-read"), "message 0 of 1000");
    used.must(&["commit"]);
    assert_eq!(used.ask("fill 1000"), "Full");
    punch(&path, 0x1000, DATA - 0x1000);
    assert_eq!(used.ask("send 1000"), "Err(Punched)");
    assert_eq!(used.ask("read"), "message 1 of 1000");
    // Whose space is as it was is not suspected, whatever it was.
    let path = folder.path().join("sparse");
    RegionOptions::new().capacity(CAPACITY).max_producers(1).create(&path).unwrap();
    punch(&path, DATA, CAPACITY);
    let region = Region::open(&path).unwrap();
    let mut producer = region.producer().unwrap();
    producer.send(b"message").unwrap();
    producer.check_region().unwrap();
    assert_eq!(region.consumer().unwrap().check_producers(), Ok(1));
}

#[test]
fn a_hole_in_the_header() {
    let Some(folder) = on_tmpfs("a_hole_in_the_header") else { return };
    let path = folder.path().join("ring");
    let region = Region::create(&path).unwrap();
    punch(&path, 0, 4096);
    assert!(is_zeros(Region::open(&path)));
    // Who opened it before has a copy of its own.
    region.producer().unwrap().send(b"message").unwrap();
    // A hole in what says where the ring is.
    let other = folder.path().join("other");
    RegionOptions::new().max_producers(1).create(&other).unwrap();
    punch(&other, 0x5000, 4096);
    match Region::open(&other) {
        Err(OpenError::Refused { source: Refusal::Field { field, value: 0 }, .. }) => {
            assert_eq!(field, "file_offset");
        }
        unexpected => panic!("{unexpected:?}"),
    }
}

#[test]
fn a_file_system_that_is_read_only() {
    let lab = Lab::new();
    let mount = "mount -t tmpfs -o size=4m,mode=0700 none";
    let then =
        "\"$SHMRING\" create ./mounted/ring && mount -o remount,ro mounted && exec \"$VICTIM\" mounted/ring";
    let Some(mut late) = mounted(&lab, "a_file_system_that_is_read_only", mount, then) else { return };
    assert_eq!(late.ask("create"), "Err(ReadOnly { path: \"mounted/ring\" })");
    assert_eq!(late.ask("open"), "Err(ReadOnly { path: \"mounted/ring\" })");
    let error = OpenError::ReadOnly { path: "mounted/ring".into() }.to_string();
    assert!(error.contains("mounted/ring") && error.contains("read-only") && error.contains("remount"));
}

#[test]
fn no_descriptors_left() {
    let lab = Lab::new();
    let mut user = user(&lab, &lab.path("ring"), &["--nofile", "40"]);
    user.must(&["create"]);
    assert_eq!(user.ask("exhaust"), "Some(24)");
    for verb in ["create", "open", "producer", "consumer"] {
        assert_eq!(user.ask(verb), "Err(Lack(Descriptors { limit: 40 }))", "{verb}");
    }
}

#[test]
fn more_locked_memory_than_is_allowed() {
    let lab = Lab::new();
    // Root may lock what it likes, so the victim is nobody then.
    let flags: &[&str] = if is_root() { &["--uid", "65534"] } else { &[] };
    let limited = |limit: &str| {
        let folder = lab.path(limit);
        fs::create_dir(&folder).unwrap();
        let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        fs::set_permissions(lab.path(""), Clone::clone(&everybody)).unwrap();
        fs::set_permissions(&folder, everybody).unwrap();
        let limits = ["--lock", "--memlock", limit];
        user(&lab, &folder.join("ring"), &[&limits, flags].concat())
    };
    // The ring twice and 64 KiB.
    for limit in ["0", "4096", "131072", "196607"] {
        let mut poor = limited(limit);
        poor.must(&["create"]);
        let refused = format!("Err(Lack(LockedMemory {{ needed: 196608, limit: {limit} }}))");
        assert_eq!(poor.ask("producer"), refused);
        assert_eq!(poor.ask("consumer"), refused);
    }
    let hard = getrlimit(Resource::RLIMIT_MEMLOCK).unwrap().1;
    if !is_root() && hard < 2 * 196_608 {
        return skipped("more_locked_memory_than_is_allowed", "this user may lock too little");
    }
    let mut rich = limited("393216");
    rich.must(&["create", "producer", "consumer"]);
}

#[test]
fn a_group_that_is_not_one_s_own() {
    let lab = Lab::new();
    let path = lab.path("ring");
    // Whoever is root may give a file to any group, and is in group 0.
    let (group, flags): (_, &[&str]) = if is_root() { ("54321", &["--uid", "65534"]) } else { ("0", &[]) };
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    fs::set_permissions(lab.path(""), everybody).unwrap();
    let mut user = user(&lab, &path, &[&["--group", group], flags].concat());
    assert_eq!(user.ask("create"), format!("Err(Group {{ path: {path:?}, gid: {group} }})"));
    assert!(!path.exists());
}

#[test]
fn a_write_elsewhere_changes_no_health() {
    // The check of the file's space must not suspect what others do to it.
    let Some(folder) = on_tmpfs("a_write_elsewhere_changes_no_health") else { return };
    let path = folder.path().join("ring");
    let region = RegionOptions::new().capacity(CAPACITY).max_producers(1).create(&path).unwrap();
    let producer = region.producer().unwrap();
    let file = writable(&path);
    file.write_all_at(&[0; 100], DATA + 1000).unwrap();
    file.set_len(2 * (DATA + CAPACITY)).unwrap();
    fallocate(&file, FallocateFlags::empty(), 0, 2 * (DATA + CAPACITY) as i64).unwrap();
    producer.check_region().unwrap();
}
