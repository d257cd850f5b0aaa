//! A dead producer's process id is given to a stranger.

use tests::{Child, Lab, Program::*, is_root, program, skipped};

/// In a pid namespace of its own: a producer is killed, the producer of
/// another ring gets its process id, and then come those who use the ring.
const SCRIPT: &str = r#"
mkfifo in; exec 3<>in
attached() { until grep -qs attached "$1"; do :; done; }
"$PRODUCER" -v ./ring <in 2>said & dead=$!
attached said
echo before >&3
until "$SHMRING" info ./ring | grep -q 'sent  *1 messages'; do :; done
kill -9 $dead; wait $dead
echo $((dead - 1)) >/proc/sys/kernel/ns_last_pid
"$PRODUCER" -v ./other <in 2>words & stranger=$!
test $stranger = $dead || { echo "the stranger is $stranger and not $dead"; exit 77; }
attached words
"$SHMRING" info ./ring | grep -E '^  (producer|stream)'
"$CONSUMER" -q ./ring 2>said; echo "$? $(sed "s/pid $dead,/pid DEAD,/" said)"
echo after | "$PRODUCER" ./ring; echo $?
"$SHMRING" info ./ring | grep -E '^  (deaths|sent|stream)'
"$CONSUMER" ./ring; echo $?
"$SHMRING" rm ./ring; echo $?
"$SHMRING" rm ./other 2>said; echo "$? $(sed "s/pid $dead,/pid STRANGER,/" said)"
kill $stranger; wait $stranger; echo $?
"#;

/// What the users of the ring say, the stranger there.
const EXPECTED: &str = "  producer    none attached
  stream      its producer died
before
3 consumer: a producer died without closing: lane0, producer (pid DEAD, uid 0); everything it sent was delivered
0
  stream      closed
  deaths      1
  sent        2 messages
after
0
0
1 shmring: ./other is in use by producer producer (pid STRANGER, uid 0); end them first
0
";

#[test]
fn a_stranger_with_the_process_id_of_a_dead_producer() {
    let test = "a_stranger_with_the_process_id_of_a_dead_producer";
    if !is_root() {
        return skipped(test, "a pid namespace needs root");
    }
    let lab = Lab::new();
    let mut command = lab.prepared("unshare".as_ref());
    command.args(["--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", SCRIPT]);
    command.current_dir(lab.path(""));
    for (name, which) in [("PRODUCER", Producer), ("CONSUMER", Consumer), ("SHMRING", Shmring)] {
        command.env(name, program(which));
    }
    let done = Child::start(&mut command).finish();
    let found = String::from_utf8(done.stdout).unwrap();
    match done.status.code() {
        Some(0) => assert_eq!(found, EXPECTED, "{}", done.stderr),
        Some(77) => skipped(test, found),
        // No namespace.
        Some(1) if found.is_empty() => skipped(test, done.stderr),
        _ => panic!("{}: {found}{}", done.status, done.stderr),
    }
}
