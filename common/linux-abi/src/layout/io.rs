//! Polling and terminals.
use super::layout;

layout! {
    /// `struct pollfd`.
    Pollfd[8] {
        fd: i32 = 0,
        events: u16 = 4,
        revents: u16 = 6,
    }
    /// `struct epoll_event`, packed on x86-64.
    EpollEvent[12] {
        events: u32 = 0,
        data: u64 = 4,
    }
    /// `struct winsize`.
    Winsize[8] {
        ws_row: u16 = 0,
        ws_col: u16 = 2,
        ws_xpixel: u16 = 4,
        ws_ypixel: u16 = 6,
    }
    /// The kernel's `struct termios`.
    Termios[36] {
        c_iflag: u32 = 0,
        c_oflag: u32 = 4,
        c_cflag: u32 = 8,
        c_lflag: u32 = 12,
        c_line: u8 = 16,
        c_cc: [u8; 19] = 17,
    }
}
