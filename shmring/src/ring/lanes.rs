use super::cursor::{Cursor, Record};
use super::{Corrupt, Memory};
use crate::layout::record::Kind;

/// The lanes that a [`Reader`](super::Reader) reads, and how far it is in each.
#[derive(Debug)]
pub(super) struct Lanes<M> {
    pub(super) cursors: Vec<Cursor<M>>,
    /// Those read from since the last commit.
    pub(super) touched: Vec<u32>,
    /// Streams that ended since the end of all was told last.
    pub(super) ends: u64,
}

/// One of a reader's lanes holds something impossible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("lane {lane}: {corrupt}")]
pub struct Broken {
    /// Which of the reader's lanes.
    pub lane: u32,
    /// What is impossible.
    pub corrupt: Corrupt,
}

impl<M: Memory> Lanes<M> {
    pub(super) fn new(most: usize, ends: u64) -> Lanes<M> {
        Lanes { cursors: Vec::with_capacity(most), touched: Vec::with_capacity(most), ends }
    }

    pub(super) fn len(&self) -> u32 {
        self.cursors.len() as u32
    }

    #[inline(always)]
    pub(super) fn get(&self, lane: u32) -> &Cursor<M> {
        &self.cursors[lane as usize]
    }

    #[inline(always)]
    pub(super) fn peek(&self, lane: u32) -> Result<Option<Record>, Broken> {
        self.get(lane).peek(lane).map_err(|corrupt| Broken { lane, corrupt })
    }

    /// The next message or gap of one lane, if there is one; steps over the
    /// ends of streams that another one followed.
    pub(super) fn look(&mut self, lane: u32) -> Result<Option<Record>, Broken> {
        if self.get(lane).is_aside {
            return Ok(None);
        }
        // Ends within a ring, whatever a hostile peer writes: `peek` refuses what
        // lies beyond.
        loop {
            match self.peek(lane)? {
                Some(mark) if mark.kind == Kind::End => {
                    if !self.get(lane).is_followed(&mark) {
                        return Ok(None);
                    }
                    self.advance(&mark);
                }
                found => return Ok(found),
            }
        }
    }

    /// The lane, which the next commit writes.
    #[inline(always)]
    pub(super) fn touch(&mut self, lane: u32) -> &mut Cursor<M> {
        let cursor = &mut self.cursors[lane as usize];
        cursor.touch(lane, &mut self.touched);
        cursor
    }

    /// Copies the next message of the lane to `buffer` and steps over it, if it
    /// is there, and fits there; else nothing is done.
    #[inline(always)]
    pub(super) fn take(&mut self, lane: u32, buffer: &mut [u8]) -> Option<Record> {
        let cursor = self.cursors.get_mut(lane as usize)?;
        let message = cursor.take(lane, buffer)?;
        cursor.touch(lane, &mut self.touched);
        Some(message)
    }

    #[inline]
    pub(super) fn advance(&mut self, record: &Record) {
        let cursor = self.touch(record.lane);
        match record.kind {
            Kind::Data => cursor.advance(record, 1),
            Kind::Gap => {
                let dropped = cursor.gap(record);
                cursor.advance(record, dropped);
            }
            Kind::End => {
                cursor.advance(record, 0);
                self.ends = self.ends.wrapping_add(1);
            }
        }
    }
}
