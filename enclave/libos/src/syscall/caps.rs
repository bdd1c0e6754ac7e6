//! capget, capset, and prctl's part of capabilities.
use crate::errno::{Errno, Result};
use crate::process::{Task, caps, change_cred, cred, current};
use crate::uaccess::{read_val, write_val};
use alloc::sync::Arc;

/// The versions of the header: one word for each set, then two.
const VERSIONS: [(u32, u64); 3] = [(0x1998_0330, 1), (0x2007_1026, 2), (0x2008_0522, 2)];
const NEWEST: u32 = VERSIONS[2].0;

/// How many words a set has; an unknown version is answered with the newest, and `None`.
fn words(header: u64) -> Result<Option<u64>> {
    let version: u32 = read_val(header)?;
    match VERSIONS.iter().find(|v| v.0 == version) {
        Some((_, words)) => Ok(Some(*words)),
        None => write_val(header, NEWEST).map(|()| None),
    }
}

/// capget(header, data)
pub fn sys_capget(a: &[u64; 6]) -> Result<usize> {
    let Some(words) = words(a[0])? else {
        return if a[1] == 0 { Ok(0) } else { Err(Errno::EINVAL) };
    };
    let pid: i32 = read_val(a[0] + 4)?;
    if pid < 0 {
        return Err(Errno::EINVAL);
    }
    if a[1] == 0 {
        return Ok(0);
    }
    let c = of(pid)?.cred().caps;
    for word in 0..words {
        for (i, set) in [c.effective, c.permitted, c.inheritable].into_iter().enumerate() {
            write_val(a[1] + 12 * word + 4 * i as u64, (set >> (32 * word)) as u32)?;
        }
    }
    Ok(0)
}
fn of(tid: i32) -> Result<Arc<Task>> {
    if tid == 0 { Ok(current()) } else { Task::by_tid(tid).ok_or(Errno::ESRCH) }
}

/// capset(header, data): of the caller only.
pub fn sys_capset(a: &[u64; 6]) -> Result<usize> {
    let words = words(a[0])?.ok_or(Errno::EINVAL)?;
    let pid: i32 = read_val(a[0] + 4)?;
    if pid != 0 && pid != current().tid {
        return Err(Errno::EPERM);
    }
    let mut sets = [0u64; 3];
    for word in 0..words {
        for (i, set) in sets.iter_mut().enumerate() {
            let part: u32 = read_val(a[1] + 12 * word + 4 * i as u64)?;
            *set |= u64::from(part) << (32 * word) & caps::ALL;
        }
    }
    change_cred(|c| c.caps.set(sets[0], sets[1], sets[2]))?;
    Ok(0)
}

/// PR_CAPBSET_READ
pub fn bounding_has(cap: u64) -> Result<usize> {
    Ok(usize::from(cred().caps.bounding & bit(cap)? != 0))
}
/// PR_CAPBSET_DROP
pub fn drop_bounding(cap: u64) -> Result<usize> {
    let bit = bit(cap)?;
    change_cred(|c| {
        if !c.capable(caps::SETPCAP) {
            return Err(Errno::EPERM);
        }
        c.caps.bounding &= !bit;
        Ok(0)
    })
}
/// PR_GET_KEEPCAPS
pub fn keeps() -> usize {
    usize::from(cred().caps.keep)
}
/// PR_SET_KEEPCAPS
pub fn set_keep(keep: u64) -> Result<usize> {
    if keep > 1 {
        return Err(Errno::EINVAL);
    }
    change_cred(|c| c.caps.keep = keep == 1);
    Ok(0)
}
/// PR_CAP_AMBIENT
pub fn ambient(a: &[u64; 6]) -> Result<usize> {
    const IS_SET: u64 = 1;
    const RAISE: u64 = 2;
    const LOWER: u64 = 3;
    const CLEAR_ALL: u64 = 4;
    let rest = if a[1] == CLEAR_ALL { &a[2..5] } else { &a[3..5] };
    if rest.iter().any(|v| *v != 0) {
        return Err(Errno::EINVAL);
    }
    change_cred(|c| {
        let c = &mut c.caps;
        match a[1] {
            CLEAR_ALL => c.ambient = 0,
            IS_SET => return Ok(usize::from(c.ambient & bit(a[2])? != 0)),
            RAISE if c.permitted & c.inheritable & bit(a[2])? == 0 => return Err(Errno::EPERM),
            RAISE => c.ambient |= bit(a[2])?,
            LOWER => c.ambient &= !bit(a[2])?,
            _ => return Err(Errno::EINVAL),
        }
        Ok(0)
    })
}
fn bit(cap: u64) -> Result<u64> {
    if cap <= u64::from(caps::LAST) { Ok(1 << cap) } else { Err(Errno::EINVAL) }
}
