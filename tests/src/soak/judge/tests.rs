//! The judge is shown a small round in which all is as promised, and then the
//! same with one thing in it that is not.

use super::{Transcripts, Verdict, judge};

const DIRECTOR: &str = "\
world total 2 100
start 1 c0 50
start 2 p0 51
start 3 p1 52
kill 40 p1
gone 45 p1 killed
kill 60 c0
gone 61 c0 killed
start 62 c1 53
stop 64 p0
continue 65 p0
gone 90 p0 left
gone 95 c1 left
over
";

const P0: &str = "\
begin 2 till
attached 5 0 100
i 10 b 5:aa:0 6:bb:1
o 11 mm
i 20 s d
o 21 d
i 22 o 7:cc:0
o 23 m
i 24 s 7:cd:0
o 25 -
closing 80
closed 81
";

/// Killed in an operation.
const P1: &str = "\
begin 3 -
attached 6 1 100
i 12 s 8:dd:0
o 13 m
i 30 w 9:ee:0 9:ff:0
";

/// Killed in a commit.
const C0: &str = "\
begin 1
attached 4
n 0 till
m 0 100 5 aa 0
m 0 101 6 bb 1
c
k
m 1 100 8 dd 0
c
";

const C1: &str = "\
begin 62
attached 63
m 1 100 8 dd 0
n 0 till
g 0 102 1
m 0 103 7 cc 0
m 1 101 9 ee 0
d 70 71 1 102 52 0 0 -
c
k
e 82 83
c
k
finished
";

fn whole() -> Transcripts {
    Transcripts {
        director: DIRECTOR.into(),
        producers: vec![P0.into(), P1.into()],
        consumers: vec![C0.into(), C1.into()],
    }
}

/// A change: in which transcript, what, and by what it is replaced.
type Change<'a> = (&'a str, &'a str, &'a str);

fn changed(changes: &[Change<'_>]) -> Transcripts {
    let mut transcripts = whole();
    for (who, from, to) in changes {
        let text = match *who {
            "director" => &mut transcripts.director,
            "p0" => &mut transcripts.producers[0],
            "p1" => &mut transcripts.producers[1],
            "c0" => &mut transcripts.consumers[0],
            "c1" => &mut transcripts.consumers[1],
            _ => panic!("nobody is {who}"),
        };
        assert_eq!(text.matches(from).count(), 1, "{from:?} in {who}");
        *text = text.replace(from, to);
    }
    transcripts
}

/// The same with one more producer, from after the death of p1 on.
fn with_another(text: &str, changes: &[Change<'_>]) -> Transcripts {
    let mut transcripts = changed(changes);
    let director = transcripts.director.replace("gone 45 p1 killed\n", "gone 45 p1 killed\nstart 46 p2 54\n");
    transcripts.director = director.replace("gone 90 p0 left\n", "gone 90 p0 left\ngone 91 p2 left\n");
    transcripts.producers.push(text.into());
    transcripts
}

#[track_caller]
fn refused(transcripts: &Transcripts, why: &str) {
    match judge(transcripts) {
        Ok(verdict) => panic!("not refused, and is {why:?}: {verdict}"),
        Err(e) => assert!(format!("{e:#}").contains(why), "{e:#}; not {why:?}"),
    }
}

#[track_caller]
fn accepted(transcripts: &Transcripts) -> Verdict {
    judge(transcripts).unwrap_or_else(|e| panic!("{e:#}"))
}

#[test]
fn what_is_as_promised_is_accepted() {
    let verdict =
        Verdict { messages: 5, again: 0, gaps: 1, cut_short: 1, took_effect: 1, deaths: 1, ends: 1 };
    assert_eq!(accepted(&whole()), verdict);
    // The commit in which c0 was killed may have been done.
    assert_eq!(accepted(&changed(&[("c1", "m 1 100 8 dd 0\n", "")])), verdict);
    // Or not have been begun.
    let uncommitted = changed(&[("c0", "m 1 100 8 dd 0\nc\n", "m 1 100 8 dd 0\n")]);
    assert_eq!(accepted(&uncommitted), Verdict { again: 1, ..verdict });
    // Of what p1 was sending, nothing or all may have come.
    let nothing = changed(&[("c1", "m 1 101 9 ee 0\n", ""), ("c1", "1 102 52", "1 101 52")]);
    assert_eq!(accepted(&nothing), Verdict { messages: 4, took_effect: 0, ..verdict });
    let all =
        [("c1", "m 1 101 9 ee 0\n", "m 1 101 9 ee 0\nm 1 102 9 ff 0\n"), ("c1", "1 102 52", "1 103 52")];
    assert_eq!(accepted(&changed(&all)).messages, 6);
    // Who is killed may not come to the end of a line.
    let torn =
        [("p1", "9:ee:0 9:ff:0\n", "9:e"), ("c1", "m 1 101 9 ee 0\n", ""), ("c1", "1 102 52", "1 101 52")];
    assert_eq!(accepted(&changed(&torn)), Verdict { messages: 4, cut_short: 0, took_effect: 0, ..verdict });
    // The sequences wrap.
    let wrapped = |text: &str| {
        (0..4).fold(text.to_owned(), |text, n| {
            text.replace(&format!(" {}", 100 + n), &format!(" {}", u64::MAX.wrapping_add(n)))
        })
    };
    let transcripts = Transcripts {
        director: wrapped(DIRECTOR),
        producers: vec![wrapped(P0), wrapped(P1)],
        consumers: vec![wrapped(C0), wrapped(C1)],
    };
    assert!(transcripts.consumers[1].contains("m 1 0 9 ee 0\n"), "it is another one");
    assert_eq!(accepted(&transcripts), verdict);
}

#[test]
fn what_is_lost_is_noticed() {
    refused(&changed(&[("c0", "m 0 101 6 bb 1\n", "")]), "lost");
    refused(&changed(&[("c1", "g 0 102 1\n", "")]), "lost");
    // The last one of a lane.
    refused(&changed(&[("c1", "m 0 103 7 cc 0\n", "")]), "lost");
    // At the end of a lane whose send had returned.
    let sent = ("p1", "i 30 w 9:ee:0 9:ff:0\n", "i 30 w 9:ee:0 9:ff:0\no 31 mm\n");
    refused(&changed(&[sent]), "lost");
    // Read by one that did not commit it, and not again.
    let uncommitted = ("c0", "m 1 100 8 dd 0\nc\n", "m 1 100 8 dd 0\n");
    refused(&changed(&[uncommitted, ("c1", "m 1 100 8 dd 0\n", "")]), "lost");
    // One lane as if the last commit had been done, another as if not.
    let both = ("c0", "m 1 100 8 dd 0\nc\n", "g 0 102 1\nm 1 100 8 dd 0\nc\n");
    refused(&changed(&[both, ("c1", "g 0 102 1\n", "")]), "lost");
    refused(&changed(&[both, ("c1", "m 1 100 8 dd 0\n", "")]), "lost");
    // All that the consumers saw at the end.
    let rest = C1.split_once("c\nk\ne").unwrap().1;
    let until = ("c1", rest, " 82 83\n");
    refused(&changed(&[until]), "it left after");
}

#[test]
fn what_is_doubled_is_noticed() {
    refused(&changed(&[("c1", "n 0 till\n", "n 0 till\nm 0 101 6 bb 1\n")]), "doubled");
    refused(&changed(&[("c0", "m 0 100 5 aa 0\n", "m 0 100 5 aa 0\nm 0 100 5 aa 0\n")]), "doubled");
    // c0 went on, so its commit was done.
    refused(&changed(&[("c0", "dd 0\nc\n", "dd 0\nc\nk\n")]), "doubled");
    refused(&changed(&[("c1", "g 0 102 1\n", "g 0 102 1\ng 0 102 1\n")]), "doubled");
}

#[test]
fn what_is_torn_reordered_or_invented_is_noticed() {
    refused(&changed(&[("c0", "5 aa 0", "5 ab 0")]), "torn");
    refused(&changed(&[("c0", "5 aa 0", "4 aa 0")]), "torn");
    refused(&changed(&[("c0", "6 bb 1", "6 bb 0")]), "torn");
    // Told again with other bytes.
    refused(&changed(&[("c1", "8 dd 0", "8 de 0")]), "torn");
    refused(&changed(&[("c0", "100 5 aa 0\nm 0 101 6 bb 1", "100 6 bb 1\nm 0 101 5 aa 0")]), "reordered");
    refused(&changed(&[("c1", "d 70", "m 1 102 9 ff 0\nm 1 103 9 ff 0\nd 70")]), "invented");
    refused(&changed(&[("c1", "g 0 102 1", "m 0 102 7 cd 0")]), "invented");
    // What was given up before it was sent.
    refused(&changed(&[("c1", "7 cc 0\n", "7 cc 0\nm 0 104 7 cd 0\n")]), "invented");
    refused(&changed(&[("c1", "m 1 101", "m 2 101")]), "no such lane");
}

#[test]
fn a_gap_that_does_not_add_up_is_noticed() {
    refused(&changed(&[("c1", "g 0 102 1\nm 0 103 7 cc 0", "g 0 102 2")]), "lost");
    refused(&changed(&[("c1", "g 0 102 1", "g 0 102 0\ng 0 102 1")]), "a gap of nothing");
    refused(&changed(&[("c1", "1 102 52 0 0", "1 102 52 0 2")]), "dropped fewer");
    // It was dropped or sent: cut short, both may be.
    let cut = [
        ("p0", "o 23 m\ni 24 s 7:cd:0\no 25 -\nclosing 80\nclosed 81\n", ""),
        ("director", "gone 90 p0 left", "kill 66 p0\ngone 67 p0 killed"),
        ("c1", "e 82", "d 68 69 0 104 51 0 0 till\ne 82"),
    ];
    accepted(&changed(&cut));
    let gap = [("c1", "m 0 103 7 cc 0", "g 0 103 1")];
    accepted(&changed(&[&cut[..], &gap].concat()));
    refused(&changed(&gap), "lost");
}

#[test]
fn a_torn_batch_is_noticed() {
    let batch = ("p1", "i 30 w", "i 30 b");
    refused(&changed(&[batch]), "a batch was torn");
    // Or found by whoever comes after.
    let p2 = "begin 46 -\nattached 48 1 102\nclosing 55\nclosed 56\n";
    refused(&with_another(p2, &[batch]), "a batch was torn");
    accepted(&with_another(p2, &[]));
}

#[test]
fn a_lane_with_a_wrong_beginning_or_two_owners_is_noticed() {
    let p2 = |at: &str| format!("begin 46 -\nattached {at}\nclosing 55\nclosed 56\n");
    accepted(&with_another(&p2("48 1 102"), &[]));
    // The next one found fewer than were told to be sent, or more than were.
    refused(&with_another(&p2("48 1 100"), &[]), "are lost");
    refused(&with_another(&p2("48 1 104"), &[]), "sent at most");
    // And nobody reads what it did not find.
    refused(&with_another(&p2("48 1 101"), &[]), "invented");
    refused(&with_another(&p2("39 1 102"), &[]), "while p1 was in its lane");
    refused(&with_another(&p2("48 7 102"), &[]), "which there is not");
}

#[test]
fn a_death_that_was_none_or_was_told_before_is_noticed() {
    let death = "d 70 71 1 102 52 0 0 -\n";
    refused(&changed(&[("c1", death, &death.repeat(2))]), "told twice");
    refused(&changed(&[("c1", "1 102 52", "0 104 51")]), "p0 is alive");
    // A stopped one does not die.
    refused(&changed(&[("c1", death, &format!("{death}d 72 73 0 104 51 0 0 till\n"))]), "p0 is alive");
    refused(&changed(&[("c1", "1 102 52", "1 102 99")]), "nobody has that process id");
    refused(&changed(&[("c1", "1 102 52", "0 104 52")]), "p1 was in lane");
    // Before it was killed.
    refused(&changed(&[("c1", "d 70 71", "d 30 31")]), "p1 is alive");
    // Before all that it sent.
    refused(&changed(&[("c1", "m 1 101 9 ee 0\n", "")]), "lost");
    refused(&changed(&[("c1", death, "")]), "nobody was told");
    // As replaced: somebody has to have died there.
    let replaced = "d 70 71 1 102 0 1 0 -\n";
    accepted(&changed(&[("c1", death, replaced)]));
    refused(&changed(&[("c1", death, &replaced.repeat(2))]), "nobody died there");
    refused(&changed(&[("c1", death, "d 70 71 0 104 0 1 0 -\n")]), "nobody died there");
    // Committed, and told again.
    let again = format!("{death}e 82 83\n");
    refused(&changed(&[("c1", "e 82 83\n", &again)]), "told twice");
}

#[test]
fn an_end_that_is_none_or_is_missing_is_noticed() {
    refused(&changed(&[("c1", "e 82 83\nc\nk\n", "")]), "the end of all was not told");
    refused(&changed(&[("c1", "e 82 83", "e 72 73")]), "p0 lives");
    refused(&changed(&[("c1", "e 82 83\n", "e 92 93\ne 94 95\n")]), "nobody came");
    // With something left of one that had closed.
    refused(&changed(&[("c1", "m 0 103 7 cc 0\n", ""), ("c1", "e 82", "e 92")]), "sent more");
    refused(&changed(&[("c1", "finished\n", "closed\n")]), "did not read to the end");
}

#[test]
fn a_wrong_order_or_name_is_noticed() {
    // Its send had returned before the other one's began.
    let swapped = [("c1", "m 1 100 8 dd 0\n", ""), ("c1", "7 cc 0\n", "7 cc 0\nm 1 100 8 dd 0\n")];
    refused(&changed(&swapped), "out of order");
    accepted(&changed(&[&swapped[..], &[("director", "world total", "world fifo")]].concat()));
    // One whose send did not return is in order anywhere.
    let late = [("c1", "m 1 101 9 ee 0\n", ""), ("c1", "g 0 102 1\n", "m 1 101 9 ee 0\ng 0 102 1\n")];
    refused(&changed(&late), "out of order");
    refused(&changed(&[("c1", "n 0 till\n", "")]), "was called None");
    refused(&changed(&[("c1", "n 0 till", "n 0 kiosk")]), "was called Some");
    refused(&changed(&[("c1", "n 0 till", "n 1 till")]), "was called");
}

#[test]
fn a_transcript_that_is_not_whole_is_noticed() {
    for (change, why) in [
        (("p0", "closed 81\n", ""), "it left after"),
        (("p0", "closed 81\n", "closed 81"), "cut off"),
        (("p0", "o 11 mm\n", ""), "after \"i\""),
        (("p0", "o 11 mm", "o 11 m"), "not a mark an item"),
        (("p0", "i 10 b 5:aa:0 6:bb:1\n", ""), "after \"attached\""),
        (("c1", "c\nk\ne", "k\ne"), "after \"d\""),
        (("c1", "c\nk\ne", "c\ne"), "after \"c\""),
        (("director", "over\n", ""), "not over"),
        (("director", "gone 90 p0 left\n", ""), "not gone"),
        (("director", "kill 40 p1\n", ""), "killed by whom"),
        (("c1", "m 1 101 9 ee 0", "m 1 101 9"), "a word is missing"),
    ] {
        refused(&changed(&[change]), why);
    }
}
