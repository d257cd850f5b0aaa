//! Descriptors handed over through a socket.
#![allow(unsafe_code)] // a number from the kernel becomes a descriptor

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use anyhow::{Context, Result, ensure};
use nix::cmsg_space;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

use crate::DEADLINE;

/// Gives `descriptor` to the next process that connects.
pub fn hand_over(listener: &UnixListener, descriptor: BorrowedFd<'_>) -> Result<()> {
    let mut ready = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    ensure!(poll(&mut ready, PollTimeout::try_from(DEADLINE)?)? == 1, "nobody connected within {DEADLINE:?}");
    let (socket, _) = listener.accept()?;
    let numbers = [descriptor.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&numbers)];
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(b"r")], &rights, MsgFlags::empty(), None)?;
    Ok(())
}

/// Takes the descriptor that comes over a socket.
pub fn receive(socket: &UnixStream) -> Result<OwnedFd> {
    let mut byte = [0];
    let mut bytes = [IoSliceMut::new(&mut byte)];
    let mut space = cmsg_space!([i32; 1]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut bytes, Some(&mut space), flags)?;
    let number = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::ScmRights(numbers) => numbers.first().copied(),
        _ => None,
    });
    // SAFETY: the kernel has just made this number for us.
    Ok(unsafe { OwnedFd::from_raw_fd(number.context("no descriptor came")?) })
}
