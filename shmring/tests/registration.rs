//! A process is registered for barriers by its first attach, in the background
//! where it has several threads.

use std::fs;
use std::sync::atomic::AtomicU32;
use std::thread;
use std::time::{Duration, Instant};

use shmring::Region;
use shmring::internals::ring::sleep::SleepCell;

const DEADLINE: Duration = Duration::from_secs(60);

#[test]
fn the_first_attach_registers_a_process_of_several_threads() {
    // The test runner's and this one.
    assert!(fs::read_dir("/proc/self/task").unwrap().count() > 1);
    let word = AtomicU32::new(0);
    assert!(!word.light_fence(), "nobody has attached yet");
    let region = Region::create_anonymous().unwrap();
    let mut producer = region.producer().unwrap();
    if !word.barrier() {
        // Then nobody registers, and messages go all the same.
        return producer.send(b"fenced").unwrap();
    }
    let started = Instant::now();
    while !word.light_fence() {
        assert!(started.elapsed() < DEADLINE, "not registered");
        thread::yield_now();
    }
    producer.send(b"not fenced").unwrap();
}
