//! The program `producer`.

use std::process::ExitCode;

fn main() -> ExitCode {
    shmring_grammar::run::<producer::Arguments>("producer", |a| &a.common.verbosity, producer::produce)
}
