//! From file to file, exactly once: either side killed at random moments and
//! started again; inputs that end, grow, or are others; outputs that are not
//! what they were.

use std::fs;
use std::path::{Path, PathBuf};

use shmring::Status;
use tests::{Child, Lab, Program::*, Random};

/// Kills in all, and of each side.
const KILLS: [usize; 2] = [100, 30];
/// Bytes of the input: more than fifty rings.
const INPUT: usize = 16 << 20;
/// Bytes of the input of each of many producers.
const MANY_INPUT: usize = 4 << 20;
const RING: &str = "64KiB";

/// Lines of all lengths, many of them empty, of any bytes but the newline.
fn lines(random: &mut Random, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 4000);
    while bytes.len() < len {
        let longest = [1, 10, 100, 3000][random.among(0..4) as usize];
        for _ in 0..random.among(0..longest) {
            bytes.push((random.word() as u8).max(b'\n' + 1));
        }
        bytes.push(b'\n');
    }
    bytes
}

fn producer(lab: &Lab, ring: &str, input: &Path) -> Child {
    let mut command = lab.command(Producer);
    command.args(["-v", ring, "--capacity", RING, "--resume", "--input"]).arg(input);
    Child::start(&mut command).wait_for("attached")
}

fn consumer(lab: &Lab, ring: &str, output: &Path) -> Child {
    let mut command = lab.command(Consumer);
    command.args(["-v", ring, "--capacity", RING, "--output"]).arg(output);
    Child::start(&mut command).wait_for("attached")
}

/// A stream that is disturbed until one side has ended by itself.
struct Stream<'a> {
    lab: &'a Lab,
    ring: String,
    input: &'a Path,
    output: PathBuf,
    producer: Child,
    consumer: Child,
    kills: [usize; 2],
}

impl Stream<'_> {
    fn start<'a>(lab: &'a Lab, number: usize, input: &'a Path) -> Stream<'a> {
        let ring = format!("ring{number}");
        let output = lab.path(&format!("out{number}"));
        let (producer, consumer) = (producer(lab, &ring, input), consumer(lab, &ring, &output));
        Stream { lab, ring, input, output, producer, consumer, kills: [0; 2] }
    }

    /// Lets both sides get on by a random number of messages; false if one of
    /// them ended meanwhile.
    fn both_get_on(&mut self, random: &mut Random) -> bool {
        let committed = || Status::of(self.lab.ring(&self.ring)).unwrap().lanes[0].committed;
        let enough = committed() + random.among(0..2000);
        while committed() < enough && self.producer.is_running() && self.consumer.is_running() {
            std::hint::spin_loop();
        }
        self.producer.is_running() && self.consumer.is_running()
    }

    fn kill(&mut self, producer: bool, consumer: bool) {
        if producer {
            self.producer.kill();
        }
        if consumer {
            self.consumer.kill();
            self.consumer = self::consumer(self.lab, &self.ring, &self.output);
        }
        if producer {
            self.producer = self::producer(self.lab, &self.ring, self.input);
        }
        self.kills[0] += producer as usize;
        self.kills[1] += consumer as usize;
    }

    /// Lets both come to their end. The consumer is started again if it found
    /// a producer dead. The producer is started again once it has ended: the
    /// consumer may have been killed between the end that it committed and its
    /// own, and waits for another one.
    fn finish(mut self) -> [usize; 2] {
        loop {
            if !self.producer.is_running() {
                self.producer.finish().expect(0);
                self.producer = producer(self.lab, &self.ring, self.input);
            }
            if !self.consumer.is_running() {
                let done = self.consumer.finish();
                if done.status.code() == Some(0) {
                    break;
                }
                done.expect(3);
                self.consumer = consumer(self.lab, &self.ring, &self.output);
            }
            std::thread::yield_now();
        }
        self.producer.finish().expect(0);
        assert!(fs::read(self.input).unwrap() == fs::read(&self.output).unwrap(), "not the same bytes");
        self.kills
    }
}

#[test]
fn kills_at_random_moments_leave_no_trace_in_the_file() {
    let mut random = Random::new("kills_at_random_moments");
    let lab = Lab::new();
    let input = lab.file("input", &lines(&mut random, INPUT));
    let mut kills = [0, 0];
    for number in 0.. {
        let mut stream = Stream::start(&lab, number, &input);
        while stream.both_get_on(&mut random) {
            match random.among(0..9) {
                0 => stream.kill(true, true),
                1..5 => stream.kill(true, false),
                _ => stream.kill(false, true),
            }
        }
        let more = stream.finish();
        kills = [kills[0] + more[0], kills[1] + more[1]];
        if kills[0] + kills[1] >= KILLS[0] && kills.iter().all(|&k| k >= KILLS[1]) {
            println!("killed {} producers and {} consumers in {} streams", kills[0], kills[1], number + 1);
            return;
        }
    }
}

/// Four producers with names, and one consumer.
struct Many<'a> {
    lab: &'a Lab,
    ring: String,
    inputs: &'a [PathBuf],
    output: PathBuf,
    producers: Vec<Child>,
    consumer: Child,
}

impl Many<'_> {
    fn start<'a>(lab: &'a Lab, number: usize, inputs: &'a [PathBuf]) -> Many<'a> {
        let ring = format!("many{number}");
        let output = lab.path(&format!("all{number}"));
        let producers = (0..inputs.len()).map(|who| named(lab, &ring, who, &inputs[who])).collect();
        let consumer = consumer(lab, &ring, &output);
        Many { lab, ring, inputs, output, producers, consumer }
    }

    fn are_running(&mut self) -> bool {
        self.producers.iter_mut().all(Child::is_running) && self.consumer.is_running()
    }

    /// Lets all get on by a random number of messages; false if one ended.
    fn all_get_on(&mut self, random: &mut Random) -> bool {
        let path = self.lab.ring(&self.ring);
        let committed = || Status::of(&path).unwrap().lanes.iter().map(|lane| lane.committed).sum::<u64>();
        let enough = committed() + random.among(0..3000);
        while committed() < enough && self.are_running() {
            std::hint::spin_loop();
        }
        self.are_running()
    }

    /// Kills them all, then starts them again.
    fn kill(&mut self, producers: &[usize], consumer: bool) {
        producers.iter().for_each(|&who| self.producers[who].kill());
        if consumer {
            self.consumer.kill();
            self.consumer = self::consumer(self.lab, &self.ring, &self.output);
        }
        for &who in producers {
            self.producers[who] = named(self.lab, &self.ring, who, &self.inputs[who]);
        }
    }

    /// Has the consumer come to its end, and starts the next one. What ends it
    /// is a producer that has nothing left to send, attaches and closes.
    fn end_consumer(&mut self) {
        while self.consumer.is_running() {
            named(self.lab, &self.ring, 0, &self.inputs[0]).finish().expect(0);
        }
        let next = consumer(self.lab, &self.ring, &self.output);
        let done = std::mem::replace(&mut self.consumer, next).finish();
        assert!([0, 3].contains(&done.code()), "{done:?}");
    }

    /// Lets all come to their end. Each producer's lines must be in the output
    /// once and in order.
    fn finish(mut self) {
        while self.producers.iter_mut().any(Child::is_running) {
            if !self.consumer.is_running() {
                self.consumer = consumer(self.lab, &self.ring, &self.output);
            }
            std::thread::yield_now();
        }
        for producer in self.producers.drain(..) {
            producer.finish().expect(0);
        }
        self.end_consumer();
        // That one may have come to its end before the last message.
        self.end_consumer();
        let all = fs::read(&self.output).unwrap();
        for (who, input) in self.inputs.iter().enumerate() {
            let own = |line: &&[u8]| line[0] == letter(who);
            let lines: Vec<u8> =
                all.split_inclusive(|&b| b == b'\n').filter(own).flatten().copied().collect();
            assert!(lines == fs::read(input).unwrap(), "not what producer {who} sent");
        }
    }
}

/// What the lines of a producer begin with.
fn letter(who: usize) -> u8 {
    b'a' + who as u8
}

fn named(lab: &Lab, ring: &str, who: usize, input: &Path) -> Child {
    let name = format!("{}-{who}", letter(who) as char);
    let mut command = lab.command(Producer);
    command.args(["-v", ring, "--capacity", RING, "--resume", "--name", &name, "--input"]).arg(input);
    Child::start(&mut command).wait_for("attached")
}

#[test]
fn kills_among_many_producers_leave_no_trace_in_the_file() {
    let mut random = Random::new("kills_among_many_producers");
    let lab = Lab::new();
    let inputs: Vec<PathBuf> = (0..4)
        .map(|who| {
            let mut input = Vec::new();
            for line in lines(&mut random, MANY_INPUT).split_inclusive(|&b| b == b'\n') {
                input.push(letter(who));
                input.extend_from_slice(line);
            }
            lab.file(&format!("input{who}"), &input)
        })
        .collect();
    let mut kills = [0, 0];
    for number in 0.. {
        let mut many = Many::start(&lab, number, &inputs);
        while many.all_get_on(&mut random) {
            let one = [random.among(0..4) as usize];
            let (producers, consumer) = match random.among(0..10) {
                0 => (&[0, 1, 2, 3][..], true),
                1..6 => (&one[..], false),
                6 => (&one[..], true),
                _ => (&[][..], true),
            };
            many.kill(producers, consumer);
            kills = [kills[0] + producers.len(), kills[1] + consumer as usize];
        }
        many.finish();
        if kills[0] + kills[1] >= KILLS[0] && kills.iter().all(|&k| k >= KILLS[1]) {
            println!("killed {} producers and {} consumers in {} streams", kills[0], kills[1], number + 1);
            return;
        }
    }
}

const FRAMINGS: [&str; 4] = ["lines", "nul", "len32", "raw:7"];

/// Sends what there is of the input that was not sent.
fn send(lab: &Lab, ring: &str, input: &Path, framing: &str) -> tests::Done {
    let input = input.to_str().unwrap();
    lab.run(Producer, &[ring, "--resume", "--input", input, "--framing", framing], b"")
}

/// Writes what there is in the ring that was not written.
fn receive(lab: &Lab, ring: &str, output: &Path, framing: &str) -> tests::Done {
    let output = output.to_str().unwrap();
    lab.run(Consumer, &[ring, "--output", output, "--framing", framing], b"")
}

fn sent(lab: &Lab, ring: &str) -> u64 {
    Status::of(lab.ring(ring)).unwrap().lanes[0].sent
}

#[test]
fn a_finished_input_sends_nothing_and_a_grown_one_the_rest() {
    // Each begins where the one before ended, with or without a terminator.
    let pieces: [&[u8]; 5] = [b"one\n\n", b"two", b"\nthree\n", b"fo", b"ur"];
    for framing in FRAMINGS {
        let lab = Lab::new();
        let (input, output) = (lab.file("input", b""), lab.path("output"));
        let mut all = Vec::new();
        for piece in pieces {
            match framing {
                "len32" => {
                    all.extend((piece.len() as u32).to_le_bytes());
                    all.extend(piece);
                }
                "nul" => all.extend(piece.iter().map(|b| if *b == b'\n' { 0 } else { *b })),
                _ => all.extend(piece),
            }
            fs::write(&input, &all).unwrap();
            send(&lab, "ring", &input, framing).expect(0);
            let before = sent(&lab, "ring");
            send(&lab, "ring", &input, framing).expect(0);
            assert_eq!(sent(&lab, "ring"), before, "{framing}");
            // A consumer comes only now and then.
            if all.len() % 2 == 0 {
                receive(&lab, "ring", &output, framing).expect(0);
            }
        }
        receive(&lab, "ring", &output, framing).expect(0);
        assert_eq!(fs::read(&output).unwrap(), all, "{framing}");
    }
}

#[test]
fn another_input_is_refused_and_named() {
    let lab = Lab::new();
    let (input, other) = (lab.file("input", b"a\nb\n"), lab.file("other", b"a\nb\nc\n"));
    send(&lab, "ring", &input, "lines").expect(0);

    let refused = send(&lab, "ring", &other, "lines").expect(1);
    for file in [&input, &other] {
        let inode = std::os::unix::fs::MetadataExt::ino(&fs::metadata(file).unwrap());
        assert!(refused.stderr.contains(&format!("inode {inode} ")), "{}", refused.stderr);
    }
    let refused = send(&lab, "ring", &input, "nul").expect(1);
    assert!(refused.stderr.contains("another framing"), "{}", refused.stderr);
    fs::write(&input, b"a\n").unwrap();
    let refused = send(&lab, "ring", &input, "lines").expect(1);
    assert!(refused.stderr.contains("has 2 bytes, but 4 of them were sent"), "{}", refused.stderr);
    // Made anew under its old name: another file.
    fs::remove_file(&input).unwrap();
    fs::write(&input, b"a\nb\nc\n").unwrap();
    send(&lab, "ring", &input, "lines").expect(1);
    assert_eq!(sent(&lab, "ring"), 2);
}

#[test]
fn a_ring_that_was_filled_otherwise_is_not_gone_on_with() {
    let lab = Lab::new();
    let input = lab.file("input", b"a\nb\n");
    lab.run(Producer, &["used"], b"x\n").expect(0);
    let refused = send(&lab, "used", &input, "lines").expect(1);
    assert!(refused.stderr.contains("used without --resume"), "{}", refused.stderr);
    assert!(refused.stderr.contains("--name"), "{}", refused.stderr);

    // The lane of an input is kept for it; so is that of a name.
    send(&lab, "ring", &input, "lines").expect(0);
    lab.run(Producer, &["ring"], b"x\n").expect(0);
    send(&lab, "ring", &input, "lines").expect(0);
    assert_eq!(sent(&lab, "ring"), 2);
    let by_name = |name: &str| {
        let input = input.to_str().unwrap();
        lab.run(Producer, &["used", "--name", name, "--resume", "--input", input], b"")
    };
    by_name("resumed").expect(0);
    // A producer of that name that names no input, in between.
    lab.run(Producer, &["used", "--name", "other"], b"x\n").expect(0);
    let refused = by_name("other").expect(1);
    assert!(refused.stderr.contains("the name other was used without --resume"), "{}", refused.stderr);
    by_name("resumed").expect(0);

    // Records are not what the input has.
    lab.run(Producer, &["records", "--codec", "bincode"], b"").expect(0);
    let refused = send(&lab, "records", &input, "lines").expect(1);
    assert!(refused.stderr.contains("plain bytes"), "{}", refused.stderr);
}

#[test]
fn only_a_regular_file_can_be_gone_on_with() {
    let lab = Lab::new();
    for arguments in [
        &["ring", "--resume"][..],
        &["ring", "--resume", "--input", "-"],
        &["ring", "--resume", "--input", "/dev/null"],
        &["ring", "--resume", "--generate", "3", "--size", "16"],
    ] {
        lab.run(Producer, arguments, b"a\n").expect(2);
    }
    assert!(!lab.ring("ring").exists());
}

#[test]
fn an_output_goes_on_where_the_ring_left_off() {
    let lab = Lab::new();
    let output = lab.path("output");
    let written = || fs::read_to_string(&output).unwrap();
    lab.run(Producer, &["ring"], b"1\n2\n3\n4\n").expect(0);
    let count = |n: &str| {
        lab.run(Consumer, &["ring", "--count", n, "--output", output.to_str().unwrap()], b"").expect(0);
    };
    count("1");
    assert_eq!(written(), "1\n");
    // As a kill may leave it: written and not committed.
    fs::write(&output, "1\n2\n3\nwritten by one that was killed\n").unwrap();
    count("2");
    assert_eq!(written(), "1\n2\n3\n");
    receive(&lab, "ring", &output, "lines").expect(0);
    assert_eq!(written(), "1\n2\n3\n4\n");

    // Killed after its last commit, a consumer must not begin anew: nor does
    // one that ended well.
    lab.run(Producer, &["ring"], b"5\n").expect(0);
    receive(&lab, "ring", &output, "lines").expect(0);
    assert_eq!(written(), "1\n2\n3\n4\n5\n");

    let info = lab.run(tests::Program::Shmring, &["info", "ring"], b"").expect(0).stdout;
    let inode = std::os::unix::fs::MetadataExt::ino(&fs::metadata(&output).unwrap());
    let info = String::from_utf8(info).unwrap();
    let line = info.lines().find(|line| line.trim_start().starts_with("output")).unwrap_or_default();
    assert!(line.contains(&format!("inode {inode} ")) && line.ends_with(", 10 bytes"), "{info}");

    // What goes elsewhere in between leaves the position as it was.
    lab.run(Producer, &["ring"], b"6\n7\n").expect(0);
    assert_eq!(lab.run(Consumer, &["ring", "--count", "1"], b"").expect(0).stdout, b"6\n");
    receive(&lab, "ring", &output, "lines").expect(0);
    assert_eq!(written(), "1\n2\n3\n4\n5\n7\n");
}

#[test]
fn an_output_that_the_ring_did_not_write_is_not_written_over() {
    let lab = Lab::new();
    let output = lab.file("output", b"precious\n");
    lab.run(Producer, &["ring"], b"1\n2\n").expect(0);
    let refused = receive(&lab, "ring", &output, "lines").expect(1);
    assert!(refused.stderr.contains("9 bytes that this ring did not write"), "{}", refused.stderr);
    assert_eq!(fs::read(&output).unwrap(), b"precious\n");

    // Nor is one that the ring was bound to before it was bound to another.
    let (first, second) = (lab.path("first"), lab.file("second", b""));
    let first_name = first.to_str().unwrap();
    lab.run(Consumer, &["ring", "--count", "1", "--output", first_name], b"").expect(0);
    receive(&lab, "ring", &second, "lines").expect(0);
    receive(&lab, "ring", &first, "lines").expect(1);
    assert_eq!([fs::read(&first).unwrap(), fs::read(&second).unwrap()], [b"1\n", b"2\n"]);
}

#[test]
fn of_two_consumers_at_once_one_gets_the_file() {
    for _ in 0..20 {
        let lab = Lab::new();
        let output = lab.path("output");
        let start = || lab.start(Consumer, &["ring", "--output", output.to_str().unwrap()]);
        let [mut one, mut other] = [start(), start()];
        while one.is_running() && other.is_running() {
            std::thread::yield_now();
        }
        let (winner, loser) = if one.is_running() { (one, other) } else { (other, one) };
        loser.finish().expect(1);
        lab.run(Producer, &["ring"], b"1\n2\n").expect(0);
        winner.finish().expect(0);
        assert_eq!(fs::read(&output).unwrap(), b"1\n2\n");
    }
}

#[test]
fn two_rings_do_not_write_to_one_file() {
    let lab = Lab::new();
    let output = lab.path("output");
    let first = consumer(&lab, "first", &output);
    let mut second = lab.command(Consumer);
    let refused = Child::start(second.args(["second", "--output"]).arg(&output)).finish().expect(1);
    assert!(refused.stderr.contains("another program is writing"), "{}", refused.stderr);
    assert!(!lab.ring("second").exists());
    lab.run(Producer, &["first"], b"1\n").expect(0);
    first.finish().expect(0);
    assert_eq!(fs::read(&output).unwrap(), b"1\n");
}

#[test]
fn an_output_that_was_cut_is_refused_and_left_alone() {
    let lab = Lab::new();
    let output = lab.path("output");
    lab.run(Producer, &["ring"], b"1\n2\n").expect(0);
    receive(&lab, "ring", &output, "lines").expect(0);
    lab.run(Producer, &["ring"], b"3\n").expect(0);
    fs::write(&output, b"1\n").unwrap();
    let refused = receive(&lab, "ring", &output, "lines").expect(1);
    assert!(refused.stderr.contains("has 2 bytes, but this ring wrote 4"), "{}", refused.stderr);
    assert_eq!(fs::read(&output).unwrap(), b"1\n");

    // The remedy: another file gets the messages from there on.
    let other = lab.path("other");
    receive(&lab, "ring", &other, "lines").expect(0);
    assert_eq!(fs::read(&other).unwrap(), b"3\n");
}
