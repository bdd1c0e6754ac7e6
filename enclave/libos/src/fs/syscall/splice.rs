//! splice, tee, vmsplice: bytes between pipes and files.
//!
//! Bytes go through a kernel buffer. Invariant: what was taken out of one end is in the other: the source is looked at, what
//! the destination took is taken away. A file or socket may let others run in between, so the pipe keeps its head, or the
//! room for what comes, from them.
use super::super::OpenFile;
use super::super::pipe::{Pipe, PipeEnd};
use super::super::prelude::*;
use super::super::uio::{Dst, Src, partial, try_vec};
use super::{Args, int, real_file};
use crate::uaccess;

const SPLICE_F_NONBLOCK: u32 = 2;
const KNOWN: u32 = 15;
/// Bytes moved at once.
const PIECE: usize = 64 << 10;

fn pipe_of(f: &OpenFile) -> Option<Arc<Pipe>> {
    f.downcast::<PipeEnd>().map(|e| e.pipe.clone())
}

/// A file with the offset that the call uses: its own, or the program's.
struct End {
    file: Arc<OpenFile>,
    at: BklCell<Option<u64>>,
    offset_at: u64,
}

impl End {
    fn new(file: Arc<OpenFile>, offset_at: u64) -> Result<Self> {
        let mut at = None;
        if offset_at != 0 {
            if pipe_of(&file).is_some() {
                return Err(ESPIPE);
            }
            if file.special().is_some() && file.seek(SEEK_CUR, 0).is_err() {
                return Err(EINVAL);
            }
            let off: i64 = uaccess::read_val(offset_at)?;
            at = Some(u64::try_from(off).map_err(|_| EINVAL)?);
        }
        Ok(Self { file, at: BklCell::new(at), offset_at })
    }
    fn advance(&self, n: usize) {
        self.at.with_mut(|a| *a = a.map(|at| at + n as u64));
    }
    /// Writes the offset back to the program.
    fn finish(&self) -> Result<()> {
        match self.at.get() {
            Some(at) => uaccess::write_val(self.offset_at, at),
            None => Ok(()),
        }
    }
}

/// splice(2).
pub fn sys_splice(a: &Args) -> Result<usize> {
    let (len, flags) = (a[4].min(RW_MAX) as usize, int(a[5]));
    if flags & !KNOWN != 0 {
        return Err(EINVAL);
    }
    if len == 0 {
        return Ok(0);
    }
    let (input, out) = (real_file(a[0])?, real_file(a[2])?);
    if !input.can_read() || !out.can_write() {
        return Err(EBADF);
    }
    let pipes = (pipe_of(&input), pipe_of(&out));
    let (from, to) = (End::new(input, a[1])?, End::new(out, a[3])?);
    let no_wait = flags & SPLICE_F_NONBLOCK != 0;
    let r = match pipes {
        (Some(p), Some(q)) if Arc::ptr_eq(&p, &q) => return Err(EINVAL),
        (Some(p), _) => {
            if to.file.flags() & O_APPEND != 0 && to.file.special().is_none() {
                return Err(EINVAL);
            }
            out_of_pipe(&p, &to, len, no_wait || from.file.nonblocking())
        }
        (None, Some(q)) => into_pipe(&from, &q, len, no_wait || to.file.nonblocking()),
        (None, None) => return Err(EINVAL),
    };
    broken(r).and_then(|n| from.finish().and(to.finish()).map(|()| n))
}

/// A write to a pipe without readers is a signal, too.
fn broken(r: Result<usize>) -> Result<usize> {
    if r == Err(EPIPE) {
        super::super::env::signal_self(SIGPIPE);
    }
    r
}

fn out_of_pipe(p: &Pipe, to: &End, len: usize, no_wait: bool) -> Result<usize> {
    let mut total = 0;
    while total < len {
        // What is there is enough, once something was moved.
        match p.wait_for_data(no_wait || total > 0) {
            Ok(true) => {}
            Ok(false) => break,
            Err(e) => return partial(total, e),
        }
        let one = |special: Option<&dyn super::super::file::File>| {
            if p.readable() == 0 {
                return Ok(0);
            }
            let _head = p.hand_on();
            let data = p.peek(PIECE.min(len - total))?;
            let mut src = Src::kernel(&data);
            let n = match (special, to.at.get()) {
                (Some(s), None) => s.try_write(&mut src)?,
                (_, Some(at)) => to.file.pwrite(at, &mut src)?,
                (None, None) => to.file.write(&mut src)?,
            };
            p.consume(n);
            Ok(n)
        };
        let r = match to.file.special() {
            Some(_) if no_wait => one(to.file.special().map(|s| &**s)),
            Some(_) => to.file.wait(|s| one(Some(s))),
            None => one(None),
        };
        match r {
            // Another reader took it.
            Ok(0) if p.readable() == 0 && total == 0 => continue,
            Ok(0) => break,
            Ok(n) => {
                to.advance(n);
                total += n;
            }
            Err(e) => return partial(total, e),
        }
    }
    Ok(total)
}

fn into_pipe(from: &End, q: &Pipe, len: usize, no_wait: bool) -> Result<usize> {
    let mut total = 0;
    while total < len {
        if let Err(e) = q.wait_for_room(no_wait || total > 0) {
            return partial(total, e);
        }
        let one = |special: Option<&dyn super::super::file::File>| {
            let room = q.promise(PIECE.min(len - total))?;
            let mut buf = try_vec(room.size)?;
            let mut dst = Dst::kernel(&mut buf);
            let n = match (special, from.at.get()) {
                (_, Some(at)) => from.file.pread(at, &mut dst)?,
                (Some(s), None) => s.try_read(&mut dst)?,
                (None, None) => from.file.read(&mut dst)?,
            };
            if n > 0 { room.put(&buf[..n]) } else { Ok(0) }
        };
        let r = match from.file.special() {
            // Another writer may fill the pipe meanwhile: then there is nothing to read into, and the loop waits again.
            Some(_) if total == 0 => from.file.wait(|s| if q.room() == 0 { Ok(0) } else { one(Some(s)) }),
            Some(s) => one(Some(&**s)),
            None => one(None),
        };
        match r {
            Ok(0) if q.room() == 0 && total == 0 => continue,
            Ok(0) => break,
            Ok(n) => {
                from.advance(n);
                total += n;
            }
            Err(e) => return partial(total, e),
        }
        if from.file.special().is_some() {
            break;
        }
    }
    Ok(total)
}

/// tee(2).
pub fn sys_tee(a: &Args) -> Result<usize> {
    let (len, flags) = (a[2].min(RW_MAX) as usize, int(a[3]));
    if flags & !KNOWN != 0 {
        return Err(EINVAL);
    }
    if len == 0 {
        return Ok(0);
    }
    let (input, out) = (real_file(a[0])?, real_file(a[1])?);
    if !input.can_read() || !out.can_write() {
        return Err(EBADF);
    }
    let (Some(p), Some(q)) = (pipe_of(&input), pipe_of(&out)) else { return Err(EINVAL) };
    if Arc::ptr_eq(&p, &q) {
        return Err(EINVAL);
    }
    let no_wait = flags & SPLICE_F_NONBLOCK != 0;
    loop {
        if !p.wait_for_data(no_wait || input.nonblocking())? {
            return Ok(0);
        }
        broken(q.wait_for_room(no_wait || out.nonblocking()).map(|()| 0))?;
        // Neither may have changed while the other was waited for.
        if p.readable() > 0 && q.room() > 0 {
            return q.put(&p.peek(len.min(q.room()))?);
        }
    }
}

/// vmsplice(2): to a pipe's write end, or from its read end.
pub fn sys_vmsplice(a: &Args) -> Result<usize> {
    let flags = int(a[3]);
    if flags & !KNOWN != 0 {
        return Err(EINVAL);
    }
    let f = real_file(a[0])?;
    let p = pipe_of(&f).ok_or(EBADF)?;
    let list = uaccess::read_iovecs(a[1], a[2])?;
    let no_wait = flags & SPLICE_F_NONBLOCK != 0 || f.nonblocking();
    if !f.can_write() {
        if !list.iter().any(|(_, n)| *n > 0) || !p.wait_for_data(no_wait)? {
            return Ok(0);
        }
        return f.read_now(&mut Dst::iovec(list));
    }
    let mut src = Src::iovec(list);
    let mut total = 0;
    while src.remaining() > 0 {
        let r = p.wait_for_room(no_wait).and_then(|()| {
            let room = p.promise(PIECE.min(src.remaining()))?;
            let mut buf = try_vec(room.size)?;
            let n = src.pull(&mut buf)?;
            room.put(&buf[..n])
        });
        match broken(r) {
            Ok(0) => break,
            Ok(n) => total += n,
            Err(e) => return partial(total, e),
        }
    }
    Ok(total)
}
