//! Bitmaps are in memory: a store that has more of them than the caller allows is not opened.
use occlum_sealed_disk::testing::Rng;
use occlum_sealed_fs::disk::{BLOCK, Disk, Error as DiskError, Key, MemDevice, Options};
use occlum_sealed_fs::{Error, Fs, FsOptions};

const KEY: Key<'static> = Key::Root(&[7; 32]);
const BLOCKS: usize = 16384;

fn store() -> MemDevice {
    let disk = Disk::format(MemDevice::new(BLOCKS), KEY, &mut Rng(1), None, Options::default()).unwrap();
    Fs::format(disk, 5, FsOptions::default(), 0).unwrap().unmount().unwrap()
}

#[test]
fn the_bitmap_of_a_disk_is_bounded() {
    let most = BLOCKS as u64 / 8;
    for (bitmap, is_opened) in [(most, true), (most - 1, false)] {
        let options = || Options { bitmap, ..Options::default() };
        let made = Disk::format(MemDevice::new(BLOCKS), KEY, &mut Rng(1), None, options());
        let opened = Disk::open(store(), KEY, &mut Rng(1), None, options());
        for disk in [made, opened] {
            assert_eq!(matches!(disk, Ok(_)), is_opened);
            assert!(is_opened || matches!(disk, Err(DiskError::Memory)));
        }
    }
}

#[test]
fn the_bitmaps_of_a_file_system_are_bounded() {
    for (bitmaps, is_mounted) in [(BLOCK as u64, true), (BLOCK as u64 - 1, false)] {
        let disk = Disk::open(store(), KEY, &mut Rng(1), None, Options::default()).unwrap();
        let fs = Fs::mount(disk, FsOptions { bitmaps, ..FsOptions::default() }, false);
        assert_eq!(matches!(fs, Ok(_)), is_mounted);
        assert!(is_mounted || matches!(fs, Err(Error::Disk(DiskError::Memory))));
    }
}
