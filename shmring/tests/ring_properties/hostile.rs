//! Bytes that nobody of good will wrote: damaged control words, random images,
//! a peer that overwrites words while owners work. Each ends in a typed fault
//! or in messages, never in a panic or an endless walk.

use super::*;

/// Counts header loads, so that no damage makes an owner walk for ever.
struct Counted<'a> {
    heap: &'a Heap,
    headers: Cell<u64>,
}

impl<'a> Counted<'a> {
    fn new(heap: &'a Heap) -> Counted<'a> {
        Counted { heap, headers: Cell::new(0) }
    }

    /// As many records as the ring can hold, and the zero after them.
    fn check_walk(&self, shape: Shape) {
        assert!(self.headers.take() <= shape.capacity / shape.align + 1);
    }
}

impl Memory for Counted<'_> {
    fn load(&self, word: Word) -> u64 {
        self.heap.load(word)
    }

    fn load_acquire(&self, word: Word) -> u64 {
        self.heap.load_acquire(word)
    }

    fn store(&self, word: Word, value: u64) {
        self.heap.store(word, value);
    }

    fn store_release(&self, word: Word, value: u64) {
        self.heap.store_release(word, value);
    }

    fn replace(&self, word: Word, current: u64, new: u64) -> bool {
        self.heap.replace(word, current, new)
    }

    fn header_acquire(&self, position: u64) -> u64 {
        self.headers.set(self.headers.get() + 1);
        self.heap.header_acquire(position)
    }

    fn store_header(&self, position: u64, value: u64) {
        self.heap.store_header(position, value);
    }

    fn store_header_release(&self, position: u64, value: u64) {
        self.heap.store_header_release(position, value);
    }

    fn write(&self, position: u64, bytes: &[u8]) {
        self.heap.write(position, bytes);
    }

    fn read(&self, position: u64, bytes: &mut [u8]) {
        self.heap.read(position, bytes);
    }

    fn keep_program_order(&self) {
        self.heap.keep_program_order();
    }
}

/// Reads until there is nothing or damage; every length is one that fits.
fn read_all(reader: &mut Reader<&Counted>, shape: Shape) {
    let limit = shape.capacity / shape.align;
    for steps in 0.. {
        assert!(steps <= limit, "more records than the ring can hold");
        let Ok(Some(record)) = reader.peek() else {
            break;
        };
        assert!(record.len as u64 <= shape.max_used() - HEADER_BYTES);
        bytes_of(reader, &record);
        reader.advance(&record);
        assert!(reader.uncommitted() <= shape.max_used());
    }
    reader.commit();
}

fn write_some(writer: &mut Writer<&Counted>, shape: Shape) {
    for len in [0, 1, shape.max_len() as usize / 3, shape.max_len() as usize] {
        if writer.claim(len).is_ok() {
            writer.write(0, &payload(0, len));
            writer.stage(0, len);
        }
        writer.head_wanted(len);
    }
    writer.publish();
    let _ = writer.end();
}

/// Whatever the lane holds, both owners start, work and go, or say why not.
fn work_on(heap: &Heap, shape: Shape) {
    let counted = Counted::new(heap);
    for _ in 0..2 {
        let writer = Writer::take_over(&counted, shape);
        counted.check_walk(shape);
        if let Ok(mut writer) = writer {
            write_some(&mut writer, shape);
        }
        if let Ok(mut reader) = Reader::take_over(&counted, shape) {
            read_all(&mut reader, shape);
            read_all(&mut reader, shape);
        }
        counted.headers.set(0);
    }
}

/// Words that get further than random ones: small, near a wrap, headers of
/// zero-length messages, lengths around the capacity.
fn evil_word() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        Just(0),
        Just(u64::MAX),
        0u64..5000,
        (0u64..5000).prop_map(|n| n * 8),
        (0u64..5000).prop_map(|n| 0u64.wrapping_sub(n)),
        (0u64..70, 0u64..4, 0u64..300).prop_map(|(s, kind, len)| s << 40 | kind << 32 | (len + 1)),
        (any::<u32>(), 0u64..70).prop_map(|(len, s)| s << 40 | len as u64),
    ]
}

fn bytes(words: Vec<u64>) -> Vec<u8> {
    words.into_iter().flat_map(u64::to_le_bytes).collect()
}

fn image(shape: Shape) -> impl Strategy<Value = (Shape, Vec<u64>, Vec<u64>)> {
    let control = vec(prop_oneof![2 => Just(0), 1 => evil_word()], lane::STRIDE / 8);
    let data = vec(prop_oneof![1 => Just(0), 3 => evil_word()], shape.capacity as usize / 8);
    (Just(shape), control, data)
}

/// What a hostile peer overwrites.
#[derive(Debug, Clone, Copy)]
enum Flip {
    Control(usize, u64),
    Bit(usize, u32),
    Data(u64, u64),
    DataBit(u64, u32),
}

fn flip() -> impl Strategy<Value = Flip> {
    let word = 0..Word::ALL.len();
    prop_oneof![
        (word.clone(), evil_word()).prop_map(|(word, value)| Flip::Control(word, value)),
        (word, 0u32..64).prop_map(|(word, bit)| Flip::Bit(word, bit)),
        (0u64..512, evil_word()).prop_map(|(at, value)| Flip::Data(at * 8, value)),
        (0u64..512, 0u32..64).prop_map(|(at, bit)| Flip::DataBit(at * 8, bit)),
    ]
}

fn overwrite(heap: &Heap, flip: Flip) {
    match flip {
        Flip::Control(word, value) => heap.store(Word::ALL[word], value),
        Flip::Bit(word, bit) => heap.store(Word::ALL[word], heap.load(Word::ALL[word]) ^ 1 << bit),
        Flip::Data(at, value) => heap.store_header(at, value),
        Flip::DataBit(at, bit) => heap.store_header(at, heap.header_acquire(at) ^ 1 << bit),
    }
}

/// Something that happens while owners work.
#[derive(Debug, Clone)]
enum Event {
    Write(usize),
    Read,
    Commit,
    Flip(Flip),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (0usize..60).prop_map(Event::Write),
        3 => Just(Event::Read),
        1 => Just(Event::Commit),
        2 => flip().prop_map(Event::Flip),
    ]
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn any_bytes_are_refused_or_worked_on(
        (shape, control, data) in start().prop_flat_map(|start| image(start.shape)),
    ) {
        work_on(&Heap::from_image(&bytes(control), &bytes(data)), shape);
    }
}

proptest! {
    #![proptest_config(config(1000))]

    #[test]
    fn a_damaged_lane_is_refused_or_worked_on(
        start in start(),
        ops in vec(op(), 1..60),
        flips in vec(flip(), 1..5),
    ) {
        let heap = Heap::new(start.shape, start.position, start.sequence);
        let mut pair = Pair::new(&heap, start);
        ops.into_iter().for_each(|op| pair.apply(op));
        flips.into_iter().for_each(|flip| overwrite(&heap, flip));
        work_on(&heap, start.shape);
    }

    #[test]
    fn a_peer_may_overwrite_anything_at_any_time(start in start(), events in vec(event(), 1..120)) {
        let shape = start.shape;
        let heap = Heap::new(shape, start.position, start.sequence);
        let counted = Counted::new(&heap);
        let mut writer = Writer::take_over(&counted, shape).unwrap();
        let mut reader = Reader::take_over(&counted, shape).unwrap();
        for event in events {
            match event {
                Event::Write(len) => {
                    if writer.claim(len).is_ok() {
                        writer.write(0, &payload(0, len));
                        writer.stage(0, len);
                        writer.publish();
                    }
                }
                Event::Read => {
                    if let Ok(Some(record)) = reader.peek() {
                        bytes_of(&reader, &record);
                        reader.advance(&record);
                    }
                    assert!(reader.uncommitted() <= shape.max_used());
                }
                Event::Commit => reader.commit(),
                Event::Flip(flip) => overwrite(&heap, flip),
            }
        }
        read_all(&mut reader, shape);
        let _ = writer.end();
    }
}

/// A lane of 16 records of 16 bytes, the first at 0 and with sequence 5; 6
/// messages of 8 bytes are sent, 2 are read and committed.
fn used_lane() -> (Heap, Shape) {
    let shape = Shape { capacity: 256, align: 16 };
    let heap = Heap::new(shape, 0, 5);
    let mut writer = Writer::take_over(&heap, shape).unwrap();
    let mut reader = Reader::take_over(&heap, shape).unwrap();
    for _ in 0..6 {
        writer.claim(8).unwrap();
        writer.stage(0, 8);
        writer.publish();
    }
    writer.check_point();
    for _ in 0..2 {
        let record = reader.peek().unwrap().unwrap();
        reader.advance(&record);
    }
    reader.commit();
    (heap, shape)
}

/// The fault that a new owner, or its first look, finds in a used lane.
fn fault_of<T>(damage: impl Fn(&Heap), look: impl Fn(&Heap, Shape) -> Result<T, Corrupt>) -> Option<Fault> {
    let (heap, shape) = used_lane();
    damage(&heap);
    look(&heap, shape).err().map(|corrupt| corrupt.fault)
}

fn new_writer(heap: &Heap, shape: Shape) -> Result<(), Corrupt> {
    Writer::take_over(heap, shape).map(drop)
}

fn new_reader(heap: &Heap, shape: Shape) -> Result<(), Corrupt> {
    Reader::take_over(heap, shape)?.peek().map(drop)
}

/// The generations are the ones that `used_lane` leaves: what is damaged has
/// to be the slot that counts.
fn set(word: fn(Slot) -> Word, generation: Word, value: u64) -> impl Fn(&Heap) {
    move |heap| heap.store(word(Slot::of(heap.load(generation))), value)
}

#[test]
fn a_new_producer_names_what_is_impossible() {
    let header = |word: u64| move |heap: &Heap| heap.store_header(96, word);
    let tail = |value| set(Word::CheckTail, Word::CheckGeneration, value);
    let head = |value: u64| move |heap: &Heap| heap.store(Word::Head, value);
    assert_eq!(fault_of(|_| {}, new_writer), None);
    assert_eq!(fault_of(tail(8), new_writer), Some(Fault::Position));
    assert_eq!(fault_of(head(96), new_writer), None, "all is read");
    assert_eq!(fault_of(head(112), new_writer), Some(Fault::Head), "beyond the tail");
    assert_eq!(fault_of(head(96u64.wrapping_sub(256)), new_writer), Some(Fault::Head), "more than a ring");
    assert_eq!(fault_of(header(11 << 40 | 9), new_writer), None, "a seventh message");
    assert_eq!(fault_of(header(11 << 40 | 0xF << 32 | 9), new_writer), Some(Fault::Header));
    assert_eq!(fault_of(header(12 << 40 | 9), new_writer), Some(Fault::Sequence));
    assert_eq!(fault_of(header(11 << 40 | 249), new_writer), Some(Fault::Length));
}

#[test]
fn a_new_consumer_names_what_is_impossible() {
    let header = |word: u64| move |heap: &Heap| heap.store_header(32, word);
    let head = |value| set(Word::HeadPosition, Word::HeadGeneration, value);
    assert_eq!(fault_of(|_| {}, new_reader), None);
    assert_eq!(fault_of(head(40), new_reader), Some(Fault::Position));
    assert_eq!(fault_of(head(16), new_reader), Some(Fault::Head), "back");
    assert_eq!(fault_of(head(32 + 256), new_reader), Some(Fault::Head), "more than a ring");
    assert_eq!(fault_of(header(7 << 40 | 0xF << 32 | 9), new_reader), Some(Fault::Header));
    assert_eq!(fault_of(header(8 << 40 | 9), new_reader), Some(Fault::Sequence));
    assert_eq!(fault_of(header(7 << 40 | 249), new_reader), Some(Fault::Length));
}

/// The head that a working producer loads lies between the last one and its tail.
#[test]
fn a_producer_names_an_impossible_head() {
    let claim = |head: u64| {
        let (heap, shape) = used_lane();
        let mut writer = Writer::take_over(&heap, shape).unwrap();
        heap.store(Word::Head, head);
        writer.claim(shape.max_len() as usize)
    };
    let is_refused = |head| matches!(claim(head), Err(Claim::Corrupt(Corrupt { fault: Fault::Head, .. })));
    assert_eq!(claim(32), Err(Claim::Full));
    assert_eq!(claim(96), Ok(()), "all is read");
    assert!(is_refused(16), "back");
    assert!(is_refused(112), "beyond the tail");
    assert!(is_refused(u64::MAX));
}

/// End marks take no sequence: a ring full of them has no end.
#[test]
fn nobody_walks_for_ever() {
    for align in [8, 16, 64] {
        let shape = Shape { capacity: 256, align };
        let heap = Heap::new(shape, 0, 5);
        (0..256).step_by(8).for_each(|at| heap.store_header(at, 5 << 40 | 1 << 32 | 1));
        let counted = Counted::new(&heap);
        let walked = Writer::take_over(&counted, shape).map(drop);
        assert!(matches!(walked, Err(Corrupt { fault: Fault::Length, .. })));
        counted.check_walk(shape);
        let mut reader = Reader::take_over(&counted, shape).unwrap();
        read_all(&mut reader, shape);
        counted.check_walk(shape);
    }
}
