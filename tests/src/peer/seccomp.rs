//! A kernel of long ago, for this process.
#![allow(unsafe_code)] // a filter of system calls

use anyhow::{Result, bail};
use nix::libc;

use super::NotPermitted;

/// Makes `madvise(MADV_WIPEONFORK)` fail as it did before Linux 4.14.
pub(crate) fn forget_wipe_on_fork() -> Result<()> {
    const NUMBER: u32 = 0; // of the system call, in seccomp_data
    const ADVICE: u32 = 16 + 2 * 8; // the low half of its third argument
    let load = |k| libc::sock_filter { code: 0x20, jt: 0, jf: 0, k };
    let equal = |k, or_skip| libc::sock_filter { code: 0x15, jt: 0, jf: or_skip, k };
    let end = |k| libc::sock_filter { code: 0x06, jt: 0, jf: 0, k };
    let mut filter = [
        load(NUMBER),
        equal(libc::SYS_madvise as u32, 3),
        load(ADVICE),
        equal(libc::MADV_WIPEONFORK as u32, 1),
        end(libc::SECCOMP_RET_ERRNO | libc::EINVAL as u32),
        end(libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the kernel copies the program, which is valid during the calls.
    let installed = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
    };
    if !installed {
        bail!(NotPermitted("no filter of system calls can be set"));
    }
    Ok(())
}
