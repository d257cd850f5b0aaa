//! Every mapping option, by what the kernel says of the mapping.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::fcntl::{FallocateFlags, fallocate};
use nix::unistd::getgroups;
use shmring::{
    Advice, AttachError, Consumer, CreateError, GeometryError, HugePages, Lack, OpenError, Producer, Region,
    RegionOptions,
};
use tests::{
    CONSUMER_SLEEP, Lab, Mapped, Victim, is_root, mappings, on_tmpfs, skipped, until_asleep, victim,
};

const CAPACITY: u64 = 65536;
/// What is before the ring, and each of its two aliases, in KiB.
const KIB: [u64; 3] = [64, 64, 64];

fn own(path: &Path) -> Vec<Mapped> {
    mappings("self", path)
}

#[track_caller]
fn each(mapped: &[Mapped], field: &str) -> Vec<u64> {
    mapped.iter().map(|m| m.kib(field)).collect()
}

/// A producer of a new region that is mapped as `options` say.
fn producer(path: &Path, options: &RegionOptions) -> Producer {
    RegionOptions::new().capacity(CAPACITY).max_producers(1).create(path).unwrap();
    options.open(path).unwrap().producer().unwrap()
}

#[test]
fn prefault_populates_all_three_maps() {
    let Some(folder) = on_tmpfs("prefault_populates_all_three_maps") else { return };
    let path = folder.path().join("lazy");
    let lazy = producer(&path, &RegionOptions::new());
    let mapped = own(&path);
    assert_eq!(mapped.iter().map(|m| m.kib("Size")).sum::<u64>(), KIB.iter().sum());
    assert!(each(&mapped, "Rss").iter().sum::<u64>() < KIB.iter().sum(), "few pages are touched");
    drop(lazy);
    let path = folder.path().join("eager");
    RegionOptions::new().capacity(CAPACITY).max_producers(1).create(&path).unwrap();
    let region = RegionOptions::new().prefault(true).open(&path).unwrap();
    let _eager = match region.producer() {
        Err(AttachError::Lack(lack)) => {
            assert!(lack == Lack::Prefault && lack.to_string().contains("5.14"), "{lack}");
            return skipped("prefault_populates_all_three_maps", lack);
        }
        attached => attached.unwrap(),
    };
    assert_eq!(each(&own(&path), "Size"), KIB);
    assert_eq!(each(&own(&path), "Rss"), KIB);
}

#[test]
fn locked_memory_is_locked() {
    let lab = Lab::new();
    let path = lab.path("ring");
    let _free = producer(&path, &RegionOptions::new());
    assert!(each(&own(&path), "Locked").iter().all(|kib| *kib == 0));
    let region = RegionOptions::new().lock_memory(true).open(&path).unwrap();
    let _locked = match region.consumer() {
        Err(AttachError::Lack(Lack::LockedMemory { needed, limit })) => {
            assert!(needed == 3 * CAPACITY && limit < needed);
            return skipped("locked_memory_is_locked", format!("this user may lock {limit} bytes"));
        }
        attached => attached.unwrap(),
    };
    let locked: Vec<_> = own(&path).into_iter().filter(|m| m.has("lo")).collect();
    assert_eq!(each(&locked, "Locked").len(), 3);
    assert_eq!(each(&locked, "Rss"), KIB);
    // Another process may hold pages too: the kernel then counts shares.
    assert!(each(&locked, "Locked").iter().all(|kib| *kib > 0));
}

#[test]
fn advice_reaches_every_map() {
    let lab = Lab::new();
    for (options, flags) in [
        (RegionOptions::new(), ""),
        (RegionOptions::new().advise(Advice::Sequential), "sr"),
        (RegionOptions::new().advise(Advice::Random), "rr"),
        (RegionOptions::new().advise(Advice::DontDump), "dd"),
        (RegionOptions::new().advise(Advice::Random).advise(Advice::DontDump), "rr dd"),
        (RegionOptions::new().advise(Advice::Sequential).advise(Advice::DontDump), "sr dd"),
    ] {
        let path = lab.path("ring");
        let _producer = producer(&path, &options);
        let mapped = own(&path);
        assert_eq!(each(&mapped, "Size"), KIB);
        for flag in ["sr", "rr", "dd"] {
            let has: Vec<_> = mapped.iter().map(|m| m.has(flag)).collect();
            assert_eq!(has, [flags.contains(flag); 3], "{flag} with {flags:?}");
        }
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn mode_and_group_whatever_the_umask() {
    let lab = Lab::new();
    let path = lab.path("ring");
    let mode = || fs::metadata(&path).unwrap().mode() & 0o7777;
    RegionOptions::new().create(&path).unwrap();
    assert_eq!(mode(), 0o600);
    fs::remove_file(&path).unwrap();
    // The usual umask takes two of these bits.
    let shared = RegionOptions::new().mode(0o666);
    shared.create(&path).unwrap();
    assert_eq!(mode(), 0o666);
    shared.open(&path).unwrap();
    Region::open(&path).unwrap();
    differs(RegionOptions::new().mode(0o640).open(&path), "mode", "0640", "0666");
    differs(RegionOptions::new().mode(0o600).open_or_create(&path), "mode", "0600", "0666");
    fs::remove_file(&path).unwrap();

    for bits in [0, 0o400, 0o200, 0o1600, 0o4777, 0o10600, u32::MAX] {
        let refused = RegionOptions::new().mode(bits);
        assert!(matches!(refused.create(&path), Err(CreateError::Mode { mode }) if mode == bits));
        assert!(matches!(refused.open_or_create(&path), Err(OpenError::Create(CreateError::Mode { .. }))));
        assert!(!path.exists());
    }

    let no_group = RegionOptions::new().group(u32::MAX);
    assert!(matches!(no_group.create(&path), Err(CreateError::Group { gid: u32::MAX, .. })));
    let own_groups = getgroups().unwrap();
    let Some(group) = is_root().then_some(54321).or(own_groups.last().map(|g| g.as_raw())) else {
        return skipped("mode_and_group_whatever_the_umask", "this user has no further group");
    };
    let grouped = RegionOptions::new().mode(0o660).group(group);
    grouped.create(&path).unwrap();
    assert_eq!((fs::metadata(&path).unwrap().gid(), mode()), (group, 0o660));
    grouped.open(&path).unwrap();
    let other = RegionOptions::new().group(group + 1).open(&path);
    differs(other, "group", &(group + 1).to_string(), &group.to_string());
}

#[track_caller]
fn differs(opened: Result<Region, OpenError>, what: &str, asked: &str, found: &str) {
    match opened {
        Err(OpenError::Differs { option, asked: a, found: f, .. }) => {
            assert_eq!((option, &a[..], &f[..]), (what, asked, found));
        }
        unexpected => panic!("{unexpected:?}"),
    }
}

#[test]
fn huge_pages_ask_for_a_layout_of_their_own() {
    let lab = Lab::new();
    let path = lab.path("ring");
    let huge = RegionOptions::new().huge_pages(HugePages::Transparent);
    for capacity in [CAPACITY, 1 << 20, 3 << 20] {
        match huge.clone().capacity(capacity).create(&path) {
            Err(CreateError::Geometry(GeometryError::HugeCapacity { capacity: c })) => {
                assert_eq!(c, capacity)
            }
            unexpected => panic!("{unexpected:?}"),
        }
    }
    // The usual capacity is then the least one.
    assert_eq!(huge.create(&path).unwrap().capacity(), 2 << 20);
    assert_eq!(fs::metadata(&path).unwrap().len(), (1 + 16) * (2 << 20));
    // Whoever does not ask uses it as any other.
    let region = Region::open(&path).unwrap();
    let mut producer = region.producer().unwrap();
    let mut consumer = region.consumer().unwrap();
    pass_messages(&mut producer, &mut consumer);
    drop((producer, consumer));

    fs::remove_file(&path).unwrap();
    RegionOptions::new().capacity(4 << 20).create(&path).unwrap();
    let region = huge.open(&path).unwrap();
    for refused in [region.producer().map(drop), region.consumer().map(drop)] {
        let Err(AttachError::Lack(lack)) = refused else { panic!("{refused:?}") };
        assert!(lack == Lack::SmallPages && lack.to_string().contains("create it with huge pages"));
    }
    let reserved = RegionOptions::new().huge_pages(HugePages::Reserved);
    let region = reserved.open(&path).unwrap();
    let refused = region.producer();
    assert!(matches!(refused, Err(AttachError::Lack(Lack::NotHugetlbfs { .. }))), "{refused:?}");
    let other = lab.path("other");
    match reserved.create(&other) {
        Err(CreateError::Lack(lack @ Lack::NotHugetlbfs { .. })) => {
            let text = lack.to_string();
            assert!(text.contains(other.to_str().unwrap()) && text.contains("mount -t hugetlbfs"), "{text}");
        }
        unexpected => panic!("{unexpected:?}"),
    }
    assert!(!other.exists());
}

/// More than the ring holds, so that the double mapping's seam is used.
fn pass_messages(producer: &mut Producer, consumer: &mut Consumer) {
    let payload: Vec<u8> = (0..700_001).map(|i| (i * 7 % 251) as u8).collect();
    for len in [700_000, 1, 700_001, 699_999, 8, 700_001, 500_000] {
        producer.try_send(&payload[..len]).unwrap();
        match consumer.try_read().unwrap() {
            shmring::Read::Message(m) => assert!(m.payload == &payload[..len]),
            other => panic!("{other:?}"),
        }
        consumer.commit();
    }
}

/// A setting of the whole system. Who changes one holds [`settings`]: they are
/// the same for all tests.
struct Setting {
    path: &'static str,
    before: String,
}

static SETTINGS: Mutex<()> = Mutex::new(());

fn settings() -> MutexGuard<'static, ()> {
    SETTINGS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Setting {
    /// Changes one until it is dropped.
    fn change(path: &'static str, value: &str) -> io::Result<Setting> {
        let all = fs::read_to_string(path)?;
        // One of several words is the chosen one.
        let before = all.split(['[', ']']).nth(1).unwrap_or(all.trim()).to_owned();
        let setting = Setting { path, before };
        setting.write(value)?;
        Ok(setting)
    }

    fn write(&self, value: &str) -> io::Result<()> {
        File::options().write(true).open(self.path)?.write_all(value.as_bytes())
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        let restored = self.write(&self.before);
        assert!(restored.is_ok() || std::thread::panicking(), "{} is not restored: {restored:?}", self.path);
    }
}

const SHMEM: &str = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";

#[test]
fn transparent_huge_pages() {
    const NAME: &str = "transparent_huge_pages";
    let _alone = settings();
    let Some(folder) = on_tmpfs(NAME) else { return };
    let path = folder.path().join("ring");
    let options = RegionOptions::new().capacity(4 << 20).huge_pages(HugePages::Transparent);
    options.create(&path).unwrap();
    {
        // Small pages, if nobody asks.
        let _plain = Region::open(&path).unwrap().producer().unwrap();
        if fs::read_to_string(SHMEM).is_ok_and(|s| s.contains("[never]")) {
            assert_eq!(each(&own(&path), "ShmemPmdMapped"), [0, 0, 0]);
        }
    }
    let denied = is_root().then(|| Setting::change(SHMEM, "deny"));
    match denied {
        Some(Ok(_deny)) => match options.open(&path).unwrap().producer() {
            Err(AttachError::Lack(lack @ Lack::TransparentHugePages { mapped: 0, needed, .. })) => {
                assert_eq!(needed, 8 << 20);
                let text = lack.to_string();
                for word in [SHMEM, "is deny", "tmpfs", "huge=advise", "6.1"] {
                    assert!(text.contains(word), "no {word:?} in: {text}");
                }
            }
            unexpected => panic!("{unexpected:?}"),
        },
        Some(Err(e)) => skipped(NAME, format!("a system that denies: {SHMEM}: {e}")),
        None => skipped(NAME, "a system that denies: to set that takes root"),
    }

    let _advise = is_root().then(|| Setting::change(SHMEM, "advise"));
    let region = options.open(&path).unwrap();
    let mut producer = match region.producer() {
        Err(AttachError::Lack(Lack::TransparentHugePages { mapped, needed, why })) => {
            assert!(mapped < needed && why.contains(SHMEM));
            return skipped(NAME, why);
        }
        attached => attached.unwrap(),
    };
    let mapped = own(&path);
    assert_eq!(mapped.len(), 3);
    let huge: Vec<_> = mapped.iter().filter(|m| m.kib("ShmemPmdMapped") > 0).cloned().collect();
    assert_eq!((each(&huge, "ShmemPmdMapped"), each(&huge, "Rss")), (vec![4096; 2], vec![4096; 2]));
    // The other side, and together with the other options.
    let all = options.clone().prefault(true).advise(Advice::DontDump).guard_truncation(true);
    let mut consumer = all.open(&path).unwrap().consumer().unwrap();
    assert_eq!(own(&path).iter().filter(|m| m.kib("ShmemPmdMapped") == 4096).count(), 4);
    pass_messages(&mut producer, &mut consumer);
}

const NR_HUGEPAGES: &str = "/proc/sys/vm/nr_hugepages";

fn pages_2m(name: &str) -> u64 {
    let path = format!("/sys/kernel/mm/hugepages/hugepages-2048kB/{name}");
    fs::read_to_string(path).map_or(0, |text| text.trim().parse().expect("a number"))
}

/// A victim on a hugetlbfs of its own.
fn on_hugetlbfs(lab: &Lab, name: &str, options: &str, flags: &str) -> Option<Victim> {
    let mount = format!(
        "mount -t hugetlbfs -o {options} none mounted >&2 || {{ echo no; exit; }}; echo yes; \
         exec \"$VICTIM\" mounted/ring {flags}"
    );
    fs::create_dir_all(lab.path("mounted")).unwrap();
    let mut command = lab.prepared("unshare".as_ref());
    command.current_dir(lab.path("")).args(["-m", "sh", "-c", &mount]);
    command.env("VICTIM", env!("CARGO_BIN_EXE_victim"));
    let mut user = Victim::start(&mut command);
    if user.answer().as_deref() == Some("yes") {
        return Some(user);
    }
    skipped(name, user.finish().stderr);
    None
}

#[test]
fn reserved_huge_pages() {
    const NAME: &str = "reserved_huge_pages";
    if !is_root() {
        return skipped(NAME, "to mount a hugetlbfs takes root");
    }
    let _alone = settings();
    let lab = Lab::new();
    let start = |flags: &str| on_hugetlbfs(&lab, NAME, "pagesize=2M,mode=0700", flags);

    // Not asked for, and too many asked for.
    let Some(mut user) = start("--capacity 2097152") else { return };
    assert_eq!(user.ask("create"), "Err(Lack(OnHugetlbfs { path: \"mounted/ring\" }))");
    drop(user);
    let Some(mut user) = start("--capacity 1099511627776 --huge-pages reserved") else { return };
    let free = pages_2m("free_hugepages") - pages_2m("resv_hugepages");
    let refused = format!("Err(Lack(ReservedHugePages {{ needed: 524289, free: {free} }}))");
    assert_eq!(user.ask("create"), refused);
    drop(user);
    let text = Lack::ReservedHugePages { needed: 3, free: 1 }.to_string();
    assert!(["3", "1", "vm.nr_hugepages"].iter().all(|word| text.contains(word)), "{text}");

    // A ring of 4 MiB and 2 MiB before it.
    let wanted = pages_2m("nr_hugepages") + 3;
    let raised = match Setting::change(NR_HUGEPAGES, &wanted.to_string()) {
        Ok(raised) if pages_2m("nr_hugepages") == wanted => raised,
        Ok(_) => return skipped(NAME, "the system has no 3 huge pages"),
        Err(e) => return skipped(NAME, format!("{NR_HUGEPAGES}: {e}")),
    };
    let Some(mut user) = start("--capacity 4194304 --huge-pages reserved --prefault --dont-dump --guard")
    else {
        return;
    };
    user.must(&["create", "producer"]);
    // Anybody attaches without options.
    user.must(&["plain", "open", "consumer"]);
    let ring = PathBuf::from(format!("/proc/{}/root{}", user.pid(), lab.path("mounted/ring").display()));
    let mapped = mappings(&user.pid().to_string(), &ring);
    assert_eq!(each(&mapped, "KernelPageSize"), [2048; 6]);
    let mut sizes = each(&mapped, "Size");
    sizes.sort();
    assert_eq!(sizes, [2048, 2048, 4096, 4096, 4096, 4096]);
    // Over the end of the ring and on.
    for sequence in 0..9 {
        user.must(&["send 1500000"]);
        assert_eq!(user.ask("try-read"), format!("message {sequence} of 1500000"));
        user.must(&["commit"]);
    }
    drop(user);
    struck_on_hugetlbfs(&lab, start);
    drop(raised);
    assert_eq!(pages_2m("nr_hugepages"), wanted - 3);
}

/// The guard maps whole huge pages away.
fn struck_on_hugetlbfs(lab: &Lab, start: impl Fn(&str) -> Option<Victim>) {
    let Some(mut user) = start("--capacity 2097152 --huge-pages reserved --guard") else { return };
    user.must(&["create", "producer", "consumer", "send 8"]);
    let ring = PathBuf::from(format!("/proc/{}/root{}", user.pid(), lab.path("mounted/ring").display()));
    File::options().write(true).open(ring).unwrap().set_len(0).unwrap();
    assert_eq!(user.ask("send 8"), "Err(Truncated)");
    assert_eq!(user.ask("try-read"), "Err(Truncated)");
    user.must(&["leave"]);
    user.finish().expect(0);

    // A page that is given back is missed here, too.
    let Some(mut user) = start("--capacity 4194304 --huge-pages reserved") else { return };
    user.must(&["create", "consumer"]);
    let ring = PathBuf::from(format!("/proc/{}/root{}", user.pid(), lab.path("mounted/ring").display()));
    user.tell("read");
    until_asleep(&ring, CONSUMER_SLEEP);
    let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    fallocate(File::options().write(true).open(ring).unwrap(), flags, 4 << 20, 2 << 20).unwrap();
    assert_eq!(user.answer().unwrap(), "Err(Punched)");
}

#[test]
fn pages_of_another_size() {
    const NAME: &str = "pages_of_another_size";
    if !is_root() {
        return skipped(NAME, "to mount a hugetlbfs takes root");
    }
    let lab = Lab::new();
    let flags = "--capacity 2097152 --huge-pages reserved";
    let Some(mut user) = on_hugetlbfs(&lab, NAME, "pagesize=1G", flags) else { return };
    assert_eq!(user.ask("create"), "Err(Lack(HugePageSize { found: 1073741824 }))");
}

#[test]
fn a_program_makes_a_ring_for_its_group() {
    let lab = Lab::new();
    let run = |flags: &[&str]| lab.run(tests::Program::Shmring, &[&["create", "ring"], flags].concat(), b"");
    let group = nix::unistd::getegid().as_raw().to_string();
    run(&["--mode", "0660", "--group", &group, "--huge-pages", "transparent"]).expect(0);
    let found = fs::metadata(lab.ring("ring")).unwrap();
    assert_eq!(
        (found.mode() & 0o7777, found.gid().to_string(), found.len()),
        (0o660, group, (1 + 16) * (2 << 20))
    );
    lab.run(tests::Program::Shmring, &["rm", "ring"], b"").expect(0);
    run(&["--group", "root", "--mode", "640"]).expect(if is_root() { 0 } else { 1 });
    let _ = fs::remove_file(lab.ring("ring"));

    let done = run(&["--huge-pages", "reserved"]).expect(1);
    assert!(done.stderr.contains("not on a hugetlbfs"), "{}", done.stderr);
    for bad in [
        &["--mode", "0o660"][..],
        &["--mode", "rw"],
        &["--mode", "888"],
        &["--mode", "-1"],
        &["--mode", "01600"],
        &["--mode", "0060"],
        &["--mode", ""],
        &["--group", "no-such-group"],
        &["--group", "-1"],
        &["--group", "99999999999"],
        &["--group", "4294967295"],
        &["--huge-pages", "gigantic"],
        &["--huge-pages", "transparent", "--capacity", "1MiB"],
    ] {
        let done = run(bad).expect(2);
        assert!(!done.stderr.is_empty() && !lab.ring("ring").exists(), "{bad:?}");
    }
    let help = lab.run(tests::Program::Shmring, &["create", "--help"], b"").expect(0);
    let help = String::from_utf8(help.stdout).unwrap();
    assert!(help.contains("hold a read lock and keep a role busy"), "{help}");
}

#[test]
fn each_process_chooses_for_itself() {
    let Some(folder) = on_tmpfs("each_process_chooses_for_itself") else { return };
    let lab = Lab::new();
    let path = folder.path().join("ring");
    let mut user = victim(&lab, env!("CARGO_BIN_EXE_victim"), &path, &["--prefault"]);
    user.must(&["create", "producer"]);
    let _own = Region::open(&path).unwrap().consumer().unwrap();
    assert_eq!(each(&mappings(&user.pid().to_string(), &path), "Rss"), KIB);
    let rss = each(&own(&path), "Rss");
    assert!(rss.contains(&0), "nobody touched the second alias here: {rss:?}");
}

#[test]
fn memory_without_a_name_takes_the_same_options() {
    const NAME: &str = "memory_without_a_name_takes_the_same_options";
    let of = |region: &Region| PathBuf::from(format!("/proc/self/fd/{}", region.as_fd().as_raw_fd()));
    let options =
        RegionOptions::new().capacity(CAPACITY).max_producers(1).prefault(true).advise(Advice::DontDump);
    let region = options.mode(0o640).create_anonymous().unwrap();
    assert_eq!(fs::metadata(of(&region)).unwrap().mode() & 0o777, 0o640);
    let _producer = region.producer().unwrap();
    let mapped = own(&of(&region));
    assert_eq!(each(&mapped, "Rss"), KIB);
    assert!(mapped.iter().all(|m| m.has("dd")));

    let _alone = settings();
    let reserved = RegionOptions::new().capacity(2 << 20).huge_pages(HugePages::Reserved);
    if pages_2m("free_hugepages") == 0 {
        match reserved.create_anonymous() {
            Err(CreateError::Lack(Lack::ReservedHugePages { needed: 2, free: 0 })) => {}
            other => panic!("{other:?}"),
        }
    }
    if !is_root() {
        return skipped(NAME, "to set huge pages aside takes root");
    }
    let wanted = pages_2m("nr_hugepages") + 2;
    let _raised = match Setting::change(NR_HUGEPAGES, &wanted.to_string()) {
        Ok(raised) if pages_2m("nr_hugepages") == wanted => raised,
        Ok(_) => return skipped(NAME, "the system has no 2 huge pages"),
        Err(e) => return skipped(NAME, format!("{NR_HUGEPAGES}: {e}")),
    };
    let region = reserved.create_anonymous().unwrap();
    let (mut producer, mut consumer) = (region.producer().unwrap(), region.consumer().unwrap());
    assert_eq!(each(&own(&of(&region)), "KernelPageSize"), [2048; 6]);
    pass_messages(&mut producer, &mut consumer);
}
