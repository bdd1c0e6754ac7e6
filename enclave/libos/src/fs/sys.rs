//! /sys: the few files that programs read to learn about processors and memory.
use super::inode::Inode;
use super::memfs::MemInode;
use super::prelude::*;

/// Builds /sys.
pub fn build() -> Arc<MemInode> {
    let fs = super::mount::info("sysfs", 0x6265_6572, true);
    let root = MemInode::new(&fs, S_IFDIR | 0o555, (0, 0), 0);
    let n = occlum_rt::vcpu::count().max(1);
    let cpus = if n == 1 { String::from("0\n") } else { alloc::format!("0-{}\n", n - 1) };
    let cpus = cpus.as_bytes();
    let mut files: Vec<(String, &[u8])> = vec![
        (String::from("devices/system/cpu/online"), cpus),
        (String::from("devices/system/cpu/possible"), cpus),
        (String::from("devices/system/cpu/present"), cpus),
        (String::from("devices/system/node/online"), b"0\n"),
        (String::from("kernel/mm/transparent_hugepage/enabled"), b"always madvise [never]\n"),
        (String::from("kernel/mm/transparent_hugepage/hpage_pmd_size"), b"2097152\n"),
        (String::from("fs/cgroup/."), b""),
    ];
    for i in 0..n {
        files.push((alloc::format!("devices/system/cpu/cpu{i}/topology/core_id"), b"0\n"));
    }
    for (path, text) in files {
        place(&fs, &root, &path, text);
    }
    root
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
