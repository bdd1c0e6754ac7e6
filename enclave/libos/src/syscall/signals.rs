//! Signal calls: sigaction, sigprocmask, kill and kin, sigaltstack, sigsuspend, sigtimedwait, sigreturn.
use crate::errno::{Errno, Result};
use crate::process::current;
use crate::sched::WaitQueue;
use crate::signal::{self, Action, Info, bit};
use crate::uaccess::{read_bytes, read_val, write_bytes, write_val};
use occlum_linux_abi::signo::{SIGKILL, SIGSEGV, SIGSTOP};

fn check_set_size(size: u64) -> Result<()> {
    if size == 8 { Ok(()) } else { Err(Errno::EINVAL) }
}
const KILL_STOP: u64 = bit(SIGKILL as i32) | bit(SIGSTOP as i32);

/// rt_sigaction(sig, act, old, size)
pub fn sys_rt_sigaction(a: &[u64; 6]) -> Result<usize> {
    check_set_size(a[3])?;
    let sig = a[0] as i32;
    if !(1..=64).contains(&sig) || a[1] != 0 && KILL_STOP & bit(sig) != 0 {
        return Err(Errno::EINVAL);
    }
    let p = current().process.clone();
    let old = p.actions.with(|x| x.get(sig));
    if a[1] != 0 {
        let mut b = [0u8; 32];
        read_bytes(a[1], &mut b)?;
        let word = |i: usize| u64::from_le_bytes(core::array::from_fn(|k| b[8 * i + k]));
        let new = Action { handler: word(0), flags: word(1), restorer: word(2), mask: word(3) & !KILL_STOP };
        signal::set_action(&p, sig, new);
    }
    if a[2] != 0 {
        for (i, v) in [old.handler, old.flags, old.restorer, old.mask].iter().enumerate() {
            write_val(a[2] + 8 * i as u64, *v)?;
        }
    }
    Ok(0)
}

/// rt_sigprocmask(how, set, old, size)
pub fn sys_rt_sigprocmask(a: &[u64; 6]) -> Result<usize> {
    check_set_size(a[3])?;
    let t = current();
    let old = t.mask.get();
    if a[1] != 0 {
        let set: u64 = read_val(a[1])?;
        let new = match a[0] {
            0 => old | set,
            1 => old & !set,
            2 => set,
            _ => return Err(Errno::EINVAL),
        };
        t.mask.set(new & !KILL_STOP);
    }
    if a[2] != 0 {
        write_val(a[2], old)?;
    }
    Ok(0)
}

/// rt_sigpending(set, size)
pub fn sys_rt_sigpending(a: &[u64; 6]) -> Result<usize> {
    check_set_size(a[1])?;
    let t = current();
    let set = t.pending.with(signal::Pending::set) | t.process.pending.with(signal::Pending::set);
    write_val(a[0], set & t.mask.get())?;
    Ok(0)
}

/// rt_sigsuspend(mask, size)
pub fn sys_rt_sigsuspend(a: &[u64; 6]) -> Result<usize> {
    check_set_size(a[1])?;
    let mask: u64 = read_val(a[0])?;
    let t = current();
    t.saved_mask.set(Some(t.mask.get()));
    t.mask.set(mask & !KILL_STOP);
    pause()
}
/// pause()
pub fn sys_pause(_a: &[u64; 6]) -> Result<usize> {
    pause()
}
fn pause() -> Result<usize> {
    static NEVER: WaitQueue = WaitQueue::new();
    NEVER.wait_until::<usize>(None, || None)
}

/// rt_sigtimedwait(set, info, timeout, size)
pub fn sys_rt_sigtimedwait(a: &[u64; 6]) -> Result<usize> {
    check_set_size(a[3])?;
    let set: u64 = read_val(a[0])?;
    let deadline = match a[2] {
        0 => None,
        at => Some(crate::time::monotonic_ns().saturating_add(super::time::read_timespec(at)?)),
    };
    let (sig, info) = signal::wait_for(set, deadline)?;
    if a[1] != 0 {
        write_bytes(a[1], &info.to_bytes(sig))?;
    }
    Ok(sig as usize)
}

/// sigaltstack(new, old)
pub fn sys_sigaltstack(a: &[u64; 6]) -> Result<usize> {
    const SS_ONSTACK: u32 = 1;
    const SS_DISABLE: u32 = 2;
    let t = current();
    let (sp, size, flags) = t.altstack.get();
    let here = t.rt.gpr(4);
    let active = flags & SS_DISABLE == 0 && here > sp && here <= sp + size;
    if a[0] != 0 {
        let new = (read_val::<u64>(a[0])?, read_val::<u64>(a[0] + 16)?, read_val::<u32>(a[0] + 8)?);
        if active {
            return Err(Errno::EPERM);
        }
        if new.2 & !(SS_DISABLE | SS_ONSTACK) != 0 {
            return Err(Errno::EINVAL);
        }
        if new.2 & SS_DISABLE != 0 {
            t.altstack.set((0, 0, SS_DISABLE));
        } else if new.1 < signal::MIN_SIGSTKSZ {
            return Err(Errno::ENOMEM);
        } else {
            t.altstack.set((new.0, new.1, 0));
        }
    }
    if a[1] != 0 {
        let shown = if active { SS_ONSTACK } else { flags };
        write_val(a[1], sp)?;
        write_val(a[1] + 8, u64::from(shown))?;
        write_val(a[1] + 16, size)?;
    }
    Ok(0)
}

/// rt_sigreturn(): a bad frame is SIGSEGV.
pub fn sys_rt_sigreturn(_a: &[u64; 6]) -> Result<usize> {
    let t = current();
    if signal::sigreturn(&t).is_err() {
        t.rt.set_gpr(0, 0); // the result of a call that has none
        signal::force(&t, SIGSEGV as i32, Info::kernel());
    }
    Ok(0)
}

fn check_sig(sig: u64) -> Result<i32> {
    let sig = sig as i32;
    if (0..=64).contains(&sig) { Ok(sig) } else { Err(Errno::EINVAL) }
}
/// kill(pid, sig)
pub fn sys_kill(a: &[u64; 6]) -> Result<usize> {
    signal::kill(a[0] as i32, check_sig(a[1])?).map(|()| 0)
}
/// tgkill(tgid, tid, sig)
pub fn sys_tgkill(a: &[u64; 6]) -> Result<usize> {
    let sig = check_sig(a[2])?;
    if a[0] as i32 <= 0 || a[1] as i32 <= 0 {
        return Err(Errno::EINVAL);
    }
    signal::kill_thread(Some(a[0] as i32), a[1] as i32, sig).map(|()| 0)
}
/// tkill(tid, sig)
pub fn sys_tkill(a: &[u64; 6]) -> Result<usize> {
    let sig = check_sig(a[1])?;
    if a[0] as i32 <= 0 {
        return Err(Errno::EINVAL);
    }
    signal::kill_thread(None, a[0] as i32, sig).map(|()| 0)
}
/// rt_sigqueueinfo(pid, sig, info)
pub fn sys_rt_sigqueueinfo(a: &[u64; 6]) -> Result<usize> {
    let sig = check_sig(a[1])?;
    let code: i32 = read_val(a[2] + 8)?;
    let payload = [read_val(a[2] + 16)?, read_val(a[2] + 24)?, 0, 0];
    let p = crate::process::Process::by_pid(a[0] as i32).ok_or(Errno::ESRCH)?;
    if code >= 0 && p.pid != current().process.pid {
        return Err(Errno::EPERM);
    }
    signal::check_may_send(&p, sig)?;
    if sig != 0 {
        signal::post_process(&p, sig, Info { code, payload })?;
    }
    Ok(0)
}
/// rt_tgsigqueueinfo(tgid, tid, sig, info)
pub fn sys_rt_tgsigqueueinfo(a: &[u64; 6]) -> Result<usize> {
    let (tgid, tid, sig) = (a[0] as i32, a[1] as i32, check_sig(a[2])?);
    if tgid <= 0 || tid <= 0 {
        return Err(Errno::EINVAL);
    }
    let code: i32 = read_val(a[3] + 8)?;
    let payload = [read_val(a[3] + 16)?, read_val(a[3] + 24)?, 0, 0];
    const SI_TKILL: i32 = -6;
    if (code >= 0 || code == SI_TKILL) && tgid != current().process.pid {
        return Err(Errno::EPERM);
    }
    signal::queue_to_thread(Some(tgid), tid, sig, Info { code, payload }).map(|()| 0)
}
