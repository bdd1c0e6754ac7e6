//! What belongs to no family: uname and the names it shows, sysinfo, getrandom, and refusals with their reasons.
use crate::errno::{Errno, Result};
use crate::process::caps;
use crate::sched::Breath;
use crate::uaccess::{read_bytes, write_bytes};
use alloc::vec::Vec;

/// Kernel release that uname shows: old enough to promise nothing that is missing.
pub const RELEASE: &str = "5.15.0-occlum";

/// Longest name in a `struct utsname`.
const NAME_MAX: usize = 64;

/// uname(buf)
pub fn sys_uname(a: &[u64; 6]) -> Result<usize> {
    let mut b = [0u8; 390];
    let (host, domain) = (crate::boot::hostname(), crate::boot::domainname());
    let fields: [&[u8]; 6] =
        [b"Linux", &host, RELEASE.as_bytes(), b"#1 SMP Occlum simulation", b"x86_64", &domain];
    for (i, f) in fields.iter().enumerate() {
        let n = f.len().min(NAME_MAX);
        b[65 * i..65 * i + n].copy_from_slice(&f[..n]);
    }
    write_bytes(a[0], &b)?;
    Ok(0)
}

fn new_name(a: &[u64; 6]) -> Result<Vec<u8>> {
    if !crate::process::cred().capable(caps::SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    let len = usize::try_from(a[1] as i32).ok().filter(|n| *n <= NAME_MAX).ok_or(Errno::EINVAL)?;
    let mut name = [0; NAME_MAX];
    read_bytes(a[0], &mut name[..len])?;
    Ok(name[..len].to_vec())
}
/// sethostname(name, len): of the enclave, not of the host.
pub fn sys_sethostname(a: &[u64; 6]) -> Result<usize> {
    crate::boot::set_hostname(new_name(a)?);
    Ok(0)
}
/// setdomainname(name, len)
pub fn sys_setdomainname(a: &[u64; 6]) -> Result<usize> {
    crate::boot::set_domainname(new_name(a)?);
    Ok(0)
}

/// sysinfo(info): the view of one process is at most 2 GiB (C3).
pub fn sys_sysinfo(a: &[u64; 6]) -> Result<usize> {
    let (total, free) = (crate::mm::total(), crate::mm::available());
    let mut b = [0u8; 112];
    let mut put = |at: usize, v: u64| b[at..at + 8].copy_from_slice(&v.to_le_bytes());
    put(0, crate::time::monotonic_ns() / 1_000_000_000);
    // Linux has 16 bits behind the point.
    for (n, load) in crate::sched::load().0.into_iter().enumerate() {
        put(8 + 8 * n, load * ((1 << 16) / crate::sched::LOAD_ONE));
    }
    put(32, total * 4096);
    put(40, free * 4096);
    let (_, shared) = crate::mm::in_use();
    put(48, shared * 4096);
    // No buffers and no swap, as /proc/meminfo says. What Linux calls processes are threads.
    b[80..82].copy_from_slice(&(crate::process::task_count() as u16).to_le_bytes());
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
    let (mut done, mut breath) = (0, Breath::begin());
    let mut b = [0u8; 256];
    while done < len {
        // As Linux, after a page.
        if breath.take() && done >= crate::mm::PAGE as usize {
            break;
        }
        let n = (len - done).min(b.len());
        occlum_rt::random::fill(&mut b[..n]);
        write_bytes(a[0] + done as u64, &b[..n])?;
        done += n;
    }
    Ok(done)
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
