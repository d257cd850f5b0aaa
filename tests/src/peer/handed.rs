//! A stranger: all it has of the region is a descriptor.
#![allow(unsafe_code)] // a number on the command line becomes a descriptor

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use nix::unistd::{Uid, setuid};
use shmring::Region;
use tests::{expect_end, read_numbers, receive, send_numbers};

use super::NotPermitted;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    role: Role,
    /// Messages to send or to read.
    #[arg(default_value_t = 0)]
    count: u64,
    /// The descriptor, left open by who executed this.
    #[arg(long, conflicts_with = "socket", required_unless_present = "socket")]
    fd: Option<i32>,
    /// A socket that the descriptor comes over.
    #[arg(long)]
    socket: Option<PathBuf>,
    /// Becomes this user before it opens the region.
    #[arg(long)]
    uid: Option<u32>,
    /// Says "done" and stays until the end of stdin.
    #[arg(long)]
    stay: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Role {
    Produce,
    Consume,
    /// Tries to change the length.
    Cut,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let descriptor = match (&options.socket, options.fd) {
        (Some(path), _) => receive(&UnixStream::connect(path)?)?,
        // SAFETY: whoever executed this left the descriptor to it.
        (None, Some(number)) => unsafe { OwnedFd::from_raw_fd(number) },
        (None, None) => bail!("no descriptor"),
    };
    if let Some(uid) = options.uid {
        setuid(Uid::from_raw(uid)).map_err(|_| NotPermitted("no such user can be"))?;
    }
    let region = Region::from_fd(descriptor)?;
    match options.role {
        Role::Produce => {
            let mut producer = region.producer()?;
            send_numbers(&mut producer, 0..options.count)?;
            options.stay_if_asked()
        }
        Role::Consume => {
            let mut consumer = region.consumer()?;
            read_numbers(&mut consumer, 0..options.count)?;
            options.stay_if_asked()?;
            expect_end(&mut consumer)
        }
        Role::Cut => {
            let file = File::from(region.as_fd().try_clone_to_owned()?);
            let len = file.metadata()?.len();
            for other in [0, len / 2, len + 4096] {
                let error = file.set_len(other).err().context("the length was changed")?;
                ensure!(error.kind() == ErrorKind::PermissionDenied, "{error}");
            }
            Ok(())
        }
    }
}

impl Options {
    fn stay_if_asked(&self) -> Result<()> {
        if self.stay {
            eprintln!("done");
            std::io::stdin().read_to_end(&mut Vec::new())?;
        }
        Ok(())
    }
}
