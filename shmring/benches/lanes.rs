//! What many lanes cost a stream of messages, and what total order does.
//!
//! One process, the public interface, messages of 64 bytes sent one at a time
//! and committed by the eighth of a ring, in two ways:
//!
//! * in turn: one thread sends some, then receives them: what it takes to do;
//! * at once: two threads, each on a core of its own, the receiver looking
//!   for messages all the time: what it delays.
//!
//! The forms take turns in every round, so that a machine that changes its
//! speed changes it for all of them; the ratios are those within one round.
//!
//!     cargo bench -p shmring --bench lanes

mod common;

use std::error::Error;
use std::hint::spin_loop;
use std::path::Path;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use common::{our_cores, pin, print};
use shmring::{Consumer, Order, Producer, Read, ReadError, RegionOptions, SendError};

const LEN: usize = 64;
const CAPACITY: u64 = 256 << 10;
const MESSAGES: usize = 25_000;
/// Messages that are sent before they are received, in turn.
const BURST: usize = 500;
const ROUNDS: usize = 99;
/// Rounds before: they touch every page, and idle lanes grow cold.
const FIRST: usize = 9;

/// A region with producers that send by turns, and others that only are there.
struct Form {
    name: &'static str,
    busy: Vec<Producer>,
    consumer: Consumer,
    _idle: Vec<Producer>,
}

/// How the receiver looks for messages.
#[derive(Clone, Copy)]
enum Way {
    InTurn,
    InTurnTrying,
    InTurnCommitting,
    AtOnce,
}

impl Form {
    fn new(
        folder: &Path,
        name: &'static str,
        order: Order,
        busy: usize,
        idle: usize,
    ) -> Result<Form, Box<dyn Error>> {
        let options = RegionOptions::new().capacity(CAPACITY).max_producers((busy + idle) as u32);
        let region = options.order(order).create(folder.join(name))?;
        let attach = |count| (0..count).map(|_| region.producer()).collect::<Result<Vec<_>, _>>();
        // Lanes that are looked at first have nothing.
        let idle = attach(idle)?;
        let busy = attach(busy)?;
        Ok(Form { name, busy, consumer: region.consumer()?, _idle: idle })
    }

    /// Messages a second, in millions.
    fn run(&mut self, way: Way, cores: [usize; 2]) -> f64 {
        let time = match way {
            Way::InTurn => self.in_turn(|consumer| take(consumer.read())),
            Way::InTurnTrying => self.in_turn(|consumer| take(consumer.try_read())),
            Way::InTurnCommitting => self.in_turn(|consumer| {
                take(consumer.try_read());
                consumer.commit();
            }),
            Way::AtOnce => self.at_once(cores),
        };
        MESSAGES as f64 / time.as_secs_f64() / 1e6
    }

    fn in_turn(&mut self, read: impl Fn(&mut Consumer)) -> Duration {
        let payload = [7; LEN];
        let begun = Instant::now();
        for _ in 0..MESSAGES / BURST {
            let producers = self.busy.len();
            for number in 0..BURST {
                self.busy[number % producers].try_send(&payload).expect("there is room");
            }
            for _ in 0..BURST {
                read(&mut self.consumer);
            }
            self.consumer.commit();
        }
        begun.elapsed()
    }

    fn at_once(&mut self, cores: [usize; 2]) -> Duration {
        let Form { busy, consumer, .. } = self;
        let start = Barrier::new(2);
        thread::scope(|scope| {
            scope.spawn(|| {
                pin(cores[0]);
                start.wait();
                let payload = [7; LEN];
                let producers = busy.len();
                for number in 0..MESSAGES {
                    while busy[number % producers].try_send(&payload) == Err(SendError::Full) {
                        spin_loop();
                    }
                }
            });
            let receiver = scope.spawn(|| {
                pin(cores[1]);
                start.wait();
                let begun = Instant::now();
                let mut received = 0;
                while received < MESSAGES {
                    let found = match consumer.try_read().expect("a sound region") {
                        Read::Message(_) => true,
                        Read::Empty => false,
                        other => panic!("{other:?}"),
                    };
                    received += usize::from(found);
                    if consumer.uncommitted() >= if found { CAPACITY / 8 } else { 1 } {
                        consumer.commit();
                    }
                }
                consumer.commit();
                begun.elapsed()
            });
            receiver.join().expect("the receiver's own assertions")
        })
    }
}

#[inline]
fn take(found: Result<Read<'_>, ReadError>) {
    assert!(matches!(found, Ok(Read::Message(m)) if m.payload.len() == LEN));
}

/// Runs the forms by turns; each one's speed against that of the one named.
fn compare(forms: &mut [Form], against: &[usize], ways: &[(&str, Way)], cores: [usize; 2]) {
    for (title, way) in ways {
        println!("{title}: M/s, then ratios; median, quarters, all");
        let mut runs = Vec::new();
        for round in 0..FIRST + ROUNDS {
            let run: Vec<f64> = forms.iter_mut().map(|form| form.run(*way, cores)).collect();
            if round >= FIRST {
                runs.push(run);
            }
        }
        for (index, form) in forms.iter().enumerate() {
            print(form.name, runs.iter().map(|run| run[index]).collect());
        }
        for (index, &other) in against.iter().enumerate().filter(|&(index, &other)| index != other) {
            let what = format!("{} / {}", forms[index].name, forms[other].name);
            print(&what, runs.iter().map(|run| run[index] / run[other]).collect());
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let Some(cores) = our_cores() else {
        println!("skipped: lanes: needs two cores");
        return Ok(());
    };
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())?;
    let form = |name, order, busy, idle| Form::new(folder.path(), name, order, busy, idle);
    println!("{MESSAGES} messages of {LEN} bytes a run, {ROUNDS} rounds, cores {cores:?}");
    let ways = [
        ("in turn, by read", Way::InTurn),
        ("in turn, by try_read", Way::InTurnTrying),
        ("in turn, committing each", Way::InTurnCommitting),
        ("at once, by try_read", Way::AtOnce),
    ];
    let mut forms = [
        form("alone", Order::Fifo, 1, 0)?,
        form("among 64", Order::Fifo, 1, 64)?,
        form("among 1023", Order::Fifo, 1, 1023)?,
    ];
    compare(&mut forms, &[0, 0, 0], &ways, cores);
    drop(forms);
    let mut forms = [
        form("fifo 1", Order::Fifo, 1, 0)?,
        form("total 1", Order::Total, 1, 0)?,
        form("fifo 4", Order::Fifo, 4, 0)?,
        form("total 4", Order::Total, 4, 0)?,
        form("total 1 among 64", Order::Total, 1, 64)?,
    ];
    compare(&mut forms, &[0, 0, 2, 2, 1], &ways, cores);
    Ok(())
}
