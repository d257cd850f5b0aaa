//! Eight producers and a consumer, each in a process of its own, while this
//! one stops, continues, kills and starts them again at random moments: nothing
//! lost but what a killed one had not published, nothing doubled, reordered or
//! torn, nobody delayed by another, and nobody called dead who is not.
//!
//! Eight and four seconds, or `SHMRING_TEST_SECONDS`.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{env, fs};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use shmring::{RegionOptions, Status};
use tests::board::{Mapped, Shared, Tally};
use tests::{Child, Lab, Random, skipped, until};

const PRODUCERS: usize = 8;
/// Messages that everybody gets through while another one does not run.
const PROGRESS: u64 = 1000;

/// Everybody.
struct Zoo {
    lab: Lab,
    board: Mapped,
    random: Random,
    /// In namespaces of their own.
    apart: bool,
    /// Those that were not killed.
    producers: Vec<Option<Child>>,
    consumer: Option<Child>,
    kills: [u64; PRODUCERS],
    consumer_kills: u64,
    stops: u64,
}

impl Zoo {
    fn new(test: &str, apart: bool) -> Zoo {
        let lab = Lab::new();
        let board = Mapped::create(&lab.path("board"));
        let options = RegionOptions::new().capacity(64 << 10).max_producers(PRODUCERS as u32);
        options.create(lab.path("region")).unwrap();
        let random = Random::new(test);
        let consumer = Some(start(&lab, apart, "consume", 0));
        let (kills, consumer_kills, stops) = ([0; PRODUCERS], 0, 0);
        let producers = Vec::new();
        let mut zoo = Zoo { lab, board, random, apart, producers, consumer, kills, consumer_kills, stops };
        for index in 0..PRODUCERS {
            let producer = zoo.start_producer(index);
            zoo.producers.push(Some(producer));
        }
        zoo
    }

    fn tally(&self, index: usize) -> &Tally {
        &self.board.tallies[index]
    }

    fn start_producer(&self, index: usize) -> Child {
        let tally = self.tally(index);
        tally.pid.set(0);
        tally.incarnation.set(tally.incarnation.get() + 1);
        start(&self.lab, self.apart, "produce", index)
    }

    fn start_consumer(&mut self) {
        self.board.consumer.set(0);
        self.consumer = Some(start(&self.lab, self.apart, "consume", 0));
    }

    /// Fails if somebody ended by itself.
    fn check(&mut self) {
        for child in &mut self.producers {
            if child.as_mut().is_some_and(|child| !child.is_running()) {
                panic!("a producer: {:?}", child.take().map(Child::finish));
            }
        }
        if self.consumer.as_mut().is_some_and(|child| !child.is_running()) {
            panic!("the consumer: {:?}", self.consumer.take().map(Child::finish));
        }
    }

    #[track_caller]
    fn until(&mut self, what: &str, mut is_so: impl FnMut(&Zoo) -> bool) {
        let mut turns = 0;
        until(what, || {
            turns += 1;
            if turns % 64 == 0 {
                self.check();
            }
            is_so(self)
        });
    }

    /// Waits until a message of its present incarnation was delivered.
    fn settle(&mut self, index: usize) {
        self.until("a producer's first message", |zoo| {
            let tally = zoo.tally(index);
            tally.delivered_of.get() == tally.incarnation.get()
        });
    }

    /// Everybody but `idle` sends, and it is delivered.
    fn see_progress(&mut self, idle: &[usize]) {
        let others = || (0..PRODUCERS).filter(|index| !idle.contains(index));
        let goals: Vec<_> = others().map(|i| (i, self.tally(i).acked.get() + PROGRESS)).collect();
        self.until("progress", |zoo| {
            goals.iter().all(|&(i, goal)| {
                let tally = zoo.tally(i);
                tally.acked.get() >= goal && tally.delivered.get() >= goal
            })
        });
    }

    fn kill_producer(&mut self, index: usize) {
        let child = self.producers[index].take().expect("it was not killed");
        end(child, self.tally_pid(index));
        self.kills[index] += 1;
    }

    fn tally_pid(&self, index: usize) -> Pid {
        Pid::from_raw(self.tally(index).pid.get() as i32)
    }

    fn consumer_pid(&self) -> Pid {
        Pid::from_raw(self.board.consumer.get() as i32)
    }

    /// Some producers are stopped or killed, and go on or come again.
    fn round(&mut self) {
        let mut victims: Vec<_> = (0..PRODUCERS).collect();
        for at in 0..PRODUCERS {
            let other = self.random.among(at as u64..PRODUCERS as u64) as usize;
            victims.swap(at, other);
        }
        victims.truncate(1 + self.random.among(0..3) as usize);
        let mut stopped = Vec::new();
        let mut killed = Vec::new();
        for &index in &victims {
            self.settle(index);
            let deaths = self.tally(index).deaths.get();
            if self.random.word().is_multiple_of(2) {
                stop(self.tally_pid(index));
                self.stops += 1;
                stopped.push((index, deaths));
            } else {
                self.kill_producer(index);
                killed.push((index, deaths));
            }
        }
        self.see_progress(&victims);
        for (index, deaths) in stopped {
            assert_eq!(self.tally(index).deaths.get(), deaths, "stopped, and called dead");
            if self.random.word().is_multiple_of(4) {
                self.kill_producer(index);
                killed.push((index, deaths));
            } else {
                kill(self.tally_pid(index), Signal::SIGCONT).unwrap();
            }
        }
        for (index, deaths) in killed {
            // A death is told, unless another producer takes over before.
            if self.random.word().is_multiple_of(2) {
                self.until("a death", |zoo| zoo.tally(index).deaths.get() > deaths);
            }
            self.producers[index] = Some(self.start_producer(index));
            if self.random.word().is_multiple_of(4) {
                // While it attaches, or soon after.
                self.until("a start", |zoo| zoo.tally(index).pid.get() != 0);
                for _ in 0..self.random.among(0..200_000) {
                    std::hint::spin_loop();
                }
                self.kill_producer(index);
                self.producers[index] = Some(self.start_producer(index));
            }
            self.settle(index);
            let told = self.tally(index).deaths.get();
            // A consumer that is killed as it takes note of a death tells it again.
            let most = self.kills[index] + self.consumer_kills;
            assert!(told <= most, "{told} deaths of {} were told", self.kills[index]);
        }
    }

    /// The consumer is stopped and goes on, or is killed and comes again.
    fn consumer_round(&mut self) {
        self.until("a consumer", |zoo| zoo.board.consumer.get() != 0);
        let pid = self.consumer_pid();
        if self.random.word().is_multiple_of(4) {
            stop(pid);
            self.stops += 1;
            let used = |lanes: &[shmring::LaneStatus]| lanes.iter().all(|lane| lane.used > 32 << 10);
            let path = self.lab.path("region");
            self.until("full lanes", |_| used(&Status::of(&path).unwrap().lanes));
            kill(pid, Signal::SIGCONT).unwrap();
        } else {
            end(self.consumer.take().expect("it was not killed"), pid);
            self.consumer_kills += 1;
            self.start_consumer();
        }
        self.see_progress(&[]);
    }

    /// All producers close; every message that was sent was delivered.
    fn finish(mut self) {
        self.until("a consumer", |zoo| zoo.board.consumer.get() != 0);
        (0..PRODUCERS).for_each(|index| self.settle(index));
        self.board.stop.set(1);
        for producer in self.producers.drain(..) {
            producer.expect("it was started again").finish().expect(0);
        }
        self.consumer.take().expect("it was started again").finish().expect(0);
        let mut messages = 0;
        for tally in &self.board.tallies[..PRODUCERS] {
            assert_eq!(tally.delivered.get(), tally.acked.get());
            messages += tally.delivered.get();
        }
        let status = Status::of(self.lab.path("region")).unwrap();
        assert!(status.lanes.iter().all(|lane| lane.sent == lane.committed && lane.producer.is_none()));
        println!(
            "{messages} messages; producers killed {}, stopped {}; consumers killed {}; longest stall {:.1} ms",
            self.kills.iter().sum::<u64>(),
            self.stops,
            self.consumer_kills,
            self.board.stall.get() as f64 / 1e6
        );
        assert!(self.kills.iter().sum::<u64>() >= 10 && self.stops >= 10, "too few for a test");
    }
}

/// Starts one, in namespaces of its own if `apart`.
fn start(lab: &Lab, apart: bool, role: &str, index: usize) -> Child {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_many"));
    let mut command = if apart {
        let mut command = lab.prepared("unshare".as_ref());
        command.args(["-U", "-p", "-f", "--kill-child"]).arg(program);
        command
    } else {
        lab.prepared(&program)
    };
    command.arg(role).args([lab.path("region"), lab.path("board")]).arg(index.to_string());
    Child::start(&mut command)
}

/// Stops it, and sees it stopped.
fn stop(pid: Pid) {
    kill(pid, Signal::SIGSTOP).unwrap();
    let stat = format!("/proc/{pid}/stat");
    until("a stop", || {
        let stat = fs::read_to_string(&stat).expect("it runs");
        stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" T"))
    });
}

/// Kills the process itself, and waits until it and who started it are gone.
fn end(child: Child, pid: Pid) {
    kill(pid, Signal::SIGKILL).unwrap();
    drop(child.finish());
}

fn chaos(test: &str, apart: bool, seconds: u64, consumer_too: bool) {
    // One at a time: each keeps all cores busy.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let given = env::var("SHMRING_TEST_SECONDS").ok().and_then(|s| s.parse().ok());
    let time = Duration::from_secs(given.unwrap_or(seconds));
    let mut zoo = Zoo::new(test, apart);
    let begun = Instant::now();
    while begun.elapsed() < time || zoo.kills.iter().sum::<u64>() < 10 || zoo.stops < 10 {
        if consumer_too && zoo.random.word().is_multiple_of(2) {
            zoo.consumer_round();
        } else {
            zoo.round();
        }
    }
    assert!(!consumer_too || zoo.consumer_kills > 0);
    zoo.finish();
}

#[test]
fn producers_are_stopped_and_killed_at_random() {
    chaos("producers_are_stopped_and_killed_at_random", false, 8, false);
}

#[test]
fn the_consumer_is_stopped_and_killed_too() {
    chaos("the_consumer_is_stopped_and_killed_too", false, 4, true);
}

#[test]
fn the_same_in_pid_and_user_namespaces_of_their_own() {
    let name = "the_same_in_pid_and_user_namespaces_of_their_own";
    match Command::new("unshare").args(["-U", "-p", "-f", "--kill-child", "true"]).output() {
        Ok(done) if done.status.success() => {}
        Ok(done) => return skipped(name, String::from_utf8_lossy(&done.stderr).trim()),
        Err(e) => return skipped(name, format!("no unshare: {e}")),
    }
    chaos(name, true, 4, true);
}
