//! A stream of any bytes, coming in any pieces, through every framing.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::OnceLock;

use arbitrary::{Result, Unstructured};
use nix::unistd::pipe;
use shmring_grammar::{Framing, Input, InputError, Ready, Step, Stop};

use super::{MEMORY, Outcome, peak};

/// More than `Input` reads at a time; a pipe holds less.
const CHUNK: usize = 1 << 20;

static STOP: OnceLock<Stop> = OnceLock::new();

/// A framing, the longest message, the pieces and their bytes.
pub fn framing(bytes: &[u8]) -> Outcome {
    // Its signal handlers are there once.
    let stop = STOP.get_or_init(|| Stop::install().expect("signal handlers"));
    let mut outcome = Outcome::default();
    // An input that ends early is one of fewer pieces.
    let (most, _) = peak(|| stream(&mut Unstructured::new(bytes), stop, &mut outcome));
    // Only what has come is kept, whatever a length says, and the room for a read.
    // Three bytes of input make 200 of the stream, which is kept here as well.
    assert!(most <= 600 * bytes.len() + 2 * CHUNK + MEMORY, "{most} bytes for {}", bytes.len());
    outcome
}

fn stream(input: &mut Unstructured, stop: &Stop, outcome: &mut Outcome) -> Result<()> {
    let framing = match input.int_in_range(0..=3)? {
        0 => Framing::Lines,
        1 => Framing::Nul,
        2 => Framing::Len32,
        _ => Framing::Raw(input.int_in_range(1..=70)?),
    };
    let max_len = *input.choose(&[0, 1, 10, 100, 70_000, usize::MAX])?;
    let (read_end, write_end) = pipe().expect("a pipe");
    let path = PathBuf::from(format!("/proc/self/fd/{}", read_end.as_raw_fd()));
    let mut frames = Input::open(Some(&path), framing).expect("the pipe");
    drop(read_end);
    frames.set_max_len(max_len);
    let mut pieces = Some(File::from(write_end));
    let (mut given, mut out) = (Vec::new(), Vec::new());
    loop {
        match frames.next() {
            Ok(Step::Message(payload, unterminated)) => {
                assert!(payload.len() <= max_len);
                assert!(!unterminated || pieces.is_none(), "the last one only");
                framing.append(payload, unterminated, &mut out);
                outcome.arrived += 1;
            }
            Ok(Step::More) => {
                assert!(!frames.at_end());
                match piece(input, framing)? {
                    Some(piece) => {
                        let pipe = pieces.as_mut().expect("no piece follows the end");
                        pipe.write_all(&piece).expect("room in the pipe");
                        given.extend(piece);
                    }
                    None => pieces = None,
                }
                if frames.fill(stop, None).expect("a pipe can be read") != Ready::Readable {
                    return Ok(());
                }
            }
            Ok(Step::End) => {
                assert!(out == given, "{framing:?} puts together what it took apart");
                outcome.told += 1;
                return Ok(());
            }
            Err(InputError::TooLarge { at_least, max, .. }) => {
                assert!(at_least > max && max == max_len && given.starts_with(&out));
                outcome.refused += 1;
                return Ok(());
            }
            Err(InputError::CutOff { bytes, .. }) => {
                assert!(framing == Framing::Len32 && given.len() == out.len() + bytes);
                outcome.damaged += 1;
                return Ok(());
            }
            Err(other) => panic!("{other}"),
        }
    }
}

/// The next bytes of the stream; `None`: it ends.
fn piece(input: &mut Unstructured, framing: Framing) -> Result<Option<Vec<u8>>> {
    if input.is_empty() {
        return Ok(None);
    }
    let piece = match input.int_in_range(0..=4)? {
        // A length, true or not.
        0 if framing == Framing::Len32 => match input.int_in_range(0..=3)? {
            0 => u32::MAX.to_le_bytes().to_vec(),
            1 => input.arbitrary::<u32>()?.to_le_bytes().to_vec(),
            _ => u32::from(input.arbitrary::<u8>()?).to_le_bytes().to_vec(),
        },
        0 => vec![if framing == Framing::Nul { 0 } else { b'\n' }; input.int_in_range(1..=3)?],
        1 => vec![input.arbitrary()?; input.int_in_range(1..=200)?],
        _ => {
            let len = input.int_in_range(1..=20)?.min(input.len());
            input.bytes(len)?.to_vec()
        }
    };
    Ok(Some(piece).filter(|piece| !piece.is_empty()))
}
