//! A sink's position and a source's progress, committed with the messages.

use shmring::{
    AttachError, Consumer, Flags, Producer, ProducerOptions, Read, Region, RegionOptions, StreamId,
};

const SINK: StreamId = StreamId([1, 2, 3, 4]);
const OTHER: StreamId = StreamId([1, 2, 3, 5]);

fn region() -> (tempfile::TempDir, Region) {
    let folder = tempfile::tempdir().unwrap();
    let region = RegionOptions::new().start_at(0, u64::MAX - 1).create(folder.path().join("ring")).unwrap();
    (folder, region)
}

fn read(consumer: &mut Consumer) -> Vec<u8> {
    match consumer.try_read().unwrap() {
        Read::Message(message) => message.payload.to_vec(),
        other => panic!("{other:?}"),
    }
}

fn resume(region: &Region, source: StreamId) -> Result<Producer, AttachError> {
    region.producer_with(&ProducerOptions::new().source(source))
}

fn bound(region: &Region, sink: StreamId) -> (Consumer, Option<u64>) {
    let mut consumer = region.consumer().unwrap();
    let position = consumer.bind_sink(sink).unwrap();
    (consumer, position)
}

#[test]
fn a_position_is_committed_with_the_messages_or_not_at_all() {
    let (_folder, region) = region();
    let mut producer = region.producer().unwrap();
    for message in [b"a", b"b", b"c"] {
        producer.send(message).unwrap();
    }
    let (mut consumer, position) = bound(&region, SINK);
    assert_eq!(position, None);
    read(&mut consumer);
    consumer.commit_at(10);
    read(&mut consumer);
    drop(consumer);

    let (mut consumer, position) = bound(&region, SINK);
    assert_eq!(position, Some(10));
    assert_eq!(read(&mut consumer), b"b");
    // A plain commit leaves the position alone.
    consumer.commit();
    assert_eq!(consumer.bind_sink(SINK).unwrap(), Some(10));
    drop(consumer);
    let (mut consumer, position) = bound(&region, SINK);
    assert_eq!(position, Some(10));
    // A position alone is committed too.
    consumer.commit_at(12);
    drop(consumer);
    let (mut consumer, position) = bound(&region, SINK);
    assert_eq!(position, Some(12));
    assert_eq!(read(&mut consumer), b"c");
}

#[test]
fn a_ring_is_bound_to_one_sink_by_its_first_commit_there() {
    let (_folder, region) = region();
    let position = |sink| bound(&region, sink).1;
    bound(&region, SINK).0.commit_at(10);
    // To look is not to bind.
    assert_eq!([position(OTHER), position(SINK)], [None, Some(10)]);
    bound(&region, OTHER).0.commit_at(0);
    assert_eq!([position(OTHER), position(SINK)], [Some(0), None]);
    // All 0 name nothing.
    bound(&region, StreamId([0; 4])).0.commit_at(5);
    assert_eq!([position(StreamId([0; 4])), position(OTHER)], [None, None]);
}

#[test]
fn a_consumer_without_a_sink_leaves_the_position_alone() {
    let (_folder, region) = region();
    region.producer().unwrap().send(b"a").unwrap();
    bound(&region, SINK).0.commit_at(10);
    let mut consumer = region.consumer().unwrap();
    read(&mut consumer);
    consumer.commit_at(99);
    drop(consumer);
    assert_eq!(bound(&region, SINK).1, Some(10));
}

#[test]
#[should_panic(expected = "before the first read")]
fn a_sink_is_not_bound_behind_what_was_read() {
    let (_folder, region) = region();
    region.producer().unwrap().send(b"a").unwrap();
    let mut consumer = region.consumer().unwrap();
    read(&mut consumer);
    let _ = consumer.bind_sink(SINK);
}

#[test]
fn a_producer_learns_what_was_sent() {
    let (_folder, region) = region();
    let mut producer = resume(&region, SINK).unwrap();
    assert_eq!((producer.sent().messages, producer.sent().bytes), (0, 0));
    producer.send(b"abc").unwrap();
    producer.try_send_with(b"de", Flags::UNTERMINATED).unwrap();
    let mut batch = producer.batch();
    batch.try_push_with(b"f", Flags::UNTERMINATED).unwrap();
    batch.try_push(b"").unwrap();
    batch.publish();
    // Never published.
    let mut batch = producer.batch();
    batch.try_push_with(b"lost", Flags::UNTERMINATED).unwrap();
    drop(batch);
    producer.abandon();

    let producer = resume(&region, SINK).unwrap();
    let sent = producer.sent();
    assert_eq!((sent.messages, sent.bytes, sent.unterminated), (4, 6, 2));
    // End marks do not count.
    producer.close();
    assert_eq!(resume(&region, SINK).unwrap().sent(), sent);
}

#[test]
fn a_source_has_its_lane_from_the_first_time_on() {
    let (_folder, region) = region();
    let mut producer = resume(&region, OTHER).unwrap();
    producer.send(b"1").unwrap();
    producer.close();

    match resume(&region, SINK) {
        Err(AttachError::OtherSource { asked: SINK, bound: Some(OTHER) }) => {}
        other => panic!("{other:?}"),
    }
    // A refusal changes nothing, and a producer without a source leaves the lane alone.
    assert_eq!(region.producer().unwrap().lane(), 1);
    let producer = resume(&region, OTHER).unwrap();
    assert_eq!((producer.lane(), producer.sent().messages), (0, 1));
    match resume(&region, OTHER) {
        Err(AttachError::Busy { .. }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_was_sent_without_a_source_is_nobodys() {
    let (_folder, region) = region();
    region.producer().unwrap().close();
    match resume(&region, SINK) {
        Err(AttachError::OtherSource { asked: SINK, bound: None }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_source_with_a_name_has_its_lane() {
    let (_folder, region) = region();
    let named = |name: &str, source| region.producer_with(&ProducerOptions::new().name(name).source(source));
    region.producer().unwrap().send(b"somebody's").unwrap();
    for (name, source, count) in [("a", SINK, 3), ("b", OTHER, 5)] {
        for sent in 0..count {
            let mut producer = named(name, source).unwrap();
            assert_eq!(producer.sent().messages, sent);
            producer.send(b"1").unwrap();
        }
    }
    match named("a", OTHER) {
        Err(AttachError::OtherSource { asked: OTHER, bound: Some(SINK) }) => {}
        other => panic!("{other:?}"),
    }
    // By name and without a source it is unbound for good.
    region.producer_with(&ProducerOptions::new().name("a")).unwrap().close();
    match named("a", SINK) {
        Err(AttachError::OtherSource { asked: SINK, bound: None }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_is_known_by_what_it_is_not_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (folder.path().join("one"), folder.path().join("other"));
    let id = |path| StreamId::of_file(&std::fs::File::open(path).unwrap(), 0).unwrap();
    std::fs::write(&one, b"a").unwrap();
    let first = id(&one);
    std::fs::write(&one, b"changed").unwrap();
    std::fs::rename(&one, &other).unwrap();
    assert_eq!(id(&other), first);
    std::fs::write(&one, b"a").unwrap();
    assert_ne!(id(&one), first);
    let file = std::fs::File::open(&one).unwrap();
    assert_ne!(StreamId::of_file(&file, 1).unwrap(), id(&one), "the detail tells them apart");
}
