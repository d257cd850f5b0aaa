//! docs/ORDERINGS.md against the code: every call that orders has its row, every
//! row its call and its test.

#[path = "source/calls.rs"]
mod calls;

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use calls::{calls_in, calls_of};

const PAGE: &str = include_str!("../../docs/ORDERINGS.md");
/// The rooms that are held against the page.
const ROOMS: [&str; 4] = ["ring", "wait", "region", "endpoint"];

/// What stands between backticks.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// The page's rows: file, function and call; name; the test's file and path, if
/// there is one.
fn rows() -> Vec<([&'static str; 3], &'static str, Vec<&'static str>)> {
    let mut rows = Vec::new();
    for line in PAGE.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let (&[file, function], &[call]) = (&quoted(cells[0])[..], &quoted(cells[1])[..]) else {
            panic!("{line}: not file, function and call");
        };
        let tests = cells.get(4).map_or(vec![], |held| quoted(held));
        rows.push(([file, function, call], cells.get(2).copied().unwrap_or_default(), tests));
    }
    assert!(rows.len() > 50, "the page is not as it was");
    rows
}

/// The files of a room, but for the trait whose calls hand on.
fn files(room: &str) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(room);
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.map(|name| format!("{room}/{name}")).filter(|file| file != "ring/memory.rs").collect()
}

#[test]
fn every_call_has_its_row_and_every_row_its_call() {
    let mut rows: Vec<_> =
        rows().into_iter().map(|(place, name, _)| (place.map(String::from), name)).collect();
    let mut without = Vec::new();
    for file in ROOMS.iter().flat_map(|room| files(room)) {
        for call in calls_in(&file) {
            let place = [file.clone(), call.function, call.call];
            match rows
                .iter()
                .position(|(row, name)| *row == place && (call.name.is_empty() || call.name == *name))
            {
                Some(at) => drop(rows.swap_remove(at)),
                None => without.push((place, call.name, call.line)),
            }
        }
    }
    assert!(without.is_empty(), "calls without a row: {without:#?}");
    assert!(rows.is_empty(), "rows without a call: {rows:#?}");
}

/// The text of a test of this package, or of the one for several processes: a
/// file, or all of a folder.
fn source_of(test: &str) -> String {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let others = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/tests");
    let is_there =
        |folder: &Path| folder.join(test).exists() || folder.join(test).with_extension("rs").exists();
    let tests = if is_there(&own) { own } else { others };
    let read = |path: &Path| {
        let stem = path.file_stem().unwrap().to_str().unwrap();
        format!("mod {stem};\n{}", fs::read_to_string(path).unwrap())
    };
    let file = tests.join(test).with_extension("rs");
    if file.exists() {
        return read(&file);
    }
    fs::read_dir(tests.join(test)).unwrap().map(|entry| read(&entry.unwrap().path())).collect()
}

#[test]
fn every_test_on_the_page_exists() {
    for ([file, function, call], _, tests) in rows() {
        let room = file.split('/').next().unwrap();
        assert!(tests.len() > 1 || room != "ring", "{file} {function} {call}: no test");
        assert!(tests.len().is_multiple_of(2), "{file} {function} {call}: {tests:?}");
        for pair in tests.chunks(2) {
            let source = source_of(pair[0]);
            let words: HashSet<_> = source.split(|c: char| !(c.is_alphanumeric() || c == '_')).collect();
            for part in pair[1].split("::") {
                assert!(words.contains(part), "{file} {function}: {pair:?}: no {part}");
            }
        }
    }
}

#[test]
fn the_search_finds_what_it_should() {
    let text = "fn a<M: Memory>(m: &M) {\n    m.store_release(Word::Head, f(1, 2)); // FREE\n    m.load(Word::Head);\n}\n\
        // m.header_acquire(1)\nfn b() { c.fence(); fence(Ordering::SeqCst); mem::replace(a, b); (**self).add(1); }\n\
        #[cfg(test)]\nmod tests { fn c() { m.load_acquire(1) } }\n\
        fn d(x: AtomicU64) { x.load(Ordering::Acquire); x.load(Ordering::Relaxed); w.load_acquire(\n0, Word::Ready) }";
    let found: Vec<_> = calls_of(text).into_iter().map(|c| (c.function, c.call, c.name, c.line)).collect();
    let expected = [
        ("a", "store_release(Word::Head)", "FREE", 2),
        ("b", "fence", "", 6),
        ("b", "fence(Ordering::SeqCst)", "", 6),
        ("d", "Ordering::Acquire", "", 9),
        ("d", "load_acquire(Word::Ready)", "", 9),
    ];
    let expected = expected.map(|(f, c, n, line)| (f.to_owned(), c.to_owned(), n.to_owned(), line));
    assert_eq!(found, expected);
}
