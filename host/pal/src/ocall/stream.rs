//! Streams: standard input and output, terminals.
use super::{check, errno};
use std::collections::BTreeMap;
use std::sync::Mutex;

fn is_ready(fd: i32, events: i16) -> bool {
    let mut p = libc::pollfd { fd, events, revents: 0 };
    // SAFETY: 1. `p` is one pollfd.
    unsafe { libc::poll(&mut p, 1, 0) > 0 }
}

/// Non-blocking without O_NONBLOCK, which would change the descriptor for everybody who shares it.
pub(super) fn read(fd: i32, non_blocking: bool, out: &mut [u8]) -> i64 {
    if non_blocking && !is_ready(fd, libc::POLLIN) {
        return -i64::from(libc::EAGAIN);
    }
    // SAFETY: 1. `out` is writable for its length.
    check(unsafe { libc::read(fd, out.as_mut_ptr().cast(), out.len()) } as i64)
}

pub(super) fn write(fd: i32, non_blocking: bool, data: &[u8]) -> i64 {
    if non_blocking && !is_ready(fd, libc::POLLOUT) {
        return -i64::from(libc::EAGAIN);
    }
    // A pipe that is ready takes PIPE_BUF bytes without blocking.
    let n = if non_blocking { data.len().min(libc::PIPE_BUF) } else { data.len() };
    let n = if is_pipe(fd) { n } else { data.len() };
    // SAFETY: 1. `data` is readable for n <= its length bytes.
    check(unsafe { libc::write(fd, data.as_ptr().cast(), n) } as i64)
}

fn is_pipe(fd: i32) -> bool {
    // SAFETY: 1. an all-zero stat is valid and fstat fills it.
    unsafe {
        let mut st: libc::stat = std::mem::zeroed();
        libc::fstat(fd, &mut st) == 0 && matches!(st.st_mode & libc::S_IFMT, libc::S_IFIFO | libc::S_IFSOCK)
    }
}

/// Writes all of it, unless the descriptor fails, or `ended` becomes true while nobody takes it.
pub(super) fn write_all(fd: i32, mut text: &[u8], ended: impl Fn() -> bool) {
    while !text.is_empty() {
        // SAFETY: 1. `text` is readable for its length.
        match check(unsafe { libc::write(fd, text.as_ptr().cast(), text.len()) } as i64) {
            super::EINTR if !ended() => {}
            n if n <= 0 => return,
            n => text = &text[n as usize..],
        }
    }
}

pub(super) fn seek(fd: i32, whence: i32, offset: i64) -> i64 {
    // SAFETY: 1. lseek has no memory arguments.
    check(unsafe { libc::lseek(fd, offset, whence) })
}

/// Terminals whose attributes the enclave changed, with the attributes they had.
#[derive(Default)]
pub struct Terminals {
    saved: Mutex<BTreeMap<i32, libc::termios>>,
}

/// ioctls that pass: request, bytes in, bytes out (kernel `struct termios` is 36 bytes).
const ALLOWED: [(u64, usize, usize); 9] = [
    (0x5401, 0, 36), // TCGETS
    (0x5402, 36, 0), // TCSETS
    (0x5403, 36, 0), // TCSETSW
    (0x5404, 36, 0), // TCSETSF
    (0x5413, 0, 8),  // TIOCGWINSZ
    (0x5414, 8, 0),  // TIOCSWINSZ
    (0x541b, 0, 4),  // FIONREAD
    (0x540b, 0, 0),  // TCFLSH
    (0x5409, 0, 0),  // TCSBRK
];

impl Terminals {
    pub(super) fn ioctl(&self, fd: i32, request: u64, data: &mut [u8], in_len: usize, out_len: usize) -> i64 {
        let Some((_, needs, gives)) = ALLOWED.iter().find(|(r, _, _)| *r == request) else {
            return -i64::from(libc::ENOTTY);
        };
        if in_len < *needs || out_len < *gives || data.len() < 64 {
            return -i64::from(libc::EINVAL);
        }
        if matches!(request, 0x5402..=0x5404) {
            self.save(fd);
        }
        // SAFETY: 1. `data` is at least 64 bytes, more than any allowed request reads or writes.
        let r = unsafe { libc::ioctl(fd, request, data.as_mut_ptr()) };
        if r < 0 { errno() } else { i64::from(r) }
    }

    fn save(&self, fd: i32) {
        let Ok(mut saved) = self.saved.lock() else { return };
        if !saved.contains_key(&fd)
            && let Some(t) = attributes(fd)
        {
            saved.insert(fd, t);
        }
    }

    /// Puts the attributes back that the terminals had, for as long as `f` runs.
    pub(super) fn lend(&self, f: impl FnOnce()) {
        let Ok(saved) = self.saved.lock() else { return };
        let now: Vec<_> = saved.keys().filter_map(|fd| Some((*fd, attributes(*fd)?))).collect();
        saved.iter().for_each(|(fd, t)| set_attributes(*fd, t));
        drop(saved);
        f();
        for (fd, t) in now {
            // Continued in the background, this stops the process once more, until it has the terminal.
            // SAFETY: 1. `t` is a whole termios.
            unsafe { libc::tcsetattr(fd, libc::TCSANOW, &t) };
        }
    }

    /// At once, without waiting for output that nobody may read, and also as a background process.
    pub(super) fn restore(&self) {
        let Ok(saved) = self.saved.lock() else { return };
        for (fd, t) in saved.iter() {
            set_attributes(*fd, t);
        }
    }
}

fn attributes(fd: i32) -> Option<libc::termios> {
    // SAFETY: 1. an all-zero termios is valid and tcgetattr fills it.
    unsafe {
        let mut t: libc::termios = std::mem::zeroed();
        (libc::tcgetattr(fd, &mut t) == 0).then_some(t)
    }
}

/// `tcsetattr(TCSANOW)` that a background process may do, too: with SIGTTOU blocked the terminal obeys.
fn set_attributes(fd: i32, t: &libc::termios) {
    // SAFETY: 1. all-zero sets are initialised before use; 2. the mask is this thread's and comes back; 3. `t` is a whole
    // termios.
    unsafe {
        let (mut ttou, mut old): (libc::sigset_t, libc::sigset_t) = std::mem::zeroed();
        libc::sigemptyset(&mut ttou);
        libc::sigaddset(&mut ttou, libc::SIGTTOU);
        libc::pthread_sigmask(libc::SIG_BLOCK, &ttou, &mut old);
        libc::tcsetattr(fd, libc::TCSANOW, t);
        libc::pthread_sigmask(libc::SIG_SETMASK, &old, std::ptr::null_mut());
    }
}
