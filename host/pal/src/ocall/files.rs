//! Host files: open, read, write, names and attributes.
//!
//! Neighbours: `transfers` reads ahead and writes behind; `beneath` resolves names in shared directories.
use super::beneath::Place;
use super::transfers::Transfers;
use super::{check, errno};
use occlum_enclave_abi::{ANYWHERE, HostStat, Ocall};
use std::collections::BTreeSet;
use std::os::fd::IntoRawFd;
use std::sync::Mutex;

/// Descriptors that the enclave opened; what is left is closed at the end.
#[derive(Default)]
pub struct Files {
    open: Mutex<BTreeSet<i32>>,
    transfers: Transfers,
}

impl Drop for Files {
    fn drop(&mut self) {
        if let Ok(open) = self.open.get_mut() {
            for fd in open.iter() {
                // SAFETY: 1. the descriptor was opened for the enclave, which has ended.
                unsafe { libc::close(*fd) };
            }
        }
    }
}

impl Files {
    /// Takes descriptors over from the control plane.
    pub(super) fn adopt(&self, descriptors: Vec<i32>) {
        if let Ok(mut open) = self.open.lock() {
            open.extend(descriptors);
        }
    }

    pub(super) fn serve(
        &self,
        call: Ocall,
        a: &[u64; 6],
        data: &mut [u8],
        in_len: usize,
        out_len: usize,
    ) -> i64 {
        match call {
            Ocall::Open => {
                let r = self.place(a[2], &data[..in_len]).and_then(|p| p.open(a[0] as i32, a[1] as u32));
                let r = r.map_or_else(|e| e, |fd| i64::from(fd.into_raw_fd()));
                if let (true, Ok(mut open)) = (r >= 0, self.open.lock()) {
                    open.insert(r as i32);
                }
                r
            }
            Ocall::Close => {
                let ours = self.open.lock().is_ok_and(|mut open| open.remove(&(a[0] as i32)));
                if !ours {
                    return -i64::from(libc::EBADF);
                }
                self.transfers.forget(a[0] as i32);
                // SAFETY: 1. close has no memory arguments; the descriptor is the enclave's.
                match check(i64::from(unsafe { libc::close(a[0] as i32) })) {
                    // It is closed nevertheless.
                    super::EINTR => 0,
                    r => r,
                }
            }
            Ocall::Pread => self.pread(a, &mut data[..out_len]),
            Ocall::Pwrite => self.pwrite(a, &data[..in_len]),
            Ocall::Fsync => match self.transfers.settle(a[0] as i32) {
                // SAFETY: 1. fsync has no memory arguments.
                0 if a[1] == 0 => check(i64::from(unsafe { libc::fsync(a[0] as i32) })),
                settled => settled,
            },
            Ocall::Stat => self.stat(a[0], data, in_len, out_len),
            Ocall::Readlink => self.readlink(a[0], data, in_len, out_len),
            Ocall::PathOp => {
                let changed = self.path_op(a, &data[..in_len]);
                changed.map_or_else(|e| e, |()| 0)
            }
            _ => serve(call, a, data, out_len),
        }
    }

    /// What `path` names beneath a directory of the enclave's, or anywhere.
    fn place<'a>(&self, dir: u64, path: &'a [u8]) -> Result<Place<'a>, i64> {
        if dir == ANYWHERE {
            return Ok(Place::anywhere(path));
        }
        self.place_in(dir, path)
    }
    fn place_in<'a>(&self, dir: u64, path: &'a [u8]) -> Result<Place<'a>, i64> {
        let ours = i32::try_from(dir).ok().filter(|fd| self.open.lock().is_ok_and(|open| open.contains(fd)));
        Place::beneath(ours.ok_or(-i64::from(libc::EBADF))?, path)
    }

    fn stat(&self, dir: u64, data: &mut [u8], in_len: usize, out_len: usize) -> i64 {
        if out_len < HostStat::SIZE {
            return -i64::from(libc::EINVAL);
        }
        // What was handed over, and the standard streams, have a descriptor only.
        let found = if in_len == 0 {
            super::beneath::stat_of(dir as i32)
        } else {
            self.place(dir, &data[..in_len]).and_then(|p| p.stat())
        };
        let st = match found {
            Ok(st) => st,
            Err(e) => return e,
        };
        data[..HostStat::SIZE].copy_from_slice(&host_stat(&st).to_bytes());
        HostStat::SIZE as i64
    }

    fn readlink(&self, dir: u64, data: &mut [u8], in_len: usize, out_len: usize) -> i64 {
        match self.place(dir, &data[..in_len]).and_then(|p| p.readlink(out_len)) {
            Ok(text) => {
                data[..text.len()].copy_from_slice(&text);
                text.len() as i64
            }
            Err(e) => e,
        }
    }

    fn path_op(&self, a: &[u64; 6], data: &[u8]) -> Result<(), i64> {
        let mut parts = data.splitn(2, |b| *b == 0);
        let (first, second) = (parts.next().unwrap_or(b""), parts.next().unwrap_or(b""));
        let place = self.place_in(a[3], first)?;
        let other = || self.place_in(a[4], second);
        match a[0] {
            1 => place.mkdir(a[1] as u32),
            2 => place.rmdir(),
            3 => place.unlink(),
            4 => place.rename(&other()?),
            5 => place.symlink(second),
            6 => place.link(&other()?),
            7 => place.chmod(a[1] as u32),
            8 => place.mknod(a[1] as u32),
            9 => place.utimens([timespec(a[1]), timespec(a[2])]),
            10 => place.chown(a[1] as u32, a[2] as u32),
            _ => Err(-i64::from(libc::EINVAL)),
        }
    }

    fn pread(&self, a: &[u64; 6], data: &mut [u8]) -> i64 {
        let (fd, offset, at_hand) = (a[0] as i32, a[1], a[3] != 0);
        let n = data.len().min(a[2] as usize);
        let buf = &mut data[..n];
        let failed = self.transfers.before(fd, offset, n, false);
        if failed < 0 {
            return failed;
        }
        if a[4] == 0 {
            return pread(fd, buf, offset as i64, at_hand);
        }
        let done = self.transfers.read(fd, offset, buf);
        // What follows is on its way while this is read.
        self.transfers.ahead(fd, offset.saturating_add(n as u64), a[4] as usize);
        if done == n {
            return n as i64;
        }
        match pread(fd, &mut buf[done..], offset.saturating_add(done as u64) as i64, at_hand) {
            e if e < 0 && done == 0 => e,
            more => done as i64 + more.max(0),
        }
    }

    fn pwrite(&self, a: &[u64; 6], data: &[u8]) -> i64 {
        let (fd, offset) = (a[0] as i32, a[1]);
        if a[2] != 0 {
            return self.transfers.write(fd, offset, data);
        }
        let failed = self.transfers.before(fd, offset, data.len(), true);
        if failed < 0 {
            return failed;
        }
        // SAFETY: 1. `data` is readable for its length.
        check(unsafe { libc::pwrite(fd, data.as_ptr().cast(), data.len(), offset as i64) } as i64)
    }
}

fn serve(call: Ocall, a: &[u64; 6], data: &mut [u8], out_len: usize) -> i64 {
    match call {
        Ocall::Readdir => readdir(a[0] as i32, a[1] as i64, &mut data[..out_len]),
        // SAFETY: 1. ftruncate has no memory arguments.
        Ocall::Ftruncate => check(i64::from(unsafe { libc::ftruncate(a[0] as i32, a[1] as i64) })),
        Ocall::Lock => {
            let how = if a[1] == 0 { libc::LOCK_SH } else { libc::LOCK_EX };
            // SAFETY: 1. flock has no memory arguments.
            check(i64::from(unsafe { libc::flock(a[0] as i32, how | libc::LOCK_NB) }))
        }
        Ocall::Statfs => statfs(a[0] as i32, &mut data[..out_len]),
        _ => -i64::from(libc::ENOSYS),
    }
}

/// Reads at an offset; `at_hand`: only what needs no disk.
fn pread(fd: i32, buf: &mut [u8], offset: i64, at_hand: bool) -> i64 {
    if at_hand {
        let piece = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
        // SAFETY: 1. `piece` describes `buf`.
        match check(unsafe { libc::preadv2(fd, &piece, 1, offset, libc::RWF_NOWAIT) } as i64) {
            // Not all file systems can tell.
            e if e == -i64::from(libc::EOPNOTSUPP) || e == -i64::from(libc::ENOSYS) => {
                if !is_cached(fd, offset, buf.len()) {
                    return -i64::from(libc::EAGAIN);
                }
            }
            r => return r,
        }
    }
    // SAFETY: 1. `buf` is writable for its length.
    check(unsafe { libc::pread(fd, buf.as_mut_ptr().cast(), buf.len(), offset) } as i64)
}

/// Are these bytes of a file in the page cache?
pub(super) fn is_cached(fd: i32, offset: i64, len: usize) -> bool {
    const PAGE: usize = 4096;
    let start = offset & !(PAGE as i64 - 1);
    // SAFETY: 1. an all-zero stat is valid, and the call fills it.
    let size = unsafe {
        let mut st: libc::stat = std::mem::zeroed();
        if libc::fstat(fd, &mut st) < 0 {
            return true;
        }
        st.st_size
    };
    let end = offset.saturating_add(len as i64).min(size);
    if end <= start {
        return true;
    }
    let len = (end - start) as usize;
    let mut pages = vec![0u8; len.div_ceil(PAGE)];
    // SAFETY: 1. a new mapping, which nobody touches; 2. `pages` has a byte for each of its pages.
    unsafe {
        let at = libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ, libc::MAP_SHARED, fd, start);
        if at == libc::MAP_FAILED {
            return true;
        }
        let known = libc::mincore(at, len, pages.as_mut_ptr()) == 0;
        libc::munmap(at, len);
        !known || pages.iter().all(|p| p & 1 != 0)
    }
}

fn host_stat(st: &libc::stat) -> HostStat {
    let ns = |s: i64, n: i64| s.saturating_mul(1_000_000_000).saturating_add(n);
    HostStat {
        dev: st.st_dev,
        ino: st.st_ino,
        mode: u64::from(st.st_mode),
        nlink: st.st_nlink,
        uid: u64::from(st.st_uid),
        gid: u64::from(st.st_gid),
        rdev: st.st_rdev,
        size: st.st_size as u64,
        blksize: st.st_blksize as u64,
        blocks: st.st_blocks as u64,
        atime_ns: ns(st.st_atime, st.st_atime_nsec),
        mtime_ns: ns(st.st_mtime, st.st_mtime_nsec),
        ctime_ns: ns(st.st_ctime, st.st_ctime_nsec),
    }
}

/// getdents64 from `cookie`, repacked: u64 ino, u64 next cookie, u8 type, u16 name length, name.
fn readdir(fd: i32, cookie: i64, out: &mut [u8]) -> i64 {
    // SAFETY: 1. lseek has no memory arguments.
    if unsafe { libc::lseek(fd, cookie, libc::SEEK_SET) } < 0 {
        return errno();
    }
    let mut raw = vec![0u8; (out.len() / 2).clamp(1024, 64 << 10)];
    // SAFETY: 1. `raw` is writable for its length.
    let n = unsafe { libc::syscall(libc::SYS_getdents64, fd, raw.as_mut_ptr(), raw.len()) };
    if n < 0 {
        return errno();
    }
    let (mut at, mut used) = (0usize, 0usize);
    while at + 19 <= n as usize {
        let word = |i: usize| u64::from_le_bytes(std::array::from_fn(|k| raw[at + i + k]));
        let len = usize::from(u16::from_le_bytes([raw[at + 16], raw[at + 17]]));
        let name = &raw[at + 19..at + len];
        let name = &name[..name.iter().position(|b| *b == 0).unwrap_or(name.len())];
        let size = 19 + name.len();
        if used + size > out.len() {
            break;
        }
        out[used..used + 8].copy_from_slice(&word(0).to_le_bytes());
        out[used + 8..used + 16].copy_from_slice(&word(8).to_le_bytes());
        out[used + 16] = raw[at + 18];
        out[used + 17..used + 19].copy_from_slice(&(name.len() as u16).to_le_bytes());
        out[used + 19..used + size].copy_from_slice(name);
        used += size;
        at += len;
    }
    used as i64
}

fn timespec(ns: u64) -> libc::timespec {
    let ns = ns as i64;
    libc::timespec { tv_sec: ns.div_euclid(1_000_000_000), tv_nsec: ns.rem_euclid(1_000_000_000) }
}

fn statfs(fd: i32, out: &mut [u8]) -> i64 {
    if out.len() < 64 {
        return -i64::from(libc::EINVAL);
    }
    // SAFETY: 1. an all-zero statfs is valid; 2. the call fills it.
    let mut st: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    if unsafe { libc::fstatfs(fd, &mut st) } < 0 {
        return errno();
    }
    let words = [
        st.f_type as u64,
        st.f_bsize as u64,
        st.f_blocks,
        st.f_bfree,
        st.f_bavail,
        st.f_files,
        st.f_ffree,
        st.f_namelen as u64,
    ];
    for (chunk, w) in out.chunks_exact_mut(8).zip(words) {
        chunk.copy_from_slice(&w.to_le_bytes());
    }
    64
}
