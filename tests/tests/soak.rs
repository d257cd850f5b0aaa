//! Some seconds of the program `soak`: producers and consumers that come, stop,
//! go and are killed at random, and a judge who reads what they wrote down.
//! Minutes of it are `cargo run --release -p tests --bin soak`.

use std::fs;
use std::path::{Path, PathBuf};

use tests::{Child, Done, Lab, Random};

fn soak(lab: &Lab, arguments: &[&str]) -> Done {
    let mut command = lab.prepared(env!("CARGO_BIN_EXE_soak").as_ref());
    let done = Child::start(command.args(arguments)).finish();
    println!("{}", String::from_utf8_lossy(&done.stdout));
    done
}

/// The number before a word of the summary.
fn count(done: &Done, word: &str) -> u64 {
    let text = String::from_utf8_lossy(&done.stdout);
    let words: Vec<_> = text.split([' ', ',', ';']).collect();
    let at = words.iter().position(|found| *found == word).expect("it is in the summary");
    words[at - 1].parse().expect("a number")
}

#[test]
fn all_that_was_sent_is_delivered_once_whoever_is_killed() {
    let lab = Lab::new();
    let done = soak(&lab, &["--seconds", "4"]).expect(0);
    assert!(count(&done, "messages") > 0 && count(&done, "kills") > 0, "too few for a test");
}

/// The lines of a transcript that `may` be taken out.
fn candidates(path: &Path, may: impl Fn(&str) -> bool) -> Vec<usize> {
    let text = fs::read_to_string(path).unwrap();
    // What a killed one wrote last may be missing for good reasons.
    let last = text.lines().filter(|line| *line == "k" || line.starts_with("o ")).count();
    let mut seen = 0;
    let before_last = |line: &&str| {
        seen += usize::from(*line == "k" || line.starts_with("o "));
        seen < last
    };
    let lines = text.lines().take_while(before_last).enumerate();
    lines.filter(|(_, line)| may(line)).map(|(at, _)| at).collect()
}

#[test]
fn a_transcript_without_one_line_is_refused() {
    let lab = Lab::new();
    let kept = lab.path("kept");
    // A plan in which somebody sends.
    soak(&lab, &["--seconds", "1", "--seed", "1", "--keep", kept.to_str().unwrap()]).expect(0);
    let round = kept.join("round-0");
    let judged = || soak(&lab, &["judge", round.to_str().unwrap()]);
    judged().expect(0);
    let mut random = Random::new("a_transcript_without_one_line_is_refused");
    let files: Vec<PathBuf> = fs::read_dir(&round).unwrap().map(|entry| entry.unwrap().path()).collect();
    // Something that was read and committed; an intent; an outcome.
    for (letter, first) in [("c", "m"), ("p", "i"), ("p", "o")] {
        let is_one = |path: &&PathBuf| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with(letter) && name[1..].parse::<u64>().is_ok()
        };
        let places: Vec<_> = files
            .iter()
            .filter(is_one)
            .map(|path| (path, candidates(path, |line| line.split(' ').next() == Some(first))))
            .filter(|(_, lines)| !lines.is_empty())
            .collect();
        let (path, lines) = &places[random.among(0..places.len() as u64) as usize];
        let line = lines[random.among(0..lines.len() as u64) as usize];
        let whole = fs::read_to_string(path).unwrap();
        let without: String = whole
            .split_inclusive('\n')
            .enumerate()
            .filter(|(at, _)| *at != line)
            .map(|(_, text)| text)
            .collect();
        fs::write(path, without).unwrap();
        let done = judged();
        assert_eq!(done.code(), 1, "line {} of {} is not missed", line + 1, path.display());
        println!("{}", done.stderr);
        fs::write(path, whole).unwrap();
    }
    judged().expect(0);
}

#[test]
fn a_run_that_would_show_nothing_is_refused() {
    let lab = Lab::new();
    assert_eq!(soak(&lab, &["--seconds", "0"]).code(), 2, "no time");
    // What another run kept is neither judged nor written over.
    std::fs::create_dir_all(lab.path("kept/round-0")).unwrap();
    let done = soak(&lab, &["--seconds", "1", "--keep", lab.path("kept").to_str().unwrap()]);
    assert_eq!(done.code(), 1, "{}", done.stderr);
    assert!(done.stderr.contains("kept/round-0: File exists"), "{}", done.stderr);
}

#[test]
fn the_judge_knows_nothing_of_the_ring_nor_of_those_who_wrote() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/soak/judge");
    let sources: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(sources.len() > 3, "the judge is not where it was");
    for path in sources {
        let text = fs::read_to_string(&path).unwrap();
        for word in ["shmring", "tests::", "crate::", "super::super"] {
            assert!(!text.contains(word), "{word} in {}", path.display());
        }
    }
}
