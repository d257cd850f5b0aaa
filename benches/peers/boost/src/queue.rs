//! `boost::interprocess::message_queue`, safe to call.
#![allow(unsafe_code)] // What is written in C++ is reached through C.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;

use anyhow::{Result, bail};

/// As the shim answers.
const DONE: c_int = 0;
const NOT_NOW: c_int = 1;

unsafe extern "C" {
    safe fn shim_boost_version() -> u32;
    fn shim_create(
        name: *const c_char,
        count: usize,
        size: usize,
        queue: *mut *mut c_void,
        why: *mut c_char,
        len: usize,
    ) -> c_int;
    fn shim_open(name: *const c_char, queue: *mut *mut c_void, why: *mut c_char, len: usize) -> c_int;
    fn shim_remove(name: *const c_char) -> c_int;
    fn shim_close(queue: *mut c_void);
    fn shim_send(
        queue: *mut c_void,
        message: *const c_void,
        size: usize,
        waits: bool,
        why: *mut c_char,
        len: usize,
    ) -> c_int;
    fn shim_receive(
        queue: *mut c_void,
        buffer: *mut c_void,
        room: usize,
        size: *mut usize,
        waits: bool,
        why: *mut c_char,
        len: usize,
    ) -> c_int;
}

/// Room for what an exception says.
struct Why([c_char; 200]);

impl Why {
    fn new() -> Why {
        Why([0; 200])
    }

    /// Whether it was done; else it is for later.
    #[inline(always)]
    fn done(&self, answer: c_int) -> Result<bool> {
        match answer {
            DONE => Ok(true),
            NOT_NOW => Ok(false),
            _ => self.fail(),
        }
    }

    #[cold]
    fn fail(&self) -> Result<bool> {
        // SAFETY: filled with zeroes, and `snprintf` keeps one at the end.
        let why = unsafe { CStr::from_ptr(self.0.as_ptr()) };
        bail!("Boost: {}", why.to_string_lossy())
    }
}

/// Boost's version: major, minor, patch.
pub(crate) fn version() -> (u32, u32, u32) {
    let version = shim_boost_version();
    (version / 100_000, version / 100 % 1000, version % 100)
}

/// Removes the name of a queue; who has it open keeps it.
pub(crate) fn remove(name: &CStr) -> bool {
    // SAFETY: a string that ends with a zero.
    unsafe { shim_remove(name.as_ptr()) == DONE }
}

/// A queue that this process has open.
pub(crate) struct Queue(*mut c_void);

impl Queue {
    /// A new one for so many messages of so many bytes.
    pub(crate) fn create(name: &CString, count: usize, size: usize) -> Result<Queue> {
        let (mut queue, mut why) = (ptr::null_mut(), Why::new());
        // SAFETY: a string that ends with a zero, a place for the result, and
        // room for a reason with its length.
        let answer =
            unsafe { shim_create(name.as_ptr(), count, size, &mut queue, why.0.as_mut_ptr(), why.0.len()) };
        why.done(answer)?;
        Ok(Queue(queue))
    }

    /// One that exists.
    pub(crate) fn open(name: &CString) -> Result<Queue> {
        let (mut queue, mut why) = (ptr::null_mut(), Why::new());
        // SAFETY: as in `create`.
        let answer = unsafe { shim_open(name.as_ptr(), &mut queue, why.0.as_mut_ptr(), why.0.len()) };
        why.done(answer)?;
        Ok(Queue(queue))
    }

    /// Whether it was sent. `waits`: until there is room.
    #[inline(always)]
    pub(crate) fn send(&mut self, message: &[u8], waits: bool) -> Result<bool> {
        let mut why = Why::new();
        // SAFETY: the queue is open until `drop`; the message is as long as said.
        let answer = unsafe {
            shim_send(self.0, message.as_ptr().cast(), message.len(), waits, why.0.as_mut_ptr(), why.0.len())
        };
        why.done(answer)
    }

    /// Bytes of a message that was received. `waits`: until there is one.
    #[inline(always)]
    pub(crate) fn receive(&mut self, buffer: &mut [u8], waits: bool) -> Result<Option<usize>> {
        let (mut size, mut why) = (0, Why::new());
        // SAFETY: the queue is open until `drop`; the buffer is as long as said,
        // and Boost writes no more than that.
        let answer = unsafe {
            shim_receive(
                self.0,
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                &mut size,
                waits,
                why.0.as_mut_ptr(),
                why.0.len(),
            )
        };
        Ok(why.done(answer)?.then_some(size))
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: from `shim_create` or `shim_open`, and closed once.
        unsafe { shim_close(self.0) };
    }
}
