//! What belongs to no family: uname, sysinfo, getrandom, and refusals with their reasons.
use crate::errno::{Errno, Result};
use crate::process::Process;
use crate::uaccess::write_bytes;

/// Kernel release that uname shows: old enough to promise nothing that is missing.
pub const RELEASE: &str = "5.15.0-occlum";

/// uname(buf)
pub fn sys_uname(a: &[u64; 6]) -> Result<usize> {
    let mut b = [0u8; 390];
    let host = crate::boot::hostname();
    let fields: [&[u8]; 6] =
        [b"Linux", &host, RELEASE.as_bytes(), b"#1 SMP Occlum simulation", b"x86_64", b"(none)"];
    for (i, f) in fields.iter().enumerate() {
        let n = f.len().min(64);
        b[65 * i..65 * i + n].copy_from_slice(&f[..n]);
    }
    write_bytes(a[0], &b)?;
    Ok(0)
}

/// sysinfo(info): the view of one process is at most 2 GiB (C3).
pub fn sys_sysinfo(a: &[u64; 6]) -> Result<usize> {
    let (total, free) = (crate::mm::total(), crate::mm::available());
    let mut b = [0u8; 112];
    let mut put = |at: usize, v: u64| b[at..at + 8].copy_from_slice(&v.to_le_bytes());
    put(0, crate::time::monotonic_ns() / 1_000_000_000);
    put(32, total * 4096);
    put(40, free * 4096);
    b[80..82].copy_from_slice(&(Process::all().len() as u16).to_le_bytes());
    b[104..108].copy_from_slice(&1u32.to_le_bytes());
    write_bytes(a[0], &b)?;
    Ok(0)
}

/// getrandom(buf, len, flags)
pub fn sys_getrandom(a: &[u64; 6]) -> Result<usize> {
    if a[2] & !7 != 0 || a[2] & 6 == 6 {
        return Err(Errno::EINVAL);
    }
    let len = a[1].min(0x1ff_ffff) as usize;
    let mut done = 0;
    let mut b = [0u8; 256];
    while done < len {
        let n = (len - done).min(b.len());
        occlum_rt::random::fill(&mut b[..n]);
        write_bytes(a[0] + done as u64, &b[..n])?;
        done += n;
    }
    Ok(len)
}

/// Calls that need rights nobody has inside: EPERM.
pub fn sys_not_permitted(_a: &[u64; 6]) -> Result<usize> {
    Err(Errno::EPERM)
}

/// syslog(type, ...): an empty log.
pub fn sys_syslog(a: &[u64; 6]) -> Result<usize> {
    match a[0] {
        2..=4 | 9 | 10 => Ok(0),
        _ => Err(Errno::EPERM),
    }
}
