//! The rules of ARCHITECTURE.md that a reader of the source can check.
//!
//! Looks at the code only: comments, texts and test modules are taken out
//! first, because they may name whatever they like.

#[path = "source/text.rs"]
mod text;

use std::fs;
use std::path::{Path, PathBuf};

use text::{code_of, without_tests};

/// A room uses those before it, never one after.
const ROOMS: [&str; 7] = ["os", "layout", "ring", "region", "endpoint", "wait", "codec"];
/// The rooms whose unsafe code there is.
const UNSAFE: [&str; 2] = ["os", "region"];
const MOST_LINES: usize = 600;

/// What the two rooms that work without an operating system may use from
/// outside, besides the language itself.
const OUTSIDE: [(&str, &[&str]); 2] = [
    ("layout", &["std::fmt", "std::str", "crc32c", "thiserror"]),
    ("ring", &["std::cmp::Reverse", "std::collections", "std::mem", "std::time::Duration", "thiserror"]),
];

/// A file of `src`, its comments, texts and test modules blanked.
struct Source {
    /// Below `src`.
    path: PathBuf,
    lines: usize,
    code: String,
}

impl Source {
    fn room(&self) -> &str {
        let first = self.path.components().next().expect("a path is not empty").as_os_str();
        first.to_str().expect("our names are ASCII")
    }

    /// Where `name` stands as a word of its own, and what follows it there.
    fn words<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let part = |c: char| c.is_alphanumeric() || c == '_';
        self.code.match_indices(name).filter_map(move |(at, _)| {
            let rest = &self.code[at + name.len()..];
            (!self.code[..at].ends_with(part) && !rest.starts_with(part)).then_some(rest)
        })
    }
}

fn sources() -> Vec<Source> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![src.clone()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push(Source {
                    path: path.strip_prefix(&src).unwrap().to_owned(),
                    lines: text.lines().count(),
                    code: without_tests(&code_of(&text)),
                });
            }
        }
    }
    assert!(found.len() > 20, "the sources are not where they were");
    found
}

/// The names that a `use` or path names right after `crate::` or another
/// prefix: one, or those of a list in braces.
fn named(after: &str) -> Vec<String> {
    let word = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let Some(after) = after.trim_start().strip_prefix("::") else { return Vec::new() };
    let Some(list) = after.trim_start().strip_prefix('{') else { return vec![word(after)] };
    let mut names = vec![word(list)];
    let mut depth = 0;
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(word(&list[at + 1..])),
            _ => {}
        }
    }
    names.retain(|n| !n.is_empty());
    names
}

/// What is wrong with how a file uses the other rooms.
fn wrong_uses(source: &Source) -> Vec<String> {
    let mut wrong = Vec::new();
    let own = source.room();
    let Some(place) = ROOMS.iter().position(|r| *r == own) else { return wrong };
    for after in source.words("crate") {
        for name in named(after) {
            match ROOMS.iter().position(|r| *r == name) {
                Some(other) if other > place => wrong.push(format!("uses {name}, a room after {own}")),
                Some(_) if own == "ring" && name == "os" => wrong.push("the ring uses os".into()),
                Some(_) => {}
                None => wrong.push(format!("uses crate::{name}, not by its room")),
            }
        }
    }
    for after in source.words("super") {
        let root = source.path.ends_with("mod.rs") && source.path.components().count() == 2;
        let up = named(after);
        if up.contains(&"super".to_owned()) || (root && up.iter().any(|n| ROOMS.contains(&n.as_str()))) {
            wrong.push(format!("goes to {} by super", up.join(", ")));
        }
    }
    wrong.extend(wrong_outside(source));
    wrong
}

/// What is wrong with what a file uses from outside the library.
fn wrong_outside(source: &Source) -> Vec<String> {
    let Some((_, allowed)) = OUTSIDE.iter().find(|(room, _)| *room == source.room()) else {
        return Vec::new();
    };
    let manifest = include_str!("../Cargo.toml");
    let below = manifest.lines().skip_while(|l| *l != "[dependencies]").skip(1);
    let crates = below.take_while(|l| !l.starts_with('[')).filter_map(|l| l.split(['.', ' ']).next());
    let mut names: Vec<_> = crates.filter(|n| !n.is_empty()).map(|n| n.replace('-', "_")).collect();
    assert!(names.len() > 5, "the dependencies are not where they were");
    names.extend(["std", "core", "alloc"].map(str::to_owned));

    let mut wrong = Vec::new();
    for name in &names {
        for after in source.words(name).filter(|after| after.starts_with("::")) {
            let used = format!("{name}{}", after.lines().next().unwrap_or_default());
            if !allowed.iter().any(|a| used.starts_with(a)) {
                wrong.push(format!("uses {used}"));
            }
        }
    }
    wrong
}

#[test]
fn a_room_uses_only_rooms_before_it() {
    let mut wrong = Vec::new();
    for source in sources() {
        for what in wrong_uses(&source) {
            wrong.push(format!("{}: {what}", source.path.display()));
        }
        let known = ROOMS.contains(&source.room()) || source.room() == "lib.rs";
        assert!(known, "{}: a room that ARCHITECTURE.md does not have", source.path.display());
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn unsafe_code_is_in_two_rooms() {
    let mut opened = 0;
    for source in sources() {
        let here = UNSAFE.contains(&source.room());
        let uses = source.words("unsafe").count() + source.words("unsafe_code").count();
        assert!(here || uses == 0, "{}: unsafe code", source.path.display());
        opened += usize::from(source.words("unsafe_code").count() > 0);
    }
    assert!(opened > 0, "the search finds nothing");
}

#[test]
fn no_file_is_longer_than_a_reader_can_hold() {
    for source in sources() {
        assert!(source.lines <= MOST_LINES, "{}: {} lines", source.path.display(), source.lines);
    }
}

#[test]
fn the_paper_has_the_rooms_in_this_order() {
    let row = format!("{} -> programs", ROOMS.join(" -> "));
    assert!(include_str!("../../ARCHITECTURE.md").contains(&row), "ARCHITECTURE.md: {row}");
}

#[test]
fn the_search_finds_what_it_should() {
    let found = |path: &str, text: &str| {
        let code = without_tests(&code_of(text));
        wrong_uses(&Source { path: path.into(), lines: 0, code })
    };
    let clean = "//! crate::wait\nuse crate::layout::Word; // crate::wait\n\
        const A: &str = \"crate::wait \\\" crate::codec\"; const B: char = '\"';\n\
        fn a<'a>(_: &'a str) {}\n#[cfg(test)]\nmod tests { use crate::wait; fn b() { {} } }";
    assert_eq!(found("ring/a.rs", clean), [""; 0]);
    for bad in [
        "use crate::region::Heap;",
        "use crate::{layout::Word, region::Heap};",
        "use crate::{\n    layout::{Word, Slot},\n    endpoint,\n};",
        "fn a() { crate::wait::b() }",
        "use crate::os::lock;",
        "use crate::Producer;",
        "use super::super::wait;",
        "use std::sync::atomic::AtomicU64;",
        "use nix::errno::Errno;",
        "#[cfg(test)] use crate::layout; use crate::codec;",
    ] {
        assert_eq!(found("ring/a.rs", bad).len(), 1, "{bad}");
    }
    assert_eq!(found("layout/a.rs", "use crate::ring;").len(), 1);
    assert_eq!(found("ring/mod.rs", "use super::wait;").len(), 1);
    assert_eq!(found("endpoint/a.rs", "use crate::{os, region};\nuse std::fs;"), [""; 0]);
}
