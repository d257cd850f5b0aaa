//! With `Order::Total` a message never comes before one whose send had returned
//! when its own began: producers tell each other through shared words what they
//! sent, and each message says what its producer knew. Meanwhile one of them is
//! held where it has its ticket and has not published, which delays nobody.
//!
//! 100 000 messages upon another producer's, or `SHMRING_TEST_CHAINS`.

use std::env;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::Instant;

use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use shmring::{Order, RegionOptions};
use tests::board::{Mapped, Shared};
use tests::{Child, Lab, Random, skipped, until};

const PRODUCERS: usize = 5;
/// Messages upon others' while one is held.
const PROGRESS: u64 = 1000;
/// Sends while the consumer is stopped, and how often that is between holds.
const INTERRUPTED: u64 = 50;
const INTERRUPTIONS: usize = 20;
/// The exit status of a consumer that found a swap.
const SWAPPED: i32 = 2;
/// Where the region counts tickets.
const TICKETS: u64 = 0x1180;
/// A producer that has drawn none within so many instructions waits for
/// something, and is left alone.
const MOST_STEPS: usize = 20_000;

struct Chains {
    lab: Lab,
    board: Mapped,
    random: Random,
    producers: Vec<Child>,
    consumer: Child,
}

fn start(lab: &Lab, role: &str, index: usize) -> Child {
    let mut command = lab.prepared(env!("CARGO_BIN_EXE_many").as_ref());
    command.arg(role).args([lab.path("region"), lab.path("board")]);
    Child::start(command.args([PRODUCERS.to_string(), index.to_string()]))
}

impl Chains {
    fn new(test: &str, order: Order) -> Chains {
        let lab = Lab::new();
        let board = Mapped::create(&lab.path("board"));
        let options = RegionOptions::new().capacity(64 << 10).order(order);
        options.create(lab.path("region")).unwrap();
        let consumer = start(&lab, "read-chains", 0);
        let producers = (0..PRODUCERS).map(|index| start(&lab, "send-chains", index)).collect();
        Chains { lab, board, random: Random::new(test), producers, consumer }
    }

    fn pid(&self, index: usize) -> Pid {
        self.producers[index].pid()
    }

    fn chains(&self) -> u64 {
        self.board.word.get()
    }

    /// Everybody but `held` sends and is delivered, each upon another's.
    fn see_progress(&mut self, held: usize) {
        let goal = self.chains() + PROGRESS;
        let others = || (0..PRODUCERS).filter(|index| *index != held);
        let goals: Vec<_> = others().map(|i| (i, self.board.tallies[i].acked.get() + PROGRESS)).collect();
        until("progress", || {
            assert!(self.consumer.is_running(), "the consumer found a swap");
            self.chains() >= goal
                && goals.iter().all(|&(i, goal)| self.board.tallies[i].delivered.get() >= goal)
        });
    }

    /// Lets a producer run to where it has just drawn a ticket. Meanwhile the
    /// others are stopped, so that it is its own. False if it drew none.
    fn hold(&mut self, index: usize) -> bool {
        let others: Vec<_> = (0..PRODUCERS).filter(|i| *i != index).map(|i| self.pid(i)).collect();
        others.iter().for_each(|pid| kill(*pid, Signal::SIGSTOP).unwrap());
        for pid in &others {
            let stat = format!("/proc/{pid}/stat");
            until("a stop", || std::fs::read_to_string(&stat).unwrap().contains(") T"));
        }
        let file = File::open(self.lab.path("region")).unwrap();
        let tickets = || {
            let mut word = [0; 8];
            file.read_exact_at(&mut word, TICKETS).unwrap();
            u64::from_le_bytes(word)
        };
        let before = tickets();
        let pid = self.pid(index);
        for _ in 0..MOST_STEPS {
            ptrace::step(pid, None).unwrap();
            assert!(matches!(waitpid(pid, None).unwrap(), WaitStatus::Stopped(..)));
            if tickets() != before {
                break;
            }
        }
        let held = tickets() != before;
        others.iter().for_each(|pid| kill(*pid, Signal::SIGCONT).unwrap());
        held
    }

    /// One is held with its ticket, then goes on or is killed. False if it was
    /// not to be held; an error if this machine does not allow tracing.
    fn round(&mut self) -> nix::Result<bool> {
        let index = self.random.among(0..PRODUCERS as u64) as usize;
        let tally = &self.board.tallies[index];
        until("its first message", || {
            tally.acked.get() > 0 && tally.pid.get() == self.pid(index).as_raw() as u64
        });
        let pid = self.pid(index);
        ptrace::attach(pid)?;
        waitpid(pid, None).unwrap();
        let held = self.hold(index);
        let acked = self.board.tallies[index].acked.get();
        if held {
            self.see_progress(index);
            let delivered = self.board.tallies[index].delivered.get();
            assert!(delivered <= acked, "what was not published was delivered");
        }
        if self.random.word().is_multiple_of(2) {
            ptrace::detach(pid, None).unwrap();
            until("the held message", || !held || self.board.tallies[index].delivered.get() > acked);
        } else {
            self.producers[index].kill();
            self.producers[index] = start(&self.lab, "send-chains", index);
        }
        Ok(held)
    }

    /// The consumer is stopped wherever it is, most often between two of its
    /// looks at lanes, while the others go on.
    fn interrupt(&mut self) {
        let pid = self.consumer.pid();
        kill(pid, Signal::SIGSTOP).unwrap();
        let sent = || self.board.tallies[..PRODUCERS].iter().map(|tally| tally.acked.get()).sum::<u64>();
        let goal = sent() + INTERRUPTED;
        // They may have no room.
        for _ in 0..1000 {
            if sent() >= goal {
                break;
            }
            thread::yield_now();
        }
        kill(pid, Signal::SIGCONT).unwrap();
        // And runs on for a while.
        let goal = self.chains() + self.random.among(0..100);
        until("more chains", || !self.consumer.is_running() || self.chains() >= goal);
    }

    fn finish(mut self) -> i32 {
        self.board.stop.set(1);
        for producer in self.producers.drain(..) {
            producer.finish().expect(0);
        }
        let done = self.consumer.finish();
        print!("{}{}", String::from_utf8_lossy(&done.stdout), done.stderr);
        done.code()
    }
}

#[test]
fn no_chain_is_swapped_in_total_order() {
    let name = "no_chain_is_swapped_in_total_order";
    let goal = env::var("SHMRING_TEST_CHAINS").ok().and_then(|s| s.parse().ok()).unwrap_or(100_000);
    let begun = Instant::now();
    let mut chains = Chains::new(name, Order::Total);
    let (mut rounds, mut held) = (0, 0);
    while chains.chains() < goal || held < 20 {
        match chains.round() {
            Ok(was_held) => held += u64::from(was_held),
            Err(e) => {
                skipped(name, format!("nobody is held with a ticket: tracing is not allowed: {e}"));
                until("the chains", || chains.chains() >= goal);
                break;
            }
        }
        (0..INTERRUPTIONS).for_each(|_| chains.interrupt());
        rounds += 1;
        assert!(rounds < 1000 || held > 0, "nobody was ever held with a ticket");
    }
    let (count, seconds) = (chains.chains(), begun.elapsed().as_secs_f64());
    println!("{count} chains, {held} times a ticket was held, {seconds:.1} s");
    assert_eq!(chains.finish(), 0);
}

/// The moments are the right ones: in the other order, chains are swapped.
#[test]
fn chains_are_swapped_in_another_order() {
    let mut chains = Chains::new("chains_are_swapped_in_another_order", Order::Fifo);
    until("a swap", || !chains.consumer.is_running());
    assert_eq!(chains.finish(), SWAPPED);
}
