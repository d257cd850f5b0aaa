//! Who takes part, and how its processes are started.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use bench_kit::{Plan, serve, serve_pair};

use crate::{floors, ours};

/// One way to send messages.
#[derive(Debug, Clone)]
pub(crate) struct Contestant {
    /// What it is called in tables and charts.
    pub(crate) name: &'static str,
    /// The program that plays its sides; `None`: this one.
    pub(crate) program: Option<PathBuf>,
    /// Its two sides are threads.
    pub(crate) is_pair: bool,
}

impl Contestant {
    /// A process that plays one side as `plan` says.
    pub(crate) fn command(&self, plan: &Plan) -> Result<Command> {
        let program = match &self.program {
            Some(program) => program.clone(),
            None => env::current_exe().context("our own program")?,
        };
        let mut command = Command::new(program);
        command.arg(serde_json::to_string(plan)?);
        // Some have no other way to be told where their sockets belong.
        command.env("TMPDIR", &plan.place);
        Ok(command)
    }
}

/// One that this program has in itself.
pub(crate) fn built_in(name: &'static str) -> Contestant {
    Contestant { name, program: None, is_pair: false }
}

/// True if this process was started to play a side.
pub(crate) fn is_side() -> bool {
    env::args().nth(1).is_some_and(|argument| argument.starts_with('{'))
}

/// Plays a side of a contestant that this program has in itself.
pub(crate) fn play() -> Result<()> {
    bench_kit::main(|plan| match plan.name.as_str() {
        "ours" => serve::<ours::Ours>(plan),
        "record ring" => serve::<floors::RecordRing>(plan),
        "cache line" => serve::<floors::CacheLine>(plan),
        name => bail!("there is no contestant {name:?} here"),
    })
}
