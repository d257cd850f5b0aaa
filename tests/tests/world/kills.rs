//! SIGKILL before and after every system call.

use std::path::Path;

use shmring::{AttachError, OpenError, Read, Region, Status};
use tests::{DEADLINE, Fate, Lab, skipped};

use crate::calls::{Step, live, record, without_unnamed_files};

/// One that attaches, sends in two lanes, reads without a commit and removes.
const LIFE: [&str; 12] = [
    "trap", "plain", "create", "open", "producer", "send 8", "named 1", "send 8", "consumer", "try-read",
    "leave", "remove",
];

/// Each kill of a life at `usual`'s mercy leaves nothing half-made, and those
/// who come later do all that they would have done.
fn killed_at_each_call(test: &str, usual: impl Fn(&Step) -> Fate, concerns: impl Fn(&Step) -> bool) {
    let lab = Lab::new();
    let path = lab.path("ring");
    let (steps, _) = match record(&lab, &path, &LIFE, &usual) {
        Ok(recorded) => recorded,
        Err(errno) => return skipped(test, errno),
    };
    let mut kills = 0;
    for (at, (word, call)) in steps.iter().enumerate().filter(|(_, step)| concerns(step)) {
        for kill in [Fate::KilledBefore, Fate::KilledAfter] {
            let mut next = 0;
            let lived = live(&lab, &path, &LIFE, |step| {
                next += 1;
                Some(if next - 1 == at { kill } else { usual(step) })
            });
            let (code, answers) = lived.expect("it was possible before");
            let story = format!("{word}, call {at}, {call:x?}, {kill:?}: {answers:?}");
            assert_eq!(code, 137, "{story}");
            let sent = LIFE.iter().zip(&answers).filter(|(word, _)| **word == "send 8").count();
            let deaths = survive(&path, if *word == "remove" { None } else { Some(sent) }, &story);
            assert!(deaths_at(answers.len()).contains(&&deaths[..]), "{deaths:?} died: {story}");
            if lab.listing() != [lab.path("life")] {
                // The next creator of the dead one's kind cleans up.
                let next =
                    live(&lab, &path, &["trap", "plain", "create", "remove"], |step| Some(usual(step)));
                assert_eq!(next.unwrap().1, ["Ok(())"; 4], "{story}");
            }
            assert_eq!(lab.listing(), [lab.path("life")], "left behind: {story}");
            kills += 1;
        }
    }
    println!("{test}: {} calls, {kills} kills", steps.len());
}

/// Does with the region at `path` what others would do after a death; `sent`
/// messages are in it, if it must be there once something was sent. The lanes of
/// those who died.
fn survive(path: &Path, sent: Option<usize>, story: &str) -> Vec<u32> {
    let early = match Region::open(path) {
        Ok(region) => Some(region),
        Err(OpenError::NotFound { .. }) => None,
        Err(e) => panic!("{e}: {story}"),
    };
    assert!(early.is_some() || sent.is_none_or(|sent| sent == 0), "it is gone: {story}");
    let sent = if early.is_some() { sent.unwrap_or(2) } else { 0 };
    let region = Region::open_or_create(path).unwrap();
    let status = Status::of(path).unwrap();
    assert!(status.consumer.is_none() && status.lanes.iter().all(|l| l.producer.is_none()), "{story}");

    let mut consumer = region.consumer().unwrap();
    let mut producer = region.producer().unwrap();
    producer.send(b"after").unwrap();
    producer.close();
    // Not only once a period.
    consumer.check_producers().unwrap();
    let (mut found, mut after, mut deaths) = (0, 0, Vec::new());
    loop {
        match consumer.read_timeout(DEADLINE) {
            Ok(Read::Message(m)) if m.payload == [7; 8] => found += 1,
            Ok(Read::Message(m)) if m.payload == b"after" => after += 1,
            Ok(Read::Died(death)) => deaths.push(death.lane),
            Ok(Read::End) => break,
            other => panic!("{other:?}: {story}"),
        }
    }
    consumer.commit();
    drop(consumer);
    assert_eq!((found, after), (sent, 1), "{story}");
    deaths.sort_unstable();

    Region::remove(path).unwrap();
    for region in early.iter().chain([&region]) {
        let refused = region.producer();
        assert!(matches!(refused, Err(AttachError::Removed)), "{refused:?}: {story}");
    }
    deaths
}

/// Whose deaths may be told after a kill in this word of the life. The producer
/// with a name comes before the one without goes.
fn deaths_at(word: usize) -> &'static [&'static [u32]] {
    match (LIFE[word], word) {
        ("producer", _) => &[&[], &[0]],
        (_, 5) => &[&[0]],
        ("named 1", _) => &[&[0], &[0, 1], &[1]],
        (_, 7..10) => &[&[1]],
        ("leave", _) => &[&[1], &[]],
        _ => &[&[]],
    }
}

#[test]
fn killed_at_each_system_call() {
    killed_at_each_call("killed_at_each_system_call", |_| Fate::Made, |_| true);
}

#[test]
fn killed_at_each_system_call_of_a_creation_without_unnamed_files() {
    let test = "killed_at_each_system_call_of_a_creation_without_unnamed_files";
    killed_at_each_call(test, without_unnamed_files, |(word, _)| *word == "create");
}

/// Not killed: before each call of a removal another one removes the region,
/// makes a new one and attaches to it.
#[test]
fn a_removal_leaves_the_new_region_at_its_path() {
    let lab = Lab::new();
    let path = lab.path("ring");
    let (mut replaced, mut calls) = (0, 1);
    let mut at = 0;
    while at < calls {
        let (mut next, mut producer) = (0, None);
        let lived = live(&lab, &path, &["trap", "plain", "create", "remove"], |(word, _)| {
            if *word == "remove" {
                // Not while the one that is stopped has the lock.
                if next == at && Region::remove(&path).is_ok() {
                    producer = Some(Region::create(&path).unwrap().producer().unwrap());
                }
                next += 1;
            }
            Some(Fate::Made)
        });
        let answers = match lived {
            Ok((_, answers)) => answers,
            Err(errno) => return skipped("a_removal_leaves_the_new_region_at_its_path", errno),
        };
        calls = next;
        if let Some(producer) = producer {
            assert_eq!(producer.check_region(), Ok(()), "before call {at}: {answers:?}");
            replaced += 1;
            drop(producer);
            Region::remove(&path).unwrap();
        }
        assert!(!path.exists(), "before call {at}: {answers:?}");
        at += 1;
    }
    assert!(replaced > 3, "{replaced} of {calls}");
}
