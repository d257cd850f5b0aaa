//! Regions without a name, and what a descriptor must be to be taken for one.
//! Handing over to other processes is in the package `tests`.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, OFlag, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use shmring::{
    AttachError, Consumer, CreateError, OpenError, Read, ReadError, Region, RegionOptions, Schema, SendError,
};

/// Longer than a waiting side looks away from the file.
const SOME_TIME: Duration = Duration::from_millis(120);
const HANG: Duration = Duration::from_secs(30);

fn small() -> RegionOptions {
    RegionOptions::new().capacity(64 << 10)
}

fn descriptor(region: &Region) -> OwnedFd {
    region.as_fd().try_clone_to_owned().unwrap()
}

#[track_caller]
fn expect(consumer: &mut Consumer, sequence: u64, payload: &[u8]) {
    match consumer.read_timeout(HANG).unwrap() {
        Read::Message(m) => assert_eq!((m.sequence, m.payload), (sequence, payload)),
        other => panic!("{other:?}"),
    }
}

/// Memory with these seals that holds `bytes`.
fn memory(bytes: &[u8], seals: SealFlag) -> File {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let file = File::from(memfd_create("theirs", flags).unwrap());
    file.write_all_at(bytes, 0).unwrap();
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).unwrap();
    file
}

fn bytes_of(region: &Region) -> Vec<u8> {
    let file = File::from(descriptor(region));
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

#[test]
fn an_anonymous_region_is_a_region() {
    let made = Region::create_anonymous().unwrap();
    assert!(made.is_new() && made.path() == Path::new("memfd:shmring"));
    assert_eq!(made.capacity(), RegionOptions::DEFAULT_CAPACITY);
    let mut producer = made.producer().unwrap();
    producer.send(b"one").unwrap();

    let other = Region::from_fd(descriptor(&made)).unwrap();
    assert!(!other.is_new() && other.path() == Path::new("memfd:shmring"));
    let mut consumer = other.consumer().unwrap();
    expect(&mut consumer, 0, b"one");
    assert_eq!(other.producer().unwrap().lane(), 1);
    assert!(matches!(made.consumer(), Err(AttachError::Busy { owner: Some(_), .. })));

    // It lives as long as anybody is attached, and a restarted side goes on.
    drop(made);
    producer.abandon();
    consumer.commit();
    match consumer.read_timeout(HANG).unwrap() {
        Read::Died(death) => assert_eq!(death.producer.as_ref().unwrap().pid, std::process::id() as u64),
        unexpected => panic!("{unexpected:?}"),
    }
    let mut producer = other.producer().unwrap();
    producer.send(b"two").unwrap();
    expect(&mut consumer, 1, b"two");
    producer.close();
    assert_eq!(consumer.read_timeout(HANG), Ok(Read::End));
}

#[test]
fn a_region_that_never_had_a_name_was_not_removed() {
    let region = small().create_anonymous().unwrap();
    let mut producer = region.producer().unwrap();
    let mut consumer = region.consumer().unwrap();
    assert_eq!(consumer.check_producers(), Ok(1));
    assert_eq!(consumer.read_timeout(SOME_TIME), Err(ReadError::TimedOut));
    while producer.try_send(&[7; 1000]).is_ok() {}
    assert_eq!(producer.send_timeout(&[7; 1000], SOME_TIME), Err(SendError::TimedOut));
}

#[test]
fn nobody_can_change_its_length() {
    let region = small().create_anonymous().unwrap();
    let file = File::from(descriptor(&region));
    let len = file.metadata().unwrap().len();
    for other in [0, len - 1, len + 1] {
        assert_eq!(file.set_len(other).unwrap_err().kind(), io::ErrorKind::PermissionDenied, "{other}");
    }
    let _ = fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE)).unwrap_err();
    region.producer().unwrap().send(b"still here").unwrap();
    expect(&mut region.consumer().unwrap(), 0, b"still here");
}

#[test]
fn what_there_is_no_memory_for_is_refused_at_once() {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap();
    let total_kib = |name| -> u64 {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    if total_kib("MemTotal:") + total_kib("SwapTotal:") >= 1 << 30 {
        return println!("skipped: no_memory: this machine has a TiB");
    }
    match RegionOptions::new().capacity(1 << 40).create_anonymous() {
        Err(error @ CreateError::NoMemory { needed }) => {
            assert!(needed > 1 << 40 && error.to_string().contains("smaller capacity"), "{error}");
        }
        unexpected => panic!("{unexpected:?}"),
    }
}

#[test]
fn options_are_compared_and_impossible_ones_refused() {
    let made = small().schema(Schema::new("orders", 3));
    let region = made.create_anonymous().unwrap();
    made.open_fd(descriptor(&region)).unwrap();
    for other in [made.clone().capacity(1 << 20), made.clone().schema(Schema::new("orders", 4))] {
        assert!(matches!(other.open_fd(descriptor(&region)), Err(OpenError::Differs { .. })));
    }
    assert!(matches!(small().capacity(3).create_anonymous(), Err(CreateError::Geometry(_))));
}

#[test]
fn what_is_no_region_is_refused_and_says_why() {
    let region = small().create_anonymous().unwrap();
    let bytes = bytes_of(&region);
    let shrink_grow = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW;
    let folder = tempfile::tempdir().unwrap();
    let link = format!("/proc/self/fd/{}", region.as_fd().as_raw_fd());
    let (pipe, _writer) = io::pipe().unwrap();
    let unlinked = tempfile::tempfile().unwrap();
    unlinked.write_all_at(&bytes, 0).unwrap();
    let on_tmpfs = tempfile::tempfile_in("/dev/shm").unwrap();
    on_tmpfs.write_all_at(&bytes, 0).unwrap();

    let open = |write: bool, read: bool| File::options().read(read).write(write).open(&link).unwrap();
    let path_only = {
        use std::os::unix::fs::OpenOptionsExt;
        File::options().read(true).custom_flags(OFlag::O_PATH.bits()).open(&link).unwrap()
    };
    let refused: [(OwnedFd, &str); 12] = [
        (open(false, true).into(), "HalfOpen { path: \"memfd:shmring\" }"),
        (open(true, false).into(), "HalfOpen { path: \"memfd:shmring\" }"),
        (path_only.into(), "HalfOpen { path: \"memfd:shmring\" }"),
        (memory(&bytes, SealFlag::empty()).into(), "Unsealed { path: \"memfd:theirs\" }"),
        (memory(&bytes, SealFlag::F_SEAL_SHRINK).into(), "Unsealed"),
        (memory(&bytes, SealFlag::F_SEAL_GROW).into(), "Unsealed"),
        (memory(b"junk", shrink_grow).into(), "Refused { path: \"memfd:theirs\""),
        (memory(&bytes[..bytes.len() - 4096], shrink_grow).into(), "Refused"),
        (pipe.into(), "NotAFile { path: \"pipe:"),
        (File::open(folder.path()).unwrap().into(), "NotAFile"),
        (unlinked.into(), "NotFound"),
        (on_tmpfs.into(), "NotFound"),
    ];
    for (descriptor, why) in refused {
        let error = Region::from_fd(descriptor).unwrap_err();
        assert!(format!("{error:?}").starts_with(why), "{error:?} instead of {why}");
    }
    let theirs = Region::from_fd(memory(&bytes, shrink_grow)).unwrap();
    assert!(theirs.producer().is_ok() && theirs.path() == Path::new("memfd:theirs"));
}

#[test]
fn a_file_is_taken_as_a_descriptor_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ring");
    let made = small().create(&path).unwrap();
    let handed = Region::from_fd(descriptor(&made)).unwrap();
    assert_eq!(fs::metadata(handed.path()).unwrap().ino(), fs::metadata(&path).unwrap().ino());
    let again = Region::from_fd(File::options().read(true).write(true).open(&path).unwrap()).unwrap();
    assert_eq!(again.path(), fs::canonicalize(&path).unwrap());
    let mut producer = handed.producer().unwrap();
    let mut consumer = made.consumer().unwrap();
    producer.send(b"one").unwrap();
    expect(&mut consumer, 0, b"one");
    drop(producer);
    consumer.commit();

    // It had a name, so it can lose it.
    fs::remove_file(&path).unwrap();
    assert!(matches!(handed.producer(), Err(AttachError::Removed)));
    assert_eq!(consumer.check_producers(), Err(ReadError::Removed));
    assert!(matches!(Region::from_fd(descriptor(&made)), Err(OpenError::NotFound { .. })));
}

#[test]
fn a_received_descriptor_is_closed_by_exec() {
    let made = small().create_anonymous().unwrap();
    let flags = |file: &dyn AsFd| FdFlag::from_bits_retain(fcntl(file.as_fd(), FcntlArg::F_GETFD).unwrap());
    assert_eq!(flags(&made), FdFlag::FD_CLOEXEC);
    let handed = descriptor(&made);
    fcntl(&handed, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    assert_eq!(flags(&Region::from_fd(handed).unwrap()), FdFlag::FD_CLOEXEC);
}
