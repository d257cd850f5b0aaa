//! Where the library's code orders memory.

#[path = "text.rs"]
mod text;

use std::fs;
use std::path::Path;

use text::{code_of, without_tests};

/// Calls that order, by the names that carry it; with the word that they are
/// about, if it stands there.
const CALLS: [&str; 10] = [
    "load_acquire",
    "store_release",
    "header_acquire",
    "store_header_release",
    "replace",
    "add",
    "keep_program_order",
    "fence",
    "light_fence",
    "barrier",
];
/// And the language's own.
const ORDERINGS: [&str; 4] = ["Acquire", "Release", "AcqRel", "SeqCst"];

/// A call that orders.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// The function that it is in.
    pub(crate) function: String,
    /// The call without what does not matter: `load_acquire(Word::Head)`.
    pub(crate) call: String,
    /// The ordering's name, as the comment beside it says; or empty.
    pub(crate) name: String,
    pub(crate) line: u32,
}

/// The calls of a file of `src/`, in their order.
pub(crate) fn calls_in(file: &str) -> Vec<Call> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(file);
    calls_of(&fs::read_to_string(path).unwrap())
}

pub(crate) fn calls_of(text: &str) -> Vec<Call> {
    let code = without_tests(&code_of(text));
    let mut calls = Vec::new();
    let mut function = "";
    for (at, word) in words(&code) {
        let (before, after) = (&code[..at], &code[at + word.len()..]);
        if before.ends_with("fn ") {
            function = word;
        }
        let Some(call) = called(before, word, after) else { continue };
        let line = before.matches('\n').count();
        let comment = text.lines().nth(line).and_then(|line| line.split_once("// "));
        let name = comment.map_or("", |(_, name)| name);
        let is_name = name.chars().all(|c| c.is_ascii_uppercase());
        calls.push(Call {
            function: function.to_owned(),
            call,
            name: if is_name { name.to_owned() } else { String::new() },
            line: line as u32 + 1,
        });
    }
    calls
}

/// The words of `code`, and where they are.
fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    let mut at = 0;
    code.split_inclusive(move |c| !part(c)).filter_map(move |piece| {
        let word = piece.trim_end_matches(|c| !part(c));
        let here = (at, word);
        at += piece.len();
        (!word.is_empty()).then_some(here)
    })
}

/// The call that `word` is, if it is one that orders.
fn called(before: &str, word: &str, after: &str) -> Option<String> {
    if ORDERINGS.contains(&word) && before.ends_with("Ordering::") {
        let fence =
            ["compiler_fence(", "fence("].into_iter().find(|f| before.ends_with(&format!("{f}Ordering::")));
        return Some(format!(
            "{}Ordering::{word}{}",
            fence.unwrap_or(""),
            if fence.is_some() { ")" } else { "" }
        ));
    }
    // `(**self)`: an implementation that hands on.
    let is_call = before.ends_with('.') && !before.ends_with("(**self).") && after.starts_with('(');
    if !is_call || !CALLS.contains(&word) {
        return None;
    }
    let arguments = &after[1..end_of(after)];
    let about = arguments.find("Word::").map(|at| {
        let word = &arguments[at..];
        &word[..word.find(|c: char| !(c.is_alphanumeric() || c == ':')).unwrap_or(word.len())]
    });
    match (word, about) {
        (_, Some(about)) => Some(format!("{word}({about})")),
        // Of other types.
        ("replace" | "add", None) => None,
        (_, None) => Some(word.to_owned()),
    }
}

/// Where the bracket closes that `text` begins with.
fn end_of(text: &str) -> usize {
    let mut depth = 0;
    let end = text.char_indices().find(|(_, c)| {
        depth += match c {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        depth == 0
    });
    end.expect("a bracket closes").0
}
