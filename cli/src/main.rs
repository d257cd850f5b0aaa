//! The program `shmring`: try a ring, make one, look at one, remove one.

mod demo;
mod info;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use nix::unistd::Group;
use shmring::{HugePages, Region, RegionOptions};
use shmring_grammar::{Common, Exit, LaneFlags, Verbosity, parse_size};

/// Rings in shared memory: messages between processes on one machine.
#[derive(Debug, Parser)]
#[command(name = "shmring", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show what a ring does here: two processes, a real file, ten million messages, round trips
    Demo(demo::Arguments),
    /// Make a ring
    Create(Create),
    /// Show what a ring is and who uses it
    Info(info::Arguments),
    /// Remove a ring that nobody uses
    Rm(Rm),
    /// The program producer, for the demo
    #[command(hide = true)]
    Producer(producer::Arguments),
    /// The program consumer, for the demo
    #[command(hide = true)]
    Consumer(consumer::Arguments),
    /// The other side of the demo's round trips
    #[command(hide = true)]
    Echo(demo::EchoArguments),
}

#[derive(Debug, Args)]
struct Create {
    #[command(flatten)]
    common: Common,

    /// Capacity of each producer's ring: a power of two from 64KiB up [default: 1MiB]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    capacity: Option<u64>,

    #[command(flatten)]
    lanes: LaneFlags,

    /// Records start at multiples of this many bytes [default: 16]
    #[arg(long, value_enum, value_name = "BYTES")]
    align: Option<Align>,

    /// Permission bits of the ring's file, whatever the umask [default: 0600]
    #[arg(
        long,
        value_name = "OCTAL",
        value_parser = parse_mode,
        long_help = "Permission bits of the ring's file, whatever the umask [default: 0600].\n\
        To use a ring takes reading and writing: 0660 lets its group use it. Whoever can open \
        the file for reading sees every message, and can hold a read lock and keep a role busy."
    )]
    mode: Option<u32>,

    /// Group of the ring's file, by name or number; goes with --mode 0660
    #[arg(long, value_name = "NAME|GID", value_parser = parse_group)]
    group: Option<u32>,

    /// Lay the ring out for pages of 2 MiB; its capacity is then at least, and usually, as much
    #[arg(long, value_enum, value_name = "KIND")]
    huge_pages: Option<HugePagesFlag>,
}

/// The values of `--huge-pages`.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum HugePagesFlag {
    /// The kernel joins small pages, for each process that asks for it by the library
    Transparent,
    /// Pages that are set aside (vm.nr_hugepages); the ring is on a hugetlbfs
    Reserved,
}

impl From<HugePagesFlag> for HugePages {
    fn from(flag: HugePagesFlag) -> HugePages {
        match flag {
            HugePagesFlag::Transparent => HugePages::Transparent,
            HugePagesFlag::Reserved => HugePages::Reserved,
        }
    }
}

fn parse_mode(text: &str) -> Result<u32, String> {
    let octal = text.bytes().all(|b| b.is_ascii_digit());
    let mode = u32::from_str_radix(text, 8).ok().filter(|_| octal);
    match mode {
        // What bits are possible, the library says.
        Some(mode) => Ok(mode),
        None => Err("not an octal number, like 0660".to_owned()),
    }
}

fn parse_group(text: &str) -> Result<u32, String> {
    if let Ok(Some(group)) = Group::from_name(text) {
        return Ok(group.gid.as_raw());
    }
    // All ones are no group's number: to chown(2) they mean no change.
    let number = text.parse().ok().filter(|gid| *gid != u32::MAX);
    number.ok_or_else(|| "there is no such group".to_owned())
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Align {
    #[value(name = "8")]
    Eight = 8,
    #[value(name = "16")]
    Sixteen = 16,
    #[value(name = "64")]
    SixtyFour = 64,
}

#[derive(Debug, Args)]
struct Rm {
    #[command(flatten)]
    common: Common,
}

fn main() -> ExitCode {
    shmring_grammar::run("shmring", verbosity, run)
}

fn verbosity(arguments: &Arguments) -> &Verbosity {
    match &arguments.command {
        Command::Demo(demo) => &demo.verbosity,
        Command::Create(create) => &create.common.verbosity,
        Command::Info(info) => &info.common.verbosity,
        Command::Rm(rm) => &rm.common.verbosity,
        Command::Producer(producer) => &producer.common.verbosity,
        Command::Consumer(consumer) => &consumer.common.verbosity,
        Command::Echo(echo) => &echo.verbosity,
    }
}

fn run(arguments: Arguments) -> Result<(), Exit> {
    match arguments.command {
        Command::Demo(demo) => demo::run(&demo),
        Command::Create(create) => make(&create),
        Command::Info(info) => info::run(&info),
        Command::Rm(rm) => Ok(Region::remove(rm.common.path()?)?),
        Command::Producer(arguments) => producer::produce(arguments),
        Command::Consumer(arguments) => consumer::consume(arguments),
        Command::Echo(echo) => demo::echo(&echo),
    }
}

fn make(create: &Create) -> Result<(), Exit> {
    let mut options = create.lanes.apply(RegionOptions::new());
    if let Some(capacity) = create.capacity {
        options = options.capacity(capacity);
    }
    if let Some(align) = create.align {
        options = options.record_align(align as u64);
    }
    if let Some(mode) = create.mode {
        options = options.mode(mode);
    }
    if let Some(group) = create.group {
        options = options.group(group);
    }
    if let Some(pages) = create.huge_pages {
        options = options.huge_pages(pages.into());
    }
    options.create(create.common.path()?)?;
    Ok(())
}
