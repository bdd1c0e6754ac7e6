//! Copies to and from the current process's domain. One routine (rt's) with 64-bit bounds checks and fault fix-up (R18);
//! a fault on a page that a vma allows is resolved by `mm` and the copy is tried again.
//! Addresses with high bits set, which translated code would take mod 2^32, are EFAULT here.
use crate::errno::{Errno, Result};
use crate::mm::{Access, FaultError, parts};
use crate::process::current_mm;
use alloc::vec;
use alloc::vec::Vec;
use occlum_rt::mem::TryGrow;
use occlum_sfi_spec::domain;

fn check(off: u64, len: usize) -> Result<()> {
    match off.checked_add(len as u64) {
        Some(end) if end <= domain::SIZE => Ok(()),
        _ => Err(Errno::EFAULT),
    }
}

/// Retries `copy` while the faults it meets can be resolved.
fn with_faults<T>(
    mm: &crate::mm::Mm,
    mut copy: impl FnMut() -> core::result::Result<T, occlum_rt::slot::Fault>,
) -> Result<T> {
    loop {
        match copy() {
            Ok(v) => return Ok(v),
            Err(f) => {
                let access = if f.write { Access::Write } else { Access::Read };
                // What copies may hold anything: it can't wait, and begins no second time.
                crate::fs::cold::block(|| mm.handle_fault(f.off, access)).map_err(FaultError::errno)?;
            }
        }
    }
}

/// Reads guest memory at `off` into `buf`.
pub fn read_bytes(off: u64, buf: &mut [u8]) -> Result<()> {
    check(off, buf.len())?;
    let mm = current_mm();
    parts(off, buf.len()).try_for_each(|part| {
        with_faults(&mm, || mm.slot().read(off + part.start as u64, &mut buf[part.clone()]))
    })
}

/// Writes `buf` to guest memory at `off`.
pub fn write_bytes(off: u64, buf: &[u8]) -> Result<()> {
    check(off, buf.len())?;
    let mm = current_mm();
    parts(off, buf.len()).try_for_each(|part| {
        with_faults(&mm, || mm.slot().write(off + part.start as u64, &buf[part.clone()]))
    })
}

/// Reads a NUL-terminated string of at most `max` bytes (without the NUL). ENAMETOOLONG beyond.
pub fn read_cstr(off: u64, max: usize) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut at = off;
    loop {
        // Up to the end of the page, so that a string that ends before an unmapped page is read.
        let mut chunk = [0u8; 256];
        let n = (256 - (at & 255)) as usize;
        read_bytes(at, &mut chunk[..n])?;
        if let Some(end) = chunk[..n].iter().position(|&b| b == 0) {
            out.extend_from_slice(&chunk[..end]);
            return if out.len() > max { Err(Errno::ENAMETOOLONG) } else { Ok(out) };
        }
        out.extend_from_slice(&chunk[..n]);
        if out.len() > max {
            return Err(Errno::ENAMETOOLONG);
        }
        at += n as u64;
    }
}

/// Exchanges the aligned word at `off` if it is `old`, in one step even for threads that are in the guest; returns what it
/// was.
pub fn exchange(off: u64, old: u32, new: u32) -> Result<u32> {
    check(off, 4)?;
    if !off.is_multiple_of(4) {
        return Err(Errno::EINVAL);
    }
    let mm = current_mm();
    with_faults(&mm, || mm.slot().cmpxchg_u32(off, old, new))
}

/// Fixed-size little-endian values that cross.
pub trait Value: Sized {
    /// Reads one.
    fn read(off: u64) -> Result<Self>;
    /// Writes one.
    fn write(self, off: u64) -> Result<()>;
}
macro_rules! values { ($($t:ty),*) => { $(impl Value for $t {
    fn read(off: u64) -> Result<Self> {
        let mut b = [0; size_of::<$t>()];
        read_bytes(off, &mut b)?;
        Ok(<$t>::from_le_bytes(b))
    }
    fn write(self, off: u64) -> Result<()> { write_bytes(off, &self.to_le_bytes()) }
})* } }
values!(u8, u16, u32, u64, i32, i64);

/// Reads a value.
pub fn read_val<T: Value>(off: u64) -> Result<T> {
    T::read(off)
}
/// Writes a value.
pub fn write_val<T: Value>(off: u64, v: T) -> Result<()> {
    v.write(off)
}

/// An array of pointers ending in NULL, each to a string (argv, envp). E2BIG when the sum exceeds `max_total`.
pub fn read_string_array(mut off: u64, max_total: usize) -> Result<Vec<Vec<u8>>> {
    let mut out: Vec<Vec<u8>> = Vec::new();
    let mut total = 0usize;
    if off == 0 {
        return Ok(out);
    }
    loop {
        let p: u64 = read_val(off)?;
        if p == 0 {
            return Ok(out);
        }
        let s = match read_cstr(p, 131_072 - 1) {
            Err(Errno::ENAMETOOLONG) => return Err(Errno::E2BIG),
            r => r?,
        };
        if total >> 16 != (total + s.len() + 9) >> 16 {
            crate::mm::admit(1 << 20)?;
        }
        total += s.len() + 9;
        if total > max_total {
            return Err(Errno::E2BIG);
        }
        if out.len() == out.capacity() {
            let more = out.len().max(64);
            crate::mm::admit(((out.len() + more) * size_of::<Vec<u8>>()) as u64)?;
            out.try_room_exact(more).map_err(|_| Errno::ENOMEM)?;
        }
        out.push(s);
        off += 8;
    }
}

/// Behind the last address that Linux lets a buffer of a vector have.
const USER_END: u64 = 0x7fff_ffff_f000;

/// Reads `count` iovecs: (offset, length) pairs; the sum of lengths is bounded as in Linux.
pub fn read_iovecs(off: u64, count: u64) -> Result<Vec<(u64, u64)>> {
    if count > 1024 {
        return Err(Errno::EINVAL);
    }
    let mut raw = vec![0u8; count as usize * 16];
    read_bytes(off, &mut raw)?;
    let mut out = Vec::with_capacity(count as usize);
    let mut total = 0u64;
    for e in raw.chunks_exact(16) {
        let word = |i: usize| {
            u64::from_le_bytes([e[i], e[i + 1], e[i + 2], e[i + 3], e[i + 4], e[i + 5], e[i + 6], e[i + 7]])
        };
        let (base, len) = (word(0), word(8));
        if len > i64::MAX as u64 {
            return Err(Errno::EINVAL);
        }
        if base.checked_add(len).is_none_or(|end| end > USER_END) {
            return Err(Errno::EFAULT);
        }
        let len = len.min(0x7fff_f000 - total.min(0x7fff_f000));
        total += len;
        out.push((base, len));
    }
    Ok(out)
}

/// A guest buffer that a file fills piece by piece.
pub struct UserDst {
    off: u64,
    left: usize,
    done: usize,
}
impl UserDst {
    /// A buffer at `off` of `len` bytes.
    pub fn new(off: u64, len: usize) -> Self {
        Self { off, left: len, done: 0 }
    }
    /// Bytes that still fit.
    pub fn remaining(&self) -> usize {
        self.left
    }
    /// Bytes written so far.
    pub fn done(&self) -> usize {
        self.done
    }
    /// Writes as much of `data` as fits; returns how much.
    pub fn push(&mut self, data: &[u8]) -> Result<usize> {
        let n = data.len().min(self.left);
        write_bytes(self.off, &data[..n])?;
        self.off += n as u64;
        self.left -= n;
        self.done += n;
        Ok(n)
    }
}

/// A guest buffer that a file consumes piece by piece.
pub struct UserSrc {
    off: u64,
    left: usize,
}
impl UserSrc {
    /// A buffer at `off` of `len` bytes.
    pub fn new(off: u64, len: usize) -> Self {
        Self { off, left: len }
    }
    /// Bytes not yet taken.
    pub fn remaining(&self) -> usize {
        self.left
    }
    /// Fills as much of `buf` as there is; returns how much.
    pub fn pull(&mut self, buf: &mut [u8]) -> Result<usize> {
        let n = buf.len().min(self.left);
        read_bytes(self.off, &mut buf[..n])?;
        self.off += n as u64;
        self.left -= n;
        Ok(n)
    }
}
