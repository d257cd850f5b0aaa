//! Producers and a consumer at the same time.

use super::*;

/// Ends the wait of the other thread when this one panics.
struct Failed<'a>(&'a AtomicBool);

impl Failed<'_> {
    fn wait(&self) {
        assert!(!self.0.load(Ordering::Relaxed), "the other thread failed");
        thread::yield_now();
    }
}

impl Drop for Failed<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

/// Two producers and a consumer in three threads, in both orders: everything
/// arrives, each lane in its order.
#[test]
fn threads_pass_messages() {
    let messages: u64 = if cfg!(miri) { 60 } else { 10_000 };
    for (align, prefix) in [(8, 0), (64, 0), (8, 8)] {
        let shape = Shape { capacity: 256, align, prefix };
        let start = Start { shape, lanes: 2, position: 0u64.wrapping_sub(512), sequence: (1 << 24) - 20 };
        let heaps = start.heaps();
        let failed = AtomicBool::new(false);
        thread::scope(|scope| {
            for heap in &heaps {
                scope.spawn(|| produce(heap, shape, messages, Failed(&failed)));
            }
            scope.spawn(|| consume(&heaps, shape, messages, Failed(&failed)));
        });
        let mut reader = read_lanes(&heaps, shape).unwrap();
        assert_eq!(find(&mut reader), Ok(None));
        for lane in 0..2 {
            let sent = start.sequence(lane).wrapping_add(messages);
            assert_eq!(reader.lane(lane as u32).sequence(), sent);
        }
    }
}

fn len_of(sequence: u64, shape: Shape) -> usize {
    (sequence.wrapping_mul(0x9E37_79B9) >> 7) as usize % (shape.max_len() as usize + 1)
}

fn produce(heap: &Heap, shape: Shape, messages: u64, failed: Failed) {
    let mut writer = Writer::take_over(heap, shape).unwrap();
    for _ in 0..messages {
        let sequence = writer.sequence();
        let len = len_of(sequence, shape);
        if !sequence.is_multiple_of(4) && writer.send(0, &payload(sequence, len)) {
            continue;
        }
        while writer.claim(len) == Err(Claim::Full) {
            failed.wait();
        }
        writer.write(0, &payload(sequence, len));
        writer.stage(0, len);
        writer.publish();
    }
}

fn consume(heaps: &[Heap], shape: Shape, messages: u64, failed: Failed) {
    let mut reader = read_lanes(heaps, shape).unwrap();
    let mut received = 0;
    let mut buffer = vec![0; shape.max_len() as usize / 2];
    while received < 2 * messages {
        if received % 4 != 0
            && let Some(record) = take(&mut reader, &mut buffer, true)
        {
            assert_eq!(record.len, len_of(record.sequence, shape));
            assert_eq!(buffer[..record.len], payload(record.sequence, record.len));
            received += 1;
            continue;
        }
        let Some(record) = find(&mut reader).unwrap() else {
            reader.commit();
            failed.wait();
            continue;
        };
        assert_eq!(record.len, len_of(record.sequence, shape));
        assert_eq!(bytes_of(&reader, &record), payload(record.sequence, record.len));
        reader.advance(&record);
        received += 1;
        if received % 3 == 0 {
            reader.commit();
        }
    }
    reader.commit();
}
