//! Many producers and one consumer, by the real programs.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{ChildStdin, Stdio};

use nix::sys::signal::Signal::SIGINT;
use shmring::{LaneStatus, Status};
use tests::{Child, Done, Lab, Program::*, until};

/// A producer that waits for its stdin.
struct Piped {
    child: Child,
    stdin: ChildStdin,
}

impl Piped {
    fn start(lab: &Lab, flags: &[&str]) -> Piped {
        let mut command = lab.command(Producer);
        command.args(["-v", "ring"]).args(flags).stdin(Stdio::piped());
        let mut child = Child::start(&mut command).wait_for("attached");
        let stdin = child.stdin();
        Piped { child, stdin }
    }

    fn write(&mut self, text: &str) {
        self.stdin.write_all(text.as_bytes()).unwrap();
    }

    fn close(self) {
        drop(self.stdin);
        self.child.finish().expect(0);
    }
}

fn generate(lab: &Lab, flags: &[&str]) -> Done {
    lab.run(Producer, &[&["ring", "--size", "64", "--generate"], flags].concat(), b"")
}

/// The lines on stderr that begin so.
fn lines<'a>(done: &'a Done, start: &str) -> Vec<&'a str> {
    done.stderr.lines().filter(|line| line.starts_with(start)).collect()
}

/// The value in a line `... name=value ...`.
fn value<'a>(line: &'a str, name: &str) -> &'a str {
    let found = line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    found.unwrap_or_else(|| panic!("no {name} in {line:?}"))
}

fn number(line: &str, name: &str) -> u64 {
    value(line, name).parse().unwrap()
}

fn lanes(lab: &Lab) -> Vec<LaneStatus> {
    Status::of(lab.ring("ring")).unwrap().lanes
}

/// Waits until so many messages were sent, by all producers.
fn until_sent(lab: &Lab, count: u64) {
    until("a message is sent", || lanes(lab).iter().map(|lane| lane.sent).sum::<u64>() >= count);
}

/// Waits until the output is `text`, which it grows to.
fn until_written(path: &Path, text: &str) {
    until(text, || fs::read(path).unwrap_or_default() == text.as_bytes());
}

#[test]
fn each_of_four_producers_is_checked() {
    let lab = Lab::new();
    for order in ["fifo", "total"] {
        lab.run(Shmring, &["create", "ring", "--order", order, "--max-producers", "4"], b"").expect(0);
        let consumer = lab.start(Consumer, &["ring", "--verify", "--expect", "4"]);
        let producers = ["north", "east", "south", "west"].map(|name| {
            lab.start(Producer, &["ring", "--name", name, "--generate", "50000", "--size", "64"])
        });
        for producer in producers {
            producer.finish().expect(0);
        }
        let done = consumer.finish().expect(0);
        let found = lines(&done, "verify:");
        assert_eq!(found.len(), 4, "{}", done.stderr);
        for (line, lane) in found.iter().zip(lanes(&lab)) {
            let name = lane.name.unwrap();
            let clean = "messages=50000 missing=0 duplicated=0 corrupt=0";
            assert_eq!(*line, format!("verify: producer={name} {clean}"));
        }
        lab.run(Shmring, &["rm", "ring"], b"").expect(0);
    }
}

#[test]
fn two_producers_without_names_send_at_a_time() {
    let lab = Lab::new();
    let mut producers = [Piped::start(&lab, &[]), Piped::start(&lab, &[])];
    let mut consumer = lab.start(Consumer, &["ring"]);
    let mut out = BufReader::new(consumer.stdout());
    for round in 0..100 {
        let producer = &mut producers[round % 2];
        let text = format!("round {round}\n");
        producer.write(&text);
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        assert_eq!(line, text);
    }
    let [one, other] = producers;
    one.close();
    other.close();
    consumer.finish().expect(0);
    let sent: Vec<u64> = lanes(&lab).iter().map(|lane| lane.sent).collect();
    assert_eq!(sent, [50, 50]);
}

#[test]
fn a_name_keeps_its_numbers_across_restarts() {
    let lab = Lab::new();
    generate(&lab, &["10", "--name", "till"]).expect(0);
    generate(&lab, &["3"]).expect(0);
    generate(&lab, &["10", "--name", "till"]).expect(0);
    generate(&lab, &["4"]).expect(0);
    let done = lab.run(Consumer, &["ring", "--verify"], b"").expect(0);
    assert_eq!(
        lines(&done, "verify:"),
        [
            "verify: producer=till messages=20 missing=0 duplicated=0 corrupt=0",
            "verify: producer=lane1 messages=7 missing=0 duplicated=0 corrupt=0",
        ]
    );
    let info = String::from_utf8(lab.run(Shmring, &["info", "ring"], b"").expect(0).stdout).unwrap();
    assert!(info.contains("lane 0\n  name        till\n") && info.contains("lane 1\n  producer"), "{info}");
}

#[test]
fn what_was_sent_without_a_name_is_checked_without_it() {
    let lab = Lab::new();
    lab.run(Shmring, &["create", "ring", "--max-producers", "1"], b"").expect(0);
    let consumer = lab.start(Consumer, &["ring", "--verify", "--expect", "2"]);
    generate(&lab, &["5"]).expect(0);
    until("all is read", || lanes(&lab)[0].committed == 5);
    generate(&lab, &["3", "--name", "till"]).expect(0);
    let done = consumer.finish().expect(0);
    assert_eq!(
        lines(&done, "verify:"),
        [
            "verify: producer=lane0 messages=5 missing=0 duplicated=0 corrupt=0",
            "verify: producer=till messages=3 missing=0 duplicated=0 corrupt=0",
        ]
    );
}

#[test]
fn a_name_in_use_is_refused_and_so_is_one_producer_too_many() {
    let lab = Lab::new();
    let till = Piped::start(&lab, &["--max-producers", "2", "--name", "till"]);
    let done = lab.run(Producer, &["ring", "--name", "till"], b"").expect(1);
    let holder = format!("producer (pid {}", till.child.pid());
    assert!(done.stderr.contains("the name till is in use") && done.stderr.contains(&holder), "{done:?}");

    let other = Piped::start(&lab, &[]);
    for flags in [&["ring"][..], &["ring", "--name", "third"]] {
        let done = lab.run(Producer, flags, b"").expect(1);
        for word in ["no lane is free: of 2, 1", "create the region for more producers"] {
            assert!(done.stderr.contains(word), "no {word:?} in: {}", done.stderr);
        }
    }
    // A free lane is anybody's, but for one with a name.
    other.close();
    lab.run(Producer, &["ring"], b"x\n").expect(0);
    till.close();
    let _other = Piped::start(&lab, &[]);
    let done = lab.run(Producer, &["ring"], b"").expect(1);
    assert!(done.stderr.contains("of 2, 1 are kept"), "{}", done.stderr);
}

#[test]
fn a_name_is_not_in_use_because_the_only_lane_is() {
    let lab = Lab::new();
    let _holder = Piped::start(&lab, &["--max-producers", "1"]);
    let done = lab.run(Producer, &["ring"], b"").expect(1);
    assert!(done.stderr.contains("the region has a producer already"), "{}", done.stderr);
    let done = lab.run(Producer, &["ring", "--name", "till"], b"").expect(1);
    assert!(!done.stderr.contains("the name till is in use"), "{}", done.stderr);
    assert!(done.stderr.contains("no lane is free"), "{}", done.stderr);
}

#[test]
fn one_whose_lane_another_took_is_counted_and_not_the_end_of_order() {
    let lab = Lab::new();
    let mut dying = Piped::start(&lab, &["--max-producers", "1"]);
    dying.write("one\n");
    until("it is sent", || lanes(&lab)[0].sent == 1);
    dying.child.kill();
    lab.run(Producer, &["ring"], b"two\n").expect(0);
    let done = lab.run(Consumer, &["ring", "--expect", "2"], b"").expect(0);
    assert_eq!(done.stdout, b"one\ntwo\n");
    assert!(done.stderr.contains("another one took lane0"), "{}", done.stderr);
}

#[test]
fn the_one_that_died_is_named_and_the_others_go_on() {
    let lab = Lab::new();
    let mut one = Piped::start(&lab, &["--name", "one"]);
    let mut other = Piped::start(&lab, &["--name", "other"]);
    let mut third = Piped::start(&lab, &[]);
    let mut consumer = lab.start(Consumer, &["ring"]);
    let mut out = BufReader::new(consumer.stdout());
    let mut read = |text: &str| {
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        assert_eq!(line, text);
    };
    one.write("from one\nnot a line");
    read("from one\n");
    let pids = [one.child.pid(), third.child.pid()];
    one.child.kill();
    let consumer = consumer.wait_for("died");
    other.write("from other\n");
    read("from other\n");
    third.child.kill();
    other.write("and again\n");
    read("and again\n");
    other.close();
    let done = consumer.finish().expect(3);
    let last = done.stderr.lines().last().unwrap();
    assert!(last.starts_with("consumer: 2 producers died"), "{}", done.stderr);
    for who in [format!("one, producer (pid {},", pids[0]), format!("lane2, producer (pid {},", pids[1])] {
        assert!(last.contains(&who), "no {who:?} in: {}", done.stderr);
    }
    assert!(!done.stderr.contains("other"), "{}", done.stderr);
}

#[test]
fn a_killed_one_is_named_and_goes_on_by_its_name() {
    let lab = Lab::new();
    let mut killed = Piped::start(&lab, &["--name", "till"]);
    let mut consumer = lab.start(Consumer, &["ring", "--follow"]);
    let mut out = BufReader::new(consumer.stdout());
    let mut line = String::new();
    killed.write("one\n");
    out.read_line(&mut line).unwrap();
    killed.child.kill();
    let consumer = consumer.wait_for("died");
    let mut again = Piped::start(&lab, &["--name", "till"]);
    again.write("two\n");
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "one\ntwo\n");
    again.close();
    consumer.signal(SIGINT);
    let done = consumer.finish().expect(3);
    assert_eq!(done.stderr.matches(": till, producer (pid").count(), 2, "{}", done.stderr);
    let lanes = lanes(&lab);
    assert_eq!((lanes.len(), lanes[0].sent, lanes[0].deaths), (1, 2, 1));
}

#[test]
fn a_death_is_noticed_while_others_send_without_end() {
    let lab = Lab::new();
    let mut killed = Piped::start(&lab, &["--name", "killed"]);
    killed.write("not generated\n");
    until_sent(&lab, 1);
    let endless = ["-v", "ring", "--name", "endless", "--generate", "1000000000000", "--size", "64"];
    let endless = lab.start(Producer, &endless).wait_for("attached");
    let consumer = lab.start(Consumer, &["-v", "ring", "--verify"]).wait_for("attached");
    killed.child.kill();
    // The death is found by a look at the producers, once a second.
    until("the death is found", || lanes(&lab).iter().any(|lane| lane.deaths > 0));
    endless.signal(SIGINT);
    endless.finish().expect(0);
    let done = consumer.finish().expect(1);
    assert_eq!(lines(&done, "verify: producer=killed messages=1 missing=0 duplicated=0 corrupt=1").len(), 1);
    assert_eq!(lines(&done, "verify: producer=endless").len(), 1);
}

/// Producers come one after the other, and the consumer is killed in between.
fn expect_three(flags: [&[&str]; 3]) {
    let lab = Lab::new();
    let output = lab.path("output");
    let consumer = || {
        let mut command = lab.command(Consumer);
        command.args(["-v", "ring", "--expect", "3", "--output"]).arg(&output);
        Child::start(&mut command).wait_for("attached")
    };
    let send = |number: usize| {
        let text = format!("{number}\n");
        lab.run(Producer, &[&["ring"], flags[number]].concat(), text.as_bytes()).expect(0);
    };
    let mut first = consumer();
    send(0);
    until_written(&output, "0\n");
    assert!(first.is_running());
    first.kill();
    let mut second = consumer();
    send(1);
    until_written(&output, "0\n1\n");
    assert!(second.is_running());
    // What it has not committed is cut off again by the next one.
    second.kill();
    let third = consumer();
    send(2);
    third.finish().expect(0);
    assert_eq!(fs::read_to_string(&output).unwrap(), "0\n1\n2\n");

    // The end was told: what came is not counted again.
    let mut fourth = consumer();
    send(0);
    send(1);
    until_written(&output, "0\n1\n2\n0\n1\n");
    assert!(fourth.is_running());
    send(2);
    fourth.finish().expect(0);
}

#[test]
fn the_end_is_waited_for_until_as_many_came_as_expected() {
    expect_three([&["--name", "a"], &["--name", "b"], &["--name", "c"]]);
    expect_three([&[], &[], &[]]);
    expect_three([&["--name", "a"], &[], &["--name", "a"]]);
}

/// Drops at a full ring: what is there, in the order of its sequences.
fn drops(flags: &[&str], why: &str) {
    const SENT: u64 = 1000;
    let lab = Lab::new();
    let sent = SENT.to_string();
    let all = [&[&sent, "--capacity", "64KiB", "--name", "sensor", "--on-full", "drop"], flags].concat();
    let said = generate(&lab, &all).expect(0).stderr;
    let lane = &lanes(&lab)[0];
    let dropped: u64 = lane.dropped.iter().map(|(_, count)| count).sum();
    assert!(dropped > 0 && lane.sent == SENT, "{lane:?}");
    assert!(said.contains(&format!("dropped {dropped} messages")), "{said}");
    let info = String::from_utf8(lab.run(Shmring, &["info", "ring"], b"").expect(0).stdout).unwrap();
    assert!(info.contains(&format!("dropped     {dropped} of them, {why}\n")), "{info}");

    let done = lab.run(Consumer, &["ring", "--verify", "--report-gaps"], b"").expect(1);
    let line = lines(&done, "verify: producer=sensor")[0];
    assert_eq!((number(line, "messages") + dropped, number(line, "missing")), (SENT, dropped), "{line}");
    assert!(line.ends_with("duplicated=0 corrupt=0"));
    let gaps = lines(&done, "gap:");
    let mut next = 0;
    for gap in &gaps {
        assert_eq!(value(gap, "producer"), "sensor");
        assert!(number(gap, "first") >= next, "{}", done.stderr);
        next = number(gap, "first") + number(gap, "count");
    }
    assert_eq!(gaps.iter().map(|gap| number(gap, "count")).sum::<u64>(), dropped);

    // With room again nothing is dropped, and the sequence goes on.
    generate(&lab, &["5", "--name", "sensor", "--on-full", "drop"]).expect(0);
    let done = lab.run(Consumer, &["ring", "--verify"], b"").expect(0);
    assert_eq!(done.stderr, "verify: producer=sensor messages=5 missing=0 duplicated=0 corrupt=0\n");
}

#[test]
fn dropped_messages_are_gaps() {
    drops(&[], "the ring was full");
    drops(&["--timeout", "100us"], "the ring stayed full until the deadline");
}

#[test]
fn drops_among_what_is_read_add_up() {
    let lab = Lab::new();
    lab.run(Shmring, &["create", "ring", "--capacity", "64KiB"], b"").expect(0);
    let consumer = lab.start(Consumer, &["ring", "--verify", "--report-gaps", "--expect", "2"]);
    let flags = ["ring", "--on-full", "drop", "--generate", "300000", "--size", "64"];
    let others = [(); 2].map(|()| lab.start(Producer, &flags));
    for producer in others {
        producer.finish().expect(0);
    }
    // 1 if anything was dropped, which is a matter of luck.
    let done = consumer.finish();
    let missing: u64 = lines(&done, "verify:").iter().map(|line| number(line, "missing")).sum();
    assert_eq!(done.code(), (missing > 0) as i32);
    for (name, lane) in ["lane0", "lane1"].iter().zip(lanes(&lab)) {
        let dropped: u64 = lane.dropped.iter().map(|(_, count)| count).sum();
        let start = format!("verify: producer={name} ");
        let sum: u64 = lines(&done, &start).iter().map(|line| number(line, "messages")).sum();
        assert_eq!(sum + dropped, lane.sent, "{}", done.stderr);
        let gaps = lines(&done, &format!("gap: producer={name} "));
        assert_eq!(gaps.iter().map(|gap| number(gap, "count")).sum::<u64>(), dropped);
    }
    assert_eq!(lanes(&lab).iter().map(|lane| lane.sent).sum::<u64>(), 600_000);
}

#[test]
fn what_was_dropped_is_told_at_the_end_without_being_asked() {
    let lab = Lab::new();
    generate(&lab, &["1000", "--capacity", "64KiB", "--on-full", "drop"]).expect(0);
    let dropped: u64 = lanes(&lab)[0].dropped.iter().map(|(_, count)| count).sum();
    let done = lab.run(Consumer, &["ring", "--output", "/dev/null"], b"").expect(0);
    assert!(done.stderr.contains(&format!("{dropped} messages were dropped")), "{}", done.stderr);
    assert_eq!(lines(&done, "gap:"), [""; 0]);
}

/// The gaps that are told, as first and behind, in their order.
fn gaps(done: &Done) -> Vec<(u64, u64)> {
    let ends = |gap: &&str| (number(gap, "first"), number(gap, "first") + number(gap, "count"));
    lines(done, "gap:").iter().map(ends).collect()
}

#[test]
fn what_one_dropped_before_it_died_is_a_gap_and_told_once() {
    const TOLD: &str = "a producer died";
    let lab = Lab::new();
    let text = "nobody reads this line, so that it is dropped in the end\n".repeat(3000);
    let flags = ["--capacity", "64KiB", "--on-full", "drop", "--name", "sensor"];
    let mut killed = Piped::start(&lab, &flags);
    killed.write(&text);
    until_sent(&lab, 3000);
    let consumer = || lab.start(Consumer, &["ring", "--report-gaps", "--follow", "--output", "/dev/null"]);

    // Quiet or not, whether somebody comes after it or not.
    killed.child.kill();
    let first = consumer().wait_for(TOLD);
    let mut next = Piped::start(&lab, &flags);
    next.write("x\n");
    until("all is read", || lanes(&lab)[0].committed == 3001);
    first.signal(SIGINT);
    let done = first.finish().expect(3);
    let dropped: u64 = lanes(&lab)[0].dropped.iter().map(|(_, count)| count).sum();
    assert_eq!(gaps(&done), [(3000 - dropped, 3000)], "{}", done.stderr);

    // What was dropped since is new.
    next.write(&text);
    until_sent(&lab, 6001);
    next.child.kill();
    let done = lab.run(Consumer, &["-q", "ring", "--report-gaps", "--output", "/dev/null"], b"").expect(3);
    let all: u64 = lanes(&lab)[0].dropped.iter().map(|(_, count)| count).sum();
    assert_eq!(gaps(&done), [(6001 - (all - dropped), 6001)], "{}", done.stderr);
}

/// What comes out if two producers take turns, each waiting for the other, and
/// all is read afterwards.
fn in_turns(order: &str) -> (String, String) {
    let lab = Lab::new();
    let mut producers = [(); 2].map(|()| Piped::start(&lab, &["--order", order]));
    let mut expected = String::new();
    for turn in 0..300 {
        let text = format!("turn {turn}\n");
        producers[turn % 2].write(&text);
        expected += &text;
        until_sent(&lab, turn as u64 + 1);
    }
    let info = String::from_utf8(lab.run(Shmring, &["info", "ring"], b"").expect(0).stdout).unwrap();
    assert!(info.contains(&format!("order         {order}\n")), "{info}");
    for producer in producers {
        producer.close();
    }
    (String::from_utf8(lab.run(Consumer, &["ring"], b"").expect(0).stdout).unwrap(), expected)
}

#[test]
fn total_order_is_the_order_of_the_sends() {
    let (found, expected) = in_turns("total");
    assert_eq!(found, expected);
    // As a control: else each lane has a turn of several messages.
    let (found, expected) = in_turns("fifo");
    assert_ne!(found, expected);
    assert_eq!(found.len(), expected.len());
}

#[test]
fn a_ring_that_nobody_used_says_so() {
    let lab = Lab::new();
    lab.run(Shmring, &["create", "ring", "--max-producers", "1000", "--capacity", "64KiB"], b"").expect(0);
    let info = String::from_utf8(lab.run(Shmring, &["info", "ring"], b"").expect(0).stdout).unwrap();
    assert!(info.contains("max producers 1000\n") && info.contains("none was used yet"), "{info}");
    let mut bytes = Vec::new();
    let mut consumer = lab.start(Consumer, &["ring", "--verify", "--timeout", "10ms"]);
    consumer.stderr().read_to_end(&mut bytes).unwrap();
    consumer.finish().expect(4);
    let said = String::from_utf8(bytes).unwrap();
    assert!(
        said.starts_with("verify: producer=lane0 messages=0 missing=0 duplicated=0 corrupt=0\n"),
        "{said}"
    );
}
