//! The room that a producer knows of in advance: nothing that is due is passed over.

use super::*;

/// A lane that nobody writes to, of any size: no bytes are kept.
struct Vast;

impl Memory for Vast {
    fn load(&self, _: Word) -> u64 {
        0
    }
    fn load_acquire(&self, _: Word) -> u64 {
        0
    }
    fn store(&self, _: Word, _: u64) {}
    fn store_release(&self, _: Word, _: u64) {}
    fn replace(&self, _: Word, _: u64, _: u64) -> bool {
        false
    }
    fn add(&self, _: Word, _: u64) -> u64 {
        0
    }
    fn header_acquire(&self, _: u64) -> u64 {
        0
    }
    fn store_header(&self, _: u64, _: u64) {}
    fn store_header_release(&self, _: u64, _: u64) {}
    fn write(&self, _: u64, _: &[u8]) {}
    fn read(&self, _: u64, _: &mut [u8]) {}
    fn keep_program_order(&self) {}
}

/// However large the ring is: a header has 32 bits for the length.
#[test]
fn no_message_is_longer_than_a_header_can_say() {
    for bits in [16, 34, 35, 36, 40] {
        for prefix in [0, 8] {
            let shape = Shape { capacity: 1 << bits, align: 64, prefix };
            let mut writer = Writer::take_over(Vast, shape).unwrap();
            let most = shape.max_len() as usize;
            assert_eq!(writer.claim(most), Ok(()));
            for len in [most + 1, most.max(u32::MAX as usize), most + (1 << 33), usize::MAX - 63, usize::MAX]
            {
                assert_eq!(
                    writer.claim(len),
                    if len == most { Ok(()) } else { Err(Claim::TooLarge) },
                    "{len}"
                );
                assert!(!writer.has_room(len) || len <= most);
            }
        }
    }
}

/// Sends messages of 16 bytes in the ring in one go, as long as that goes.
fn sends(writer: &mut Writer<&Heap>) -> usize {
    (0..1000).take_while(|_| writer.has_room(8) && writer.send(0, &[7; 8])).count()
}

fn stage(writer: &mut Writer<&Heap>) {
    writer.claim(8).unwrap();
    writer.write(0, &[7; 8]);
    writer.stage(0, 8);
}

/// Most messages go in one go: as many as lie between two check points.
#[test]
fn messages_go_at_once_up_to_the_next_check_point() {
    let shape = Shape { capacity: 1 << 12, align: 8, prefix: 0 };
    let heap = Heap::new(shape, 0, 0);
    let mut writer = Writer::take_over(&heap, shape).unwrap();
    let mut reader = read_lanes([&heap], shape).unwrap();
    let mut read_all = || {
        while let Some(record) = find(&mut reader).unwrap() {
            reader.advance(&record);
        }
        reader.commit();
    };
    // An eighth of the ring; the message behind it writes one.
    const EIGHTH: usize = 512 / 16;
    for _ in 0..20 {
        assert_eq!(sends(&mut writer), EIGHTH);
        assert!(!writer.send(0, &[7; 8]));
        stage(&mut writer);
        writer.publish();
        read_all();
        // The longest one needs all the room that there is: it looks at the head.
        writer.claim(shape.max_len() as usize).unwrap();
    }
    // To the byte.
    let smallest = (0..1000).take_while(|_| writer.send(0, &[])).count();
    assert_eq!(smallest, 512 / 8);
    stage(&mut writer);
    writer.publish();
    read_all();
    writer.claim(shape.max_len() as usize).unwrap();
    // What is staged takes room, and gives it back.
    (0..10).for_each(|_| stage(&mut writer));
    assert!(!writer.send(0, &[]), "before what is staged");
    writer.abort();
    (0..10).for_each(|_| stage(&mut writer));
    writer.publish();
    assert_eq!(sends(&mut writer), EIGHTH - 10);
    // A drop has its check point, and its gap comes first.
    writer.drop_message(Cause::Full);
    assert_eq!(sends(&mut writer), 0);
    writer.publish_gap(8).unwrap();
    assert_eq!(sends(&mut writer), EIGHTH - 1);
    // So long as the head that it knows allows, and a look at it gives the rest.
    read_all();
    let most = (4096 - 8 - 16 - 8) / 16;
    let mut sent = 0;
    while writer.claim(8).is_ok() {
        sent += sends(&mut writer);
        if writer.claim(8).is_ok() {
            stage(&mut writer);
            writer.publish();
            sent += 1;
        }
    }
    assert_eq!(sent, most);
    assert!(!writer.is_freed());
    read_all();
    assert!(writer.is_freed() && writer.claim(8).is_ok() && !writer.is_freed());
    assert!(sends(&mut writer) > 0);
}
