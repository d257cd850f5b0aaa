//! Each call of the ring's code that orders, by where it stands: with that one
//! alone Relaxed, a scenario fails. docs/ORDERINGS.md names these tests.

use std::panic::Location;

use super::calls::{Call, calls_in};
use super::*;

/// A line of the ring's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Site {
    file: &'static str,
    line: u32,
    is_free: bool,
}

impl Site {
    /// The only such call in this function of a file of `ring/`.
    fn find(file: &'static str, function: &str, call: &str) -> Site {
        let calls = calls_in(file).into_iter();
        let found: Vec<Call> = calls.filter(|c| c.function == function && c.call == call).collect();
        assert_eq!(found.len(), 1, "{file} {function} {call}");
        Site { file, line: found[0].line, is_free: found[0].name == "FREE" }
    }

    pub(super) fn is_at(&self, place: &Location) -> bool {
        place.line() == self.line && place.file().ends_with(self.file)
    }

    /// What it orders shows as a race: see the first page.
    pub(super) fn is_free(&self) -> bool {
        self.is_free
    }
}

macro_rules! relaxed {
    ($($name:ident: $file:literal $function:literal $call:literal, $scenario:path, $seen:literal;)+) => {$(
        #[test]
        #[should_panic(expected = $seen)]
        fn $name() {
            let twin = Twin::Relaxed(Site::find(concat!("ring/", $file), $function, $call));
            model(3, move || $scenario(twin));
        }
    )+};
}

relaxed! {
    peek_of_a_header: "cursor.rs" "next_header" "header_acquire", messages_are_whole, "another payload";
    look_at_a_header_to_take_at_once: "cursor.rs" "next_header" "header_acquire",
        at_once::messages_at_once_are_whole, "another payload";
    publish_at_once: "writer.rs" "show" "store_header_release",
        at_once::messages_at_once_are_whole, "another payload";
    head_before_a_message_at_once: "writer.rs" "refresh_head" "load_acquire(Word::Head)",
        at_once::a_message_at_once_goes_where_it_is_free, "Causality violation";
    head_of_a_new_consumer: "cursor.rs" "take_over" "store_release(Word::Head)",
        a_new_consumer_frees_what_the_old_one_read, "Causality violation";
    head_of_a_commit: "cursor.rs" "free" "store_release(Word::Head)",
        only_committed_bytes_are_overwritten, "Causality violation";
    attach_behind_a_mark: "cursor.rs" "is_attached_behind" "load_acquire(Word::CheckGeneration)",
        attach::an_attach_behind_an_end_mark_is_seen, "not seen";
    drops_of_the_dead: "cursor.rs" "untold_drops" "load_acquire(Word::CheckGeneration)",
        takeover::unordered_drops, "0 drops";
    commit_of_the_last_consumer: "reader.rs" "take_over" "load_acquire(Word::CommitGeneration)",
        takeover::unordered_commit, "a torn commit";
    commit: "reader.rs" "commit" "store_release(Word::CommitGeneration)",
        takeover::unordered_commit, "a torn commit";
    counter_of_tickets: "order.rs" "begin" "load_acquire(Word::Tickets)",
        order::what_was_sent_first_comes_first, "another order";
    draw_of_tickets: "writer.rs" "draw_tickets" "add(Word::Tickets)",
        order::what_was_sent_first_comes_first, "another order";
    check_point_of_the_last_producer: "writer.rs" "take_over" "load_acquire(Word::CheckGeneration)",
        takeover::unordered_check_point, "a torn check point";
    head_at_takeover: "writer.rs" "take_over" "load_acquire(Word::Head)",
        a_new_producer_writes_only_what_is_free, "Causality violation";
    walk_to_the_end: "writer.rs" "walk_to_end" "header_acquire",
        takeover::unordered_walk, "in the middle of a batch";
    head_for_more_room: "writer.rs" "refresh_head" "load_acquire(Word::Head)",
        only_committed_bytes_are_overwritten, "Causality violation";
    publish: "writer.rs" "show" "store_header_release", messages_are_whole, "another payload";
    check_point: "writer.rs" "check_point" "store_release(Word::CheckGeneration)",
        takeover::unordered_check_point, "a torn check point";
}
