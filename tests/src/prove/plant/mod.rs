//! The rings with a planted bug: a proof that never fails proves nothing.
//!
//! The product's algorithm runs over a memory that does, from a moment on, what
//! a wrong algorithm would have done. Some bugs are elsewhere: in a system call
//! that is changed, in the order of two calls (`pause`), in the model of the sleep
//! word.
//!
//! ```text
//! memory        the wrapper that has the bug
//! alone, lanes  rings over it, killed at every instruction
//! peer          a ring over it, and a hostile peer at every access
//! lock          the product, whose system calls are changed
//! sleep         the model of the sleep word
//! ```

mod alone;
mod lanes;
mod lock;
mod memory;
mod peer;
mod sleep;

use std::fs::{File, remove_file};
use std::path::Path;

use anyhow::{Context, Result};
use clap::ValueEnum;
pub(crate) use memory::{Planted, take_over};
use nix::fcntl::{FallocateFlags, fallocate};
use shmring::internals::layout::Word;
use shmring::internals::ring::Memory;

use super::pairs::{self, Second};
use super::scenario::{CAPACITY, Load, Operation, ROUND, Scenario};
use super::trace::Progress;
use super::view::View;
use super::watch::Tally;
use super::{newcomers, pause};

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Plant {
    /// The header is stored before the payload.
    PublishedBeforeCopied,
    /// The word after the record is left as it is.
    NoZeroAfterRecord,
    /// That too; who reads takes a header that does not carry the expected
    /// sequence for none.
    TagInsteadOfZero,
    /// A new producer starts at the tail hint and looks at no record.
    TailTrustedBlindly,
    /// A new producer's check point has the tail that was there, of an earlier one.
    CheckPointNotWritten,
    /// A new producer holds the head against the check point's tail, before it
    /// has walked to the true one.
    HeadCheckedAgainstStoredTail,
    /// The next sequence is in a word of its own, which is stored after the
    /// header.
    SequenceInItsOwnWord,
    /// A message may end where the oldest one that is not committed begins.
    NoSpareWord,
    /// A batch's first header is stored before the others and their payloads.
    BatchFirstHeaderFirst,
    /// The zero is stored when room is reserved, behind all of it, and not when
    /// the message's length is known.
    TerminatorAtReserve,
    /// The head is moved before the payload is read.
    HeadBeforeTheUserIsDone,
    /// The same of a consumer that does not die, but is paused.
    FreedBeforeCopied,
    /// The sink's position is stored where it counts at once, apart from the
    /// generation that the commit is decided by.
    RedoWordsStoredApart,
    /// Each lane's position is stored where it counts at once, apart from the
    /// generation that the commit of all lanes is decided by.
    LaneCommitsApart,
    /// A lane that did not move is not written in the commit that follows the
    /// one in which it did.
    LaneNotRewritten,
    /// The tickets are stored after the header that publishes their messages.
    TicketAfterPublish,
    /// The count of what gaps tell of is stored where it counts at once, apart
    /// from the tail behind them.
    GapsCountedApart,
    /// A lane is called ready before its space is reserved.
    ReadyBeforeSpace,
    /// The length is loaded once more when the payload is copied.
    TrustsPeerLength,
    /// The byte after a role's own is locked.
    LockOnTheWrongByte,
    /// The sleeper has no fence put into its wakers.
    NoBarrier,
    /// The sleeper does not look again once it has said that it sleeps.
    NoSecondLook,
    /// A waker publishes before the sleeper's fence reaches it.
    PublishBeforeRegistering,
    /// A waker does not fence for a sleeper that cannot put a fence into it.
    FenceBitIgnored,
}

/// What is run to show a bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ground {
    /// An operation, killed at every instruction.
    Killed(Operation),
    /// A takeover after one that died, killed at every instruction too.
    TwoDead,
    /// A read, paused at every instruction.
    Paused,
    /// A read beside a peer that changes what is read.
    HostilePeer,
    /// An attach beside others.
    Attach,
    /// The model of the sleep word.
    SleepWord,
}

impl Plant {
    /// All of them.
    pub(crate) const ALL: [Plant; 24] = [
        Plant::PublishedBeforeCopied,
        Plant::NoZeroAfterRecord,
        Plant::TagInsteadOfZero,
        Plant::TailTrustedBlindly,
        Plant::CheckPointNotWritten,
        Plant::HeadCheckedAgainstStoredTail,
        Plant::SequenceInItsOwnWord,
        Plant::NoSpareWord,
        Plant::BatchFirstHeaderFirst,
        Plant::TerminatorAtReserve,
        Plant::HeadBeforeTheUserIsDone,
        Plant::FreedBeforeCopied,
        Plant::RedoWordsStoredApart,
        Plant::LaneCommitsApart,
        Plant::LaneNotRewritten,
        Plant::TicketAfterPublish,
        Plant::GapsCountedApart,
        Plant::ReadyBeforeSpace,
        Plant::TrustsPeerLength,
        Plant::LockOnTheWrongByte,
        Plant::NoBarrier,
        Plant::NoSecondLook,
        Plant::PublishBeforeRegistering,
        Plant::FenceBitIgnored,
    ];

    /// Its name on the command line and in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Plant::PublishedBeforeCopied => "published-before-copied",
            Plant::NoZeroAfterRecord => "no-zero-after-record",
            Plant::TagInsteadOfZero => "tag-instead-of-zero",
            Plant::TailTrustedBlindly => "tail-trusted-blindly",
            Plant::CheckPointNotWritten => "check-point-not-written",
            Plant::HeadCheckedAgainstStoredTail => "head-checked-against-stored-tail",
            Plant::SequenceInItsOwnWord => "sequence-in-its-own-word",
            Plant::NoSpareWord => "no-spare-word",
            Plant::BatchFirstHeaderFirst => "batch-first-header-first",
            Plant::TerminatorAtReserve => "terminator-at-reserve",
            Plant::HeadBeforeTheUserIsDone => "head-before-the-user-is-done",
            Plant::FreedBeforeCopied => "freed-before-copied",
            Plant::RedoWordsStoredApart => "redo-words-stored-apart",
            Plant::LaneCommitsApart => "lane-commits-apart",
            Plant::LaneNotRewritten => "lane-not-rewritten",
            Plant::TicketAfterPublish => "ticket-after-publish",
            Plant::GapsCountedApart => "gaps-counted-apart",
            Plant::ReadyBeforeSpace => "ready-before-space",
            Plant::TrustsPeerLength => "trusts-peer-length",
            Plant::LockOnTheWrongByte => "lock-on-the-wrong-byte",
            Plant::NoBarrier => "no-barrier",
            Plant::NoSecondLook => "no-second-look",
            Plant::PublishBeforeRegistering => "publish-before-registering",
            Plant::FenceBitIgnored => "fence-bit-ignored",
        }
    }

    /// Where it shows.
    pub(crate) fn ground(self) -> Ground {
        use Plant::*;
        match self {
            PublishedBeforeCopied
            | NoZeroAfterRecord
            | TagInsteadOfZero
            | TailTrustedBlindly
            | HeadCheckedAgainstStoredTail
            | SequenceInItsOwnWord
            | NoSpareWord => Ground::Killed(Operation::Send),
            TerminatorAtReserve => Ground::Killed(Operation::ReserveCommit),
            BatchFirstHeaderFirst => Ground::Killed(Operation::Batch),
            HeadBeforeTheUserIsDone => Ground::Killed(Operation::ReadCommit),
            FreedBeforeCopied => Ground::Paused,
            CheckPointNotWritten => Ground::TwoDead,
            RedoWordsStoredApart => Ground::Killed(Operation::FileCommit),
            LaneCommitsApart | LaneNotRewritten => Ground::Killed(Operation::LanesCommit),
            TicketAfterPublish => Ground::Killed(Operation::TotalSend),
            GapsCountedApart => Ground::Killed(Operation::DropMessage),
            ReadyBeforeSpace => Ground::Killed(Operation::LaneTake),
            TrustsPeerLength => Ground::HostilePeer,
            LockOnTheWrongByte => Ground::Attach,
            NoBarrier | NoSecondLook | PublishBeforeRegistering | FenceBitIgnored => Ground::SleepWord,
        }
    }

    /// True if the producers have it that come after the kill.
    pub(crate) fn is_of_new_producers(self) -> bool {
        use Plant::*;
        let walks = [TailTrustedBlindly, HeadCheckedAgainstStoredTail, SequenceInItsOwnWord];
        walks.contains(&self) || self.is_of_new_consumers()
    }

    /// True if the consumers have it, too.
    pub(crate) fn is_of_new_consumers(self) -> bool {
        self == Plant::TagInsteadOfZero
    }
}

impl Ground {
    /// All that the control runs.
    const ALL: [Ground; 14] = [
        Ground::Killed(Operation::Send),
        Ground::Killed(Operation::ReserveCommit),
        Ground::Killed(Operation::Batch),
        Ground::Killed(Operation::ReadCommit),
        Ground::Killed(Operation::FileCommit),
        Ground::Killed(Operation::LaneTake),
        Ground::Killed(Operation::TotalSend),
        Ground::Killed(Operation::DropMessage),
        Ground::Killed(Operation::LanesCommit),
        Ground::TwoDead,
        Ground::Paused,
        Ground::HostilePeer,
        Ground::Attach,
        Ground::SleepWord,
    ];

    /// Its name in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Ground::Killed(operation) => operation.name(),
            Ground::TwoDead => "send, then takeover",
            Ground::Paused => "read_commit, paused",
            Ground::HostilePeer => "read_commit beside a hostile peer",
            Ground::Attach => "attach",
            Ground::SleepWord => "store buffer model",
        }
    }

    /// A region's path is free before and after it.
    fn run(self, plant: Option<Plant>, path: &Path, progress: &Progress) -> Result<Tally> {
        match self {
            Ground::Killed(operation) => {
                each_scenario(operation, plant, path, |scenario| kill(plant, scenario, path, progress))
            }
            Ground::TwoDead => {
                let pair = (Operation::Send, Operation::Takeover);
                each_scenario(Operation::Send, plant, path, |scenario| {
                    pairs::run(pair, Second::Rings(plant), scenario.number, true, path, progress)
                })
            }
            Ground::Paused => {
                let tally = pause::read_alone(plant.is_some(), path, progress)?;
                remove_file(path)?;
                Ok(tally)
            }
            Ground::HostilePeer => {
                each_scenario(Operation::ReadCommit, plant, path, |scenario| peer::run(plant, scenario, path))
            }
            Ground::Attach => lock::run(plant, path, progress),
            Ground::SleepWord => Ok(sleep::run(plant)),
        }
    }
}

/// Runs what `plant` shows in; with none, as a control, everything. Regions
/// are made at `path`.
pub(crate) fn run(plant: Option<Plant>, path: &Path, progress: &Progress) -> Result<Tally> {
    let grounds = plant.map_or(Ground::ALL.to_vec(), |plant| vec![plant.ground()]);
    let mut tally = Tally::default();
    for ground in grounds {
        tally.add(&ground.run(plant, path, progress).with_context(|| ground.name())?);
    }
    Ok(tally)
}

/// Scenarios of an operation: half a round, without its longest messages, which
/// the harness's own memory copies slowly; fewer where one has many steps.
fn each_scenario(
    operation: Operation,
    plant: Option<Plant>,
    path: &Path,
    run: impl Fn(Scenario) -> Result<Tally>,
) -> Result<Tally> {
    use Operation::{DropMessage, LaneTake, LanesCommit, TotalSend};
    let count = match operation {
        LaneTake | TotalSend | DropMessage | LanesCommit => 4,
        _ => ROUND / 2,
    };
    let mut tally = Tally::default();
    for number in 0..count {
        let mut scenario = Scenario::new(operation, number);
        if plant == Some(Plant::NoSpareWord) {
            scenario.load = Load::Full;
        }
        tally.add(&run(scenario).with_context(|| scenario.to_string())?);
        remove_file(path)?;
    }
    Ok(tally)
}

/// Steps through one scenario.
fn kill(plant: Option<Plant>, scenario: Scenario, path: &Path, progress: &Progress) -> Result<Tally> {
    use Operation::{Batch, FileCommit, LaneTake, ReadCommit, ReserveCommit, Send};
    match scenario.operation {
        LaneTake if plant.is_none() => newcomers::run(scenario, path, progress),
        LaneTake => newcomers::run_with(scenario, path, progress, take_unready),
        Send | ReserveCommit | Batch | ReadCommit | FileCommit => alone::run(plant, scenario, path, progress),
        _ => lanes::run(plant, scenario, path, progress),
    }
}

/// [`Plant::ReadyBeforeSpace`]: the rest is the product's.
fn take_unready(view: &View, file: &File) -> Result<()> {
    let (lane, at) = (view.lane(1), view.ring_at(1));
    lane.store_release(Word::Ready, 1);
    Ok(fallocate(file, FallocateFlags::FALLOC_FL_KEEP_SIZE, at as i64, CAPACITY as i64)?)
}
