//! read, write and their relatives.
use super::super::OpenFile;
use super::super::prelude::*;
use super::super::uio::{Dst, Src, partial, try_vec};
use super::{Args, file, int, real_file};
use crate::sched::Breath;
use crate::uaccess;

fn offset(v: u64) -> Result<u64> {
    if v > i64::MAX as u64 { Err(EINVAL) } else { Ok(v) }
}
fn iovec(off: u64, count: u64) -> Result<Vec<(u64, u64)>> {
    uaccess::read_iovecs(off, count)
}

/// read(2).
pub fn sys_read(a: &Args) -> Result<usize> {
    file(a[0])?.read(&mut Dst::user(a[1], a[2]))
}
/// write(2).
pub fn sys_write(a: &Args) -> Result<usize> {
    file(a[0])?.write(&mut Src::user(a[1], a[2]))
}
/// readv(2).
pub fn sys_readv(a: &Args) -> Result<usize> {
    file(a[0])?.read(&mut Dst::iovec(iovec(a[1], a[2])?))
}
/// writev(2).
pub fn sys_writev(a: &Args) -> Result<usize> {
    file(a[0])?.write(&mut Src::iovec(iovec(a[1], a[2])?))
}
/// pread64(2).
pub fn sys_pread64(a: &Args) -> Result<usize> {
    file(a[0])?.pread(offset(a[3])?, &mut Dst::user(a[1], a[2]))
}
/// pwrite64(2).
pub fn sys_pwrite64(a: &Args) -> Result<usize> {
    file(a[0])?.pwrite(offset(a[3])?, &mut Src::user(a[1], a[2]))
}
/// preadv(2).
pub fn sys_preadv(a: &Args) -> Result<usize> {
    file(a[0])?.pread(offset(a[3])?, &mut Dst::iovec(iovec(a[1], a[2])?))
}
/// pwritev(2).
pub fn sys_pwritev(a: &Args) -> Result<usize> {
    file(a[0])?.pwrite(offset(a[3])?, &mut Src::iovec(iovec(a[1], a[2])?))
}
/// Flags of preadv2 and pwritev2.
const RWF_HIPRI: u32 = 1;
const RWF_DSYNC: u32 = 2;
const RWF_SYNC: u32 = 4;
const RWF_NOWAIT: u32 = 8;
const RWF_APPEND: u32 = 16;
const RWF_NOAPPEND: u32 = 32;
fn check_flags(flags: u32) -> Result<()> {
    if flags & !(RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT | RWF_APPEND | RWF_NOAPPEND) != 0 {
        return Err(EOPNOTSUPP);
    }
    if flags & RWF_APPEND != 0 && flags & RWF_NOAPPEND != 0 { Err(EINVAL) } else { Ok(()) }
}
/// Content in memory, as on tmpfs, knows no reads that might have to wait.
fn no_wait(f: &OpenFile, flags: u32) -> Result<bool> {
    let asked = flags & RWF_NOWAIT != 0;
    if asked && f.special().is_none() { Err(EOPNOTSUPP) } else { Ok(asked) }
}
/// preadv2(2): offset -1 is the file's own.
pub fn sys_preadv2(a: &Args) -> Result<usize> {
    let (f, flags) = (file(a[0])?, int(a[5]));
    let mut dst = Dst::iovec(iovec(a[1], a[2])?);
    check_flags(flags)?;
    let now = no_wait(&f, flags)?;
    match a[3] {
        u64::MAX if now => f.read_now(&mut dst),
        u64::MAX => f.read(&mut dst),
        at => f.pread(offset(at)?, &mut dst),
    }
}
/// pwritev2(2).
pub fn sys_pwritev2(a: &Args) -> Result<usize> {
    let (f, flags) = (file(a[0])?, int(a[5]));
    let mut src = Src::iovec(iovec(a[1], a[2])?);
    check_flags(flags)?;
    let now = no_wait(&f, flags)?;
    let append = match flags & (RWF_APPEND | RWF_NOAPPEND) {
        0 => f.flags() & O_APPEND != 0,
        way => way == RWF_APPEND,
    };
    match (f.special(), a[3]) {
        (Some(_), u64::MAX) if now => f.write_now(&mut src),
        (Some(_), u64::MAX) => f.write(&mut src),
        (Some(_), at) => f.pwrite(offset(at)?, &mut src),
        (None, at) => {
            let at = if at == u64::MAX { None } else { Some(offset(at)?) };
            f.write_where(at, append, &mut src)
        }
    }
}
/// lseek(2).
pub fn sys_lseek(a: &Args) -> Result<usize> {
    Ok(file(a[0])?.seek(int(a[2]), a[1] as i64)? as usize)
}

/// Moves bytes from file to file through a kernel buffer.
fn copy(
    mut read: impl FnMut(&mut Dst) -> Result<usize>,
    mut write: impl FnMut(&mut Src) -> Result<usize>,
    mut unread: impl FnMut(usize) -> Result<()>,
    len: u64,
) -> Result<usize> {
    let len = len.min(RW_MAX) as usize;
    let mut buf = try_vec(len.min(64 << 10))?;
    let (mut total, mut breath) = (0, Breath::begin());
    while total < len {
        breath.take();
        let want = buf.len().min(len - total);
        let n = match read(&mut Dst::kernel(&mut buf[..want])) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) => return partial(total, e),
        };
        let m = match write(&mut Src::kernel(&buf[..n])) {
            Ok(m) => m,
            Err(e) => {
                unread(n)?;
                return partial(total, e);
            }
        };
        total += m;
        if m < n {
            unread(n - m)?;
            break;
        }
    }
    Ok(total)
}
/// sendfile(2).
pub fn sys_sendfile(a: &Args) -> Result<usize> {
    let (out, input) = (real_file(a[0])?, real_file(a[1])?);
    if !input.can_read() || !out.can_write() {
        return Err(EBADF);
    }
    if input.special().is_some() && input.seek(SEEK_CUR, 0).is_err() {
        return Err(if a[2] == 0 { EINVAL } else { ESPIPE });
    }
    if out.flags() & O_APPEND != 0 {
        return Err(EINVAL);
    }
    if a[2] == 0 {
        let back = |n: usize| input.seek(SEEK_CUR, -(n as i64)).map(drop);
        return copy(|d| input.read(d), |s| out.write(s), back, a[3]);
    }
    let start: u64 = offset(uaccess::read_val(a[2])?)?;
    let pos = BklCell::new(start);
    let read = |d: &mut Dst| {
        let n = input.pread(pos.get(), d)?;
        pos.set(pos.get() + n as u64);
        Ok(n)
    };
    let back = |n: usize| {
        pos.set(pos.get() - n as u64);
        Ok(())
    };
    let total = copy(read, |s| out.write(s), back, a[3])?;
    uaccess::write_val(a[2], pos.get())?;
    Ok(total)
}
/// copy_file_range(2).
pub fn sys_copy_file_range(a: &Args) -> Result<usize> {
    let (input, out) = (real_file(a[0])?, real_file(a[2])?);
    if int(a[5]) != 0 {
        return Err(EINVAL);
    }
    if !input.can_read() || !out.can_write() || out.flags() & O_APPEND != 0 {
        return Err(EBADF);
    }
    for f in [&input, &out] {
        if f.inode().is_dir() {
            return Err(EISDIR);
        }
        if !f.inode().is_regular() || f.special().is_some() {
            return Err(EINVAL);
        }
    }
    let start = |p: u64, own: u64| if p == 0 { Ok(own) } else { offset(uaccess::read_val(p)?) };
    let (from, to) = (start(a[1], input.offset())?, start(a[3], out.offset())?);
    let same = input.inode().object_id() == out.inode().object_id();
    let len = a[4].min(RW_MAX);
    if same && from < to.saturating_add(len) && to < from.saturating_add(len) {
        return Err(EINVAL);
    }
    let (rpos, wpos) = (BklCell::new(from), BklCell::new(to));
    let step = |c: &BklCell<u64>, n: usize| c.set(c.get() + n as u64);
    let read = |d: &mut Dst| input.pread(rpos.get(), d).inspect(|n| step(&rpos, *n));
    let write = |s: &mut Src| out.pwrite(wpos.get(), s).inspect(|n| step(&wpos, *n));
    let back = |n: usize| {
        rpos.set(rpos.get() - n as u64);
        Ok(())
    };
    let total = copy(read, write, back, len)?;
    let finish = |p: u64, f: &super::super::OpenFile, pos: u64| {
        if p == 0 {
            f.set_offset(pos);
            return Ok(());
        }
        uaccess::write_val(p, pos)
    };
    finish(a[1], &input, rpos.get())?;
    finish(a[3], &out, wpos.get())?;
    Ok(total)
}
