//! Producers come and go by the thousands, and leave nothing.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::thread;

use shmring::{Read, Region, RegionOptions, Status};
use tests::{Child, DEADLINE, Lab};

fn many(lab: &Lab, arguments: &[&str]) -> std::process::Command {
    let mut command = lab.prepared(env!("CARGO_BIN_EXE_many").as_ref());
    command.arg(arguments[0]).arg(lab.path("rings/region")).args(&arguments[1..]);
    command
}

fn region(lab: &Lab) -> Region {
    fs::create_dir(lab.path("rings")).unwrap();
    RegionOptions::new().capacity(64 << 10).create(lab.path("rings/region")).unwrap()
}

#[test]
fn twenty_thousand_attaches_leave_nothing() {
    let lab = Lab::new();
    region(&lab);
    // In a process where nothing else happens.
    let done = Child::start(&mut many(&lab, &["cycles", "20000", "4"])).finish().expect(0);
    print!("{}", String::from_utf8_lossy(&done.stdout));
}

#[test]
fn a_thousand_short_lived_processes_leave_nothing() {
    const PROCESSES: u64 = 1000;
    const AT_ONCE: u64 = 4;
    const EACH: u64 = 5;
    let lab = Lab::new();
    let region = region(&lab);
    let mut consumer = region.consumer().unwrap();
    let path = lab.path("rings/region");
    // The lanes are taken, with their space.
    let all: Vec<_> = (0..AT_ONCE).map(|_| region.producer().unwrap()).collect();
    drop(all);
    assert_eq!(consumer.read().unwrap(), Read::End);
    consumer.commit();
    let held = || (fs::metadata(&path).unwrap().blocks(), Status::of(&path).unwrap().lanes.len());
    let before = (held(), lab.listing());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                for _ in 0..PROCESSES / AT_ONCE {
                    Child::start(&mut many(&lab, &["once", &EACH.to_string()])).finish().expect(0);
                }
            });
        }
        let mut next = [0; AT_ONCE as usize];
        for _ in 0..PROCESSES * EACH {
            loop {
                match consumer.read_timeout(DEADLINE).unwrap() {
                    Read::Message(message) => {
                        let next = &mut next[message.lane as usize];
                        assert_eq!(message.sequence, *next);
                        assert_eq!(message.payload, (*next % EACH).to_le_bytes());
                        *next += 1;
                        break;
                    }
                    Read::End => {}
                    other => panic!("{other:?}"),
                }
            }
            consumer.commit();
        }
    });
    assert_eq!(consumer.read_timeout(DEADLINE).unwrap(), Read::End);
    consumer.commit();
    assert_eq!((held(), lab.listing()), before);
    let lanes = Status::of(&path).unwrap().lanes;
    assert!(lanes.iter().all(|lane| lane.producer.is_none() && lane.used == 0 && lane.stream == "closed"));
    assert_eq!(lanes.iter().map(|lane| lane.sent).sum::<u64>(), PROCESSES * EACH);
}
