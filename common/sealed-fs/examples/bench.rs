//! Where the file system stands beside the host's, by the same patterns in one process: sequential write and read,
//! random 4 KiB writes with a sync for every 32, random reads, small files.
//!
//! `bench FOLDER [MIB]`: makes its store and its plain files in FOLDER and removes them. The host's page cache is
//! dropped before reads by asking for it (`posix_fadvise` by `dd`), as far as the host does.
use occlum_sealed_disk::{BlockDevice, DeviceError, Disk, Key, Options, testing::Rng};
use occlum_sealed_fs::{Fs, FsOptions, Mode, Owner, ROOT};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

struct Host(File);

impl BlockDevice for Host {
    fn blocks(&self) -> u64 {
        self.0.metadata().map_or(0, |m| m.len() / 4096)
    }
    fn read(&mut self, block: u64, buf: &mut [u8]) -> Result<(), DeviceError> {
        self.0.read_exact_at(buf, block * 4096).map_err(|_| DeviceError::Io)
    }
    fn write(&mut self, block: u64, data: &[u8]) -> Result<(), DeviceError> {
        self.0.write_all_at(data, block * 4096).map_err(|_| DeviceError::Io)
    }
    fn flush(&mut self) -> Result<(), DeviceError> {
        self.0.sync_data().map_err(|_| DeviceError::Io)
    }
}

/// Drops a file from the host's page cache.
fn uncache(path: &Path) {
    let of = format!("of={}", path.display());
    let _ = Command::new("dd")
        .args([&of, "oflag=nocache", "conv=notrunc,fdatasync", "count=0", "status=none"])
        .status();
}
fn open(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).expect("open")
}
fn time(name: &str, units: f64, what: &str, f: impl FnOnce()) -> f64 {
    let (start, cpu) = (Instant::now(), cpu_seconds());
    f();
    let rate = units / start.elapsed().as_secs_f64();
    let per_cpu = units / (cpu_seconds() - cpu).max(1e-9);
    println!("  {name:<12} {rate:>10.0} {what} ({per_cpu:.0} for each second of CPU)");
    rate
}
/// CPU time of this thread: what is left to compare on a busy machine.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
}

struct Patterns {
    mib: u64,
    random: Vec<u64>,
    files: usize,
}

fn plain(folder: &Path, p: &Patterns) -> Vec<f64> {
    let path = folder.join("bench-plain");
    let block = vec![7u8; 1 << 20];
    let mut small = vec![5u8; 4096];
    let file = open(&path);
    let mut out = vec![time("write", p.mib as f64, "MiB/s", || {
        (0..p.mib).for_each(|i| file.write_all_at(&block, i << 20).expect("write"));
        file.sync_data().expect("sync");
    })];
    uncache(&path);
    let mut big = vec![0; 1 << 20];
    out.push(time("read", p.mib as f64, "MiB/s", || {
        (0..p.mib).for_each(|i| file.read_exact_at(&mut big, i << 20).expect("read"));
    }));
    out.push(time("rand write", p.random.len() as f64, "IOPS, sync per 32", || {
        for (i, at) in p.random.iter().enumerate() {
            file.write_all_at(&small, at * 4096).expect("write");
            if i % 32 == 31 {
                file.sync_data().expect("sync");
            }
        }
    }));
    uncache(&path);
    out.push(time("rand read", p.random.len() as f64, "IOPS", || {
        p.random.iter().for_each(|at| file.read_exact_at(&mut small, at * 4096).expect("read"));
    }));
    let dir = folder.join("bench-dir");
    std::fs::create_dir_all(&dir).expect("mkdir");
    out.push(time("create", p.files as f64, "files/s", || {
        (0..p.files).for_each(|i| std::fs::write(dir.join(format!("f{i}")), &small[..1000]).expect("write"));
        let _ = Command::new("sync").arg("-f").arg(&dir).status();
    }));
    out.push(time("remove", p.files as f64, "files/s", || {
        (0..p.files).for_each(|i| std::fs::remove_file(dir.join(format!("f{i}"))).expect("remove"));
        let _ = Command::new("sync").arg("-f").arg(&dir).status();
    }));
    let _ = std::fs::remove_file(&path);
    let _ = std::fs::remove_dir(&dir);
    out
}

fn sealed(folder: &Path, p: &Patterns) -> Vec<f64> {
    let path = folder.join("bench-sealed");
    let file = open(&path);
    file.set_len((p.mib * 2 + 1024) << 20).expect("size");
    let mut rng = Rng(1);
    let key = Key::Root(&[1; 32]);
    let device = Host(file);
    let disk = Disk::format(device, key, &mut rng, None, Options::default()).expect("format");
    let mut fs = Fs::format(disk, 1, FsOptions::default(), 1).expect("format");
    let ino = fs.create(ROOT, b"f", Mode::REGULAR, 0, Owner::default()).expect("create");
    let block = vec![7u8; 1 << 20];
    let mut small = vec![5u8; 4096];
    let mut out = vec![time("write", p.mib as f64, "MiB/s", || {
        (0..p.mib).for_each(|i| assert_eq!(fs.write(ino, i << 20, &block, 1), Ok(1 << 20)));
        fs.commit().expect("commit");
    })];
    fs.unmount().expect("unmount");
    let mut remount = || {
        uncache(&path);
        let disk = Disk::open(Host(open(&path)), key, &mut rng, None, Options::default()).expect("open");
        Fs::mount(disk, FsOptions::default(), false).expect("mount")
    };
    fs = remount();
    let mut big = vec![0; 1 << 20];
    out.push(time("read", p.mib as f64, "MiB/s", || {
        (0..p.mib).for_each(|i| assert_eq!(fs.read(ino, i << 20, &mut big), Ok(1 << 20)));
    }));
    let before = fs.disk().stats();
    out.push(time("rand write", p.random.len() as f64, "IOPS, sync per 32", || {
        for (i, at) in p.random.iter().enumerate() {
            fs.write(ino, at * 4096, &small, 1).expect("write");
            if i % 32 == 31 {
                fs.commit().expect("commit");
            }
        }
    }));
    fs.disk().checkpoint().expect("checkpoint");
    let written = fs.disk().stats().written - before.written;
    println!(
        "  amplification of random writes with their checkpoint: {:.2}",
        written as f64 / p.random.len() as f64
    );
    fs.unmount().expect("unmount");
    fs = remount();
    out.push(time("rand read", p.random.len() as f64, "IOPS", || {
        p.random.iter().for_each(|at| assert_eq!(fs.read(ino, at * 4096, &mut small), Ok(4096)));
    }));
    out.push(time("create", p.files as f64, "files/s", || {
        for i in 0..p.files {
            let ino = fs
                .create(ROOT, format!("f{i}").as_bytes(), Mode::REGULAR, 0, Owner::default())
                .expect("create");
            fs.write(ino, 0, &small[..1000], 1).expect("write");
        }
        fs.commit().expect("commit");
    }));
    out.push(time("remove", p.files as f64, "files/s", || {
        (0..p.files).for_each(|i| fs.unlink(ROOT, format!("f{i}").as_bytes(), 1).expect("unlink"));
        fs.commit().expect("commit");
    }));
    let _ = std::fs::remove_file(&path);
    out
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().expect("a folder"));
    let mib = arguments.next().map_or(512, |a| a.parse().expect("MiB"));
    let mut rng = Rng(7);
    let p = Patterns { mib, random: (0..20_000).map(|_| rng.below(mib * 256)).collect(), files: 20_000 };
    println!("host's file system:");
    let host = plain(&folder, &p);
    println!("sealed:");
    let ours = sealed(&folder, &p);
    let names = ["write", "read", "rand write", "rand read", "create", "remove"];
    for (name, (ours, host)) in names.iter().zip(ours.iter().zip(&host)) {
        println!("{name:<12} {:.2} of the host's", ours / host);
    }
}
