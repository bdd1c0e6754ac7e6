//! Host files: open, read, write, names and attributes.
use super::{check, errno};
use occlum_enclave_abi::{HostStat, Ocall};
use std::collections::BTreeSet;
use std::ffi::CString;
use std::sync::Mutex;

fn path(data: &[u8]) -> Result<CString, i64> {
    CString::new(data).map_err(|_| -i64::from(libc::EINVAL))
}

/// Descriptors that the enclave opened; what is left is closed at the end.
#[derive(Default)]
pub struct Files {
    open: Mutex<BTreeSet<i32>>,
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
                let flags = a[0] as i32 | libc::O_CLOEXEC;
                let r = with_path(&data[..in_len], |p| {
                    // SAFETY: 1. `p` is a C string.
                    let fd = unsafe { libc::open(p.as_ptr(), flags, a[1] as u32) };
                    check(i64::from(fd))
                });
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
                // SAFETY: 1. close has no memory arguments; the descriptor is the enclave's.
                match check(i64::from(unsafe { libc::close(a[0] as i32) })) {
                    // It is closed nevertheless.
                    super::EINTR => 0,
                    r => r,
                }
            }
            _ => serve(call, a, data, in_len, out_len),
        }
    }
}

fn serve(call: Ocall, a: &[u64; 6], data: &mut [u8], in_len: usize, out_len: usize) -> i64 {
    match call {
        Ocall::Pread => {
            let n = out_len.min(a[2] as usize);
            pread(a[0] as i32, &mut data[..n], a[1] as i64, a[3] != 0)
        }
        Ocall::Pwrite => {
            // SAFETY: 1. `data` is readable for in_len bytes.
            check(unsafe { libc::pwrite(a[0] as i32, data.as_ptr().cast(), in_len, a[1] as i64) } as i64)
        }
        Ocall::Stat => stat(a, data, in_len, out_len),
        Ocall::Readlink => readlink(data, in_len, out_len),
        Ocall::Readdir => readdir(a[0] as i32, a[1] as i64, &mut data[..out_len]),
        Ocall::PathOp => path_op(a, &data[..in_len]),
        // SAFETY: 1. ftruncate has no memory arguments.
        Ocall::Ftruncate => check(i64::from(unsafe { libc::ftruncate(a[0] as i32, a[1] as i64) })),
        // SAFETY: 1. fsync has no memory arguments.
        Ocall::Fsync => check(i64::from(unsafe { libc::fsync(a[0] as i32) })),
        Ocall::Lock => {
            let how = if a[1] == 0 { libc::LOCK_SH } else { libc::LOCK_EX };
            // SAFETY: 1. flock has no memory arguments.
            check(i64::from(unsafe { libc::flock(a[0] as i32, how | libc::LOCK_NB) }))
        }
        Ocall::Statfs => statfs(data, in_len, out_len),
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
fn is_cached(fd: i32, offset: i64, len: usize) -> bool {
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

fn with_path(bytes: &[u8], f: impl FnOnce(CString) -> i64) -> i64 {
    match path(bytes) {
        Ok(p) => f(p),
        Err(e) => e,
    }
}

fn stat(a: &[u64; 6], data: &mut [u8], in_len: usize, out_len: usize) -> i64 {
    if out_len < HostStat::SIZE {
        return -i64::from(libc::EINVAL);
    }
    // SAFETY: 1. an all-zero stat is valid; 2. the calls fill it; 3. `p` is a C string.
    let mut st: libc::stat = unsafe { std::mem::zeroed() };
    let r = if a[0] == u64::MAX {
        let p = match path(&data[..in_len]) {
            Ok(p) => p,
            Err(e) => return e,
        };
        // SAFETY: as above.
        unsafe { if a[1] != 0 { libc::stat(p.as_ptr(), &mut st) } else { libc::lstat(p.as_ptr(), &mut st) } }
    } else {
        // SAFETY: as above.
        unsafe { libc::fstat(a[0] as i32, &mut st) }
    };
    if r < 0 {
        return errno();
    }
    let ns = |s: i64, n: i64| s.saturating_mul(1_000_000_000).saturating_add(n);
    let out = HostStat {
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
    };
    data[..HostStat::SIZE].copy_from_slice(&out.to_bytes());
    HostStat::SIZE as i64
}

fn readlink(data: &mut [u8], in_len: usize, out_len: usize) -> i64 {
    let p = match path(&data[..in_len]) {
        Ok(p) => p,
        Err(e) => return e,
    };
    // SAFETY: 1. `p` is a C string; 2. `data` is writable for out_len bytes.
    check(unsafe { libc::readlink(p.as_ptr(), data.as_mut_ptr().cast(), out_len) } as i64)
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

fn path_op(a: &[u64; 6], data: &[u8]) -> i64 {
    let mut parts = data.splitn(2, |b| *b == 0);
    let (first, second) = (parts.next().unwrap_or(b""), parts.next().unwrap_or(b""));
    let (p, q) = match (path(first), path(second)) {
        (Ok(p), Ok(q)) => (p, q),
        (Err(e), _) | (_, Err(e)) => return e,
    };
    // SAFETY: 1. `p` and `q` are C strings; 2. the timespecs are local.
    let r = unsafe {
        match a[0] {
            1 => libc::mkdir(p.as_ptr(), a[1] as u32),
            2 => libc::rmdir(p.as_ptr()),
            3 => libc::unlink(p.as_ptr()),
            4 => libc::rename(p.as_ptr(), q.as_ptr()),
            5 => libc::symlink(p.as_ptr(), q.as_ptr()),
            6 => libc::link(p.as_ptr(), q.as_ptr()),
            7 => libc::chmod(p.as_ptr(), a[1] as u32),
            8 => libc::truncate(p.as_ptr(), a[1] as i64),
            9 => {
                let t = [timespec(a[1]), timespec(a[2])];
                libc::utimensat(libc::AT_FDCWD, p.as_ptr(), t.as_ptr(), libc::AT_SYMLINK_NOFOLLOW)
            }
            10 => libc::lchown(p.as_ptr(), a[1] as u32, a[2] as u32),
            _ => return -i64::from(libc::EINVAL),
        }
    };
    check(i64::from(r))
}

fn statfs(data: &mut [u8], in_len: usize, out_len: usize) -> i64 {
    if out_len < 64 {
        return -i64::from(libc::EINVAL);
    }
    // SAFETY: 1. an all-zero statfs is valid and the call fills it; 2. the path is a C string.
    let mut st: libc::statfs = unsafe { std::mem::zeroed() };
    let p = match path(&data[..in_len]) {
        Ok(p) => p,
        Err(e) => return e,
    };
    // SAFETY: as above.
    if unsafe { libc::statfs(p.as_ptr(), &mut st) } < 0 {
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
    for (chunk, w) in data.chunks_exact_mut(8).zip(words) {
        chunk.copy_from_slice(&w.to_le_bytes());
    }
    64
}
