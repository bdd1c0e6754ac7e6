//! Where file data goes to and comes from: user memory (one range or an iovec) or a kernel buffer.
//!
//! Neighbours: `uaccess` below, every file type above. Invariant: a fault after some bytes is a short count;
//! only a fault on the first byte is `EFAULT`.
use super::prelude::*;
use crate::uaccess;
use occlum_rt::mem::TryGrow;

/// A list of user ranges with a position.
pub struct Ranges {
    first: (u64, u64),
    rest: Vec<(u64, u64)>,
    /// Index of the current range: 0 is `first`.
    index: usize,
    at: u64,
    left: u64,
}
impl Ranges {
    fn one(off: u64, len: u64) -> Self {
        Self { first: (off, len), rest: Vec::new(), index: 0, at: 0, left: len }
    }
    fn many(list: Vec<(u64, u64)>) -> Self {
        let mut left = 0u64;
        let mut rest = Vec::with_capacity(list.len());
        for (off, len) in list {
            let len = len.min(RW_MAX - left);
            left += len;
            rest.push((off, len));
        }
        Self { first: (0, 0), rest, index: 0, at: 0, left }
    }
    fn range(&self, index: usize) -> (u64, u64) {
        if index == 0 { self.first } else { self.rest.get(index - 1).copied().unwrap_or((0, 0)) }
    }
    /// The contiguous piece at the position, at most `max` bytes.
    fn piece(&mut self, max: usize) -> (u64, usize) {
        loop {
            let (off, len) = self.range(self.index);
            if self.at < len {
                return (off.wrapping_add(self.at), (len - self.at).min(max as u64) as usize);
            }
            if self.index >= self.rest.len() {
                return (0, 0);
            }
            self.index += 1;
            self.at = 0;
        }
    }
    /// Hides what is beyond the next `max` bytes; how much.
    fn hide_beyond(&mut self, max: u64) -> u64 {
        let hidden = self.left.saturating_sub(max);
        self.left -= hidden;
        hidden
    }
    fn advance(&mut self, n: usize) {
        self.at += n as u64;
        self.left -= n as u64;
    }
    fn rewind(&mut self, mut n: u64) {
        self.left += n;
        while n > self.at {
            n -= self.at;
            self.index -= 1;
            self.at = self.range(self.index).1;
        }
        self.at -= n;
    }
}

/// Bytes up to the end of the page that holds `off`.
fn to_page_end(off: u64) -> usize {
    (PAGE - off % PAGE) as usize
}

/// A destination or source of data.
pub trait Place: Sized {
    /// What is left of it, if it is user memory.
    fn ranges(&mut self) -> Option<&mut Ranges>;
    /// Bytes that are left.
    fn remaining(&self) -> usize;
    /// Runs `f` with no more than the next `max` bytes of user memory; whether there is more.
    fn within<T>(&mut self, max: usize, f: impl FnOnce(&mut Self) -> T) -> (T, bool) {
        let hidden = self.ranges().map_or(0, |r| r.hide_beyond(max as u64));
        let done = f(self);
        if let Some(r) = self.ranges() {
            r.left += hidden;
        }
        (done, hidden > 0)
    }
}
impl Place for Dst<'_> {
    fn ranges(&mut self) -> Option<&mut Ranges> {
        if let Self::User(r) = self { Some(r) } else { None }
    }
    fn remaining(&self) -> usize {
        Self::remaining(self)
    }
}
impl Place for Src<'_> {
    fn ranges(&mut self) -> Option<&mut Ranges> {
        if let Self::User(r) = self { Some(r) } else { None }
    }
    fn remaining(&self) -> usize {
        Self::remaining(self)
    }
}

/// A destination of data.
pub enum Dst<'a> {
    /// A kernel buffer and how much of it is filled.
    Kernel(&'a mut [u8], usize),
    /// User memory.
    User(Ranges),
}
impl<'a> Dst<'a> {
    /// One user range.
    pub fn user(off: u64, len: u64) -> Self {
        Self::User(Ranges::one(off, len.min(RW_MAX)))
    }
    /// An iovec.
    pub fn iovec(list: Vec<(u64, u64)>) -> Self {
        Self::User(Ranges::many(list))
    }
    /// A kernel buffer.
    pub fn kernel(buf: &'a mut [u8]) -> Self {
        Self::Kernel(buf, 0)
    }
    /// Bytes that still fit.
    pub fn remaining(&self) -> usize {
        match self {
            Self::Kernel(b, pos) => b.len() - pos,
            Self::User(r) => r.left as usize,
        }
    }
    /// Copies as much of `data` as fits; fewer if user memory faults after the first byte.
    pub fn push(&mut self, data: &[u8]) -> Result<usize> {
        match self {
            Self::Kernel(buf, pos) => {
                let n = data.len().min(buf.len() - *pos);
                buf[*pos..*pos + n].copy_from_slice(&data[..n]);
                *pos += n;
                Ok(n)
            }
            Self::User(r) => push_user(r, data),
        }
    }
}

fn push_user(r: &mut Ranges, data: &[u8]) -> Result<usize> {
    let data = &data[..data.len().min(r.left as usize)];
    let mut done = 0;
    while done < data.len() {
        let (off, n) = r.piece(data.len() - done);
        if n == 0 {
            break;
        }
        let mut n = n;
        let mut fault = uaccess::write_bytes(off, &data[done..done + n]).err();
        if fault.is_some() && n > to_page_end(off) {
            n = to_page_end(off);
            fault = uaccess::write_bytes(off, &data[done..done + n]).err();
        }
        if let Some(e) = fault {
            return if done > 0 { Ok(done) } else { Err(e) };
        }
        r.advance(n);
        done += n;
    }
    Ok(done)
}

/// A source of data.
pub enum Src<'a> {
    /// A kernel buffer and how much of it is used.
    Kernel(&'a [u8], usize),
    /// User memory.
    User(Ranges),
}
impl<'a> Src<'a> {
    /// One user range.
    pub fn user(off: u64, len: u64) -> Self {
        Self::User(Ranges::one(off, len.min(RW_MAX)))
    }
    /// An iovec.
    pub fn iovec(list: Vec<(u64, u64)>) -> Self {
        Self::User(Ranges::many(list))
    }
    /// A kernel buffer.
    pub fn kernel(buf: &'a [u8]) -> Self {
        Self::Kernel(buf, 0)
    }
    /// Bytes not yet taken.
    pub fn remaining(&self) -> usize {
        match self {
            Self::Kernel(b, pos) => b.len() - pos,
            Self::User(r) => r.left as usize,
        }
    }
    /// Takes up to `buf.len()` bytes; 0 when none are left.
    pub fn pull(&mut self, buf: &mut [u8]) -> Result<usize> {
        match self {
            Self::Kernel(src, pos) => {
                let n = buf.len().min(src.len() - *pos);
                buf[..n].copy_from_slice(&src[*pos..*pos + n]);
                *pos += n;
                Ok(n)
            }
            Self::User(r) => pull_user(r, buf),
        }
    }
    /// Leaves the rest: nothing more is taken, though it is not all.
    pub fn give_up(&mut self) {
        match self {
            Self::Kernel(src, pos) => *pos = src.len(),
            Self::User(r) => r.left = 0,
        }
    }
    /// Gives the last `n` bytes back.
    pub fn rewind(&mut self, n: usize) {
        match self {
            Self::Kernel(_, pos) => *pos -= n,
            Self::User(r) => r.rewind(n as u64),
        }
    }
}

fn pull_user(r: &mut Ranges, buf: &mut [u8]) -> Result<usize> {
    let n = buf.len().min(r.left as usize);
    let buf = &mut buf[..n];
    let mut done = 0;
    while done < buf.len() {
        let (off, n) = r.piece(buf.len() - done);
        if n == 0 {
            break;
        }
        let mut n = n;
        let mut fault = uaccess::read_bytes(off, &mut buf[done..done + n]).err();
        if fault.is_some() && n > to_page_end(off) {
            n = to_page_end(off);
            fault = uaccess::read_bytes(off, &mut buf[done..done + n]).err();
        }
        if let Some(e) = fault {
            return if done > 0 { Ok(done) } else { Err(e) };
        }
        r.advance(n);
        done += n;
    }
    Ok(done)
}

/// `total` if something was done before the error, else the error.
pub fn partial(total: usize, e: Errno) -> Result<usize> {
    if total > 0 { Ok(total) } else { Err(e) }
}

/// A zero-filled buffer, or `ENOMEM`.
pub fn try_vec(len: usize) -> Result<Vec<u8>> {
    let mut v = Vec::new();
    v.try_room_exact(len).map_err(|_| ENOMEM)?;
    v.resize(len, 0);
    Ok(v)
}
