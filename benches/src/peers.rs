//! Other ways for messages, each a package of its own below `peers/`, which is
//! built when it is measured: one that cannot be built leaves the others.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::contestant::Contestant;

/// One of them.
#[derive(Debug)]
pub(crate) struct Peer {
    /// What it is called in tables and charts.
    pub(crate) name: &'static str,
    /// Its folder below `peers/`.
    pub(crate) folder: &'static str,
    /// Its two sides are threads.
    pub(crate) is_pair: bool,
    /// What must be installed to build it, beside Rust and a linker: Debian
    /// packages.
    pub(crate) needs: &'static str,
    /// What it takes part in.
    pub(crate) can: Can,
}

/// What a peer takes part in. All send one way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Can {
    /// There and back.
    pub(crate) round_trip: bool,
    /// Hands several messages over together.
    pub(crate) batch: bool,
    /// So many at a time may send.
    pub(crate) senders: u32,
    /// Has a way to sleep until a message comes.
    pub(crate) wake: bool,
    /// The longest message that it is for.
    pub(crate) max_size: usize,
    /// Messages are written where they are sent from.
    pub(crate) in_place: bool,
}

/// As many as the kit tells apart.
const MANY: u32 = 256;
/// As long as any that is sent here.
const ANY_SIZE: usize = 1 << 20;

/// What a way between processes can, if nothing else is said.
const PROCESSES: Can =
    Can { round_trip: true, batch: false, senders: MANY, wake: true, max_size: ANY_SIZE, in_place: false };

/// What a queue for threads can: it holds arrays.
const THREADS: Can = Can { batch: true, wake: false, max_size: 1024, ..PROCESSES };

/// All, the most important first.
pub(crate) const PEERS: [Peer; 9] = [
    Peer {
        name: "iceoryx2",
        folder: "iceoryx2",
        is_pair: false,
        needs: "",
        can: Can { in_place: true, ..PROCESSES },
    },
    Peer {
        name: "Boost message_queue",
        folder: "boost",
        is_pair: false,
        needs: "g++ libboost-dev",
        can: PROCESSES,
    },
    Peer { name: "ZeroMQ ipc", folder: "zeromq", is_pair: false, needs: "g++", can: PROCESSES },
    Peer { name: "ipc-channel", folder: "ipc-channel", is_pair: false, needs: "", can: PROCESSES },
    Peer {
        name: "shmem-ipc",
        folder: "shmem-ipc",
        is_pair: false,
        needs: "",
        can: Can { batch: true, senders: 1, ..PROCESSES },
    },
    Peer {
        name: "gofsd shmring",
        folder: "gofsd-shmring",
        is_pair: false,
        needs: "",
        can: Can { batch: true, senders: 1, ..PROCESSES },
    },
    Peer { name: "rtrb", folder: "rtrb", is_pair: true, needs: "", can: Can { senders: 1, ..THREADS } },
    Peer {
        name: "crossbeam-channel",
        folder: "crossbeam",
        is_pair: true,
        needs: "",
        can: Can { batch: false, wake: true, ..THREADS },
    },
    Peer { name: "disruptor", folder: "disruptor", is_pair: true, needs: "", can: THREADS },
];

/// Builds a peer, all into one folder for what they share. If that fails it is
/// said loudly, and the caller goes on without.
pub(crate) fn build(peer: &Peer) -> Result<Contestant> {
    match build_program(peer) {
        Ok(program) => Ok(Contestant { name: peer.name, program: Some(program), is_pair: peer.is_pair }),
        Err(error) => {
            eprintln!("!!! SKIPPED: {}: {error:#}", peer.name);
            Err(error)
        }
    }
}

fn build_program(peer: &Peer) -> Result<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(peer.folder);
    let target = target_folder()?;
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--release", "--locked", "--target-dir"]).arg(&target).current_dir(&folder);
    let output = cargo.output().with_context(|| format!("{cargo:?} in {}", folder.display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let why = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it does not say why");
        match peer.needs {
            "" => bail!("{}", why.trim()),
            needs => bail!("{} (it needs the packages {needs})", why.trim()),
        }
    }
    let program = target.join("release").join(format!("peer-{}", peer.folder));
    anyhow::ensure!(program.is_file(), "{} was not built", program.display());
    Ok(program)
}

/// Below the folder where this program was built.
fn target_folder() -> Result<PathBuf> {
    let program = env::current_exe().context("our own program")?;
    // Tests are one deeper.
    let mut folders = program.ancestors().skip(1).filter(|folder| !folder.ends_with("deps"));
    let target = folders.nth(1).context("it is in a folder of its profile")?;
    Ok(target.join("peers"))
}

#[cfg(test)]
mod tests {
    use bench_kit::{Measure, Plan};

    use super::*;
    use crate::round::{self, Cores};

    /// Plays a round; nothing may be lost or wrong.
    fn play(contestant: &Contestant, what: &str, plan: &Plan) {
        let outcome = round::play(contestant, plan, Cores::Free)
            .unwrap_or_else(|error| panic!("{}, {what}: {error:#}", contestant.name));
        let figures = (outcome.lost, outcome.wrong, outcome.nanos > 0);
        assert_eq!(figures, (0, 0, true), "{}, {what}: {outcome:?}", contestant.name);
        let each = outcome.nanos / outcome.messages;
        println!("{}, {what}: {each} ns, p50 {:?}", contestant.name, outcome.latency.map(|of| of.p50));
    }

    #[test]
    #[ignore = "builds all peers; those that cannot be built here are skipped"]
    fn peers_lose_nothing() {
        for peer in &PEERS {
            let Ok(contestant) = build(peer) else { continue };
            for size in [8, 64, 1024, 65536, 1 << 20] {
                if size > peer.can.max_size {
                    continue;
                }
                let messages = (1 << 30) / (size as u64 * 16 + (16 << 10));
                let mut plan = round::one_way(size, messages);
                play(&contestant, &format!("one way, {size} bytes"), &plan);
                if peer.can.in_place {
                    plan.settings.in_place = true;
                    play(&contestant, &format!("in place, {size} bytes"), &plan);
                    plan.settings.in_place = false;
                }
                if peer.can.batch && size <= 1024 {
                    plan.measure = Measure::OneWay { messages, warmup: messages / 8, batch: 64, work: 0 };
                    play(&contestant, &format!("batches of 64, {size} bytes"), &plan);
                }
                if peer.can.round_trip && size <= 65536 {
                    play(&contestant, &format!("round trip, {size} bytes"), &round::round_trip(size, 2000));
                }
            }
            for senders in [2, 5, 16] {
                if senders <= peer.can.senders {
                    let mut plan = round::one_way(64, 4000);
                    plan.settings.senders = senders;
                    play(&contestant, &format!("{senders} senders"), &plan);
                }
            }
            if peer.can.wake {
                let mut plan = round::one_way(64, 0);
                plan.measure = Measure::Wake { messages: 100, every: 1000 };
                play(&contestant, "wake", &plan);
                plan.measure = Measure::Idle { millis: 100 };
                play(&contestant, "idle", &plan);
            }
        }
    }
}
