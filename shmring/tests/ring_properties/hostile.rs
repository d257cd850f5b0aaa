//! Bytes that nobody of good will wrote: damaged control words, random images,
//! a peer that overwrites words while owners work. Each ends in a typed fault
//! or in messages, never in a panic or an endless walk.

use super::*;

/// Counts header loads, so that no damage makes an owner walk for ever.
pub(super) struct Counted<'a> {
    heap: &'a Heap,
    pub(super) headers: Cell<u64>,
}

impl<'a> Counted<'a> {
    pub(super) fn new(heap: &'a Heap) -> Counted<'a> {
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

    fn add(&self, word: Word, value: u64) -> u64 {
        self.heap.add(word, value)
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

/// The consumer of all lanes: damaged ones are set aside, as it would.
pub(super) fn new_reader<'a>(lanes: &'a [Counted<'a>], shape: Shape) -> Reader<&'a Counted<'a>> {
    let mut reader = Reader::take_over(&&lanes[0], shape, lanes.len());
    for (index, lane) in lanes.iter().enumerate() {
        if let Err(broken) = reader.add(lane) {
            assert_eq!(broken.lane, index as u32);
        }
        assert_eq!(reader.lane_count(), index as u32 + 1);
    }
    reader
}

/// Takes the next record, if there is one; every length is one that fits.
fn read(reader: &mut Reader<&Counted>, shape: Shape) -> Result<bool, Broken> {
    let mut buffer = [0; 40];
    if let Some(record) = take(reader, &mut buffer, true) {
        assert!(record.kind == Kind::Data && record.len <= buffer.len());
        assert!(reader.lane(record.lane).uncommitted() <= shape.max_used());
        return Ok(true);
    }
    let Some(record) = find(reader)? else {
        return Ok(false);
    };
    assert!(record.kind != Kind::End && record.len as u64 <= shape.max_used() - shape.before_payload());
    bytes_of(reader, &record);
    if record.kind == Kind::Gap {
        reader.gap(&record);
    }
    reader.advance(&record);
    for lane in 0..reader.lane_count() {
        assert!(reader.lane(lane).uncommitted() <= shape.max_used());
    }
    Ok(true)
}

/// Reads until there is nothing. Each lane is set aside once at most.
fn read_all(reader: &mut Reader<&Counted>, shape: Shape) {
    let lanes = reader.lane_count();
    let mut aside = Vec::new();
    for steps in 0.. {
        assert!(steps <= lanes as u64 * (shape.capacity / shape.align + 1), "more than the ring can hold");
        match read(reader, shape) {
            Ok(true) => {}
            Ok(false) => break,
            Err(broken) => {
                assert!(!reader.lane(broken.lane).is_aside() && !aside.contains(&broken.lane));
                aside.push(broken.lane);
                reader.set_aside(broken.lane);
            }
        }
    }
    // What the end of all does.
    for lane in (0..lanes).filter(|lane| !aside.contains(lane)) {
        if let Ok(Some(mark)) = reader.peek_lane(lane) {
            reader.lane(lane).is_followed(&mark);
            reader.lane(lane).is_attached_behind(&mark);
        }
        reader.lane(lane).untold_drops();
    }
    reader.commit();
}

fn write_some(writer: &mut Writer<&Counted>, shape: Shape) {
    for len in [0, 1, shape.max_len() as usize / 3, shape.max_len() as usize] {
        writer.send(0, &payload(0, len));
        let _ = writer.publish_gap(len);
        if writer.claim(len).is_ok() {
            writer.write(0, &payload(0, len));
            writer.stage(0, len);
        }
        writer.head_wanted(len);
    }
    writer.publish();
    writer.drop_message(Cause::Full);
    let _ = writer.end();
}

/// Whatever the lanes hold, all owners start, work and go, or say why not.
fn work_on(heaps: &[Heap], shape: Shape) {
    let lanes: Vec<_> = heaps.iter().map(Counted::new).collect();
    for _ in 0..2 {
        for lane in &lanes {
            let writer = Writer::take_over(lane, shape);
            lane.check_walk(shape);
            if let Ok(mut writer) = writer {
                write_some(&mut writer, shape);
            }
            lane.headers.set(0);
        }
        let mut reader = new_reader(&lanes, shape);
        read_all(&mut reader, shape);
        read_all(&mut reader, shape);
        // Every lane is looked at, and every record a few times.
        for lane in &lanes {
            assert!(lane.headers.take() <= 8 * (heaps.len() as u64 + 1) * (shape.capacity / shape.align + 4));
        }
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
        (0u64..70).prop_map(|s| s << 40 | 2 << 32 | 9),
        (any::<u32>(), 0u64..70).prop_map(|(len, s)| s << 40 | len as u64),
    ]
}

fn bytes(words: Vec<u64>) -> Vec<u8> {
    words.into_iter().flat_map(u64::to_le_bytes).collect()
}

/// The bytes of a region's block, a lane's and its data.
fn image(shape: Shape) -> impl Strategy<Value = (Shape, [Vec<u64>; 3])> {
    let region = vec(prop_oneof![2 => Just(0), 1 => evil_word()], control::LEN / 8);
    let control = vec(prop_oneof![2 => Just(0), 1 => evil_word()], lane::STRIDE / 8);
    let data = vec(prop_oneof![1 => Just(0), 3 => evil_word()], shape.capacity as usize / 8);
    (Just(shape), region, control, data)
        .prop_map(|(shape, region, control, data)| (shape, [region, control, data]))
}

/// What a hostile peer overwrites in one lane or in the region's words.
#[derive(Debug, Clone, Copy)]
struct Flip {
    lane: u8,
    what: What,
}

#[derive(Debug, Clone, Copy)]
enum What {
    Control(usize, u64),
    Bit(usize, u32),
    Data(u64, u64),
    DataBit(u64, u32),
}

fn flip() -> impl Strategy<Value = Flip> {
    let word = 0..Word::ALL.len();
    let what = prop_oneof![
        (word.clone(), evil_word()).prop_map(|(word, value)| What::Control(word, value)),
        (word, 0u32..64).prop_map(|(word, bit)| What::Bit(word, bit)),
        (0u64..512, evil_word()).prop_map(|(at, value)| What::Data(at * 8, value)),
        (0u64..512, 0u32..64).prop_map(|(at, bit)| What::DataBit(at * 8, bit)),
    ];
    (0u8..4, what).prop_map(|(lane, what)| Flip { lane, what })
}

fn overwrite(heaps: &[Heap], flip: Flip) {
    let heap = &heaps[flip.lane as usize % heaps.len()];
    match flip.what {
        What::Control(word, value) => heap.store(Word::ALL[word], value),
        What::Bit(word, bit) => heap.store(Word::ALL[word], heap.load(Word::ALL[word]) ^ 1 << bit),
        What::Data(at, value) => heap.store_header(at, value),
        What::DataBit(at, bit) => heap.store_header(at, heap.header_acquire(at) ^ 1 << bit),
    }
}

/// Something that happens while owners work.
#[derive(Debug, Clone)]
enum Event {
    Write {
        lane: u8,
        len: usize,
    },
    /// Publishes a batch made while headers may be overwritten.
    Stage {
        lane: u8,
        len: usize,
    },
    Publish {
        lane: u8,
    },
    Drop {
        lane: u8,
    },
    Read,
    Commit,
    Flip(Flip),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (0u8..4, 0usize..60).prop_map(|(lane, len)| Event::Write { lane, len }),
        2 => (0u8..4, 0usize..60).prop_map(|(lane, len)| Event::Stage { lane, len }),
        1 => (0u8..4).prop_map(|lane| Event::Publish { lane }),
        1 => (0u8..4).prop_map(|lane| Event::Drop { lane }),
        4 => Just(Event::Read),
        1 => Just(Event::Commit),
        2 => flip().prop_map(Event::Flip),
    ]
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn any_bytes_are_refused_or_worked_on(
        (shape, [region, control, data]) in start().prop_flat_map(|start| image(start.shape)),
        flips in vec(flip(), 0..20),
    ) {
        let first = Heap::from_image(&bytes(region), &bytes(control), &bytes(data));
        let second = first.beside(0, 5);
        let heaps = [first, second];
        flips.into_iter().for_each(|flip| overwrite(&heaps, flip));
        work_on(&heaps, shape);
    }
}

proptest! {
    #![proptest_config(config(1000))]

    #[test]
    fn a_damaged_region_is_refused_or_worked_on(
        start in start(),
        ops in vec(op(), 1..80),
        flips in vec(flip(), 1..8),
    ) {
        let heaps = start.heaps();
        let mut group = Group::new(&heaps, start);
        ops.into_iter().for_each(|op| group.apply(op));
        flips.into_iter().for_each(|flip| overwrite(&heaps, flip));
        work_on(&heaps, start.shape);
    }

    #[test]
    fn a_peer_may_overwrite_anything_at_any_time(start in start(), events in vec(event(), 1..160)) {
        let (shape, heaps) = (start.shape, start.heaps());
        let lanes: Vec<_> = heaps.iter().map(Counted::new).collect();
        let mut writers: Vec<_> = lanes.iter().map(|lane| Writer::take_over(lane, shape).unwrap()).collect();
        let mut reader = new_reader(&lanes, shape);
        let stage = |writer: &mut Writer<_>, len| {
            if writer.claim(len).is_ok() {
                writer.write(0, &payload(0, len));
                writer.stage(0, len);
            }
        };
        for event in events {
            match event {
                Event::Write { lane, len } => {
                    let writer = &mut writers[lane as usize % heaps.len()];
                    if writer.send(0, &payload(0, len)) {
                        continue;
                    }
                    let _ = writer.publish_gap(len);
                    stage(writer, len);
                    writer.publish();
                }
                Event::Stage { lane, len } => stage(&mut writers[lane as usize % heaps.len()], len),
                Event::Publish { lane } => writers[lane as usize % heaps.len()].publish(),
                Event::Drop { lane } => writers[lane as usize % heaps.len()].drop_message(Cause::Deadline),
                Event::Read => {
                    if let Err(broken) = read(&mut reader, shape) {
                        reader.set_aside(broken.lane);
                    }
                }
                Event::Commit => drop(reader.commit()),
                Event::Flip(flip) => overwrite(&heaps, flip),
            }
        }
        read_all(&mut reader, shape);
        for writer in &mut writers {
            let _ = writer.end();
        }
    }
}

/// A lane of 16 records of 16 bytes, the first at 0 and with sequence 5; 6
/// messages of 8 bytes are sent, 2 are read and committed.
fn used_lane() -> (Heap, Shape) {
    let shape = Shape { capacity: 256, align: 16, prefix: 0 };
    let heap = Heap::new(shape, 0, 5);
    let mut writer = Writer::take_over(&heap, shape).unwrap();
    let mut reader = read_lanes([&heap], shape).unwrap();
    for _ in 0..6 {
        writer.claim(8).unwrap();
        writer.stage(0, 8);
        writer.publish();
    }
    writer.check_point();
    for _ in 0..2 {
        let record = find(&mut reader).unwrap().unwrap();
        reader.advance(&record);
    }
    reader.commit();
    drop(reader);
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

fn first_look(heap: &Heap, shape: Shape) -> Result<(), Corrupt> {
    let mut reader = read_lanes([heap], shape).map_err(|broken| broken.corrupt)?;
    find(&mut reader).map(drop).map_err(|broken| broken.corrupt)
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
    let head = |value| set(Word::HeadPosition, Word::CommitGeneration, value);
    assert_eq!(fault_of(|_| {}, first_look), None);
    assert_eq!(fault_of(head(40), first_look), Some(Fault::Position));
    assert_eq!(fault_of(head(16), first_look), Some(Fault::Head), "back");
    assert_eq!(fault_of(head(32 + 256), first_look), Some(Fault::Head), "more than a ring");
    assert_eq!(fault_of(header(7 << 40 | 0xF << 32 | 9), first_look), Some(Fault::Header));
    assert_eq!(fault_of(header(8 << 40 | 9), first_look), Some(Fault::Sequence));
    assert_eq!(fault_of(header(7 << 40 | 249), first_look), Some(Fault::Length));

    // One killed before it moved the head word, with the ring full of what it read.
    let shape = Shape { capacity: 256, align: 8, prefix: 0 };
    let heap = Heap::new(shape, 0, 5);
    set(Word::HeadPosition, Word::CommitGeneration, 248)(&heap);
    assert!(read_lanes([&heap], shape).is_ok(), "no more than a ring");
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
    for (align, prefix) in [(8, 0), (16, 0), (64, 0), (16, 8)] {
        let shape = Shape { capacity: 256, align, prefix };
        let heap = Heap::new(shape, 0, 5);
        (0..256).step_by(8).for_each(|at| heap.store_header(at, 5 << 40 | 1 << 32 | 1));
        let counted = [Counted::new(&heap)];
        let walked = Writer::take_over(&counted[0], shape).map(drop);
        assert!(matches!(walked, Err(Corrupt { fault: Fault::Length, .. })));
        counted[0].check_walk(shape);
        let mut reader = new_reader(&counted, shape);
        assert_eq!(find(&mut reader).map_err(|broken| broken.corrupt.fault), Err(Fault::Length));
        // Each mark, and what follows it.
        assert!(counted[0].headers.take() <= 2 * (shape.capacity / align + 1));
    }
}

/// Three lanes in total order, a message in each: the last lane's was sent
/// first, the first lane's last.
fn ticketed() -> (Vec<Heap>, Shape) {
    let shape = Shape { capacity: 256, align: 16, prefix: 8 };
    let heaps = Start { shape, lanes: 3, position: 0, sequence: 5 }.heaps();
    for heap in heaps.iter().rev() {
        let mut writer = Writer::take_over(heap, shape).unwrap();
        writer.claim(8).unwrap();
        writer.stage(0, 8);
        writer.publish();
    }
    (heaps, shape)
}

fn next_lane(reader: &mut Reader<&Heap>) -> Result<Option<u32>, (u32, Fault)> {
    let found = find(reader).map_err(|broken| (broken.lane, broken.corrupt.fault))?;
    Ok(found.map(|record| {
        reader.advance(&record);
        record.lane
    }))
}

#[test]
fn a_broken_lane_leaves_the_order_of_the_others() {
    let (heaps, shape) = ticketed();
    heaps[1].store_header(192, u64::MAX);
    let mut reader = read_lanes(&heaps, shape).unwrap();
    assert_eq!(next_lane(&mut reader), Err((1, Fault::Header)));
    reader.set_aside(1);
    let left = [next_lane(&mut reader), next_lane(&mut reader), next_lane(&mut reader)];
    assert_eq!(left, [Ok(Some(2)), Ok(Some(0)), Ok(None)]);
}

#[test]
fn a_ticket_that_nobody_drew_is_refused() {
    // The middle lane's, drawn second. Too late, it waits for one look.
    let (heaps, shape) = ticketed();
    heaps[1].store_header(192 + 8, 3);
    let mut reader = read_lanes(&heaps, shape).unwrap();
    let found = [(); 3].map(|()| next_lane(&mut reader));
    assert_eq!(found, [Ok(Some(2)), Ok(Some(0)), Err((1, Fault::Ticket))]);

    // Not above the one before it in its lane.
    let (heaps, shape) = ticketed();
    let mut writer = Writer::take_over(&heaps[1], shape).unwrap();
    writer.claim(0).unwrap();
    writer.stage(0, 0);
    writer.publish();
    heaps[1].store_header(192 + 32 + 8, 1);
    let mut reader = read_lanes(&heaps, shape).unwrap();
    let found = [(); 4].map(|()| next_lane(&mut reader));
    assert_eq!(found, [Ok(Some(2)), Ok(Some(1)), Ok(Some(0)), Err((1, Fault::Ticket))]);
    let corrupt = find(&mut reader).unwrap_err().corrupt;
    assert_eq!((corrupt.position, corrupt.value), (192 + 32, 1));
}
