//! A process with a ring that things happen to: does what it is told, one line
//! of stdin after the other, and says the result in one line of stdout.
#![allow(unsafe_code)] // handlers of signals, and touches of a map that is cut

use std::error::Error;
use std::fmt::Debug;
use std::fs::File;
use std::io::{self, BufRead, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use memmap2::MmapRaw;
use nix::errno::Errno;
use nix::libc;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction};
use nix::unistd::{Uid, setresuid};
use shmring::{Advice, Consumer, Flags, HugePages, Producer, ProducerOptions, Read, Region, RegionOptions};
use tests::{read_numbers, send_numbers};

#[derive(Debug, Parser)]
struct Arguments {
    path: PathBuf,
    #[arg(long, default_value_t = 65536)]
    capacity: u64,
    #[arg(long)]
    uid: Option<u32>,
    #[arg(long)]
    group: Option<u32>,
    /// RLIMIT_MEMLOCK in bytes
    #[arg(long)]
    memlock: Option<u64>,
    /// RLIMIT_NOFILE
    #[arg(long)]
    nofile: Option<u64>,
    /// RLIMIT_FSIZE in bytes
    #[arg(long)]
    fsize: Option<u64>,
    #[arg(long)]
    prefault: bool,
    #[arg(long)]
    lock: bool,
    #[arg(long)]
    dont_dump: bool,
    #[arg(long)]
    guard: bool,
    #[arg(long)]
    huge_pages: Option<Huge>,
    /// Microseconds from one signal to the next that interrupts system calls
    #[arg(long)]
    storm: Option<i64>,
    /// Who handles SIGBUS before the guard does
    #[arg(long)]
    before: Option<Before>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Huge {
    Transparent,
    Reserved,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Before {
    Siginfo,
    Plain,
    Ignore,
    Default,
}

/// The exit code of a handler that was passed the signal: `siginfo`, `plain`.
const PASSED_ON: [i32; 2] = [41, 42];

extern "C" fn with_info(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel gives a valid siginfo; _exit may be called anywhere.
    unsafe { libc::_exit(if (*info).si_signo == libc::SIGBUS { PASSED_ON[0] } else { 1 }) };
}

extern "C" fn plain(signal: libc::c_int) {
    // SAFETY: _exit may be called anywhere.
    unsafe { libc::_exit(if signal == libc::SIGBUS { PASSED_ON[1] } else { 1 }) };
}

fn handle_before(before: Before) -> nix::Result<()> {
    let (handler, flags) = match before {
        Before::Siginfo => (SigHandler::SigAction(with_info), SaFlags::SA_SIGINFO),
        Before::Plain => (SigHandler::Handler(plain), SaFlags::empty()),
        Before::Ignore => (SigHandler::SigIgn, SaFlags::empty()),
        Before::Default => (SigHandler::SigDfl, SaFlags::empty()),
    };
    let action = SigAction::new(handler, flags, SigSet::empty());
    // SAFETY: the handlers above only end the process.
    unsafe { sigaction(Signal::SIGBUS, &action) }.map(drop)
}

extern "C" fn nothing(_: libc::c_int) {}

/// Signals without end, none of which restarts a system call.
fn storm(period: i64) -> nix::Result<()> {
    let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing.
    unsafe { sigaction(Signal::SIGALRM, &action) }?;
    let period = libc::timeval { tv_sec: 0, tv_usec: period };
    let timer = libc::itimerval { it_interval: period, it_value: period };
    // SAFETY: the kernel reads the timer during the call.
    Errno::result(unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut()) }).map(drop)
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    if let Some(before) = arguments.before {
        handle_before(before)?;
    }
    let limits = [
        (Resource::RLIMIT_MEMLOCK, arguments.memlock),
        (Resource::RLIMIT_NOFILE, arguments.nofile),
        (Resource::RLIMIT_FSIZE, arguments.fsize),
    ];
    for (resource, limit) in limits {
        limit.map_or(Ok(()), |limit| setrlimit(resource, limit, limit))?;
    }
    if let Some(uid) = arguments.uid.map(Uid::from_raw) {
        setresuid(uid, uid, uid)?;
    }

    arguments.storm.map_or(Ok(()), storm)?;

    let mut victim = Victim { options: options(&arguments), path: arguments.path, ..Victim::default() };
    for line in io::stdin().lock().lines() {
        let line = line?;
        let answer = victim.obey(&line);
        victim.failed = answer.starts_with("Err").then_some(line);
        let mut out = io::stdout().lock();
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}

fn options(arguments: &Arguments) -> RegionOptions {
    let mut options = RegionOptions::new()
        .capacity(arguments.capacity)
        .max_producers(1)
        .prefault(arguments.prefault)
        .lock_memory(arguments.lock)
        .guard_truncation(arguments.guard);
    if arguments.dont_dump {
        options = options.advise(Advice::DontDump);
    }
    if let Some(group) = arguments.group {
        options = options.group(group);
    }
    match arguments.huge_pages {
        Some(Huge::Transparent) => options.huge_pages(HugePages::Transparent),
        Some(Huge::Reserved) => options.huge_pages(HugePages::Reserved),
        None => options,
    }
}

#[derive(Default)]
struct Victim {
    path: PathBuf,
    options: RegionOptions,
    region: Option<Region>,
    producer: Option<Producer>,
    consumer: Option<Consumer>,
    descriptors: Vec<File>,
    guarded: Vec<(Region, Producer, Consumer)>,
    /// What it was told last, if that failed.
    failed: Option<String>,
}

/// What became of a call, its value left out.
fn told<T, E: Debug>(result: Result<T, E>) -> String {
    format!("{:?}", result.map(drop))
}

impl Victim {
    fn obey(&mut self, line: &str) -> String {
        let (verb, number) = line.split_once(' ').unwrap_or((line, "0"));
        let number: usize = number.parse().expect("a number");
        match verb {
            "create" => keep(&mut self.region, self.options.create(&self.path)),
            "open" => keep(&mut self.region, self.options.open(&self.path)),
            "plain" => {
                self.options = RegionOptions::new();
                "Ok(())".to_owned()
            }
            // What failed just now, once more.
            "again" => self.failed.take().map_or_else(|| "Ok(())".to_owned(), |line| self.obey(&line)),
            "remove" => told(Region::remove(&self.path)),
            "producer" => keep(&mut self.producer, self.region.as_ref().expect("a region").producer()),
            "named" => {
                let options = ProducerOptions::new().name(format!("p{number}"));
                let region = self.region.as_ref().expect("a region");
                keep(&mut self.producer, region.producer_with(&options))
            }
            "consumer" => keep(&mut self.consumer, self.region.as_ref().expect("a region").consumer()),
            "leave" => {
                (self.producer, self.consumer) = (None, None);
                "Ok(())".to_owned()
            }
            "send" => told(self.producer().try_send(&vec![7; number])),
            "send-blocking" => told(self.producer().send(&vec![7; number])),
            "send-numbers" => told(send_numbers(self.producer(), 0..number as u64)),
            "read-numbers" => told(read_numbers(self.consumer(), 0..number as u64)),
            "read-for" => {
                let least = Duration::from_millis(number as u64);
                let waited = waited(least, || self.consumer().read_timeout(least).map(drop));
                format!("{waited:?}")
            }
            "send-for" => {
                let least = Duration::from_millis(number as u64);
                let waited = waited(least, || self.producer().send_timeout(&[7; 1000], least));
                format!("{waited:?}")
            }
            "batch" => self.batch(number),
            "grant" => self.grant(number),
            "fill" => loop {
                if let Err(e) = self.producer().try_send(&vec![7; number]) {
                    break format!("{e:?}");
                }
            },
            "check" => told(self.producer().check_region()),
            "try-read" => match self.consumer().try_read() {
                Ok(Read::Message(m)) => format!("message {} of {}", m.sequence, m.payload.len()),
                other => format!("{other:?}"),
            },
            "read" => match self.consumer().read_timeout(Duration::from_secs(60)) {
                Ok(Read::Message(m)) => format!("message {} of {}", m.sequence, m.payload.len()),
                other => format!("{other:?}"),
            },
            "available" => {
                let found: Vec<_> = self.consumer().available().map(|m| m.map(|m| m.sequence)).collect();
                format!("{found:?}")
            }
            "commit" => {
                self.consumer().commit();
                "Ok(())".to_owned()
            }
            "exhaust" => loop {
                match File::open("/dev/null") {
                    Ok(file) => self.descriptors.push(file),
                    Err(e) => break format!("{:?}", e.raw_os_error()),
                }
            },
            "guard-many" => self.guard_many(),
            "guard-fewer" => {
                self.guarded.pop();
                "Ok(())".to_owned()
            }
            "touch-elsewhere" => touch_elsewhere(),
            "raise" => told(raise(Signal::SIGBUS)),
            "trap" => told(raise(Signal::SIGTRAP)),
            "overflow" => overflow(number as u64).to_string(),
            _ => panic!("what is {verb:?}?"),
        }
    }

    fn producer(&mut self) -> &mut Producer {
        self.producer.as_mut().expect("a producer")
    }

    fn consumer(&mut self) -> &mut Consumer {
        self.consumer.as_mut().expect("a consumer")
    }

    /// Publishes a batch: what each push said, then the region.
    fn batch(&mut self, len: usize) -> String {
        let mut batch = self.producer().batch();
        let pushed = batch.try_push_with(&vec![7; len], Flags::NONE);
        batch.publish();
        format!("{pushed:?} {:?}", self.producer().check_region())
    }

    /// Commits a message that was written in place, and asks about the region.
    fn grant(&mut self, len: usize) -> String {
        match self.producer().try_reserve(len) {
            Ok(mut grant) => {
                grant.write_all(&vec![7; len]).expect("there is room");
                grant.commit();
            }
            Err(e) => return format!("{e:?}"),
        }
        told(self.producer().check_region())
    }

    /// Guards handles until there is room for no more: how many, and the error.
    fn guard_many(&mut self) -> String {
        loop {
            let path = self.path.with_extension(self.guarded.len().to_string());
            let region = self.options.open_or_create(path).expect("a region");
            let attached = region.producer().and_then(|p| Ok((p, region.consumer()?)));
            match attached {
                Ok((producer, consumer)) => self.guarded.push((region, producer, consumer)),
                Err(e) => break format!("{} {e:?}", 2 * self.guarded.len()),
            }
        }
    }
}

/// What became of a call, and whether it took `least`.
fn waited<E>(least: Duration, call: impl FnOnce() -> Result<(), E>) -> (Result<(), E>, bool) {
    let started = Instant::now();
    (call(), started.elapsed() >= least)
}

fn keep<T, E: Debug>(place: &mut Option<T>, result: Result<T, E>) -> String {
    told(result.map(|value| *place = Some(value)))
}

/// Touches a page that its file does not have, in no guarded mapping.
fn touch_elsewhere() -> String {
    let file = tempfile::tempfile().expect("a file");
    file.set_len(4096).expect("a page");
    let map = MmapRaw::map_raw(&file).expect("a map");
    file.set_len(0).expect("no page");
    // SAFETY: the address is mapped; that the kernel answers with a signal is
    // what is wanted.
    let byte = unsafe { map.as_ptr().read_volatile() };
    format!("read {byte}")
}

/// Uses up the stack.
#[expect(unconditional_recursion, reason = "that is what it is for")]
fn overflow(n: u64) -> u64 {
    let page = std::hint::black_box([n; 512]);
    overflow(n + 1) + page[(n % 512) as usize]
}
