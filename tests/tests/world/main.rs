//! The world misbehaves: system calls that fail, kills at every one of them,
//! signals without end, clocks that differ, process ids that come again, too
//! little memory, counters that wrap.

mod calls;
mod clocks;
mod faults;
mod kills;
mod memory;
mod pids;
mod programs;
mod storms;
mod wraps;
