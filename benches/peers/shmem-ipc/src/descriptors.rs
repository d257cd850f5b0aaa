//! Hands file descriptors to the other process, as its documentation says that
//! its user must.

#![allow(unsafe_code)] // One block: who gets a file descriptor owns it.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;

use anyhow::{Context, Result};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// Gives them to the first who asks at `path`.
pub(crate) fn offer(path: &Path, files: [File; 3]) -> Result<()> {
    let listener = UnixListener::bind(path)?;
    thread::spawn(move || -> Result<()> {
        let (stream, _) = listener.accept()?;
        let numbers = files.each_ref().map(File::as_raw_fd);
        let rights = [ControlMessage::ScmRights(&numbers)];
        sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(b"3")], &rights, MsgFlags::empty(), None)?;
        Ok(())
    });
    Ok(())
}

/// Asks for them.
pub(crate) fn fetch(path: &Path) -> Result<[File; 3]> {
    let stream = UnixStream::connect(path)?;
    let mut byte = [0];
    let mut bytes = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!([i32; 3]);
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut bytes, Some(&mut space), MsgFlags::empty())?;
    let numbers = message
        .cmsgs()?
        .find_map(
            |found| if let ControlMessageOwned::ScmRights(numbers) = found { Some(numbers) } else { None },
        )
        .context("no file descriptors came")?;
    // SAFETY: the system made them for this process just now, and nobody else
    // here knows of them.
    let files: Vec<File> = numbers.into_iter().map(|number| unsafe { File::from_raw_fd(number) }).collect();
    files.try_into().ok().context("three file descriptors were expected")
}
