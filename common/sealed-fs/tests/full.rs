//! A full store: what was written stays, and removing files makes room again.
use occlum_sealed_disk::testing::Rng;
use occlum_sealed_fs::disk::{Disk, Key, MemDevice, Options};
use occlum_sealed_fs::{Error, Fs, FsOptions, Mode, Owner, ROOT};

const MIB: usize = 1 << 20;

fn empty(mib: usize) -> Fs<MemDevice> {
    let device = MemDevice::new(mib * 256);
    let disk = Disk::format(device, Key::Root(&[7; 32]), &mut Rng(1), None, Options::default()).unwrap();
    Fs::format(disk, 5, FsOptions::default(), 0).unwrap()
}

/// Writes until nothing more fits; returns how much did.
fn fill(fs: &mut Fs<MemDevice>, name: &[u8], piece: usize) -> usize {
    let ino = fs.create(ROOT, name, Mode::REGULAR | 0o644, 0, Owner::default()).unwrap();
    let data = vec![0xa5; piece];
    let mut at = 0;
    loop {
        match fs.write(ino, at as u64, &data, 0) {
            Ok(n) => at += n,
            Err(Error::NoSpace) => return at,
            Err(e) => panic!("{e}"),
        }
    }
}

#[test]
fn room_comes_back() {
    for piece in [4096, 64 << 10, MIB] {
        let mut fs = empty(64);
        for _ in 0..3 {
            let got = fill(&mut fs, b"big", piece);
            assert!(got > 58 * MIB, "only {got} bytes fit");
            fs.commit().unwrap();
            fs.unlink(ROOT, b"big", 0).unwrap();
            fs.commit().unwrap();
        }
        assert!(fs.check().unwrap().findings.is_empty());
    }
}
