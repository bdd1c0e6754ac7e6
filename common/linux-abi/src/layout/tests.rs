//! Layouts: every structure survives the way to bytes and back, and known fields lie where Linux has them.
use super::file::{Dirent64, Stat, Statx};
use super::io::{EpollEvent, Termios};
use super::process::{CloneArgs, Rusage, Sysinfo, Utsname};
use super::signal::Siginfo;
use super::time::{Timespec, Timeval};

fn pattern<const N: usize>() -> [u8; N] {
    core::array::from_fn(|i| (i as u8).wrapping_mul(37).wrapping_add(1))
}

#[test]
fn padding_is_zero_and_fields_survive() {
    let stat = Stat::from_bytes(&pattern());
    let bytes = stat.to_bytes();
    assert_eq!(Stat::from_bytes(&bytes), stat);
    assert_eq!(bytes[36..40], [0; 4]);
    assert_eq!(bytes[120..], [0; 24]);
    assert_eq!(Statx::from_bytes(&pattern()).to_bytes()[152..], [0; 104]);
    assert_eq!(CloneArgs::from_bytes(&pattern()).to_bytes(), pattern());
    assert_eq!(Rusage::from_bytes(&pattern()).to_bytes(), pattern());
    assert_eq!(Termios::from_bytes(&pattern()).to_bytes(), pattern());
    assert_eq!(Sysinfo::SIZE, 112);
}

#[test]
fn epoll_event_is_packed() {
    let event = EpollEvent { events: 1, data: 0x0807_0605_0403_0201 };
    assert_eq!(event.to_bytes(), [1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn siginfo_variants() {
    let info = Siginfo::new(17, 0, 1).child(42, 1000, 7, 1, 2);
    assert_eq!((info.si_signo(), info.si_code()), (17, 1));
    let bytes = info.to_bytes();
    assert_eq!(bytes[16..28], [42, 0, 0, 0, 0xe8, 3, 0, 0, 7, 0, 0, 0]);
    assert_eq!(bytes[32], 1);
    assert_eq!(Siginfo::new(11, 0, 1).fault(0x1234).to_bytes()[16..18], [0x34, 0x12]);
}

#[test]
fn directory_entries_are_padded_and_bounded() {
    let entry = Dirent64 { ino: 1, next: 2, kind: 8, name: b"abcde" };
    let mut out = [0xff; 64];
    assert_eq!(entry.write(&mut out), Some(32));
    assert_eq!(out[16..25], [32, 0, 8, b'a', b'b', b'c', b'd', b'e', 0]);
    assert_eq!(entry.write(&mut [0; 31]), None);
    let long = Dirent64 { name: &[b'x'; 70_000], ..entry };
    assert_eq!(long.write(&mut [0; 80_000]), None);
}

#[test]
fn names_are_cut() {
    assert_eq!(Utsname::name(&[b'n'; 100])[64], 0);
}

#[test]
fn durations() {
    assert_eq!(Timespec { tv_sec: 1, tv_nsec: 5 }.duration_ns(), Some(1_000_000_005));
    assert_eq!(Timespec { tv_sec: i64::MAX, tv_nsec: 0 }.duration_ns(), Some(i64::MAX as u64));
    for (sec, nsec) in [(-1, 0), (0, -1), (0, 1_000_000_000)] {
        assert_eq!(Timespec { tv_sec: sec, tv_nsec: nsec }.duration_ns(), None);
    }
    assert_eq!(Timespec::from_ns(-1), Timespec { tv_sec: -1, tv_nsec: 999_999_999 });
    assert_eq!(Timeval { tv_sec: 0, tv_usec: 1_000_000 }.duration_ns(), None);
}
