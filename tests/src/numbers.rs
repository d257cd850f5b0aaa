//! Messages with numbers, for handles in two processes.

use anyhow::{Result, bail, ensure};
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

/// Reads and commits the end of all streams; fails on anything else.
pub fn expect_end(consumer: &mut Consumer) -> Result<()> {
    let found = consumer.read_timeout(DEADLINE)?;
    ensure!(found == Read::End, "instead of the end: {found:?}");
    consumer.commit();
    Ok(())
}

/// Reads that the producer with this process id died; fails on anything else.
pub fn expect_death(consumer: &mut Consumer, pid: i32) -> Result<()> {
    match consumer.read_timeout(DEADLINE)? {
        Read::Died(death) if death.producer.as_ref().is_some_and(|p| p.pid == pid as u64) => Ok(()),
        found => bail!("instead of the death of {pid}: {found:?}"),
    }
}
