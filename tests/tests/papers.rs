//! The papers against the tree: every link leads somewhere, every promise has
//! its test and its section, every test is of some promise.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const PROMISES: &str = "README.md";
const SECTIONS: &str = "docs/TESTING.md";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// All papers, as paths from the root.
fn papers() -> Vec<String> {
    let names = ["", "docs"].into_iter().flat_map(|folder| {
        let entries = fs::read_dir(root().join(folder)).unwrap();
        entries.map(move |entry| Path::new(folder).join(entry.unwrap().file_name()))
    });
    let papers: Vec<_> = names.map(|path| path.to_str().unwrap().to_owned()).collect();
    let papers: Vec<_> = papers.into_iter().filter(|path| path.ends_with(".md")).collect();
    assert!(papers.iter().any(|p| p == PROMISES) && papers.iter().any(|p| p == SECTIONS), "{papers:?}");
    papers
}

/// Text and target of each `[text](target)`.
fn links(text: &str) -> Vec<(&str, &str)> {
    let parts = text.split("](").collect::<Vec<_>>();
    let link =
        |pair: &[&'_ str]| -> Option<(usize, usize)> { Some((pair[0].rfind('[')? + 1, pair[1].find(')')?)) };
    parts
        .windows(2)
        .filter_map(|pair| link(pair).map(|(from, to)| (&pair[0][from..], &pair[1][..to])))
        .collect()
}

fn headings(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim())
}

/// What a heading is called in a link.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[test]
fn every_link_leads_somewhere() {
    let mut count = 0;
    for paper in papers() {
        let text = read(&paper);
        for (name, target) in links(&text).into_iter().filter(|(_, target)| !target.contains("://")) {
            let (path, wanted) = target.split_once('#').unwrap_or((target, ""));
            let folder = root().join(&paper).parent().unwrap().to_owned();
            let path = if path.is_empty() { root().join(&paper) } else { folder.join(path) };
            assert!(path.exists(), "{paper}: [{name}]({target})");
            if !wanted.is_empty() {
                let there = fs::read_to_string(&path).unwrap();
                let found = headings(&there).any(|heading| anchor(heading) == wanted);
                assert!(found, "{paper}: [{name}]({target}): there is no such heading");
            }
            count += 1;
        }
    }
    assert!(count > 50, "{count} links are not all there are");
}

/// The rows of the table of promises: its name and its tests.
fn promises(text: &str) -> Vec<(&str, Vec<&str>)> {
    let rows = text.lines().skip_while(|line| !line.starts_with("| promise |")).skip(2);
    let rows = rows.take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let links = links(row);
        let ((name, section), tests) = links.split_first().expect("a promise has a section");
        assert_eq!(*section, format!("{SECTIONS}#{}", anchor(name)));
        assert!(!tests.is_empty(), "{name} has no test");
        (*name, tests.iter().map(|(_, path)| *path).collect())
    })
    .collect()
}

#[test]
fn every_promise_has_its_section_and_every_test_its_promise() {
    let (readme, sections) = (read(PROMISES), read(SECTIONS));
    let promises = promises(&readme);
    let names: Vec<_> = promises.iter().map(|(name, _)| *name).collect();
    let headings: Vec<_> = sections.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>(), headings.iter().collect::<BTreeSet<_>>());
    assert_eq!(names.len(), headings.len());

    let held: BTreeSet<_> = promises.iter().flat_map(|(_, tests)| tests).map(|p| root().join(p)).collect();
    let is_held = |path: &Path| path.ancestors().any(|path| held.contains(path));
    for folder in ["tests/tests", "shmring/tests"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let part = |file: &Path| file.starts_with(&path);
            let is_test = path.is_dir() && path.join("main.rs").exists()
                || path.extension().is_some_and(|extension| extension == "rs");
            let named = is_held(&path) || held.iter().any(|file| part(file));
            assert!(
                !is_test || named || APART.iter().any(|a| path.ends_with(a)),
                "{path:?} holds no promise"
            );
        }
    }
}

/// Tests of no promise of their own.
const APART: [&str; 2] = [
    // Of this harness and these papers.
    "papers.rs",
    // Of a step on the way to "No lost wake-up".
    "registration.rs",
];

#[test]
fn every_command_names_a_test_that_there_is() {
    let text = read(SECTIONS);
    let mut count = 0;
    for (mark, folder) in [("`T ", "tests/tests"), ("`S ", "shmring/tests")] {
        for rest in text.split(mark).skip(1) {
            let name = rest.split('`').next().unwrap();
            if name == "NAME" {
                continue;
            }
            let folder = root().join(folder);
            let found =
                folder.join(format!("{name}.rs")).exists() || folder.join(name).join("main.rs").exists();
            assert!(found, "{mark}{name}`");
            count += 1;
        }
    }
    assert!(count > 30, "{count} commands are not all there are");
}
