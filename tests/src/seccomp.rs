//! System calls that fail, as on a kernel of long ago or another file system.
#![allow(unsafe_code)] // a filter of system calls

use nix::errno::Errno;
use nix::libc;

/// Makes a system call fail with `errno` in this process and its children, from
/// now on, where the bits `mask` of the low half of its argument with this
/// number are `value`.
///
/// # Errors
/// A filter cannot be set here.
pub fn fail_call(call: libc::c_long, argument: u32, mask: u32, value: u32, errno: Errno) -> nix::Result<()> {
    const NUMBER: u32 = 0; // of the system call, in seccomp_data
    const ARGUMENTS: u32 = 16;
    let load = |k| libc::sock_filter { code: 0x20, jt: 0, jf: 0, k };
    let and = |k| libc::sock_filter { code: 0x54, jt: 0, jf: 0, k };
    let equal = |k, or_skip| libc::sock_filter { code: 0x15, jt: 0, jf: or_skip, k };
    let end = |k| libc::sock_filter { code: 0x06, jt: 0, jf: 0, k };
    let mut filter = [
        load(NUMBER),
        equal(call as u32, 4),
        load(ARGUMENTS + 8 * argument),
        and(mask),
        equal(value, 1),
        end(libc::SECCOMP_RET_ERRNO | errno as u32),
        end(libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: neither call has more to it than its numbers and the program, which
    // is valid during the call: the kernel copies it.
    unsafe {
        Errno::result(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        Errno::result(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program))?;
    }
    Ok(())
}
