//! System calls: the task loop (the only way in and out of a guest), dispatch through the one table.
//!
//! Neighbours: `table` (rows), one file per family here, `fs::syscall` for files. Invariants: signals are delivered only
//! in `task_loop`, from an original state; a handler returns a value or an errno and never runs guest code.
pub mod arg;
pub mod caps;
pub mod futex;
pub mod memory;
pub mod misc;
pub mod peers;
pub mod pidfd;
pub mod prctl;
pub mod proc;
pub mod sched;
pub mod signals;
pub mod table;
pub mod time;
pub mod timers;

use crate::code::{self, CodeError};
use crate::errno::{Errno, Result};
use crate::mm::{Access, FaultError};
use crate::process::oom::{self, Heap};
use crate::process::{Task, current, current_mm, usage};
use crate::signal::{self, Info};
use alloc::sync::Arc;
use occlum_linux_abi::nr;
use occlum_linux_abi::signo::{SIGBUS, SIGFPE, SIGILL, SIGKILL, SIGSEGV, SIGTRAP};
use occlum_rt::task::{Exception, Exit, enter_guest};
use occlum_sfi_spec::table::Kind;

/// Calls that are made even where the LibOS's own memory has run out for good: they give some back.
const GIVES_BACK: [u32; 12] = [
    nr::EXIT,
    nr::EXIT_GROUP,
    nr::RT_SIGRETURN,
    nr::MUNMAP,
    nr::CLOSE,
    nr::KILL,
    nr::WAIT4,
    nr::UNLINK,
    nr::FTRUNCATE,
    nr::MSGCTL,
    nr::SEMCTL,
    nr::SHMCTL,
];
/// So often a task tries again what had no memory, though some was freed.
const TRIES_WITHOUT_MEMORY: u32 = 64;

/// Runs the current task until it ends.
pub fn task_loop() -> ! {
    let me = current();
    crate::jobs::begin(&me);
    loop {
        if let Some(status) = me.ending() {
            crate::process::exit_task(me, status);
        }
        if has_work(&me) {
            if !me.resolve.get() && !me.rip_known.get() {
                to_original(&me, u64::from(me.rt.resume()));
            }
            signal::deliver(&me, None);
            continue;
        }
        // A system call looks for work by itself.
        while go_inside(&me) == Left::SystemCall && me.ending().is_none() {}
    }
}

#[derive(PartialEq, Eq)]
enum Left {
    SystemCall,
    Otherwise,
}

/// Runs the task's program until it leaves, and does what it left for.
fn go_inside(me: &Arc<Task>) -> Left {
    if !find_way_in(me) {
        return Left::Otherwise;
    }
    crate::sched::leaving_kernel();
    let why = enter_guest();
    me.rip_known.set(false);
    match why {
        Exit::Syscall => return syscall(me),
        Exit::Link(index) => follow(me, code::link(&current_mm(), index)),
        Exit::MissRet(target) => follow_miss(me, Kind::Ret, target),
        Exit::MissCall(target) => follow_miss(me, Kind::Call, target),
        Exit::Emulate(pc) => crate::emulate::instruction(me, pc),
        Exit::Exception(e) => usage::of_system(me, || exception(me, &e)),
        Exit::Kick => kick(me),
    }
    crate::sched::later::finish();
    Left::Otherwise
}

fn has_work(t: &Arc<Task>) -> bool {
    signal::has_deliverable(t) || t.saved_mask.get().is_some()
}

/// Sees to it that the resume address is one where the task may go on. False: there is none, a signal is pending.
fn find_way_in(t: &Arc<Task>) -> bool {
    loop {
        code::settle(t);
        if t.resolve.get() && !resolve(t) {
            return false;
        }
        // To translate may drop other code.
        if t.code_epoch.get() == code::epoch() {
            code::end_step(t);
            return true;
        }
    }
}

/// Finds the translated address of rip. False: it can't be executed, a signal is pending.
fn resolve(t: &Arc<Task>) -> bool {
    let pc = t.rt.rip();
    let mm = current_mm();
    let at = if t.must_step.replace(false) { code::step(t, &mm) } else { code::direct(&mm, pc) };
    match at {
        Ok(at) => {
            t.rt.set_entry(at);
            t.resolve.set(false);
            t.short_of_code.set(0);
            true
        }
        Err(e) => {
            fetch_fault(t, pc, e);
            false
        }
    }
}

fn follow(t: &Arc<Task>, to: core::result::Result<(u32, u32), (u32, CodeError)>) {
    match to {
        Ok((pc, at)) => go_on(t, pc, at),
        Err((pc, e)) => {
            t.rt.set_rip(pc);
            t.resolve.set(true);
            fetch_fault(t, pc, e);
        }
    }
}

/// The guest goes on at `pc`, translated at `at`.
fn go_on(t: &Arc<Task>, pc: u32, at: u32) {
    t.rt.set_rip(pc);
    t.rt.set_entry(at);
    t.rip_known.set(true);
}

/// The guest goes on inside a fragment; its original pc takes an undo to know.
fn go_on_inside(t: &Arc<Task>, translated: u64) {
    t.rt.set_resume(translated as u32);
    t.rip_known.set(false);
}

fn follow_miss(t: &Arc<Task>, kind: Kind, target: u32) {
    match code::miss(t, &current_mm(), kind, target) {
        Ok(at) => go_on(t, target, at),
        Err(e) => {
            t.rt.set_rip(target);
            t.resolve.set(true);
            fetch_fault(t, target, e);
        }
    }
}

fn fetch_fault(t: &Arc<Task>, pc: u32, e: CodeError) {
    match e {
        CodeError::Full => wait_for_code_room(t),
        // Tried again if that freed something: the task's rip is where it was to go on.
        CodeError::Fault(FaultError::HeapFull) => need_memory(t),
        CodeError::Refused(why) => {
            let text = alloc::format!("occlum: pid {}: code at {pc:#x} refused: {why}\n", t.process.pid);
            occlum_rt::log(&text);
            crate::stats::add("refused", 1);
            signal::force(t, SIGILL as i32, Info { code: 2, payload: [u64::from(pc), 0, 0, 6] });
        }
        CodeError::Forbidden(kind) => crate::cfi::violation(t, kind, pc),
        CodeError::Fault(f) => memory_signal(t, u64::from(pc), f, 0x14),
        CodeError::Part(at, f) => memory_signal(t, u64::from(at), f, 0x14),
        CodeError::Cut => t.must_step.set(true),
    }
}

/// There is no room for the code that the task would go on with: what others can have again when they need it gives way.
fn wait_for_code_room(t: &Arc<Task>) {
    /// As long as others that are inside may take to come out.
    const TRIES: u32 = 200;
    const PAUSE_NS: u64 = 10_000_000;
    let tries = t.short_of_code.with_mut(|n| core::mem::replace(n, *n + 1));
    if tries < TRIES {
        code::make_room();
        crate::sched::pause(if tries == 0 { 0 } else { PAUSE_NS });
        return;
    }
    occlum_rt::log("occlum: the code cache is full: the process is killed\n");
    signal::force(t, SIGKILL as i32, Info::kernel());
}

/// The signal of a memory fault; page-fault error code bits as the CPU gives them, for ucontext.
fn memory_signal(t: &Arc<Task>, at: u64, f: FaultError, error_code: u64) {
    let (sig, code) = match f {
        FaultError::NotMapped => (SIGSEGV, 1),
        FaultError::Denied => (SIGSEGV, 2),
        FaultError::NoContent => (SIGBUS, 2),
        FaultError::OutOfMemory | FaultError::HeapFull | FaultError::Mappings => {
            report_out_of_memory(t.process.pid, f);
            (SIGKILL, 0x80)
        }
    };
    let info = Info { code, payload: [at, 0, error_code, 14] };
    signal::force(t, sig as i32, info);
}

/// There is no memory for what the task must have to go on.
pub fn kill_for_memory(t: &Arc<Task>) {
    memory_signal(t, 0, FaultError::OutOfMemory, 0);
}

/// Brings an interrupted task to its original state; a state that can't be mapped kills the process. It is brought there
/// once: while it waits for a page, others may have done so.
pub fn to_original(t: &Arc<Task>, translated: u64) -> bool {
    if t.resolve.replace(true) {
        return true;
    }
    if code::undo(t, translated).is_ok() {
        return true;
    }
    let text = alloc::format!("occlum: pid {}: no original state for {translated:#x}\n", t.process.pid);
    occlum_rt::log(&text);
    signal::force(t, SIGKILL as i32, Info::kernel());
    false
}

fn kick(t: &Arc<Task>) {
    t.rip_known.set(false);
    if crate::trace::is_due() && to_original(t, u64::from(t.rt.resume())) {
        crate::trace::sample(t);
    }
    crate::sched::poll_host();
    crate::sched::tick();
}

fn exception(t: &Arc<Task>, e: &Exception) {
    if e.vector == 14 {
        return page_fault(t, e);
    }
    if !to_original(t, e.rip) {
        return;
    }
    if e.vector == 6 && crate::shadow::is_on() && crate::emulate::is_return(t.rt.rip()) {
        return crate::shadow::mismatch(t);
    }
    let pc = u64::from(t.rt.rip());
    let (sig, code) = match e.vector {
        0 => (SIGFPE, 1),
        16 | 19 => (SIGFPE, fp_code(t, e.vector)),
        1 | 3 => (SIGTRAP, 0x80),
        6 => (SIGILL, 2),
        17 => (SIGBUS, 1),
        _ => (SIGSEGV, 0x80),
    };
    let addr = if sig == SIGSEGV { 0 } else { pc };
    let info = Info { code, payload: [addr, 0, u64::from(e.error_code), u64::from(e.vector)] };
    signal::force(t, sig as i32, info);
}

/// FPE_ code of an unmasked x87 (16) or SSE (19) exception.
fn fp_code(t: &Arc<Task>, vector: u8) -> i32 {
    let x = t.rt.xsave();
    let (status, mask) =
        if vector == 16 { (x[2], x[0]) } else { (x[24], (u16::from_le_bytes([x[24], x[25]]) >> 7) as u8) };
    match status & !mask & 0x3f {
        e if e & 1 != 0 => 7,
        e if e & 4 != 0 => 3,
        e if e & 8 != 0 => 4,
        e if e & 0x12 != 0 => 5,
        e if e & 0x20 != 0 => 6,
        _ => 7,
    }
}

fn page_fault(t: &Arc<Task>, e: &Exception) {
    let mm = current_mm();
    let Some(off) = e.fault_off else { return outside_fault(t, e) };
    t.count_fault();
    let access = if e.error_code & 2 != 0 { Access::Write } else { Access::Read };
    if mm.is_held_elsewhere(off, access) {
        go_on_inside(t, e.rip);
        return crate::sched::yield_now();
    }
    let Some(done) = crate::fs::cold::until_warm(|| mm.handle_fault(off, access)) else {
        // A signal goes first, and comes back to the access.
        return go_on_inside(t, e.rip);
    };
    if crate::fs::is_thrashing() && matches!(out_of_memory(t), Heap::Ends) {
        return go_on_inside(t, e.rip);
    }
    match done {
        // The access is tried again: resume is the interrupted address.
        Ok(()) if mm.has_moved_within() => {
            if to_original(t, e.rip) {
                crate::emulate::twice::attempt(t);
            }
        }
        Ok(()) => {
            go_on_inside(t, e.rip);
            // If the write was to the code that makes it, that code is gone. Translated as usual it would be
            // write-protected again.
            code::settle(t);
            t.must_step.set(t.resolve.get());
        }
        // Tried again if that freed something.
        Err(FaultError::HeapFull) => {
            need_memory(t);
            go_on_inside(t, e.rip);
        }
        Err(f) if oom::make_room(t, f) => go_on_inside(t, e.rip),
        Err(f) => {
            if to_original(t, e.rip) {
                memory_signal(t, u64::from(off), f, u64::from(e.error_code) | 4);
            }
        }
    }
}

/// A fault outside the slot: a lookup in a table page that is not there (R19), else an access near its ends.
fn outside_fault(t: &Arc<Task>, e: &Exception) {
    let mm = current_mm();
    if let Some(at) = occlum_rt::shadow::offset(mm.slot(), e.fault_addr) {
        return match mm.commit_shadow(at) {
            Ok(()) => go_on_inside(t, e.rip),
            Err(why) => memory_signal(t, 0, why, 0),
        };
    }
    let entry = occlum_rt::code::is_table_addr(mm.slot(), e.fault_addr);
    if let Some((kind, off)) = entry.filter(|_| occlum_rt::code::is_lookup(e.rip)) {
        // Commit the page if code is there, and look up again: the miss stub does the rest.
        if mm.find(u64::from(off)).is_some_and(|(_, v)| v.prot() & occlum_linux_abi::mmap::PROT_EXEC != 0) {
            return match mm.commit_table(kind, off..off.saturating_add(1)) {
                Err(why) if oom::make_room(t, why) => go_on_inside(t, e.rip),
                Err(_) if can_branch_without_table(t) => branch_without_table(t, e.rip, kind, off),
                Err(why) => memory_signal(t, 0, why, 0),
                Ok(()) => go_on_inside(t, e.rip),
            };
        }
        // The jump itself happened: registers of the pattern come back, rip is the target.
        if to_original(t, e.rip) {
            land_on(t, off);
        }
        return;
    }
    // An access by rsp just below or above the slot. What is negative to the program is the kernel's on Linux, and the
    // CPU says of that that it is there.
    if to_original(t, e.rip) {
        let there = e.fault_rel >> 63;
        memory_signal(t, e.fault_rel, FaultError::NotMapped, u64::from(e.error_code & 2) | 4 | there);
    }
}

/// Is there no memory for the table of a program that is not the one to end? A program that waited may have lost pages of
/// it meanwhile, so it goes on without. (Not with a shadow stack, whose words the pattern of a return consumes.)
fn can_branch_without_table(t: &Task) -> bool {
    occlum_rt::code::returns() == occlum_sfi_spec::Returns::Table && !oom::is_next(&t.process)
}

/// Does what the interrupted lookup and its miss stub would have done.
fn branch_without_table(t: &Arc<Task>, translated: u64, kind: Kind, off: u32) {
    if to_original(t, translated) && take_branch(t, off) {
        crate::stats::add("branches_without_table", 1);
        follow_miss(t, kind, off);
    }
}

/// The guest's branch at rip goes to `off`: the return address is pushed or popped, as on hardware. (The pattern has stored
/// a call's return address before it looked the target up.) False: the process ends.
fn take_branch(t: &Arc<Task>, off: u32) -> bool {
    let branch = crate::emulate::branch_rsp_delta(t.rt.rip());
    let taken = branch.is_ok_and(|(delta, next)| {
        t.rt.set_gpr(4, t.rt.gpr(4).wrapping_add_signed(i64::from(delta)) & 0xffff_ffff);
        delta >= 0 || crate::shadow::push(t.rt.gpr(4) as u32, next).is_ok()
    });
    if taken {
        t.rt.set_rip(off);
    } else {
        kill_for_memory(t);
    }
    taken
}

/// The guest's branch at rip went to `off`, where nothing is executable: SIGSEGV with rip there.
fn land_on(t: &Arc<Task>, off: u32) {
    if !take_branch(t, off) {
        return;
    }
    let f =
        if current_mm().find(u64::from(off)).is_some() { FaultError::Denied } else { FaultError::NotMapped };
    memory_signal(t, u64::from(off), f, 0x14);
}

/// The LibOS's own memory is nearly used up, by what no limit stopped: what can be freed is, or somebody ends.
#[cold]
fn out_of_memory(t: &Arc<Task>) -> Heap {
    loop {
        crate::mm::give_way();
        if occlum_rt::mem::heap_recovered() {
            break;
        }
        match oom::make_heap_room(t) {
            Heap::Changed => {}
            other => return other,
        }
    }
    let tries = t.short_of_memory.with_mut(|n| core::mem::replace(n, *n + 1));
    if tries < TRIES_WITHOUT_MEMORY && !crate::fs::is_thrashing() {
        return Heap::Changed;
    }
    // What is freed is needed again at once: programs have too much, and the largest makes room.
    t.short_of_memory.set(0);
    crate::fs::thrashing_ends();
    if oom::make_room(t, FaultError::OutOfMemory) {
        return Heap::Changed;
    }
    kill_for_memory(t);
    Heap::Ends
}

/// The same for a task that cannot go on without.
fn need_memory(t: &Arc<Task>) {
    if matches!(out_of_memory(t), Heap::Hopeless) {
        kill_for_memory(t);
    }
}

/// Says so, and counts it.
pub fn report_out_of_memory(pid: i32, why: FaultError) {
    let text = if why == FaultError::Mappings {
        alloc::format!(
            "occlum: pid {pid}: its memory lies in too many pieces for the host's vm.max_map_count\n"
        )
    } else {
        alloc::format!("occlum: pid {pid}: out of enclave memory: {}\n", crate::policy::more_memory())
    };
    occlum_rt::log(&text);
    crate::stats::add("oom_kills", 1);
}

/// One system call of the current task.
fn syscall(t: &Arc<Task>) -> Left {
    t.resolve.set(false);
    t.rip_known.set(true);
    let r = &t.rt;
    // What `syscall` leaves in rcx and r11; the stub had other use for them.
    r.set_gpr(1, u64::from(r.rip()));
    r.set_gpr(11, r.rflags());
    let nr = r.gpr(0);
    occlum_rt::mem::nothing_is_asked();
    if occlum_rt::mem::heap_is_low() || crate::fs::is_thrashing() {
        match out_of_memory(t) {
            Heap::Ends => return Left::Otherwise,
            Heap::Hopeless if GIVES_BACK.iter().all(|n| u64::from(*n) != nr) => {
                r.set_gpr(0, i64::from(-Errno::ENOMEM.as_i32()) as u64);
                return Left::Otherwise;
            }
            _ => {}
        }
    } else {
        t.short_of_memory.set(0);
    }
    let args = [r.gpr(7), r.gpr(6), r.gpr(2), r.gpr(10), r.gpr(8), r.gpr(9)];
    let measured = usage::begin(t, nr);
    let result = dispatch(t, nr, &args);
    if let Some(m) = measured {
        usage::end(t, nr, &m);
    }
    match result {
        Ok(None) => {}
        Ok(Some(v)) => r.set_gpr(0, v as u64),
        Err(e) => r.set_gpr(0, i64::from(-e.as_i32()) as u64),
    }
    if has_work(t) {
        let interrupted = matches!(result, Err(Errno::EINTR)).then_some(nr);
        t.resolve.set(true);
        signal::deliver(t, interrupted);
    }
    Left::SystemCall
}

/// Runs the row's handler. `None`: the handler set the registers itself (sigreturn, exec).
fn dispatch(t: &Arc<Task>, nr: u64, args: &[u64; 6]) -> Result<Option<usize>> {
    crate::stats::system_call();
    let row = table::row(nr);
    let traced = crate::trace::enter(t, row, nr, args);
    let result = match row {
        Some(row) => {
            let result = (row.handler)(args);
            crate::sched::later::finish();
            result
        }
        None => {
            crate::stats::add("enosys", 1);
            Err(Errno::ENOSYS)
        }
    };
    if traced {
        crate::trace::leave(t, row, nr, args, result);
    }
    if row.is_some_and(|r| r.sets_registers) && result.is_ok() {
        return Ok(None);
    }
    result.map(Some)
}
