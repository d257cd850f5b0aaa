use std::hint::spin_loop;
use std::thread::yield_now;

use crate::{Plan, Result, Source};

/// A way for messages from one process to another.
pub trait Transport {
    /// The end that sends.
    type Sender: Sender;
    /// The end that receives.
    type Receiver: Receiver;

    /// Its version and how it is set up for this plan, in one line.
    fn describe(plan: &Plan) -> String;

    /// Makes the channel `name` and its receiving end. Called before any
    /// [`sender`](Transport::sender) of that channel.
    fn receiver(plan: &Plan, name: &str) -> Result<Self::Receiver>;

    /// The sending end of the channel `name`, which exists.
    fn sender(plan: &Plan, name: &str) -> Result<Self::Sender>;
}

/// A way for messages from one thread to another.
pub trait Pair {
    /// The end that sends.
    type Sender: Sender + Send + 'static;
    /// The end that receives.
    type Receiver: Receiver + Send + 'static;

    /// As [`Transport::describe`].
    fn describe(plan: &Plan) -> String;

    /// Both ends of a new channel, with as many sending ones as the plan has
    /// senders.
    fn pair(plan: &Plan) -> Result<(Vec<Self::Sender>, Self::Receiver)>;
}

/// The end that sends.
pub trait Sender {
    /// Sends a message, and waits for room if there is none.
    fn send(&mut self, message: &[u8]) -> Result<()>;

    /// Sends `count` messages together, if it can.
    #[inline(always)]
    fn send_batch(&mut self, source: &mut Source, count: u32) -> Result<()> {
        for _ in 0..count {
            self.send(source.next_message())?;
        }
        Ok(())
    }

    /// Hands over what it still holds back. Called after the last message.
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }

    /// Sends the next message of `source`, written where it is sent from, if it
    /// can; otherwise a copy.
    #[inline(always)]
    fn send_in_place(&mut self, source: &mut Source) -> Result<()> {
        self.send(source.next_message())
    }
}

/// The end that receives.
pub trait Receiver {
    /// Waits for the next message and shows it to `look`.
    fn receive<R>(&mut self, look: impl FnOnce(&[u8]) -> R) -> Result<R>;
}

/// Tries until it succeeds: some pauses, then giving others the core, as whoever
/// has no better way to wait should.
#[inline(always)]
pub fn spin_until<T>(mut attempt: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    loop {
        for _ in 0..100 {
            if let Some(found) = attempt()? {
                return Ok(found);
            }
            spin_loop();
        }
        yield_now();
    }
}
