//! A region comes to be: whoever looks into its folder finds it whole or not at
//! all, and nothing is left over for those who create it next.
#![allow(unsafe_code)] // fork

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail, ensure};
use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::Signal;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork};
use shmring::{CreateError, OpenError, Order, Read, Region, RegionOptions};
use tests::fail_call;

use super::scenario::CAPACITY;
use super::trace::{Focus, Progress, each_instruction, rehearse};
use super::watch::{Tally, Verdict};

/// The region's name in its folder.
const NAME: &str = "ring";
/// The temporary name of one that died long ago.
const LEFT_OVER: &str = ".ring.0123456789abcdef.tmp";

/// How a region is created.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Creation {
    number: usize,
    /// True if the file system has files without a name.
    has_unnamed: bool,
    /// True for `RegionOptions::open_or_create`, false for `create`.
    opens_too: bool,
}

impl Creation {
    /// The `number`th. Every second one is where files must have a name.
    pub(crate) fn new(number: usize) -> Creation {
        let (number, has_unnamed) = (number / 2, number.is_multiple_of(2));
        Creation { number, has_unnamed, opens_too: number % 2 == 1 }
    }

    fn options(&self) -> RegionOptions {
        let order = if self.number % 2 == 1 { Order::Total } else { Order::Fifo };
        RegionOptions::new()
            .capacity(CAPACITY << (self.number % 2))
            .record_align([8, 64, 16][self.number % 3])
            .max_producers([1, 3, 2][self.number % 3])
            .order(order)
            .mode(self.mode())
    }

    fn mode(&self) -> u32 {
        [0o600, 0o660][self.number % 2]
    }

    /// The same with the other function.
    fn with_the_other(&self) -> Creation {
        Creation { opens_too: !self.opens_too, ..*self }
    }

    /// What is in the folder before it.
    fn before(&self) -> Folder {
        let left_over = Entry { ino: 1, mode: 0o600, bytes: b"half of it".to_vec() };
        let is_there = !self.has_unnamed && self.number % 3 == 1;
        Folder(is_there.then(|| (LEFT_OVER.into(), left_over)).into_iter().collect())
    }
}

impl std::fmt::Display for Creation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let function = if self.opens_too { "open_or_create" } else { "create" };
        let unnamed = if self.has_unnamed { "with" } else { "without" };
        write!(f, "{function} #{}, {unnamed} unnamed files", self.number)
    }
}

/// Steps through a creation: through all of it, or only where the folder changes.
pub(crate) fn run(creation: Creation, is_whole: bool, folder: &Path, progress: &Progress) -> Result<Tally> {
    where_it_is(creation, || {
        let folders = Folders::new(folder)?;
        Ok(folders.step(creation, &creation.before(), is_whole, progress)?.0)
    })
}

/// Steps through a creation on what another one left, each time it is another
/// image; only the second one's instructions are counted.
pub(crate) fn run_twice(
    creation: Creation,
    is_whole: bool,
    folder: &Path,
    progress: &Progress,
) -> Result<Tally> {
    where_it_is(creation, || {
        let folders = Folders::new(folder)?;
        let (first, left) = folders.step(creation, &creation.before(), false, progress)?;
        let mut tally = first.only_violations();
        for (i, image) in left.iter().enumerate() {
            let (mut one, _) = folders.step(creation.with_the_other(), image, is_whole, progress)?;
            if let Some(violation) = &mut one.first_violation {
                violation.push_str(&format!(", after another died at its image {i}"));
            }
            tally.add(&one);
        }
        Ok(tally)
    })
}

/// Does `work` here or, where all files have names, in a process for which that
/// is so: survivors are on the same file system.
///
/// The caller has no other thread.
fn where_it_is(creation: Creation, work: impl FnOnce() -> Result<Tally>) -> Result<Tally> {
    if creation.has_unnamed {
        return work();
    }
    let (reader, writer) = std::io::pipe()?;
    // SAFETY: the process has one thread (the caller's promise), so the child
    // finds every lock free and may run any code.
    match unsafe { fork()? } {
        ForkResult::Parent { child } => {
            drop(writer);
            let outcome: Result<Result<Tally, String>, _> = serde_json::from_reader(reader);
            waitpid(child, None)?;
            outcome?.map_err(|error| anyhow!(error))
        }
        ForkResult::Child => {
            let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                let unnamed = libc::O_TMPFILE as u32;
                fail_call(libc::SYS_openat, 2, unnamed, unnamed, Errno::EOPNOTSUPP)?;
                work()
            }));
            let outcome = outcome.unwrap_or_else(|_| bail!("a panic")).map_err(|error| format!("{error:#}"));
            let _ = serde_json::to_writer(writer, &outcome);
            // SAFETY: _exit has no preconditions.
            unsafe { libc::_exit(0) }
        }
    }
}

/// Everything in a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Folder(BTreeMap<OsString, Entry>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    /// The same of two names: the same file.
    ino: u64,
    mode: u32,
    bytes: Vec<u8>,
}

impl Folder {
    fn read(path: &Path) -> Result<Folder> {
        let entry = |entry: fs::DirEntry| -> Result<_> {
            let found = entry.metadata()?;
            let bytes = fs::read(entry.path())?;
            Ok((entry.file_name(), Entry { ino: found.ino(), mode: found.mode() & 0o7777, bytes }))
        };
        Ok(Folder(fs::read_dir(path)?.map(|found| entry(found?)).collect::<Result<_>>()?))
    }

    /// Makes the folder at `path` the same; nobody holds a lock in it.
    fn restore(&self, path: &Path) -> Result<()> {
        for entry in fs::read_dir(path)? {
            fs::remove_file(entry?.path())?;
        }
        let mut made: BTreeMap<u64, PathBuf> = BTreeMap::new();
        for (name, entry) in &self.0 {
            let path = path.join(name);
            match made.get(&entry.ino) {
                Some(same) => fs::hard_link(same, &path)?,
                None => {
                    let mut file =
                        File::options().write(true).create_new(true).mode(entry.mode).open(&path)?;
                    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(entry.mode))?;
                    file.write_all(&entry.bytes)?;
                    made.insert(entry.ino, path);
                }
            }
        }
        Ok(())
    }

    fn ring(&self) -> Option<&Entry> {
        self.0.get(std::ffi::OsStr::new(NAME))
    }

    fn names(&self) -> Vec<&OsString> {
        self.0.keys().collect()
    }
}

/// Where regions are created, and where the survivors find what is left.
struct Folders {
    creator: PathBuf,
    survivors: PathBuf,
}

impl Folders {
    fn new(folder: &Path) -> Result<Folders> {
        let folders = Folders { creator: folder.join("creator"), survivors: folder.join("survivors") };
        fs::create_dir_all(&folders.creator)?;
        fs::create_dir_all(&folders.survivors)?;
        Ok(folders)
    }

    /// Steps through a creation where this is in the folder. Says what its
    /// death may leave, too.
    fn step(
        &self,
        creation: Creation,
        before: &Folder,
        is_whole: bool,
        progress: &Progress,
    ) -> Result<(Tally, Vec<Folder>)> {
        let mut made = None;
        let mut operate = || {
            made = create(creation, &self.creator.join(NAME), before.ring().is_some())?;
            Ok(())
        };
        let full = self.space_of(creation)?;
        before.restore(&self.creator)?;
        let focus = match is_whole || cfg!(not(target_arch = "x86_64")) {
            true => None,
            false => Some(self.find_focus(before, progress, &mut operate)?),
        };
        before.restore(&self.creator)?;
        let mut tally = Tally { scenarios: 1, ..Tally::default() };
        let mut images: Vec<Folder> = vec![];
        each_instruction(progress, focus.as_ref(), operate, |returned| {
            tally.points += 1;
            let now = Folder::read(&self.creator)?;
            let mut verdict = Ok(());
            if images.last() != Some(&now) {
                tally.images += 1;
                let last = images.last();
                let appears = now.ring().is_some() && last.is_some_and(|last| last.ring().is_none());
                verdict = judge(creation, &now, last).and_then(|()| self.send_survivors(creation, &now));
                if appears && space(&self.creator)? < full {
                    verdict = Err("the region appears before it has its space".into());
                }
                images.push(now);
            }
            let now = images.last().expect("this one");
            if returned && now.names() != [NAME] {
                verdict = Err(format!("it returned, and there is {:?}", now.names()));
            }
            if let Err(violation) = verdict {
                let point = tally.points;
                tally
                    .violated(|| format!("{violation} ({creation}; killed at instruction boundary {point})"));
            }
            Ok(())
        })?;
        Ok((tally, images))
    }

    /// Bytes of disk that such a region takes, once it is there. Not every file
    /// system tells: then there is nothing to compare.
    fn space_of(&self, creation: Creation) -> Result<u64> {
        Folder::default().restore(&self.survivors)?;
        let _region = creation.options().create(self.survivors.join(NAME))?;
        let found = space(&self.survivors)?;
        Ok(if found >= CAPACITY { found } else { 0 })
    }

    /// Where `operate` changes the folder.
    fn find_focus(
        &self,
        before: &Folder,
        progress: &Progress,
        operate: impl FnOnce() -> Result<()>,
    ) -> Result<Focus> {
        let mut last = before.clone();
        rehearse(progress, operate, || {
            // What cannot be read is worth a closer look.
            let Ok(now) = Folder::read(&self.creator) else { return true };
            std::mem::replace(&mut last, now.clone()) != now
        })
    }

    /// One that only opens and one that creates if need be, in both orders.
    fn send_survivors(&self, creation: Creation, left: &Folder) -> Verdict<()> {
        let path = self.survivors.join(NAME);
        let is_there = left.ring().is_some();
        for looks_first in [true, false] {
            let come = || -> Result<()> {
                left.restore(&self.survivors)?;
                if looks_first {
                    look(&path, is_there)?;
                    create(creation, &path, is_there)?;
                }
                let region = creation.options().open_or_create(&path)?;
                ensure!(region.is_new() == (!is_there && !looks_first), "is it new? {}", region.is_new());
                use_whole(&region)?;
                look(&path, true)?;
                let after = Folder::read(&self.survivors)?;
                ensure!(after.names() == [NAME], "in the end there is {:?}", after.names());
                Ok(())
            };
            // A survivor that panics has not survived.
            let come = catch_unwind(AssertUnwindSafe(come)).unwrap_or_else(|_| bail!("a panic"));
            let first = if looks_first { "one that opens" } else { "one that creates" };
            come.map_err(|error| format!("{first} first, with {:?} left: {error:#}", left.names()))?;
        }
        Ok(())
    }
}

/// Bytes of disk that the region in a folder takes.
fn space(folder: &Path) -> Result<u64> {
    Ok(fs::metadata(folder.join(NAME))?.blocks() * 512)
}

/// The region has its rights and all its bytes as soon as it is there.
fn judge(creation: Creation, now: &Folder, last: Option<&Folder>) -> Verdict<()> {
    match (now.ring(), last.and_then(Folder::ring)) {
        (Some(ring), None) if ring.mode != creation.mode() => {
            Err(format!("the region has the mode {:o}", ring.mode))
        }
        (None, Some(_)) => Err("the region is gone".into()),
        (Some(ring), Some(last)) if ring != last => Err("the region was not whole when it appeared".into()),
        _ => Ok(()),
    }
}

/// What is stepped. Nothing that it makes is dropped.
fn create(creation: Creation, path: &Path, is_there: bool) -> Result<Option<Region>> {
    let options = creation.options();
    if creation.opens_too {
        let region = options.open_or_create(path)?;
        ensure!(region.is_new() != is_there, "the region is new: {}", region.is_new());
        return Ok(Some(region));
    }
    match options.create(path) {
        Ok(region) if !is_there => Ok(Some(region)),
        Err(CreateError::Exists { .. }) if is_there => Ok(None),
        other => bail!("created, with a region there before: {is_there}; {other:?}"),
    }
}

fn look(path: &Path, is_there: bool) -> Result<()> {
    match Region::open(path) {
        Ok(_) if is_there => Ok(()),
        Err(OpenError::NotFound { .. }) if !is_there => Ok(()),
        other => bail!("opened, with a region there: {is_there}; {other:?}"),
    }
}

/// A producer and a consumer attach; messages go once round the ring and more.
fn use_whole(region: &Region) -> Result<()> {
    let (mut producer, mut consumer) = (region.producer()?, region.consumer()?);
    for (sequence, len) in (0..).zip([24, 0, region.max_message(), region.max_message()]) {
        let message = vec![sequence as u8 + 1; len];
        producer.try_send(&message)?;
        match consumer.try_read()? {
            Read::Message(found) if (found.sequence, found.payload) == (sequence, &message[..]) => {}
            other => bail!("instead of message {sequence}: {other:?}"),
        }
        consumer.commit();
    }
    ensure!(matches!(consumer.try_read()?, Read::Empty), "something is left");
    Ok(())
}
