//! A file that is too long for the cache leaves it by small pieces, read or written; a short one waits for more.
use occlum_sealed_disk::testing::Rng;
use occlum_sealed_fs::disk::{Disk, Key, MemDevice, Options};
use occlum_sealed_fs::{Fs, FsOptions, Mode, Owner, ROOT};

const BLOCK: usize = 4096;
/// Pages that the cache may have, and blocks of the long file.
const PAGES: usize = 4096;
const LONG: usize = 2 * PAGES;

fn new() -> Fs<MemDevice> {
    let device = MemDevice::new(4 * LONG);
    let disk = Disk::format(device, Key::Root(&[7; 32]), &mut Rng(1), None, Options::default()).unwrap();
    Fs::format(disk, 5, FsOptions { pages: PAGES, dirty_pages: PAGES, ..FsOptions::default() }, 0).unwrap()
}
fn create(fs: &mut Fs<MemDevice>, name: &[u8]) -> u64 {
    fs.create(ROOT, name, Mode::REGULAR | 0o644, 0, Owner::default()).unwrap()
}
fn block(i: usize) -> Vec<u8> {
    vec![i as u8; BLOCK]
}

#[test]
fn long_files_leave_the_cache_to_others() {
    let mut fs = new();
    let (short, long) = (create(&mut fs, b"short"), create(&mut fs, b"long"));
    fs.write(short, 0, &vec![1; 256 * BLOCK], 0).unwrap();
    assert!(!fs.is_heavy(short));
    fs.truncate(long, (LONG * BLOCK) as u64, 0).unwrap();
    let mut heavy = Vec::new();
    for i in 0..LONG {
        fs.write(long, (i * BLOCK) as u64, &block(i), 0).unwrap();
        if fs.is_heavy(long) {
            heavy.push(i + 1);
            fs.lighten().unwrap();
        }
    }
    assert_eq!(heavy, (1..=LONG / 128).map(|n| 128 * n).collect::<Vec<_>>());
    assert!(fs.cached().0 <= 256 + 2 * 128 + 32, "{:?}", fs.cached());

    fs.commit().unwrap();
    let mut buf = block(0);
    for i in 0..LONG {
        assert_eq!(fs.read(long, (i * BLOCK) as u64, &mut buf).unwrap(), BLOCK);
        assert!(buf == block(i), "block {i}");
    }
    // The window that is read ahead as well, and what the writer left.
    assert!(fs.cached().0 <= 256 + 6 * 128, "{:?}", fs.cached());
    assert!(fs.check().unwrap().findings.is_empty());
}
