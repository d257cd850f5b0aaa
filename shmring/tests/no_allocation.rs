//! Nothing on a message's way allocates, once the largest message has passed.
//! (`Consumer::available` gives messages of one's own, and so allocates.)
#![allow(unsafe_code)] // an allocator that counts, and a caller's word

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Write;

use shmring::{Flags, Read, Region, RegionOptions, SendError, Trust};

thread_local! {
    /// Allocations of this thread: what others do meanwhile is not counted.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

fn count() {
    // After the thread's end nobody asks any more.
    let _ = ALLOCATIONS.try_with(|c| c.set(c.get() + 1));
}

// SAFETY: every call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's contract is the same.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's contract is the same.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_len: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's contract is the same.
        unsafe { System.realloc(memory, layout, new_len) }
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is the same.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often `work` allocates.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

const MESSAGES: u64 = 1_000_000;
const LARGEST: usize = 4096;

#[test]
fn nothing_is_allocated_on_the_way_of_a_message() {
    let folder = tempfile::tempdir().unwrap();
    let region = RegionOptions::new().capacity(1 << 16).create(folder.path().join("ring")).unwrap();
    let (mut producer, mut consumer) = (region.producer().unwrap(), region.consumer().unwrap());
    let payload = [7; LARGEST];
    // From nothing to the largest; every size comes.
    let len = |number: u64| (number * 61 % (LARGEST as u64 + 1)) as usize;
    let mut read = |expected: usize| match consumer.read().unwrap() {
        Read::Message(m) => {
            assert!(m.payload == &payload[..expected]);
            consumer.commit();
        }
        other => panic!("{other:?}"),
    };
    producer.send(&payload).unwrap();
    read(LARGEST);

    let singly = allocations(|| {
        for number in 0..MESSAGES {
            let payload = &payload[..len(number)];
            if number % 2 == 0 {
                producer.send(payload).unwrap()
            } else {
                producer.try_send(payload).unwrap()
            }
            read(payload.len());
        }
    });
    let batches = allocations(|| {
        for number in (0..MESSAGES).step_by(4) {
            let mut batch = producer.batch();
            for i in 0..2 {
                batch.try_push(&payload[..len(number + i)]).unwrap();
                batch.push(&payload[..len(number + i)], Flags::NONE, None).unwrap();
            }
            batch.publish();
            (0..2).for_each(|i| (0..2).for_each(|_| read(len(number + i))));
        }
    });
    let grants = allocations(|| {
        for number in 0..MESSAGES {
            let mut grant = producer.try_reserve(LARGEST).unwrap();
            grant.write_all(&payload[..len(number)]).unwrap();
            grant.commit();
            read(len(number));
        }
    });
    let full = allocations(|| while producer.try_send(&payload).is_ok() {});
    assert_eq!((singly, batches, grants, full), (0, 0, 0, 0));
}

/// Not even room for the largest message.
#[test]
fn nothing_at_all_is_allocated_for_what_is_written_and_read_in_place() {
    let folder = tempfile::tempdir().unwrap();
    let region = Region::create(folder.path().join("ring")).unwrap();
    // SAFETY: nobody else has the region.
    let mut producer = region.producer().unwrap().in_place(unsafe { Trust::in_peers() });
    // SAFETY: as above.
    let mut consumer = region.consumer().unwrap().in_place(unsafe { Trust::in_peers() });
    let found = allocations(|| {
        for number in 0..1000 {
            let mut loan = producer.reserve(region.max_message()).unwrap();
            loan[number] = 7;
            loan.commit(number * 1000);
            assert!(matches!(consumer.read(), Ok(Read::Message(m)) if m.payload.len() == number * 1000));
            consumer.commit();
        }
    });
    assert_eq!(found, 0);
}

#[test]
fn what_finds_nothing_allocates_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let region = Region::create(folder.path().join("ring")).unwrap();
    let (mut producer, mut consumer) = (region.producer().unwrap(), region.consumer().unwrap());
    let too_large = vec![0; region.max_message() + 1];
    let found = allocations(|| {
        for _ in 0..1000 {
            assert!(matches!(consumer.try_read(), Ok(Read::Empty)));
            consumer.commit();
            assert!(matches!(producer.try_send(&too_large), Err(SendError::TooLarge { .. })));
        }
    });
    assert_eq!(found, 0);
}

#[test]
fn an_allocation_would_be_counted() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(7)))), 1);
    assert!(allocations(|| drop(std::hint::black_box(vec![0; 100]))) > 0);
}
