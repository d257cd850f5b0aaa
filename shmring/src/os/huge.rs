//! Huge pages: transparent ones of a tmpfs, reserved ones of a hugetlbfs.
#![allow(unsafe_code)]

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use memmap2::MmapOptions;
use nix::libc;
use nix::sys::stat::{major, minor};
use nix::sys::statfs::{FsType, HUGETLBFS_MAGIC, TMPFS_MAGIC, fstatfs};

use super::advice::{Range, advise, populate};
use super::lack::Lack;

/// Bytes of a huge page, and what addresses and offsets of it are multiples of.
pub(crate) const SIZE: u64 = 2 << 20;

/// MADV_COLLAPSE, which not every libc names.
const COLLAPSE: i32 = 25;

const SHMEM_ENABLED: &str = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";

/// Pages of 2 MiB instead of 4 KiB: fewer misses of the address translation
/// for rings that are larger than what it covers. For small rings they change
/// nothing but the memory that they take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HugePages {
    /// The kernel joins the small pages of a tmpfs. Nothing has to be set
    /// aside; each handle that asks for it joins what is not joined yet, at
    /// attach, and makes sure of it.
    Transparent,
    /// Pages that the administrator set aside (vm.nr_hugepages), on a mounted
    /// hugetlbfs or for memory without a name. They are never swapped and belong to the region until it is
    /// removed.
    Reserved,
}

/// True if the file, or the folder, is on a hugetlbfs.
pub(crate) fn is_hugetlbfs(file: &File) -> io::Result<bool> {
    Ok(fstatfs(file)?.filesystem_type() == HUGETLBFS_MAGIC)
}

/// True if a file's space never grows smaller there unless somebody takes it away.
pub(crate) fn keeps_its_space(kind: FsType) -> bool {
    [TMPFS_MAGIC, HUGETLBFS_MAGIC].contains(&kind)
}

/// Whether a region can be made in `folder` as it is asked for.
pub(crate) fn check_folder(folder: &File, path: &Path, asked: Option<HugePages>) -> io::Result<()> {
    let path = || path.to_owned();
    match (is_hugetlbfs(folder)?, asked) {
        (true, Some(HugePages::Reserved)) => match fstatfs(folder)?.block_size() as u64 {
            SIZE => Ok(()),
            found => Err(Lack::HugePageSize { found }.into()),
        },
        (true, _) => Err(Lack::OnHugetlbfs { path: path() }.into()),
        (false, Some(HugePages::Reserved)) => Err(Lack::NotHugetlbfs { path: path() }.into()),
        (false, _) => Ok(()),
    }
}

/// Whether a region whose ring begins at a multiple of `data_align` can be
/// mapped as it is asked for. Without a wish it always can.
pub(crate) fn check_file(
    file: &File,
    path: &Path,
    data_align: u64,
    asked: Option<HugePages>,
) -> io::Result<()> {
    if asked.is_none() {
        return Ok(());
    }
    check_folder(file, path, asked)?;
    if data_align == SIZE { Ok(()) } else { Err(Lack::SmallPages.into()) }
}

/// Why `reserved` more bytes of files have no room in `folder`, or where that
/// file is, if reserved huge pages are what is missing. To be asked first: the
/// kernel would take all there are before it says so.
pub(crate) fn missing_pages(folder: &File, reserved: u64) -> Option<Lack> {
    let needed = reserved.div_ceil(SIZE);
    let count = |name: &str| -> Option<u64> {
        let path = format!("/sys/kernel/mm/hugepages/hugepages-2048kB/{name}");
        fs::read_to_string(path).ok()?.trim().parse().ok()
    };
    let free = count("free_hugepages")?.saturating_sub(count("resv_hugepages")?);
    let here = is_hugetlbfs(folder).unwrap_or(false) && free < needed;
    here.then_some(Lack::ReservedHugePages { needed, free })
}

/// Writes into a new file that has no write(2), through a mapping of its own.
pub(crate) fn write_through_mapping(file: &File, start: &[(u64, Vec<u8>)]) -> io::Result<()> {
    let len = start.iter().map(|(offset, bytes)| *offset as usize + bytes.len()).max().unwrap_or(0);
    // SAFETY: the file is being made: it has no name yet, or a temporary one
    // that nobody else opens, so nothing changes or cuts it meanwhile.
    let mut map = unsafe { MmapOptions::new().len(len.next_multiple_of(SIZE as usize)).map_mut(file)? };
    for (offset, bytes) in start {
        map[*offset as usize..][..bytes.len()].copy_from_slice(bytes);
    }
    Ok(())
}

/// Has the kernel put a range of `file` on huge pages, and makes sure that it did.
pub(super) fn make_transparent(file: &File, range: &Range) -> io::Result<()> {
    // Whatever refuses, the look at the result decides. Create reserved the
    // space by small pages: they have to be joined.
    let _ = advise(range, libc::MADV_HUGEPAGE);
    let _ = advise(range, COLLAPSE);
    let _ = populate(range);
    let (mapped, needed) = (huge_bytes(range)?, range.len as u64);
    if mapped == needed {
        return Ok(());
    }
    Err(Lack::TransparentHugePages { mapped, needed, why: why_small(file) }.into())
}

/// Bytes of the range that are mapped by huge pages of a file.
fn huge_bytes(range: &Range) -> io::Result<u64> {
    let mut inside = false;
    let mut bytes = 0;
    for line in fs::read_to_string("/proc/self/smaps")?.lines() {
        let mut words = line.split_whitespace();
        let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if let Some((from, to)) = first.split_once('-') {
            let address = |hex| usize::from_str_radix(hex, 16).unwrap_or(usize::MAX);
            inside = address(from) >= range.start.addr().get() && address(to) <= range.end();
        } else if inside && ["ShmemPmdMapped:", "FilePmdMapped:"].contains(&first) {
            bytes += second.parse::<u64>().unwrap_or(0) << 10;
        }
    }
    Ok(bytes)
}

/// What the system says of transparent huge pages for this file.
fn why_small(file: &File) -> String {
    let Ok(setting) = fs::read_to_string(SHMEM_ENABLED) else {
        return format!("this kernel has none for shared memory (no {SHMEM_ENABLED})");
    };
    let chosen = setting.split(['[', ']']).nth(1).unwrap_or("unknown");
    let mount = mount_options(file).unwrap_or_else(|| "unknown".to_owned());
    format!(
        "{SHMEM_ENABLED} is {chosen} and the mount's options are {mount}; write advise to the first or mount a \
         tmpfs with huge=advise. To join pages takes Linux 6.1 and free memory in pieces of 2 MiB"
    )
}

/// File system and options of the mount that the file is on.
fn mount_options(file: &File) -> Option<String> {
    let device = file.metadata().ok()?.dev();
    let device = format!("{}:{}", major(device), minor(device));
    let all = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let line = all.lines().find(|line| line.split(' ').nth(2) == Some(&device))?;
    let (_, mount) = line.split_once(" - ")?;
    let mut words = mount.split(' ');
    Some(format!("{} {}", words.next()?, words.nth(1)?))
}
