//! prctl(2), personality(2).
use super::caps;
use crate::errno::{Errno, Result};
use crate::process::{Task, Traits, current, current_mm, current_process};
use crate::uaccess::{read_bytes, read_cstr, write_bytes, write_val};
use occlum_linux_abi::prctl as pr;

const PR_CAP_AMBIENT: u32 = 47;

fn flag(v: u64) -> Result<bool> {
    match v {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Errno::EINVAL),
    }
}
fn unused(rest: &[u64]) -> Result<()> {
    if rest.iter().all(|v| *v == 0) { Ok(()) } else { Err(Errno::EINVAL) }
}
fn set(f: impl FnOnce(&mut Traits)) -> Result<usize> {
    current_process().traits.with_mut(f);
    Ok(0)
}
fn traits() -> Traits {
    current_process().traits.get()
}

/// prctl(option, ...)
pub fn sys_prctl(a: &[u64; 6]) -> Result<usize> {
    let t = current();
    let rest = &a[2..5];
    match a[0] as u32 {
        pr::PR_SET_PDEATHSIG if a[1] > 64 => Err(Errno::EINVAL),
        pr::PR_SET_PDEATHSIG => {
            t.process.pdeathsig.set(a[1] as i32);
            Ok(0)
        }
        pr::PR_GET_PDEATHSIG => write_val(a[1], t.process.pdeathsig.get()).map(|()| 0),
        pr::PR_GET_DUMPABLE => Ok(usize::from(current_mm().dumpable.get())),
        pr::PR_SET_DUMPABLE => {
            current_mm().dumpable.set(flag(a[1])?);
            Ok(0)
        }
        pr::PR_SET_NAME => set_name(&t, a[1]),
        pr::PR_GET_NAME => write_bytes(a[1], &t.comm.get()).map(|()| 0),
        pr::PR_GET_SECCOMP => Ok(0),
        pr::PR_GET_TSC => {
            write_val(a[1], if t.tsc_denied.get() { pr::PR_TSC_SIGSEGV } else { pr::PR_TSC_ENABLE })?;
            Ok(0)
        }
        pr::PR_SET_TSC => {
            match a[1] as u32 {
                pr::PR_TSC_ENABLE => t.tsc_denied.set(false),
                pr::PR_TSC_SIGSEGV => t.tsc_denied.set(true),
                _ => return Err(Errno::EINVAL),
            }
            Ok(0)
        }
        pr::PR_GET_TIMERSLACK => Ok(traits().timer_slack as usize),
        pr::PR_SET_TIMERSLACK => {
            let ns = if a[1] as i64 <= 0 { crate::process::DEFAULT_SLACK } else { a[1] };
            set(|t| t.timer_slack = ns)
        }
        pr::PR_SET_CHILD_SUBREAPER => {
            t.process.subreaper.set(a[1] != 0);
            Ok(0)
        }
        pr::PR_GET_CHILD_SUBREAPER => write_val(a[1], i32::from(t.process.subreaper.get())).map(|()| 0),
        pr::PR_SET_NO_NEW_PRIVS => {
            unused(rest)?;
            if a[1] == 1 { set(|t| t.no_new_privs = true) } else { Err(Errno::EINVAL) }
        }
        pr::PR_GET_NO_NEW_PRIVS => unused(&a[1..5]).map(|()| usize::from(traits().no_new_privs)),
        pr::PR_GET_TID_ADDRESS => write_val(a[1], t.clear_tid.get()).map(|()| 0),
        pr::PR_SET_THP_DISABLE => {
            unused(rest)?;
            set(|t| t.thp_disabled = a[1] != 0)
        }
        pr::PR_GET_THP_DISABLE => unused(&a[1..5]).map(|()| usize::from(traits().thp_disabled)),
        pr::PR_GET_KEEPCAPS => Ok(caps::keeps()),
        pr::PR_SET_KEEPCAPS => caps::set_keep(a[1]),
        pr::PR_CAPBSET_READ => caps::bounding_has(a[1]),
        pr::PR_CAPBSET_DROP => caps::drop_bounding(a[1]),
        PR_CAP_AMBIENT => caps::ambient(a),
        _ => Err(Errno::EINVAL),
    }
}

/// The name is cut to 15 bytes.
fn set_name(t: &Task, at: u64) -> Result<usize> {
    let mut comm = [0u8; 16];
    let name = match read_cstr(at, 15) {
        Err(Errno::ENAMETOOLONG) => {
            let mut b = [0u8; 15];
            read_bytes(at, &mut b)?;
            b.to_vec()
        }
        r => r?,
    };
    comm[..name.len()].copy_from_slice(&name);
    t.comm.set(comm);
    Ok(0)
}

/// personality(persona): Linux's own, and without random addresses (there are none anyway).
pub fn sys_personality(a: &[u64; 6]) -> Result<usize> {
    const ASK: u32 = u32::MAX;
    const ADDR_NO_RANDOMIZE: u32 = 0x0004_0000;
    let old = traits().personality;
    match a[0] as u32 {
        ASK => {}
        new if new & !ADDR_NO_RANDOMIZE == 0 => drop(set(|t| t.personality = new)),
        _ => return Err(Errno::EINVAL),
    }
    Ok(old as usize)
}
