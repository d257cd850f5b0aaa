use super::*;
use crate::report::Kind;

/// As many as there will be, with the longest names.
const WHO: [(&str, Kind); 20] = [
    ("ours", Kind::Ours),
    ("cache line", Kind::Floor),
    ("record ring", Kind::Floor),
    ("u64 ring", Kind::Floor),
    ("memcpy", Kind::Floor),
    ("iceoryx2", Kind::Peer),
    ("shmring 0.4 (gofsd)", Kind::Peer),
    ("shmem-ipc", Kind::Peer),
    ("ipc-channel", Kind::Peer),
    ("Boost message_queue", Kind::Peer),
    ("ZeroMQ ipc", Kind::Peer),
    ("POSIX mq", Kind::Peer),
    ("pipe", Kind::Peer),
    ("pipe, 64 KiB batches", Kind::Peer),
    ("unix stream", Kind::Peer),
    ("unix seqpacket & <co>", Kind::Peer),
    ("TCP loopback", Kind::Peer),
    ("rtrb", Kind::Threads),
    ("crossbeam-channel", Kind::Threads),
    ("disruptor", Kind::Threads),
];

fn result(case: &str, size: usize, options: &str, figure: impl Fn(usize) -> f64) -> CaseResult {
    let series = WHO.iter().enumerate().map(|(number, (who, kind))| {
        let middle = figure(number);
        let nanos = (middle * 1e3) as u64;
        Series {
            who: who.to_string(),
            kind: *kind,
            rounds: vec![middle * 0.9, middle, middle * 1.2],
            percentiles: Some([nanos, nanos * 2, nanos * 5, nanos * (20 + number as u64 * 7)]),
            lost: 0,
            wrong: 0,
            skipped: None,
        }
    });
    let series = series.collect();
    CaseResult {
        case: case.to_owned(),
        size,
        options: options.to_owned(),
        unit: "M/s",
        more_is_better: true,
        series,
    }
}

fn made_up() -> Vec<CaseResult> {
    let slow = |number: usize| 1.35f64.powi(number as i32);
    let mut results = vec![
        result("round_trip", 64, "", |number| 0.12 * slow(number)),
        result("round_trip", 64, "both on one core", |number| 7.0 * slow(number)),
        result("wake", 64, "pinned", |number| 5.0 + 0.7 * number as f64),
    ];
    for size in (3..=20).map(|power| 1usize << power) {
        let cost = |number: usize| 1e3 / (20.0 * slow(number) + size as f64 / (12.0 - 0.4 * number as f64));
        results.push(result("one_way", size, "", cost));
        results.push(result("one_way", size, "records at 64", cost));
    }
    for size in [1 << 10, 16 << 10, 256 << 10, 1 << 20] {
        let options = if size == 1 << 20 { "capacity 16 MiB" } else { "" };
        results.push(result("in_place", size, options, |number| 20.0 / slow(number)));
    }
    for producers in [1, 2, 3, 4, 6, 8, 12, 16] {
        let options = match producers {
            1 => "1 producer".to_owned(),
            _ => format!("{producers} producers, unpinned"),
        };
        results.push(result("producers", 64, &options, |n| {
            40.0 / slow(n) / (producers as f64).powf(0.05 * n as f64)
        }));
    }
    results
}

/// The words of a document, which is well-formed.
fn words(path: &Path) -> String {
    let document = fs::read_to_string(path).unwrap();
    let document = roxmltree::Document::parse(&document).unwrap();
    assert_eq!(document.root_element().tag_name().name(), "svg");
    let texts = document.descendants().filter_map(|node| node.text());
    texts.map(str::trim).collect::<Vec<_>>().join("\n")
}

#[test]
fn each_chart_is_there_and_names_everybody() {
    let folder = tempfile::tempdir().unwrap();
    let written = write(&made_up(), folder.path(), "a machine & a day").unwrap();
    let names: Vec<_> = written.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["latency.svg", "wake.svg", "throughput.svg", "in_place.svg", "producers.svg"]);
    for path in written {
        let words = words(&path);
        for (who, _) in WHO {
            assert!(words.contains(who), "{} does not name {who}", path.display());
        }
        assert!(words.contains("a machine & a day"));
        assert!(!words.contains("records at 64") && !words.contains("one core"), "not the defaults");
        // For whoever wants to look at them: a folder.
        if let Some(keep) = std::env::var_os("PLOTS") {
            fs::copy(&path, Path::new(&keep).join(path.file_name().unwrap())).unwrap();
        }
    }
}

#[test]
fn what_is_not_at_the_defaults_is_said() {
    let subtitle = |case, across| lines_of(&made_up(), case, across).unwrap().titled("", "here").subtitle;
    assert_eq!(subtitle("one_way", Across::Size), "here");
    assert_eq!(subtitle("in_place", Across::Size), "here; 1 MiB: capacity 16 MiB");
    assert_eq!(subtitle("producers", Across::Producers), "here; 2 to 16: unpinned");
    assert_eq!(rows_of(&made_up(), "wake").unwrap().subtitle, "pinned");
    assert_eq!(rows_of(&made_up(), "round_trip").unwrap().subtitle, "");
}

#[test]
fn what_has_no_figures_is_not_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let mut results = made_up();
    results.retain(|result| result.case == "round_trip");
    for series in results.iter_mut().flat_map(|result| &mut result.series) {
        if series.kind != Kind::Ours {
            *series = Series { skipped: Some("not here".to_owned()), ..series.clone() };
        }
    }
    let written = write(&results, folder.path(), "").unwrap();
    assert_eq!(written, [folder.path().join("latency.svg")]);
    let words = words(&written[0]);
    assert!(words.contains("ours") && !words.contains("iceoryx2"), "{words}");
    assert!(write(&[], folder.path(), "").unwrap().is_empty());
}

#[test]
fn an_axis_is_round_and_around() {
    for (low, high) in [(0.03, 45.0), (1.0, 1000.0), (7.0, 7.0), (120.0, 95_000_000.0)] {
        let (from, to, ticks) = canvas::axis(low, high);
        assert!(from <= low && from > low / 3.0 && to >= high && to < high * 3.0, "{from} to {to}");
        assert!((2..10).contains(&ticks.len()) && ticks.is_sorted(), "{ticks:?}");
    }
}
