//! Bringing tasks out of code that was dropped, or is not mapped any more (R22).
//!
//! Neighbours: `cache` (epochs), `syscall::task_loop`, which asks `settle` before each way into the program.
//! Invariant: a task enters translated code only where the fragment is live and its region is mapped, executable, in the
//! task's domain; `code_epoch` says when that was looked at last, and only a new epoch can change it.
use super::cache;
use crate::errno::{Errno, Result};
use crate::process::Task;
use alloc::sync::Arc;
use occlum_sfi_translator as tr;

/// Makes a task that is not in its program go on where it may: where its translated code is gone, at its original state.
pub fn settle(t: &Arc<Task>) {
    let now = cache::epoch();
    if t.code_epoch.replace(now) == now || t.resolve.get() || !is_stale(t) {
        return;
    }
    if t.rip_known.get() {
        t.resolve.set(true);
    } else {
        crate::syscall::to_original(t, u64::from(t.rt.resume()));
    }
}

fn is_stale(t: &Task) -> bool {
    let Some((base, origin, dropped)) = cache::look_up(t.rt.resume()) else { return true };
    let lone = t.step.with(|s| s.as_ref().is_some_and(|s| s.0 == base));
    let Some(mm) = t.process.mm() else { return false };
    // Inside a pattern a register may hold where it is about to go.
    dropped || cache::is_in_pattern(t.rt.resume()) || !lone && !mm.runs_region(origin.start, origin.region)
}

/// A fragment of a single instruction that one task executes: one that changes the very code it belongs to, which must
/// not be translated, and so write-protected, before the change is done.
pub struct Step(pub(super) u32);

impl Drop for Step {
    fn drop(&mut self) {
        cache::drop_lone(self.0);
    }
}

/// Forgets the task's single instruction once it goes on elsewhere.
pub fn end_step(t: &Task) {
    let inside = |s: &Step| cache::look_up(t.rt.resume()).is_some_and(|(base, ..)| base == s.0);
    if t.step.with(|s| s.as_ref().is_some_and(|s| !inside(s))) {
        drop(t.step.take());
    }
}

/// Brings a task that was interrupted at a translated pc back to its original state (R22): registers and pc.
pub fn undo(task: &Task, translated: u64) -> Result<u32> {
    let pc = u32::try_from(translated).map_err(|_| Errno::EFAULT)?;
    let undo = cache::undo(pc).ok_or(Errno::EFAULT)?;
    for n in 0..16 {
        if undo.restore[n] {
            task.rt.set_gpr(n, task.rt.spill(n));
        }
        if undo.truncate[n] {
            task.rt.set_gpr(n, task.rt.gpr(n) & 0xffff_ffff);
        }
    }
    if let Some(rcx) = undo.rcx {
        task.rt.set_gpr(1, u64::from(rcx));
    }
    if undo.rsp_delta != 0 {
        task.rt.set_gpr(4, task.rt.gpr(4).wrapping_add_signed(i64::from(undo.rsp_delta)));
    }
    undo_shadow(task, undo.shadow);
    task.rt.set_rip(undo.pc);
    Ok(undo.pc)
}

/// The shadow word that an interrupted call wrote goes, that which a return consumed is live again; rsp is undone.
fn undo_shadow(task: &Task, what: tr::ShadowWord) {
    let (slot, rsp) = (task.rt.slot(), task.rt.gpr(4) as u32);
    match what {
        tr::ShadowWord::Kept => {}
        tr::ShadowWord::Pushed => _ = occlum_rt::shadow::store(slot, rsp.wrapping_sub(8), 0),
        tr::ShadowWord::Consumed => occlum_rt::shadow::revive(slot, rsp),
    }
}
