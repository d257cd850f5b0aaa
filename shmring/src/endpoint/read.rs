//! What a consumer gets.

use std::sync::Arc;

use super::consumer::Consumer;
use super::error::ReadError;
use super::owner::Owner;
use super::producer::Flags;
use crate::ring::Record;

/// A message, in the consumer's buffer until the next call; of an
/// [`InPlaceConsumer`](super::InPlaceConsumer), in the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message<'a> {
    /// The lane of its producer.
    pub lane: u32,
    /// That producer's name, if it has one.
    pub name: Option<&'a str>,
    /// Its number in its lane: stable across restarts, without holes but those
    /// that a [`Gap`] tells of.
    pub sequence: u64,
    /// Bits that came with it.
    pub flags: Flags,
    /// Its bytes.
    pub payload: &'a [u8],
}

/// A message of one's own.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OwnedMessage {
    /// The lane of its producer.
    pub lane: u32,
    /// That producer's name, if it has one.
    pub name: Option<Arc<str>>,
    /// Its number in its lane: see [`Message::sequence`].
    pub sequence: u64,
    /// Bits that came with it.
    pub flags: Flags,
    /// Its bytes.
    pub payload: Vec<u8>,
}

/// Messages that a producer dropped because the ring was full: they took
/// sequences, and never come. Told before the next message of the lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gap<'a> {
    /// The lane of their producer.
    pub lane: u32,
    /// That producer's name, if it has one.
    pub name: Option<&'a str>,
    /// The sequence of the first of them.
    pub sequence: u64,
    /// How many they are.
    pub count: u64,
}

/// A producer that is gone and did not close. All that it sent was delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Death {
    /// Its lane.
    pub lane: u32,
    /// Its name, if it has one.
    pub name: Option<Arc<str>>,
    /// What it said of itself, unless another one has said so of itself since.
    pub producer: Option<Owner>,
    /// Another producer took its lane before its death was noticed.
    pub is_replaced: bool,
    /// The sequence of the lane's next message, dropped or sent.
    pub sequence: u64,
    /// Messages that it dropped from that one on, after the last one that it
    /// sent. Who comes after it in this lane tells them as a [`Gap`].
    pub dropped: u64,
}

/// What a read found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read<'a> {
    /// The next message.
    Message(Message<'a>),
    /// Messages were dropped here.
    Gap(Gap<'a>),
    /// A producer died. Told once, when all it sent is read: by each consumer
    /// until one commits. Others may go on.
    Died(&'a Death),
    /// Every producer that came has closed or died, and all they sent is read:
    /// told once, by each consumer until one commits. Reading on waits for the
    /// next ones. Streams that follow one another while nobody reads are one.
    End,
    /// Nothing now. Only the try form says so.
    Empty,
}

/// What is there.
#[derive(Debug)]
pub(crate) enum Found {
    /// A message, which is in the consumer's buffer.
    Taken(Record),
    /// Without its bytes.
    Record(Record),
    /// The consumer has it.
    Died,
    End,
    Empty,
}

/// Iterator over what is there: see [`Consumer::available`].
#[derive(Debug)]
pub struct Available<'a> {
    pub(super) consumer: &'a mut Consumer,
    pub(super) failed: bool,
}

impl Iterator for Available<'_> {
    type Item = Result<OwnedMessage, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let taken = match self.consumer.peek_message() {
            Ok(Some(record)) => self.consumer.take(&record).map(|message| {
                let Message { lane, sequence, flags, payload, .. } = message;
                OwnedMessage { lane, name: None, sequence, flags, payload: payload.to_vec() }
            }),
            // A gap or an end is left to the next read.
            Ok(None) => return None,
            Err(e) => Err(e),
        };
        match taken {
            Ok(message) => {
                let name = self.consumer.name_of(message.lane);
                Some(Ok(OwnedMessage { name, ..message }))
            }
            // Once: a caller that drops errors must not go round for ever.
            Err(e) => (!std::mem::replace(&mut self.failed, true)).then_some(Err(e)),
        }
    }
}
