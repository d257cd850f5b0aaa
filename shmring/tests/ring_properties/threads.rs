//! A producer and a consumer at the same time.

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

/// A producer and a consumer in two threads: everything arrives, in order.
#[test]
fn two_threads_pass_messages() {
    let messages: u64 = if cfg!(miri) { 60 } else { 10_000 };
    for align in [8, 64] {
        let shape = Shape { capacity: 256, align };
        let first = (1 << 24) - 20;
        let heap = Heap::new(shape, 0u64.wrapping_sub(512), first);
        let failed = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| produce(&heap, shape, messages, Failed(&failed)));
            scope.spawn(|| consume(&heap, shape, messages, Failed(&failed)));
        });
        let reader = Reader::take_over(&heap, shape).unwrap();
        assert_eq!((reader.sequence(), reader.peek()), (first + messages, Ok(None)));
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
        while writer.claim(len) == Err(Claim::Full) {
            failed.wait();
        }
        writer.write(0, &payload(sequence, len));
        writer.stage(0, len);
        writer.publish();
    }
}

fn consume(heap: &Heap, shape: Shape, messages: u64, failed: Failed) {
    let mut reader = Reader::take_over(heap, shape).unwrap();
    let mut received = 0;
    while received < messages {
        let Some(record) = reader.peek().unwrap() else {
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
