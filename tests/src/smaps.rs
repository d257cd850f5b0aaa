//! What the kernel says of a process's mappings.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::stat::{major, minor};

/// One mapping of a file, from /proc/PID/smaps.
#[derive(Debug, Clone, Default)]
pub struct Mapped {
    /// `Size`, `Rss`, `Locked` and the others, in KiB.
    fields: Vec<(String, u64)>,
    /// Two letters each.
    flags: Vec<String>,
}

impl Mapped {
    /// A figure in KiB; panics if the kernel does not tell it.
    #[track_caller]
    pub fn kib(&self, name: &str) -> u64 {
        let field = self.fields.iter().find(|(field, _)| field == name);
        field.unwrap_or_else(|| panic!("no {name} in {self:?}")).1
    }

    /// True if the line VmFlags has `flag`.
    pub fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|f| f == flag)
    }
}

/// The mappings that a process has of the file at `path`, by address.
pub fn mappings(process: &str, path: &Path) -> Vec<Mapped> {
    let file = fs::metadata(path).expect("the file is there");
    let mut found = Vec::new();
    let mut ours = false;
    let all = fs::read_to_string(format!("/proc/{process}/smaps")).expect("a process of ours");
    for line in all.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            [range, _, _, device, inode, ..] if range.contains('-') => {
                ours = is_of(&file, device, inode);
                if ours {
                    found.push(Mapped::default());
                }
            }
            ["VmFlags:", ref flags @ ..] if ours => {
                last(&mut found).flags = flags.iter().map(|f| f.to_string()).collect();
            }
            [name, kib, "kB"] if ours => {
                let field = (name.trim_end_matches(':').to_owned(), kib.parse().expect("a number"));
                last(&mut found).fields.push(field);
            }
            _ => {}
        }
    }
    found
}

fn last(found: &mut [Mapped]) -> &mut Mapped {
    found.last_mut().expect("a mapping begins with its range")
}

fn is_of(file: &Metadata, device: &str, inode: &str) -> bool {
    let number = format!("{:02x}:{:02x}", major(file.dev()), minor(file.dev()));
    device == number && inode == file.ino().to_string()
}
