//! A real file to send, and whether it arrived.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

/// Where files are looked for.
const FROM: [&str; 3] = ["/usr/share", "/usr/lib", "/usr/bin"];

/// Writes a file of exactly `len` bytes at `path`, made of files found on
/// this machine, repeated if they do not suffice; says how many they are.
pub(super) fn collect(path: &Path, len: u64) -> anyhow::Result<u64> {
    let mut out = BufWriter::new(File::create(path).context("cannot make the file to send")?);
    let mut left = len;
    let mut files = 0;
    let this = std::env::current_exe().ok();
    let mut found = this.into_iter().chain(FROM.iter().flat_map(|folder| Walk::new(folder)));
    while left > 0 {
        let Some(next) = found.next() else { break };
        let Ok(bytes) = fs::read(next) else { continue };
        let count = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        out.write_all(&bytes[..count]).context("cannot write the file to send")?;
        left -= count as u64;
        files += u64::from(count > 0);
    }
    let file = out.into_inner().context("cannot write the file to send")?;
    // A machine with few files: what is there, again.
    while left > 0 {
        let there = file.metadata()?.len();
        ensure!(there > 0, "found no file to send under {}", FROM.join(", "));
        (&file).seek(io::SeekFrom::End(0))?;
        left -= io::copy(&mut File::open(path)?.take(left.min(there)), &mut &file)?;
    }
    Ok(files)
}

/// Regular files below a folder, depth first; links are not followed.
struct Walk(Vec<PathBuf>);

impl Walk {
    fn new(folder: &str) -> Walk {
        Walk(vec![PathBuf::from(folder)])
    }
}

impl Iterator for Walk {
    type Item = PathBuf;

    fn next(&mut self) -> Option<PathBuf> {
        while let Some(path) = self.0.pop() {
            let Ok(kind) = fs::symlink_metadata(&path).map(|m| m.file_type()) else { continue };
            if kind.is_file() {
                return Some(path);
            }
            if kind.is_dir() {
                let entries = fs::read_dir(&path).into_iter().flatten().flatten();
                self.0.extend(entries.map(|e| e.path()));
            }
        }
        None
    }
}

/// True if both files have the same bytes.
pub(super) fn same(one: &Path, other: &Path) -> io::Result<bool> {
    let (mut one, mut other) = (BufReader::new(File::open(one)?), BufReader::new(File::open(other)?));
    let (mut a, mut b) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let count = one.read(&mut a)?;
        if count == 0 {
            return Ok(other.read(&mut b)? == 0);
        }
        if other.read_exact(&mut b[..count]).is_err() || a[..count] != b[..count] {
            return Ok(false);
        }
    }
}
