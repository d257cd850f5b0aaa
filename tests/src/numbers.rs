//! Messages with numbers, for handles in two processes.

use anyhow::{Result, ensure};
use shmring::{Consumer, Producer, Read};

use crate::DEADLINE;

/// The message with this number. Their lengths differ.
pub fn message(number: u64) -> Vec<u8> {
    number.to_le_bytes().repeat(1 + (number % 40) as usize)
}

/// Sends the messages with these numbers.
pub fn send_numbers(producer: &mut Producer, numbers: std::ops::Range<u64>) -> Result<()> {
    for number in numbers {
        producer.send_timeout(&message(number), DEADLINE)?;
    }
    Ok(())
}

/// Reads and commits the messages with these numbers, which are their
/// sequences too; fails on anything else.
pub fn read_numbers(consumer: &mut Consumer, numbers: std::ops::Range<u64>) -> Result<()> {
    for number in numbers {
        expect_message(consumer, number, &message(number))?;
        consumer.commit();
    }
    Ok(())
}

/// Reads one message; fails if it is not this one.
pub fn expect_message(consumer: &mut Consumer, sequence: u64, payload: &[u8]) -> Result<()> {
    let found = consumer.read_timeout(DEADLINE)?;
    let same = matches!(&found, Read::Message(m) if m.sequence == sequence && m.payload == payload);
    ensure!(same, "instead of message {sequence}: {found:?}");
    Ok(())
}

/// Reads the end of a stream; fails unless it begins with `end` in words.
pub fn expect_end(consumer: &mut Consumer, end: &str) -> Result<()> {
    let found = consumer.read_timeout(DEADLINE)?;
    let same = matches!(&found, Read::End(e) if format!("{e:?}").starts_with(end));
    ensure!(same, "instead of {end}: {found:?}");
    consumer.commit();
    Ok(())
}
