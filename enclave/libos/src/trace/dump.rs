//! Crashes and cores: what is left of a program that a signal ends, told before it goes.
//!
//! Neighbours: `signal` calls in here when the default action is to dump core; `python/occlum/trace` writes the report
//! and the ELF core. Invariants: the other threads of the process are out of the program and stay out while its memory is
//! told of, which happens under one hold of the BKL: a core is of one moment.
use super::record::Builder;
use super::{has, maps, memory, registers};
use crate::mm::{Backing, Mm, PAGE};
use crate::process::{Task, TaskState};
use crate::signal::{Info, bit};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use occlum_enclave_abi::{Record as Kind, TRACE_CORE, TRACE_CRASH_ALL, TRACE_CRASH_FIRST};
use occlum_linux_abi::signo::*;

/// Signals whose default action dumps core (signal(7)).
const CORE: u64 = FAULTS
    | bit(SIGABRT as i32)
    | bit(SIGQUIT as i32)
    | bit(SIGTRAP as i32)
    | bit(SIGSYS as i32)
    | bit(SIGXCPU as i32)
    | bit(SIGXFSZ as i32);
const FAULTS: u64 = bit(SIGSEGV as i32) | bit(SIGBUS as i32) | bit(SIGILL as i32) | bit(SIGFPE as i32);
/// Bytes of stack and code in a report.
const STACK: u64 = 64 << 10;
const CODE: u64 = 16;
/// How long the other threads have to leave the program.
const PATIENCE_NS: u64 = 1_000_000_000;
const LOOK_NS: u64 = 500_000;
/// Bytes of memory in one record.
const PIECE: u64 = 64 << 10;
/// Runs that lie no further apart are told of as one.
const GAP: u64 = 8 * PAGE;

/// The default action of `sig` ends `t`'s program. True: its core was told of.
pub fn crash(t: &Arc<Task>, sig: i32, info: Info) -> bool {
    let Some(mm) = t.process.mm().filter(|_| CORE & bit(sig) != 0) else { return false };
    // A signal that another process sent is no crash.
    let own = info.code > 0 || sig == SIGABRT as i32;
    let wanted = has(TRACE_CRASH_ALL) || has(TRACE_CRASH_FIRST) && t.process.pid == 1;
    if own && wanted {
        report(t, &mm, sig, info);
    }
    if has(TRACE_CORE) {
        hold_threads(t);
        core(t, &mm, sig, info);
        t.process.stopped.set(None);
        t.process.cont_event.wake_all();
    }
    super::flush();
    has(TRACE_CORE)
}

fn report(t: &Task, mm: &Mm, sig: i32, info: Info) {
    maps(t, mm, true);
    let mut b = Builder::new(Kind::Crash, t.process.pid, t.tid);
    b.u32(sig as u32);
    b.u32(info.code as u32);
    b.u64(info.payload[0]);
    b.u32(info.payload[2] as u32);
    b.counted(&memory(mm, u64::from(t.rt.rip()), CODE));
    registers(&mut b, t);
    b.bytes(&memory(mm, t.rt.gpr(4), STACK));
    b.end();
}

/// Has the other threads of the process leave the program and wait.
fn hold_threads(t: &Arc<Task>) {
    let others: Vec<Arc<Task>> =
        t.process.tasks.with(|all| all.iter().filter(|o| o.tid != t.tid).cloned().collect());
    let patience = crate::time::monotonic_ns().saturating_add(PATIENCE_NS);
    loop {
        t.process.stopped.set(Some(SIGSTOP as i32));
        others.iter().for_each(crate::process::wake_for_signal);
        let inside = others.iter().any(|o| o.state.get() == TaskState::Running);
        if !inside || crate::time::monotonic_ns() > patience {
            break;
        }
        crate::sched::pause(LOOK_NS);
    }
    for o in others.iter().filter(|o| o.state.get() != TaskState::Running) {
        if !o.resolve.get() && !o.rip_known.get() {
            crate::syscall::to_original(o, u64::from(o.rt.resume()));
        }
    }
}

fn core(t: &Arc<Task>, mm: &Mm, sig: i32, info: Info) {
    maps(t, mm, true);
    let runs = runs(mm);
    let p = &t.process;
    let mut b = Builder::new(Kind::Core, p.pid, t.tid);
    b.u32(sig as u32);
    b.u32(runs.len() as u32);
    b.bytes(&info.to_bytes(sig));
    let layout = mm.layout();
    b.counted(&layout.auxv);
    let args = layout.args.clone();
    b.counted(&memory(mm, args.start, (args.end - args.start).min(4096)));
    let cred = p.cred();
    let parent = p.parent.with(alloc::sync::Weak::upgrade).map_or(0, |p| p.pid);
    for id in [cred.uid, cred.gid, parent as u32, p.pgid.get() as u32, p.sid.get() as u32] {
        b.u32(id);
    }
    b.bytes(&t.comm.get());
    for (run, prot) in &runs {
        b.u32(run.start as u32);
        b.u32(((run.end - run.start) / PAGE) as u32);
        b.u32(*prot);
    }
    b.end();
    // The thread that crashed comes first.
    thread(t);
    p.tasks.with(|all| all.iter().filter(|o| o.tid != t.tid).for_each(|o| thread(o)));
    for (run, _) in runs {
        pages(t, mm, run);
    }
    Builder::new(Kind::CoreEnd, p.pid, t.tid).end();
}

fn thread(t: &Task) {
    let mut b = Builder::new(Kind::Thread, t.process.pid, t.tid);
    registers(&mut b, t);
    b.u64(t.pending.with(crate::signal::Pending::set));
    b.u64(t.mask.get());
    b.bytes(&t.rt.xsave());
    b.end();
}

/// What of the memory goes into a core: the pages that are there, the first page of each file (for its headers), and
/// the vDSO, which is in no file.
fn runs(mm: &Mm) -> Vec<(Range<u64>, u32)> {
    let mut out: Vec<(Range<u64>, u32)> = Vec::new();
    for (start, vma) in mm.vmas() {
        let mut there = mm.resident_runs(start..vma.end).peekable();
        let head = match &vma.backing {
            Backing::File(..) if !vma.name.is_empty() => vma.end,
            Backing::File(_, 0) => start + PAGE,
            _ => start,
        };
        let lacks = head > start && there.peek().is_none_or(|r| r.start > start);
        for run in lacks.then_some(start..head).into_iter().chain(there) {
            match out.last_mut() {
                // Within one mapping, holes that are small are filled.
                Some((last, _)) if last.start >= start && run.start <= last.end + GAP => {
                    last.end = last.end.max(run.end);
                }
                _ => out.push((run, vma.prot())),
            }
        }
    }
    out
}

/// Pages that cannot be read are not told of: the host has zeros there.
fn pages(t: &Task, mm: &Mm, run: Range<u64>) {
    for at in run.clone().step_by(PIECE as usize) {
        let len = PIECE.min(run.end - at);
        let mut bytes = crate::fs::uio::try_vec(len as usize).unwrap_or_default();
        if bytes.is_empty()
            || mm.slot().read(at, &mut bytes).is_err() && mm.read_foreign(at, &mut bytes).is_err()
        {
            continue;
        }
        let mut b = Builder::new(Kind::Memory, t.process.pid, t.tid);
        b.u32(at as u32);
        b.bytes(&bytes);
        b.end();
    }
}
