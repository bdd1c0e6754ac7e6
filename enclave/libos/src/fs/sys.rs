//! /sys: the few files that programs read to learn about processors and memory.
use super::inode::Inode;
use super::memfs::MemInode;
use super::prelude::*;
use alloc::format;

/// Kernel's form of a set of the first `n` CPUs: a list, and a mask.
fn cpu_list(n: u32) -> String {
    if n == 1 { String::from("0\n") } else { format!("0-{}\n", n - 1) }
}
fn cpu_mask(cpus: core::ops::Range<u32>) -> String {
    let bits = cpus.fold(0u64, |bits, n| bits | 1 << n);
    match (bits >> 32, bits as u32) {
        (0, low) => format!("{low:x}\n"),
        (high, low) => format!("{high:x},{low:08x}\n"),
    }
}

/// Builds /sys.
pub fn build() -> Arc<MemInode> {
    let fs = super::mount::info("sysfs", 0x6265_6572, true);
    let root = MemInode::new(&fs, S_IFDIR | 0o555, (0, 0), 0);
    let n = occlum_rt::vcpu::count().clamp(1, 64);
    let all = cpu_list(n);
    let mut files: Vec<(String, String)> = Vec::new();
    let mut add = |path: &str, text: &str| files.push((String::from(path), String::from(text)));
    for name in ["online", "possible", "present"] {
        add(&format!("devices/system/cpu/{name}"), &all);
    }
    add("devices/system/cpu/offline", "\n");
    add("devices/system/cpu/isolated", "\n");
    add("devices/system/cpu/kernel_max", "63\n");
    add("devices/system/cpu/smt/active", "0\n");
    add("devices/system/cpu/smt/control", "notsupported\n");
    for name in ["online", "possible", "has_cpu", "has_memory", "has_normal_memory"] {
        add(&format!("devices/system/node/{name}"), "0\n");
    }
    add("kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n");
    add("kernel/mm/transparent_hugepage/hpage_pmd_size", "2097152\n");
    add("fs/cgroup/.", "");
    node(n, &mut add);
    (0..n).for_each(|i| cpu(i, n, &mut add));
    for (path, text) in files {
        place(&fs, &root, &path, text.as_bytes());
    }
    root
}

/// The one memory node.
fn node(n: u32, add: &mut impl FnMut(&str, &str)) {
    let kib = crate::mm::total() * 4;
    let memory = format!("Node 0 MemTotal:       {kib} kB\nNode 0 MemFree:        {kib} kB\n");
    for (name, text) in [
        ("cpulist", cpu_list(n).as_str()),
        ("cpumap", cpu_mask(0..n).as_str()),
        ("distance", "10\n"),
        ("meminfo", memory.as_str()),
        (
            "numastat",
            "numa_hit 0\nnuma_miss 0\nnuma_foreign 0\ninterleave_hit 0\nlocal_node 0\nother_node 0\n",
        ),
    ] {
        add(&format!("devices/system/node/node0/{name}"), text);
    }
}

/// One CPU: a core of its own of the one package, with the caches that cpuid names.
fn cpu(i: u32, n: u32, add: &mut impl FnMut(&str, &str)) {
    let (own, own_mask) = (format!("{i}\n"), cpu_mask(i..i + 1));
    let (all, all_mask) = (cpu_list(n), cpu_mask(0..n));
    for (name, text) in [
        ("core_id", own.as_str()),
        ("physical_package_id", "0\n"),
        ("die_id", "0\n"),
        ("thread_siblings", &own_mask),
        ("thread_siblings_list", &own),
        ("core_cpus", &own_mask),
        ("core_cpus_list", &own),
        ("core_siblings", &all_mask),
        ("core_siblings_list", &all),
        ("package_cpus", &all_mask),
        ("package_cpus_list", &all),
        ("die_cpus", &all_mask),
        ("die_cpus_list", &all),
    ] {
        add(&format!("devices/system/cpu/cpu{i}/topology/{name}"), text);
    }
    // level, type, KiB, ways, sets: as cpuid 4 has them.
    let caches = [
        (1, "Data", 32, 8, 64),
        (1, "Instruction", 32, 8, 64),
        (2, "Unified", 512, 8, 1024),
        (3, "Unified", 8192, 16, 8192),
    ];
    for (index, (level, kind, kib, ways, sets)) in caches.into_iter().enumerate() {
        let shared = level == 3;
        let (list, mask) = if shared { (&all, &all_mask) } else { (&own, &own_mask) };
        for (name, text) in [
            ("level", format!("{level}\n")),
            ("type", format!("{kind}\n")),
            ("size", format!("{kib}K\n")),
            ("ways_of_associativity", format!("{ways}\n")),
            ("number_of_sets", format!("{sets}\n")),
            ("coherency_line_size", String::from("64\n")),
            ("physical_line_partition", String::from("1\n")),
            ("shared_cpu_list", list.clone()),
            ("shared_cpu_map", mask.clone()),
        ] {
            add(&format!("devices/system/cpu/cpu{i}/cache/index{index}/{name}"), &text);
        }
    }
}

fn place(fs: &Arc<super::inode::FsInfo>, root: &Arc<MemInode>, path: &str, text: &[u8]) {
    let mut dir = root.clone();
    let (dirs, name) = path.rsplit_once('/').unwrap_or(("", path));
    for part in dirs.split('/') {
        dir = match dir.child(part.as_bytes()) {
            Some(d) => d,
            None => {
                let d = MemInode::new(fs, S_IFDIR | 0o555, (0, 0), 0);
                dir.add(part.as_bytes(), d.clone());
                d
            }
        };
    }
    if name != "." && dir.is_dir() {
        dir.add(name.as_bytes(), MemInode::with_content(fs, 0o444, text));
    }
}
