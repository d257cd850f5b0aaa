//! What the kernel has for messages between processes. Each blocks in the kernel
//! while it waits, so it sleeps where others spin.

mod mqueue;
mod pipe;
mod socket;

pub(crate) use mqueue::MessageQueue;
pub(crate) use pipe::{BatchedPipe, Pipe};
pub(crate) use socket::{Datagram, SeqPacket, Socket, Stream, Tcp};

/// The words of a [`describe`](bench_kit::Transport::describe), or why there are none.
fn words(found: anyhow::Result<String>) -> String {
    found.unwrap_or_else(|error| format!("not to be had here: {error:#}"))
}
