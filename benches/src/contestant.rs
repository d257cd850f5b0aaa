//! Who takes part, and how its processes are started.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use bench_kit::{Plan, serve};

use crate::floors::{CacheLine, CasRing, FutexWake, Memcpy, RecordRing, U64Ring};
use crate::kernel::{BatchedPipe, Datagram, MessageQueue, Pipe, SeqPacket, Socket, Stream, Tcp};
use crate::ours::{self, Ours};
use crate::report::Kind;

/// One way to send messages.
#[derive(Debug, Clone)]
pub(crate) struct Contestant {
    /// What it is called in tables and charts.
    pub(crate) name: &'static str,
    /// The program that plays its sides; `None`: this one.
    pub(crate) program: Option<PathBuf>,
    /// Its two sides are threads.
    pub(crate) is_pair: bool,
}

impl Contestant {
    /// A process that plays one side as `plan` says.
    pub(crate) fn command(&self, plan: &Plan) -> Result<Command> {
        let program = match &self.program {
            Some(program) => program.clone(),
            None => env::current_exe().context("our own program")?,
        };
        let mut command = Command::new(program);
        command.arg(serde_json::to_string(plan)?);
        // Some have no other way to be told where their sockets belong.
        command.env("TMPDIR", &plan.place);
        Ok(command)
    }
}

/// One that this program has in itself.
pub(crate) fn built_in(name: &'static str) -> Contestant {
    Contestant { name, program: None, is_pair: false }
}

/// True if this process was started to play a side.
pub(crate) fn is_side() -> bool {
    env::args().nth(1).is_some_and(|argument| argument.starts_with('{'))
}

/// A contestant that this program has in itself.
pub(crate) struct BuiltIn {
    /// As in tables, in charts, and in plans.
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// Refuses the plans that are not for it, and says why.
    pub(crate) can: fn(&Plan) -> Result<()>,
    play: fn(&Plan) -> Result<()>,
}

/// All that this program has in itself.
pub(crate) const BUILT_IN: &[BuiltIn] = &[
    BuiltIn { name: "ours", kind: Kind::Ours, can: Ours::can, play: ours::play },
    BuiltIn { name: "cache line", kind: Kind::Floor, can: CacheLine::can, play: serve::<CacheLine> },
    BuiltIn { name: "u64 ring", kind: Kind::Floor, can: U64Ring::can, play: serve::<U64Ring> },
    BuiltIn { name: "record ring", kind: Kind::Floor, can: RecordRing::can, play: serve::<RecordRing> },
    BuiltIn { name: "CAS ring", kind: Kind::Floor, can: CasRing::can, play: serve::<CasRing> },
    BuiltIn { name: "memcpy", kind: Kind::Floor, can: Memcpy::can, play: serve::<Memcpy> },
    BuiltIn { name: "futex wake", kind: Kind::Floor, can: FutexWake::can, play: serve::<FutexWake> },
    BuiltIn { name: "pipe", kind: Kind::Peer, can: Pipe::can, play: serve::<Pipe> },
    BuiltIn { name: "batched pipe", kind: Kind::Peer, can: BatchedPipe::can, play: serve::<BatchedPipe> },
    BuiltIn {
        name: "unix stream",
        kind: Kind::Peer,
        can: Socket::<Stream>::can,
        play: serve::<Socket<Stream>>,
    },
    BuiltIn {
        name: "unix seqpacket",
        kind: Kind::Peer,
        can: Socket::<SeqPacket>::can,
        play: serve::<Socket<SeqPacket>>,
    },
    BuiltIn {
        name: "unix datagram",
        kind: Kind::Peer,
        can: Socket::<Datagram>::can,
        play: serve::<Socket<Datagram>>,
    },
    BuiltIn { name: "TCP loopback", kind: Kind::Peer, can: Socket::<Tcp>::can, play: serve::<Socket<Tcp>> },
    BuiltIn { name: "POSIX mq", kind: Kind::Peer, can: MessageQueue::can, play: serve::<MessageQueue> },
];

/// Plays a side of a contestant that this program has in itself.
pub(crate) fn play() -> Result<()> {
    bench_kit::main(|plan| {
        let found = BUILT_IN.iter().find(|one| one.name == plan.name);
        (found.with_context(|| format!("there is no contestant {:?} here", plan.name))?.play)(plan)
    })
}
