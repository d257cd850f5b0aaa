//! Copies to and from memory that another process may be changing.
//!
//! A plain `memcpy` on such memory is undefined behaviour. Whole words move as
//! relaxed atomics; longer stretches by an instruction that the compiler takes
//! for a black box: whatever the other side does, the result is a mixture of
//! bytes. Miri and other processors use the words throughout.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

/// From here on one string instruction beats a loop over words.
#[cfg(all(target_arch = "x86_64", not(miri)))]
const STRING_FROM: usize = 256;

/// Copies `len` private bytes into shared memory.
///
/// # Safety
/// * `shared` is valid for `len` bytes that are accessed only atomically or
///   through this module.
/// * `private` is valid for reads of `len` bytes that nobody changes.
#[inline]
pub(super) unsafe fn copy_in(shared: *mut u8, private: *const u8, len: usize) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if len >= STRING_FROM {
        // SAFETY: the ranges are valid by this function's contract and lie in
        // different objects; the direction flag is clear by the ABI.
        unsafe { copy_string(shared, private, len) };
        return;
    }
    let (lead, words) = split(shared, len);
    for i in (0..lead).chain(lead + words * 8..len) {
        // SAFETY: byte i lies inside both ranges.
        unsafe { AtomicU8::from_ptr(shared.add(i)).store(*private.add(i), Relaxed) };
    }
    for i in 0..words {
        // SAFETY: word i lies inside both ranges; `split` aligned it in `shared`.
        unsafe {
            let word = private.add(lead).cast::<u64>().add(i).read_unaligned();
            AtomicU64::from_ptr(shared.add(lead).cast::<u64>().add(i)).store(word, Relaxed);
        }
    }
}

/// How many bytes lie before the first aligned word, and how many whole words
/// follow.
#[inline(always)]
fn split(shared: *mut u8, len: usize) -> (usize, usize) {
    let lead = (shared.addr().wrapping_neg() & 7).min(len);
    (lead, (len - lead) / 8)
}

/// Copies `len` shared bytes into private memory.
///
/// # Safety
/// As [`copy_in`], with `private` valid for writes.
#[inline]
pub(super) unsafe fn copy_out(shared: *mut u8, private: *mut u8, len: usize) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if len >= STRING_FROM {
        // SAFETY: as in `copy_in`.
        unsafe { copy_string(private, shared, len) };
        return;
    }
    let (lead, words) = split(shared, len);
    for i in (0..lead).chain(lead + words * 8..len) {
        // SAFETY: byte i lies inside both ranges.
        unsafe { *private.add(i) = AtomicU8::from_ptr(shared.add(i)).load(Relaxed) };
    }
    for i in 0..words {
        // SAFETY: word i lies inside both ranges; `split` aligned it in `shared`.
        unsafe {
            let word = AtomicU64::from_ptr(shared.add(lead).cast::<u64>().add(i)).load(Relaxed);
            private.add(lead).cast::<u64>().add(i).write_unaligned(word);
        }
    }
}

/// # Safety
/// `from` is valid for reads and `to` for writes of `len` bytes; the ranges do
/// not overlap.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
unsafe fn copy_string(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: touches exactly the two ranges; a memory clobber is the default,
    // so no other access is moved across it.
    unsafe {
        std::arch::asm!(
            "rep movsb",
            inout("rcx") len => _,
            inout("rdi") to => _,
            inout("rsi") from => _,
            options(nostack, preserves_flags),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_and_alignment_is_copied_exactly() {
        let source: Vec<u8> = (0..600).map(|i| i as u8 | 1).collect();
        for at in 0..9 {
            for len in (0..300).chain([511, 512, 513]) {
                let mut shared = vec![0u64; 80];
                let mut out = vec![0; len];
                let place = shared.as_mut_ptr().cast::<u8>().wrapping_add(at);
                // SAFETY: at + len is below the 640 bytes of `shared`, which
                // no other thread sees; `source` and `out` are long enough.
                let all = unsafe {
                    copy_in(place, source.as_ptr().add(3), len);
                    copy_out(place, out.as_mut_ptr(), len);
                    std::slice::from_raw_parts(shared.as_ptr().cast::<u8>(), 640)
                };
                assert_eq!(out, source[3..3 + len]);
                assert!(all[..at].iter().chain(&all[at + len..]).all(|&b| b == 0), "{at} {len}");
            }
        }
    }
}
