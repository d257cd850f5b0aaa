//! What all figures depend on, for the top of the report.

use std::fs;
use std::thread::available_parallelism;
use std::time::SystemTime;

/// A line for each thing that is known.
pub(crate) fn lines() -> Vec<String> {
    let parts = [
        ("date", Some(humantime::format_rfc3339_seconds(SystemTime::now()).to_string())),
        ("processor", processor()),
        ("cores", available_parallelism().ok().map(|count| count.to_string())),
        ("governor", read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
        ("kernel", read("/proc/sys/kernel/osrelease")),
        ("load average", read("/proc/loadavg")),
        ("memory", line_of("/proc/meminfo", "MemTotal")),
        ("page size", line_of("/proc/self/smaps", "KernelPageSize")),
        ("huge pages", read("/sys/kernel/mm/transparent_hugepage/enabled")),
        ("huge pages of shared memory", read("/sys/kernel/mm/transparent_hugepage/shmem_enabled")),
        ("compiler", Some(env!("BENCHES_RUSTC").to_owned())),
        ("shmring", Some(env!("CARGO_PKG_VERSION").to_owned())),
    ];
    let known = parts.into_iter().filter_map(|(name, value)| Some((name, value?)));
    known.map(|(name, value)| format!("{name}: {value}")).collect()
}

/// What charts say of it: the processor, its cores, the kernel, the day.
pub(crate) fn in_a_line() -> String {
    let cores = available_parallelism().map(|count| format!("{count} cores")).ok();
    let kernel = read("/proc/sys/kernel/osrelease").map(|release| format!("Linux {release}"));
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let day = now.split('T').next().map(str::to_owned);
    [processor(), cores, kernel, day].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn processor() -> Option<String> {
    let model = line_of("/proc/cpuinfo", "model name")?;
    let flags = line_of("/proc/cpuinfo", "flags").unwrap_or_default();
    // Times of a virtual machine hold what its host did meanwhile.
    let is_virtual = flags.split(' ').any(|flag| flag == "hypervisor");
    Some(if is_virtual { format!("{model}, of a virtual machine") } else { model })
}

fn read(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

/// What stands behind `key:` in the first line that begins with it.
fn line_of(path: &str, key: &str) -> Option<String> {
    value_of(&fs::read_to_string(path).ok()?, key)
}

fn value_of(text: &str, key: &str) -> Option<String> {
    let found = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim().to_owned())
    })?;
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_by_its_whole_key() {
        let text = "model\t\t: 7\nmodel name\t: A processor: fast\nflags : a b\n";
        assert_eq!(value_of(text, "model name").as_deref(), Some("A processor: fast"));
        assert_eq!(value_of(text, "name"), None);
    }

    #[test]
    fn the_date_the_kernel_and_the_compiler_are_always_known() {
        let lines = lines();
        for name in ["date: ", "kernel: ", "cores: ", "load average: ", "page size: ", "compiler: rustc "] {
            assert!(lines.iter().any(|line| line.starts_with(name)), "{name} is not in {lines:?}");
        }
    }
}
