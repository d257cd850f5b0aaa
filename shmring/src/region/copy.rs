//! Copies to and from memory that another process may be changing.
//!
//! A plain `memcpy` on such memory is undefined behaviour. On x86-64 the bytes
//! move by instructions that the compiler takes for a black box: whatever the
//! other side does, the result is a mixture of bytes. Miri and other processors
//! move relaxed atomics.
//!
//! Of a stretch that is no whole number of pieces the last piece overlaps the
//! one before: no loop over single bytes, and few stores. Stores are what a
//! producer is short of: those to a line that the consumer has just read wait in
//! the store buffer, in order.
#![allow(unsafe_code)]

/// Copies `len` private bytes into shared memory.
///
/// # Safety
/// * `shared` is valid for `len` bytes that are accessed only atomically or
///   through this module.
/// * `private` is valid for reads of `len` bytes that nobody changes.
#[inline(always)]
pub(super) unsafe fn copy_in(shared: *mut u8, private: *const u8, len: usize) {
    // SAFETY: the ranges are valid by this function's contract and lie in
    // different objects.
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    unsafe {
        pieces::copy(shared, private, len)
    };
    // SAFETY: as above.
    #[cfg(any(not(target_arch = "x86_64"), miri))]
    unsafe {
        words::copy_in(shared, private, len)
    };
}

/// Copies `len` shared bytes into private memory.
///
/// # Safety
/// As [`copy_in`], with `private` valid for writes.
#[inline(always)]
pub(super) unsafe fn copy_out(shared: *mut u8, private: *mut u8, len: usize) {
    // SAFETY: the ranges are valid by this function's contract and lie in
    // different objects.
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    unsafe {
        pieces::copy(private, shared, len)
    };
    // SAFETY: as above.
    #[cfg(any(not(target_arch = "x86_64"), miri))]
    unsafe {
        words::copy_out(shared, private, len)
    };
}

/// Asks for the line at `shared`, to be written.
#[inline(always)]
pub(super) fn prepare(shared: *mut u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a hint, which touches nothing, whatever the address.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) shared, options(nostack, preserves_flags, readonly));
    }
    #[cfg(any(not(target_arch = "x86_64"), miri))]
    let _ = shared;
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod pieces {
    use std::arch::asm;
    use std::is_x86_feature_detected as has;

    /// From here on one string instruction is as good as a loop over pieces of 32
    /// bytes; over pieces of 16, from [`STRING_FROM_WITHOUT_AVX`].
    const STRING_FROM: usize = 16 << 10;
    const STRING_FROM_WITHOUT_AVX: usize = 2 << 10;

    /// # Safety
    /// `from` is valid for reads and `to` for writes of `len` bytes; the ranges
    /// do not overlap.
    #[inline(always)]
    pub(super) unsafe fn copy(to: *mut u8, from: *const u8, len: usize) {
        // SAFETY: each piece lies inside both ranges, which are as long as its
        // guard says.
        unsafe {
            if len < 16 {
                if len >= 8 {
                    eight(to, from);
                    eight(to.add(len - 8), from.add(len - 8));
                } else {
                    (0..len).for_each(|at| one(to.add(at), from.add(at)));
                }
            } else if len < 32 {
                sixteen(to, from);
                sixteen(to.add(len - 16), from.add(len - 16));
            } else if len <= 64 {
                four(to, from, len - 16);
            } else if len <= 128 {
                four(to, from, 48);
                four(to.add(len - 64), from.add(len - 64), 48);
            } else {
                many(to, from, len);
            }
        }
    }

    /// # Safety
    /// As [`copy`] of more than 128 bytes.
    #[inline(never)]
    unsafe fn many(to: *mut u8, from: *const u8, len: usize) {
        // SAFETY: each piece lies inside both ranges; the processor has what the
        // instructions need.
        unsafe {
            let has_avx = has!("avx");
            if len >= STRING_FROM || len >= STRING_FROM_WITHOUT_AVX && !has_avx {
                string(to, from, len);
            } else if has_avx {
                wide(to, from, len - 128);
                wide(to.add(len - 128), from.add(len - 128), 1);
            } else {
                let mut at = 0;
                while at < len - 64 {
                    four(to.add(at), from.add(at), 48);
                    at += 64;
                }
                four(to.add(len - 64), from.add(len - 64), 48);
            }
        }
    }

    /// # Safety
    /// As [`copy`].
    #[inline(always)]
    unsafe fn string(to: *mut u8, from: *const u8, len: usize) {
        // SAFETY: touches those bytes alone; the direction flag is clear by the
        // ABI.
        unsafe {
            asm!(
                "rep movsb",
                inout("rcx") len => _,
                inout("rdi") to => _,
                inout("rsi") from => _,
                options(nostack, preserves_flags),
            );
        }
    }

    /// Copies pieces of 128 bytes until `len` are copied, or up to 127 more.
    ///
    /// # Safety
    /// As [`copy`] of what these are, at least one piece; the processor has AVX.
    #[inline(always)]
    unsafe fn wide(to: *mut u8, from: *const u8, len: usize) {
        // SAFETY: touches those bytes alone. The upper halves of the registers
        // are nobody's in a program that is compiled without AVX, and are clean
        // afterwards, as the ABI wants them in one that is compiled with it.
        unsafe {
            asm!(
                "2:",
                "vmovups ymm0, [{from} + {at}]",
                "vmovups ymm1, [{from} + {at} + 32]",
                "vmovups ymm2, [{from} + {at} + 64]",
                "vmovups ymm3, [{from} + {at} + 96]",
                "vmovups [{to} + {at}], ymm0",
                "vmovups [{to} + {at} + 32], ymm1",
                "vmovups [{to} + {at} + 64], ymm2",
                "vmovups [{to} + {at} + 96], ymm3",
                "add {at}, 128",
                "cmp {at}, {len}",
                "jb 2b",
                "vzeroupper",
                from = in(reg) from,
                to = in(reg) to,
                at = inout(reg) 0usize => _,
                len = in(reg) len,
                // vzeroupper clears the upper halves of all.
                out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
                out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
                out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
                options(nostack),
            );
        }
    }

    /// Copies four pieces of 16 bytes: the first two, and the two that end 16
    /// bytes behind `last`.
    ///
    /// # Safety
    /// As [`copy`] of what these are.
    #[inline(always)]
    unsafe fn four(to: *mut u8, from: *const u8, last: usize) {
        // SAFETY: touches those bytes alone.
        unsafe {
            asm!(
                "movups {a}, [{from}]",
                "movups {b}, [{from} + 16]",
                "movups {c}, [{from} + {last} - 16]",
                "movups {d}, [{from} + {last}]",
                "movups [{to}], {a}",
                "movups [{to} + 16], {b}",
                "movups [{to} + {last} - 16], {c}",
                "movups [{to} + {last}], {d}",
                a = out(xmm_reg) _,
                b = out(xmm_reg) _,
                c = out(xmm_reg) _,
                d = out(xmm_reg) _,
                from = in(reg) from,
                to = in(reg) to,
                last = in(reg) last,
                options(nostack, preserves_flags),
            );
        }
    }

    /// # Safety
    /// As [`copy`] of 16 bytes.
    #[inline(always)]
    unsafe fn sixteen(to: *mut u8, from: *const u8) {
        // SAFETY: touches those bytes alone.
        unsafe {
            asm!(
                "movups {piece}, [{from}]",
                "movups [{to}], {piece}",
                piece = out(xmm_reg) _,
                from = in(reg) from,
                to = in(reg) to,
                options(nostack, preserves_flags),
            );
        }
    }

    /// # Safety
    /// As [`copy`] of 8 bytes.
    #[inline(always)]
    unsafe fn eight(to: *mut u8, from: *const u8) {
        // SAFETY: touches those bytes alone.
        unsafe {
            asm!(
                "mov {piece}, [{from}]",
                "mov [{to}], {piece}",
                piece = out(reg) _,
                from = in(reg) from,
                to = in(reg) to,
                options(nostack, preserves_flags),
            );
        }
    }

    /// # Safety
    /// As [`copy`] of one byte.
    #[inline(always)]
    unsafe fn one(to: *mut u8, from: *const u8) {
        // SAFETY: touches that byte alone.
        unsafe {
            asm!(
                "mov {piece}, [{from}]",
                "mov [{to}], {piece}",
                piece = out(reg_byte) _,
                from = in(reg) from,
                to = in(reg) to,
                options(nostack, preserves_flags),
            );
        }
    }
}

#[cfg(any(test, not(target_arch = "x86_64"), miri))]
mod words {
    use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

    /// How many bytes lie before the first aligned word, and how many whole words
    /// follow.
    fn split(shared: *mut u8, len: usize) -> (usize, usize) {
        let lead = (shared.addr().wrapping_neg() & 7).min(len);
        (lead, (len - lead) / 8)
    }

    /// # Safety
    /// As [`copy_in`](super::copy_in).
    pub(super) unsafe fn copy_in(shared: *mut u8, private: *const u8, len: usize) {
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

    /// # Safety
    /// As [`copy_out`](super::copy_out).
    pub(super) unsafe fn copy_out(shared: *mut u8, private: *mut u8, len: usize) {
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
}

#[cfg(test)]
mod tests {
    use super::{copy_in, copy_out, words};

    type CopyIn = unsafe fn(*mut u8, *const u8, usize);
    type CopyOut = unsafe fn(*mut u8, *mut u8, usize);

    #[test]
    fn every_length_and_alignment_is_copied_exactly() {
        let source: Vec<u8> = (0..17_000).map(|i| i as u8 | 1).collect();
        let ways: [(CopyIn, CopyOut); 2] = [(copy_in, copy_out), (words::copy_in, words::copy_out)];
        for (copy_in, copy_out) in ways {
            for at in 0..9 {
                for len in (0..300).chain([511, 512, 513]).chain(2046..2051).chain(16_382..16_387) {
                    let mut shared = vec![0u64; 2064];
                    let mut out = vec![0; len];
                    let place = shared.as_mut_ptr().cast::<u8>().wrapping_add(at);
                    // SAFETY: at + len is below the 16 512 bytes of `shared`, which
                    // no other thread sees; `source` and `out` are long enough.
                    let all = unsafe {
                        copy_in(place, source.as_ptr().add(3), len);
                        copy_out(place, out.as_mut_ptr(), len);
                        std::slice::from_raw_parts(shared.as_ptr().cast::<u8>(), 16_512)
                    };
                    assert_eq!(out, source[3..3 + len]);
                    assert!(all[..at].iter().chain(&all[at + len..]).all(|&b| b == 0), "{at} {len}");
                }
            }
        }
    }
}
