//! Transfers beside: what the enclave reads in order is read before it asks for it, and long writes are made while it goes on.
//! So the host's copying and its disk work at the same time as the enclave's ciphers.
//!
//! They go past the host's page cache, which would need new memory for each byte: that costs more than all else. What is there
//! already is read from there, and what is read a second time is kept there.
//!
//! Neighbour: `files`, whose reads and writes ask here first. Invariants: of one file, no piece overlaps a write that has not
//! ended, so order does not matter; a read sees every write before it; a write that failed is kept and tried again until it
//! succeeds or its file is closed; what is kept in memory is bounded (`BEHIND_MAX`, `AHEAD_MAX`).
use super::{check, errno, files::is_cached, work::no_signals};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

/// Threads at most; they are made when there is work for them, and stay.
const THREADS: usize = 2;
/// Bytes that are read ahead as one.
const PIECE: usize = 256 << 10;
/// Bytes of writes that may be under way, and of what was read ahead.
const BEHIND_MAX: usize = 4 << 20;
const AHEAD_MAX: usize = 4 << 20;
/// Buffers that are kept for the next pieces: fresh memory is dear.
const SPARE_MAX: usize = 12;
/// What is read a second time is found out by parts of files of this length; so many parts are remembered.
const PART: u64 = 64 << 10;
const ONCE_MAX: usize = 1 << 18;
/// What offsets, lengths and memory of reads past the page cache are multiples of.
const ALIGN: usize = 4096;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    Running,
    /// With what the call returned.
    Ended(i64),
}

/// A file by descriptors of our own.
struct Handle {
    file: OwnedFd,
    /// The same past the page cache, where that can be had.
    direct: Option<OwnedFd>,
}

/// Bytes from a multiple of `ALIGN` on.
#[derive(Default)]
struct Buffer {
    memory: Vec<u8>,
    len: usize,
}

impl Buffer {
    fn resize(&mut self, len: usize) {
        self.memory.resize(self.memory.len().max(len + ALIGN), 0);
        self.len = len;
    }
    fn range(&self) -> std::ops::Range<usize> {
        let from = if self.len == 0 { 0 } else { self.memory.as_ptr().align_offset(ALIGN) };
        from..from + self.len
    }
    fn bytes(&self) -> &[u8] {
        &self.memory[self.range()]
    }
    fn bytes_mut(&mut self) -> &mut [u8] {
        let range = self.range();
        &mut self.memory[range]
    }
}

struct Piece {
    id: u64,
    kind: Kind,
    /// The enclave's name for the file.
    fd: i32,
    file: Arc<Handle>,
    offset: u64,
    len: usize,
    /// It was read before.
    again: bool,
    /// Away while it is running.
    data: Buffer,
    stage: Stage,
}

impl Piece {
    fn end(&self) -> u64 {
        self.offset.saturating_add(self.len as u64)
    }
    fn overlaps(&self, fd: i32, offset: u64, len: usize) -> bool {
        self.fd == fd && self.offset < offset.saturating_add(len as u64) && offset < self.end()
    }
    fn is_under_way(&self) -> bool {
        !matches!(self.stage, Stage::Ended(_))
    }
}

#[derive(Default)]
struct State {
    pieces: Vec<Piece>,
    files: BTreeMap<i32, Arc<Handle>>,
    /// Which parts of files were read ahead and not written since.
    once: BTreeSet<(i32, u64)>,
    spare: Vec<Buffer>,
    next_id: u64,
    threads: usize,
    idle: usize,
    over: bool,
}

impl State {
    fn bytes(&self, of: impl Fn(&Piece) -> bool) -> usize {
        self.pieces.iter().filter(|p| of(p)).map(|p| p.len).sum()
    }
    /// Forgets a piece; its buffer serves again.
    fn remove(&mut self, at: usize) {
        let piece = self.pieces.remove(at);
        if self.spare.len() < SPARE_MAX && !piece.data.memory.is_empty() {
            self.spare.push(piece.data);
        }
    }
    /// Notes what is read of a file. Was all of it before?
    fn is_read_again(&mut self, fd: i32, offset: u64, len: usize) -> bool {
        if self.once.len() >= ONCE_MAX {
            self.once.clear();
        }
        let new = parts(offset, len).filter(|part| self.once.insert((fd, *part))).count();
        new == 0
    }
    /// Notes that some of a file is new.
    fn is_written(&mut self, fd: i32, offset: u64, len: usize) {
        for part in parts(offset, len) {
            self.once.remove(&(fd, part));
        }
    }
    fn handle(&mut self, fd: i32) -> Result<Arc<Handle>, i64> {
        if let Some(handle) = self.files.get(&fd) {
            return Ok(handle.clone());
        }
        let handle = Arc::new(Handle::new(fd)?);
        self.files.insert(fd, handle.clone());
        Ok(handle)
    }
    /// Forgets what was read ahead and `unwanted` says; false if some of it is being read just now.
    fn forget_reads(&mut self, unwanted: impl Fn(&Piece) -> bool) -> bool {
        let mut at = 0;
        while at < self.pieces.len() {
            let piece = &self.pieces[at];
            if piece.kind == Kind::Read && piece.stage != Stage::Running && unwanted(piece) {
                self.remove(at);
            } else {
                at += 1;
            }
        }
        !self.pieces.iter().any(|p| p.kind == Kind::Read && unwanted(p))
    }
}

/// The parts that some of a file lies in.
fn parts(offset: u64, len: usize) -> std::ops::RangeInclusive<u64> {
    offset / PART..=offset.saturating_add(len.saturating_sub(1) as u64) / PART
}

struct Shared {
    state: Mutex<State>,
    /// How many pieces there are, so that other files' calls need no lock.
    count: AtomicUsize,
    more: Condvar,
    ended: Condvar,
}

/// The transfers of one enclave.
pub(super) struct Transfers(Arc<Shared>);

impl Default for Transfers {
    fn default() -> Self {
        Self(Arc::new(Shared {
            state: Mutex::default(),
            count: AtomicUsize::new(0),
            more: Condvar::new(),
            ended: Condvar::new(),
        }))
    }
}

impl Transfers {
    fn none(&self) -> bool {
        self.0.count.load(Ordering::Acquire) == 0
    }

    /// Takes a write over: its length. Or an error of an earlier write, and this one is not taken.
    pub(super) fn write(&self, fd: i32, offset: u64, data: &[u8]) -> i64 {
        match self.0.make_room(fd, offset, data.len()) {
            Ok(mut s) => match self.0.submit(&mut s, Kind::Write, fd, offset, data.len(), Some(data)) {
                Ok(()) => data.len() as i64,
                Err(e) => e,
            },
            Err(e) => e,
        }
    }

    /// A read or write at once follows: nothing of these bytes is under way any more. 0, or the error of a write that failed.
    pub(super) fn before(&self, fd: i32, offset: u64, len: usize, writes: bool) -> i64 {
        if self.none() {
            return 0;
        }
        let range = Some((offset, len));
        let done = if writes {
            self.0.settle(self.0.lock(), fd, range)
        } else {
            self.0.written(self.0.lock(), fd, range)
        };
        done.err().unwrap_or(0)
    }

    /// Everything that was written is with the file: 0, or the error of a write that failed.
    pub(super) fn settle(&self, fd: i32) -> i64 {
        if self.none() { 0 } else { self.0.written(self.0.lock(), fd, None).err().unwrap_or(0) }
    }

    /// Fills the front of `buf` from what was read ahead; how much.
    pub(super) fn read(&self, fd: i32, offset: u64, buf: &mut [u8]) -> usize {
        let (mut s, mut done) = (self.0.lock(), 0);
        while done < buf.len() {
            let at = offset.saturating_add(done as u64);
            let found = s.pieces.iter().position(|p| p.kind == Kind::Read && p.overlaps(fd, at, 1));
            let Some(found) = found else { break };
            let piece = &s.pieces[found];
            let Stage::Ended(read) = piece.stage else {
                s = self.0.wait(s);
                continue;
            };
            let from = (at - piece.offset) as usize;
            let have = usize::try_from(read).unwrap_or(0).saturating_sub(from).min(buf.len() - done);
            buf[done..done + have].copy_from_slice(&piece.data.bytes()[from..from + have]);
            done += have;
            if have == 0 || from + have == piece.len {
                s.remove(found);
                self.0.count(&s);
            }
            if have == 0 {
                break;
            }
        }
        done
    }

    /// Begins to read these bytes, as far as that has not begun.
    pub(super) fn ahead(&self, fd: i32, offset: u64, len: usize) {
        let mut s = self.0.lock();
        let (mut at, end) = (offset, offset.saturating_add(len.min(AHEAD_MAX / 2) as u64));
        while at < end {
            if let Some(p) = s.pieces.iter().find(|p| p.overlaps(fd, at, 1)) {
                at = p.end();
                continue;
            }
            let next = s.pieces.iter().filter(|p| p.overlaps(fd, at, PIECE)).map(|p| p.offset).min();
            let piece = (next.unwrap_or(end).min(end) - at).min(PIECE as u64) as usize;
            while s.bytes(|p| p.kind == Kind::Read) + piece > AHEAD_MAX {
                // The oldest is of a reader that went elsewhere.
                let old = s.pieces.iter().position(|p| p.kind == Kind::Read && p.stage != Stage::Running);
                let Some(old) = old else { return };
                s.remove(old);
            }
            if self.0.submit(&mut s, Kind::Read, fd, at, piece, None).is_err() {
                return;
            }
            at += piece as u64;
        }
    }

    /// A descriptor is about to be closed: nothing of it is under way any more.
    pub(super) fn forget(&self, fd: i32) {
        let mut s = self.0.lock();
        if s.files.remove(&fd).is_none() {
            return;
        }
        s.once.retain(|(of, _)| *of != fd);
        loop {
            s.pieces.retain(|p| {
                p.fd != fd || p.is_under_way() && (p.kind == Kind::Write || p.stage == Stage::Running)
            });
            self.0.count(&s);
            if !s.pieces.iter().any(|p| p.fd == fd) {
                return;
            }
            s = self.0.wait(s);
        }
    }
}

impl Drop for Transfers {
    fn drop(&mut self) {
        // What the enclave did not flush may be lost; no thread touches a file after this.
        let mut s = self.0.lock();
        s.over = true;
        s.pieces.retain(|p| p.stage == Stage::Running);
        self.0.more.notify_all();
        while s.pieces.iter().any(Piece::is_under_way) {
            s = self.0.wait(s);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
    /// Until a piece has ended.
    fn wait<'a>(&self, s: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.ended.wait(s).unwrap_or_else(|e| e.into_inner())
    }
    fn count(&self, s: &State) {
        self.count.store(s.pieces.len(), Ordering::Release);
    }

    /// Until a write of a file may begin. An error of an earlier one comes first: else more and more of them would be kept.
    fn make_room(&self, fd: i32, offset: u64, len: usize) -> Result<MutexGuard<'_, State>, i64> {
        let mut s = self.lock();
        loop {
            let of = |p: &Piece| p.kind == Kind::Write && p.fd == fd;
            let failed = s.pieces.iter().any(|p| of(p) && !p.is_under_way());
            s = self.settle(s, fd, (!failed).then_some((offset, len)))?;
            if s.bytes(of) + len <= BEHIND_MAX.max(len) {
                return Ok(s);
            }
            s = self.wait(s);
        }
    }

    /// `written`; and nothing that was read ahead is kept of these bytes.
    fn settle<'a>(
        &self,
        s: MutexGuard<'a, State>,
        fd: i32,
        range: Option<(u64, usize)>,
    ) -> Result<MutexGuard<'a, State>, i64> {
        let mut s = self.written(s, fd, range)?;
        let of = |p: &Piece| p.fd == fd && range.is_none_or(|(offset, len)| p.overlaps(fd, offset, len));
        while !s.forget_reads(of) {
            s = self.wait(s);
        }
        self.count(&s);
        Ok(s)
    }

    /// The writes of a file (that overlap a range) have ended. One that failed is made again: its error, if it fails again.
    fn written<'a>(
        &self,
        mut s: MutexGuard<'a, State>,
        fd: i32,
        range: Option<(u64, usize)>,
    ) -> Result<MutexGuard<'a, State>, i64> {
        let of = |p: &Piece| {
            p.kind == Kind::Write
                && p.fd == fd
                && range.is_none_or(|(offset, len)| p.overlaps(fd, offset, len))
        };
        while let Some(at) = s.pieces.iter().position(of) {
            if s.pieces[at].is_under_way() {
                s = self.wait(s);
                continue;
            }
            let piece = &s.pieces[at];
            let ret = piece.file.clone().write(piece.offset, piece.data.bytes());
            if ret < 0 {
                return Err(ret);
            }
            s.remove(at);
        }
        self.count(&s);
        Ok(s)
    }

    /// A new piece, for the threads.
    fn submit(
        self: &Arc<Self>,
        s: &mut State,
        kind: Kind,
        fd: i32,
        offset: u64,
        len: usize,
        data: Option<&[u8]>,
    ) -> Result<(), i64> {
        let file = s.handle(fd)?;
        if s.idle == 0 && s.threads < THREADS {
            let shared = self.clone();
            let made =
                std::thread::Builder::new().name("occlum-transfer".into()).spawn(move || shared.serve());
            if made.is_ok() {
                s.threads += 1;
            } else if s.threads == 0 {
                return Err(-i64::from(libc::EAGAIN));
            }
        }
        let mut buffer = s.spare.pop().unwrap_or_default();
        buffer.resize(len);
        let again = match data {
            Some(data) => {
                buffer.bytes_mut().copy_from_slice(data);
                s.is_written(fd, offset, len);
                false
            }
            None => s.is_read_again(fd, offset, len),
        };
        s.next_id += 1;
        let (id, stage) = (s.next_id, Stage::Waiting);
        s.pieces.push(Piece { id, kind, fd, file, offset, len, again, data: buffer, stage });
        self.count(s);
        self.more.notify_one();
        Ok(())
    }

    fn serve(&self) {
        no_signals();
        let mut s = self.lock();
        loop {
            let Some(piece) = s.pieces.iter_mut().find(|p| p.stage == Stage::Waiting) else {
                if s.over {
                    return;
                }
                s.idle += 1;
                s = self.more.wait(s).unwrap_or_else(|e| e.into_inner());
                s.idle -= 1;
                continue;
            };
            piece.stage = Stage::Running;
            let (id, kind, offset, file) = (piece.id, piece.kind, piece.offset, piece.file.clone());
            let again = piece.again;
            let mut data = std::mem::take(&mut piece.data);
            drop(s);
            let ret = match kind {
                Kind::Read => file.read(offset, data.bytes_mut(), again),
                Kind::Write => file.write(offset, data.bytes()),
            };
            s = self.lock();
            // Nobody removes a piece that is running.
            if let Some(at) = s.pieces.iter().position(|p| p.id == id) {
                s.pieces[at].data = data;
                s.pieces[at].stage = Stage::Ended(ret);
                if kind == Kind::Write && ret >= 0 {
                    s.remove(at);
                }
            }
            self.count(&s);
            self.ended.notify_all();
        }
    }
}

impl Handle {
    fn new(fd: i32) -> Result<Self, i64> {
        // SAFETY: 1. fcntl has no memory arguments here.
        let own = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) };
        if own < 0 {
            return Err(errno());
        }
        // SAFETY: 1. the descriptor is new and nobody else's.
        let file = unsafe { OwnedFd::from_raw_fd(own) };
        // Not all file systems know this; some files may no longer be opened, and some only read.
        let path = format!("/proc/self/fd/{own}");
        let open = |write| {
            let flags = libc::O_DIRECT | libc::O_NONBLOCK;
            std::fs::File::options().read(true).write(write).custom_flags(flags).open(&path)
        };
        let direct = open(true).or_else(|_| open(false));
        Ok(Self { file, direct: direct.ok().map(OwnedFd::from) })
    }

    /// The file past the page cache, for such a piece.
    fn direct(&self, offset: u64, data: &[u8]) -> Option<i32> {
        let is_aligned = (offset | data.len() as u64).is_multiple_of(ALIGN as u64);
        self.direct.as_ref().filter(|_| is_aligned).map(AsRawFd::as_raw_fd)
    }

    /// Reads up to the end of the file: how much; or a negated errno.
    fn read(&self, offset: u64, data: &mut [u8], again: bool) -> i64 {
        let plain = self.file.as_raw_fd();
        let direct =
            self.direct(offset, data).filter(|_| !again && !is_cached(plain, offset as i64, data.len()));
        let done = direct.map_or(0, |direct| read(direct, offset, data));
        // The last piece of a file, or one that cannot be had so.
        if done < data.len() as i64 { read(plain, offset, data) } else { done }
    }

    /// Writes all of it: 0, or a negated errno.
    fn write(&self, offset: u64, data: &[u8]) -> i64 {
        if let Some(direct) = self.direct(offset, data) {
            match write(direct, offset, data) {
                // What may be written so is for the file system to say.
                e if e == -i64::from(libc::EINVAL) || e == -i64::from(libc::EBADF) => {}
                done => return done,
            }
        }
        let plain = self.file.as_raw_fd();
        let done = write(plain, offset, data);
        if done == 0 {
            // Whether the way to the disk could begin is for the fsync behind it to say.
            // SAFETY: 1. sync_file_range has no memory arguments.
            unsafe {
                libc::sync_file_range(plain, offset as i64, data.len() as i64, libc::SYNC_FILE_RANGE_WRITE)
            };
        }
        done
    }
}

fn read(fd: i32, offset: u64, data: &mut [u8]) -> i64 {
    let len = data.len();
    // SAFETY: 1. all of `data` from `done` on is writable.
    whole(len, |done| unsafe {
        let at = offset.saturating_add(done as u64) as i64;
        libc::pread(fd, data[done..].as_mut_ptr().cast(), len - done, at)
    })
}

fn write(fd: i32, offset: u64, data: &[u8]) -> i64 {
    let len = data.len();
    // SAFETY: 1. all of `data` from `done` on is readable.
    let done = whole(len, |done| unsafe {
        let at = offset.saturating_add(done as u64) as i64;
        libc::pwrite(fd, data[done..].as_ptr().cast(), len - done, at)
    });
    match done {
        e if e < 0 => e,
        n if n < len as i64 => -i64::from(libc::EIO),
        _ => 0,
    }
}

/// Calls `piece` with how much is done, until it is all or nothing more comes: how much; or a negated errno.
fn whole(len: usize, mut piece: impl FnMut(usize) -> isize) -> i64 {
    let mut done = 0;
    while done < len {
        match check(piece(done) as i64) {
            0 => break,
            super::EINTR => {}
            e if e < 0 => return e,
            n => done += n as usize,
        }
    }
    done as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    const SIZE: usize = 4 << 20;

    fn file(name: &str) -> File {
        let path = std::env::temp_dir().join(format!("occlum-transfers-{}-{name}", std::process::id()));
        let file =
            File::options().read(true).write(true).create(true).truncate(true).open(&path).expect("a file");
        std::fs::remove_file(path).expect("removed");
        file.set_len(SIZE as u64).expect("its length");
        file
    }

    /// Repeatable numbers.
    struct Rng(u64);
    impl Rng {
        fn below(&mut self, n: usize) -> usize {
            self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            (self.0 >> 33) as usize % n
        }
    }

    #[test]
    fn reads_see_the_writes_before_them() {
        let (file, transfers) = (file("order"), Transfers::default());
        let (fd, mut model, mut rng) = (file.as_raw_fd(), vec![0u8; SIZE], Rng(7));
        for round in 0..600u32 {
            let at = rng.below(SIZE / 4096) * 4096;
            let len = (1 + rng.below(if round % 3 == 0 { 512 << 10 } else { 9000 })).min(SIZE - at);
            // Whole blocks go past the page cache.
            let len = if rng.below(2) == 0 { len.next_multiple_of(ALIGN) } else { len };
            match rng.below(4) {
                0 => {
                    let data = vec![round as u8; len];
                    assert_eq!(transfers.write(fd, at as u64, &data), len as i64);
                    model[at..at + len].copy_from_slice(&data);
                }
                1 => {
                    assert_eq!(transfers.before(fd, at as u64, len, true), 0);
                    file.write_all_at(&vec![!round as u8; len], at as u64).expect("written");
                    model[at..at + len].fill(!round as u8);
                }
                _ => {
                    let mut buf = vec![0; len];
                    assert_eq!(transfers.before(fd, at as u64, len, false), 0);
                    let done = transfers.read(fd, at as u64, &mut buf);
                    transfers.ahead(fd, (at + len) as u64, rng.below(1 << 20));
                    file.read_exact_at(&mut buf[done..], (at + done) as u64).expect("read");
                    assert!(buf == model[at..at + len], "round {round}: {len} bytes at {at}");
                }
            }
        }
        assert_eq!(transfers.settle(fd), 0);
        let mut all = vec![0; SIZE];
        file.read_exact_at(&mut all, 0).expect("read");
        assert!(all == model);
    }

    #[test]
    fn what_was_read_ahead_is_used() {
        let (file, transfers) = (file("ahead"), Transfers::default());
        file.write_all_at(&[5; 3 * PIECE], 0).expect("written");
        transfers.ahead(file.as_raw_fd(), 0, 2 * PIECE + 10);
        let mut buf = vec![0; 3 * PIECE];
        assert_eq!(transfers.read(file.as_raw_fd(), 0, &mut buf), 2 * PIECE + 10);
        assert!(buf[..2 * PIECE + 10].iter().all(|b| *b == 5) && transfers.none());
        // At the end of the file there is nothing.
        transfers.ahead(file.as_raw_fd(), SIZE as u64, 10);
        assert_eq!(transfers.read(file.as_raw_fd(), SIZE as u64, &mut buf), 0);
    }

    #[test]
    fn what_is_read_again_is_kept() {
        let (file, transfers) = (file("again"), Transfers::default());
        let fd = file.as_raw_fd();
        let content: Vec<u8> = (0..2 * PIECE).map(|i| (i / 4096) as u8).collect();
        file.write_all_at(&content, 0).expect("written");
        file.sync_all().expect("synced");
        let has_direct = Handle::new(fd).expect("a handle").direct.is_some();
        // SAFETY: 1. posix_fadvise has no memory arguments.
        unsafe { libc::posix_fadvise(fd, 0, 0, libc::POSIX_FADV_DONTNEED) };
        let was_cached = is_cached(fd, 0, content.len());
        let mut buf = vec![0; content.len()];
        for turn in 0..3 {
            transfers.ahead(fd, 0, content.len());
            assert_eq!(transfers.read(fd, 0, &mut buf), content.len());
            assert!(buf == content, "turn {turn}");
            if has_direct && !was_cached {
                assert_eq!(is_cached(fd, 0, content.len()), turn > 0, "turn {turn}");
            }
        }
        // What is written is new; of a part that was read, more may be.
        assert_eq!(transfers.write(fd, 0, &[9; 4096]), 4096);
        assert_eq!(transfers.settle(fd), 0);
        let again = |offset, len| transfers.0.lock().is_read_again(fd, offset, len);
        assert!(!again(0, 4096) && again(0, 2 * PIECE) && !again(2 * PIECE as u64 - 4096, 8192));
        transfers.forget(fd);
        assert!(!again(0, 2 * PIECE));
    }

    /// A reader whose pieces begin and end anywhere reads nothing again.
    #[test]
    fn what_is_read_in_order_is_read_once() {
        let mut state = State::default();
        let (mut at, mut rng) = (0, Rng(5));
        for _ in 0..1000 {
            let len = (PART as usize / 4096 + rng.below(64)) * 4096;
            assert!(!state.is_read_again(1, at, len));
            at += len as u64;
        }
        assert!(state.is_read_again(1, 0, at as usize));
    }

    #[test]
    fn a_write_that_fails_is_kept_and_told_of() {
        let full = File::options().write(true).open("/dev/full").expect("/dev/full");
        let (fd, transfers, no_room) = (full.as_raw_fd(), Transfers::default(), -i64::from(libc::ENOSPC));
        assert_eq!(transfers.write(fd, 0, &[1; 4096]), 4096);
        assert_eq!(transfers.settle(fd), no_room);
        assert_eq!(transfers.settle(fd), no_room);
        assert_eq!(transfers.write(fd, 4096, &[1; 4096]), no_room);
        assert_eq!(transfers.before(fd, 0, 10, false), no_room);
        assert_eq!(transfers.before(fd, 4096, 10, true), 0);
        transfers.forget(fd);
        assert_eq!(transfers.settle(fd), 0);
    }
}
