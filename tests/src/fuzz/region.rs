//! A region, and producers and a consumer at work in it through the public door,
//! while words of the file are overwritten between any two of their calls.

use std::io::Write;
use std::time::{Duration, Instant};

use arbitrary::{Arbitrary, Result, Unstructured};
use shmring::{
    AttachError, Cause, Consumer, Flags, OpenError, Producer, ProducerOptions, Read, ReadError, Region,
    RemoveError, SendError, Status, StreamId,
};

use super::image::{Damage, Image};
use super::{MEMORY, Outcome, peak};

/// What an input may do at most.
const STEPS: usize = 80;
/// Producers at a time, in more than the lanes that there are.
const PRODUCERS: usize = 4;
/// Deaths and ends that are listened to in a row: one word tells of millions.
const PATIENCE: u64 = 32;
/// Longer than any message.
const MOST: usize = 66_000;
const TURN: usize = 251;

/// A region image with its damages, and a list of operations.
pub fn region(bytes: &[u8]) -> Outcome {
    let mut input = Unstructured::new(bytes);
    let Ok((image, region)) = Image::create(&mut input) else { return Outcome::default() };
    let mut world = World::new(&image, region, false);
    let (most, outcome) = peak(|| world.live(&mut input));
    assert!(most <= MEMORY, "{most} bytes");
    outcome
}

/// Bytes to cut payloads from.
static PATTERN: [u8; MOST + TURN] = {
    let mut bytes = [0; MOST + TURN];
    let mut at = 0;
    while at < bytes.len() {
        bytes[at] = (at % TURN) as u8;
        at += 1;
    }
    bytes
};

/// The payload of a message, told by its sequence.
fn payload(sequence: u64, len: usize) -> &'static [u8] {
    &PATTERN[sequence as usize % TURN..][..len]
}

/// Everybody who has to do with the region.
pub(super) struct World<'a> {
    image: &'a Image,
    region: Option<Region>,
    producers: Vec<Producer>,
    consumer: Option<Consumer>,
    /// Something was overwritten: before that nothing is damaged.
    is_hurt: bool,
    /// Words change while this works.
    is_stormy: bool,
    is_removed: bool,
    outcome: Outcome,
}

impl<'a> World<'a> {
    pub(super) fn new(image: &'a Image, region: Region, is_stormy: bool) -> World<'a> {
        World {
            image,
            region: Some(region),
            producers: Vec::new(),
            consumer: None,
            is_hurt: is_stormy,
            is_stormy,
            is_removed: false,
            outcome: Outcome::default(),
        }
    }

    /// Does what the input says, then reads what is left. Whose bytes end early
    /// does less.
    pub(super) fn live(&mut self, input: &mut Unstructured) -> Outcome {
        for _ in 0..STEPS {
            if input.is_empty() || self.step(input).is_err() {
                break;
            }
        }
        self.attach_consumer();
        self.drain(u64::MAX);
        self.producers.clear();
        self.drain(u64::MAX);
        self.consumer = None;
        self.region = None;
        self.outcome
    }

    fn step(&mut self, input: &mut Unstructured) -> Result<()> {
        match input.int_in_range(0..=23)? {
            0..=3 => self.hurt(input)?,
            4 | 5 => self.attach_producer(input)?,
            6..=11 => self.produce(input)?,
            12 | 13 => self.attach_consumer(),
            14..=17 => {
                let most = u64::from(input.int_in_range(1..=40u8)?);
                self.drain(if most == 40 { u64::MAX } else { most });
            }
            18 => self.read_waiting(input.int_in_range(1..=70)?),
            19 => self.commit(input)?,
            20 => self.look_around(),
            21 => self.leave(input)?,
            22 => self.look(),
            _ => self.reopen(input)?,
        }
        Ok(())
    }

    fn hurt(&mut self, input: &mut Unstructured) -> Result<()> {
        self.is_hurt = true;
        let len = self.image.geometry.file_len();
        match input.int_in_range(0..=15)? {
            // Without the guard the kernel ends the process.
            0 if self.image.is_guarded && !self.is_stormy => self.image.cut(input.int_in_range(0..=len)?),
            1 => self.image.punch(input.int_in_range(0..=len - 1)? & !4095, 8192),
            2 if !self.is_stormy => self.image.cut(len),
            _ => self.image.damage(&Damage::arbitrary(input)?),
        }
        Ok(())
    }

    fn attach_producer(&mut self, input: &mut Unstructured) -> Result<()> {
        let mut options = ProducerOptions::new();
        match input.int_in_range(0..=7)? {
            0 => options = options.name("a"),
            1 => options = options.name("b").source(StreamId([1, 2, 3, 4])),
            2 => options = options.source(StreamId(input.arbitrary()?)),
            3 => options = options.name(input.arbitrary::<&str>()?),
            _ => {}
        }
        let Some(region) = &self.region else { return Ok(()) };
        if self.producers.len() < PRODUCERS {
            match region.producer_with(&options) {
                Ok(producer) => {
                    assert!(producer.lane() < region.max_producers());
                    self.producers.push(producer);
                }
                Err(error) => self.note_attach(&error),
            }
        }
        Ok(())
    }

    fn attach_consumer(&mut self) {
        let Some(region) = &self.region else { return };
        match region.consumer() {
            Ok(consumer) => self.consumer = Some(consumer),
            Err(error) => self.note_attach(&error),
        }
    }

    fn produce(&mut self, input: &mut Unstructured) -> Result<()> {
        // Once from the head that it knows on, and once from one that somebody moved.
        let most = 2 * self.image.geometry.capacity() / self.image.geometry.record_align();
        let Some(producer) = pick(&mut self.producers, input)? else { return Ok(()) };
        let len = match input.int_in_range(0..=7)? {
            0 => producer.max_message() + input.int_in_range(0..=1)?,
            1 => input.int_in_range(0..=MOST)?,
            2 => input.int_in_range(0..=8000)?,
            _ => input.int_in_range(0..=200)?,
        };
        let bytes = payload(producer.sequence(), len);
        let now = Some(Instant::now());
        let sent = match input.int_in_range(0..=10)? {
            0 => {
                // Small ones, until the ring is full.
                let mut sent = Ok(());
                for count in 0.. {
                    sent = producer.try_send(payload(producer.sequence(), len.min(20)));
                    // Whoever takes the consumer's part makes room for ever.
                    if sent.is_err() || (self.is_stormy && count > most) {
                        break;
                    }
                    assert!(count <= most, "more than the ring can hold");
                }
                sent
            }
            1 => {
                let written = input.int_in_range(0..=len)?;
                producer.try_reserve(len).map(|mut grant| {
                    grant.write_all(&bytes[..written]).expect("it was reserved");
                    assert_eq!((grant.len(), grant.remaining()), (written, len - written));
                    if len % 8 != 0 {
                        grant.commit();
                    }
                })
            }
            2 | 3 => push(producer, len, input)?,
            4 => producer.drop_message(*input.choose(&Cause::ALL)?),
            5 => producer.send_or_drop(bytes, Flags::UNTERMINATED, now.filter(|_| len % 2 == 0)).map(drop),
            6 => producer.send_timeout(bytes, Duration::ZERO),
            7 => producer.reserve_deadline(len, now).map(drop),
            8 => producer.check_region(),
            _ => producer.try_send(bytes),
        };
        let (sent_so_far, dropped) = (producer.sent(), producer.dropped(Cause::Full));
        assert!(self.is_hurt || sent_so_far.messages + dropped <= producer.sequence());
        if let Err(error) = sent {
            self.note_send(&error);
        }
        Ok(())
    }

    /// Reads up to so many, without committing: no more than the rings can hold.
    fn drain(&mut self, most: u64) {
        let Some(mut consumer) = self.consumer.take() else { return };
        let (mut records, mut told, mut errors) = (0, 0, 0);
        while records < most && told < PATIENCE && errors <= self.image.geometry.lane_count() {
            let read = consumer.try_read();
            match read {
                Ok(Read::Empty) => break,
                Ok(Read::Message(_) | Read::Gap(_)) => records += 1,
                Ok(Read::Died(_) | Read::End) => told += 1,
                Err(_) => errors += 1,
            }
            self.note_read(read);
            assert!(records <= self.image.records(), "more than the rings can hold");
        }
        if most == u64::MAX {
            let available = consumer.available().take(self.image.records() as usize + 1);
            assert!(available.filter(|message| message.is_ok()).count() as u64 <= self.image.records());
        }
        let held = u64::from(self.image.geometry.lane_count()) * self.image.geometry.capacity();
        assert!(consumer.uncommitted() <= held);
        self.consumer = Some(consumer);
    }

    /// Reads as those do who wait, more than one lane's turn perhaps; waits in vain
    /// once at most.
    fn read_waiting(&mut self, most: u8) {
        let Some(mut consumer) = self.consumer.take() else { return };
        for _ in 0..most {
            let read = consumer.read_timeout(Duration::ZERO);
            let is_last = !matches!(read, Ok(Read::Message(_) | Read::Gap(_)));
            self.note_read(read);
            if is_last {
                break;
            }
        }
        self.consumer = Some(consumer);
    }

    fn note_read(&mut self, read: std::result::Result<Read<'_>, ReadError>) {
        let name = |name: Option<&str>, lane: u32| {
            assert!(lane < self.image.geometry.lane_count());
            assert!(name.is_none_or(|name| name.len() <= 32 && name.bytes().all(|b| b.is_ascii_graphic())));
        };
        match read {
            Ok(Read::Message(message)) => {
                name(message.name, message.lane);
                let len = message.payload.len();
                assert!(len as u64 <= self.image.geometry.capacity());
                // A grant says less than it announced, and so what a sequence tells is a beginning.
                assert!(self.is_hurt || message.payload == payload(message.sequence, len));
                self.outcome.arrived += 1;
            }
            Ok(Read::Gap(gap)) => {
                name(gap.name, gap.lane);
                assert!(self.is_hurt || gap.count > 0);
                self.outcome.told += 1;
            }
            Ok(Read::Died(death)) => {
                name(death.name.as_deref(), death.lane);
                let command = death.producer.as_ref().map_or("", |owner| &owner.command);
                assert!(command.bytes().all(|b| (b' '..=b'~').contains(&b)));
                self.outcome.told += 1;
            }
            Ok(Read::End) => self.outcome.told += 1,
            Ok(Read::Empty) => {}
            Err(error) => self.note_read_error(&error),
        }
    }

    fn commit(&mut self, input: &mut Unstructured) -> Result<()> {
        let Some(consumer) = &mut self.consumer else { return Ok(()) };
        consumer.commit();
        assert_eq!(consumer.uncommitted(), 0);
        match input.int_in_range(0..=3)? {
            0 => {
                let bound = consumer.bind_sink(StreamId(input.arbitrary()?));
                consumer.commit_at(input.arbitrary()?);
                bound.err().iter().for_each(|error| self.note_read_error(error));
            }
            1 => consumer.expect_streams(input.arbitrary()?),
            _ => {}
        }
        Ok(())
    }

    fn look_around(&mut self) {
        let Some(consumer) = &mut self.consumer else { return };
        let (checked, found) = (consumer.check_producers(), consumer.check_region());
        if let Ok(attached) = checked {
            assert!(attached <= self.image.geometry.lane_count());
        }
        [checked.err(), found.err()].iter().flatten().for_each(|error| self.note_read_error(error));
    }

    /// Somebody goes: closes, dies, or just stops reading.
    fn leave(&mut self, input: &mut Unstructured) -> Result<()> {
        if input.ratio(1, 3)? {
            self.consumer = None;
        } else if !self.producers.is_empty() {
            let producer = self.producers.swap_remove(input.choose_index(self.producers.len())?);
            if input.arbitrary()? { producer.close() } else { producer.abandon() }
        }
        Ok(())
    }

    /// Looks from outside.
    fn look(&mut self) {
        match Status::of(self.image.path()) {
            Ok(status) => {
                assert!(status.lanes.len() <= status.max_producers as usize);
                assert!(!format!("{status:?}").is_empty());
            }
            Err(error) => self.note_open(&error),
        }
    }

    /// Opens the region anew, or removes it.
    fn reopen(&mut self, input: &mut Unstructured) -> Result<()> {
        let path = self.image.path();
        if input.ratio(1, 4)? {
            match Region::remove(&path) {
                Ok(()) => self.is_removed = true,
                Err(RemoveError::InUse { users, .. }) => assert!(self.is_hurt || !users.is_empty()),
                Err(RemoveError::NotFound { .. }) => assert!(self.is_removed),
                Err(error) => assert!(self.is_hurt, "{error}"),
            }
            self.outcome.refused += 1;
        } else {
            match self.image.options.open(&path) {
                Ok(region) => self.region = Some(region),
                Err(error) => self.note_open(&error),
            }
        }
        Ok(())
    }

    fn note(&mut self, error: &dyn std::error::Error, is_damage: bool) {
        assert!(!error.to_string().is_empty());
        if is_damage {
            assert!(self.is_hurt, "nothing was changed: {error}");
            self.outcome.damaged += 1;
        } else {
            self.outcome.refused += 1;
        }
    }

    fn note_open(&mut self, error: &OpenError) {
        let missing = matches!(error, OpenError::NotFound { .. });
        assert!(!missing || self.is_removed);
        self.note(error, !missing);
    }

    fn note_attach(&mut self, error: &AttachError) {
        use AttachError::{Busy, Name, NoLane, OtherSource, Removed};
        let usual = match error {
            Busy { .. } | NoLane { .. } | Name { .. } | OtherSource { .. } => true,
            Removed => self.is_removed,
            _ => false,
        };
        self.note(error, !usual);
    }

    fn note_send(&mut self, error: &SendError) {
        use SendError::{Full, TimedOut, TooLarge};
        self.note(error, !matches!(error, Full | TooLarge { .. } | TimedOut));
    }

    fn note_read_error(&mut self, error: &ReadError) {
        use ReadError::{TimedOut, Uncommitted};
        self.note(error, !matches!(error, TimedOut | Uncommitted { .. }));
    }
}

fn pick<'a, T>(things: &'a mut [T], input: &mut Unstructured) -> Result<Option<&'a mut T>> {
    if things.is_empty() {
        return Ok(None);
    }
    let at = input.choose_index(things.len())?;
    Ok(Some(&mut things[at]))
}

/// A batch: published, or not.
fn push(
    producer: &mut Producer,
    len: usize,
    input: &mut Unstructured,
) -> Result<std::result::Result<(), SendError>> {
    let first = producer.sequence();
    let mut batch = producer.batch();
    let mut sequence = first;
    for _ in 0..input.int_in_range(1..=8)? {
        let pushed = match input.int_in_range(0..=7)? {
            0 => batch.drop_message(Cause::Full),
            1 => batch.push(payload(sequence, len), Flags::NONE, Some(Instant::now())),
            _ => batch.try_push(payload(sequence, len)),
        };
        if pushed.is_err() {
            return Ok(pushed);
        }
        sequence = sequence.wrapping_add(1);
    }
    assert!(batch.len() <= 8 && (len > 0 || !batch.is_empty() || sequence != first));
    if !input.ratio(1, 4)? {
        batch.publish();
    }
    Ok(Ok(()))
}
