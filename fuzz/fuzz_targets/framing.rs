#![no_main]

#[global_allocator]
static ALLOCATOR: tests::fuzz::Counting = tests::fuzz::Counting;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    tests::fuzz::framing(bytes);
});
