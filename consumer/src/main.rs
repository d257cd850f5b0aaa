//! The program `consumer`.

use std::process::ExitCode;

fn main() -> ExitCode {
    shmring_grammar::run::<consumer::Arguments>("consumer", |a| &a.common.verbosity, consumer::consume)
}
