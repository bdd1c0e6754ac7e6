//! The shadow stack's side of the LibOS: returns that do not match their shadow word, and the words that it writes itself
//! (`docs/shadow-stack.md`).
//!
//! Neighbours: translated code compares and consumes (`sfi-translator`), `mm::shadow` keeps the pages, `cfi` reports what is
//! refused. Invariants: the value that is judged is the value that is used; a live word serves one return; a word that is
//! live for another place is never overruled, but in programs whose runtime moves stacks.
use crate::cfi;
use crate::code;
use crate::errno::Result;
use crate::mm::Mm;
use crate::process::{Task, current_mm};
use crate::uaccess;
use alloc::sync::Arc;
use alloc::vec::Vec;
use occlum_rt::shadow;
use occlum_sfi_spec::Returns;
use occlum_sfi_spec::shadow::{consumed, live, site};

/// How many words below its new place that of a return address that was moved is looked for: arguments of a call.
const MOVED_MAX: u32 = 128;
/// Words on both sides of rsp that a vfork child may use up by returning.
const SHARED_WORDS: u32 = 16;

/// Does the enclave have shadow stacks?
pub fn is_on() -> bool {
    occlum_rt::code::returns() == Returns::Shadow
}

/// The LibOS puts a return address on the stack: a signal frame's.
pub fn push(off: u32, to: u32) -> Result<()> {
    if is_on() { current_mm().set_shadow_word(off, live(to)) } else { Ok(()) }
}

/// A return came to its trap: rip is the `ret`'s, and nothing is popped.
pub fn mismatch(t: &Arc<Task>) {
    take_return(t, 0);
}

/// Does a `ret n` (n = `drop`), or one that trapped: goes where it leads if that is allowed.
pub fn take_return(t: &Arc<Task>, drop: u16) {
    let mm = current_mm();
    let rsp = t.rt.gpr(4) as u32;
    let to = match uaccess::read_val::<u64>(u64::from(rsp)) {
        Ok(to) => to as u32,
        Err(_) => return cfi::shadow_violation(t, 0),
    };
    // Where nothing can run, it is a fault there, as on any machine.
    if code::place(&mm, to).is_ok() && !is_allowed(t, &mm, rsp, to) {
        return cfi::shadow_violation(t, to);
    }
    t.rt.set_gpr(4, u64::from(rsp.wrapping_add(8).wrapping_add(u32::from(drop))));
    t.rt.set_rip(to);
    t.resolve.set(true);
}

/// May the return at `rsp` go to `to`? What it uses up is used up then.
fn is_allowed(t: &Arc<Task>, mm: &Arc<Mm>, rsp: u32, to: u32) -> bool {
    let word = shadow::load(mm.slot(), rsp);
    match site(word) {
        Some(s) if s == to => shadow::store(mm.slot(), rsp, consumed(word)),
        Some(_) => mm.moves_stacks() && is_allowed_unshadowed(t, mm, to),
        None => {
            is_moved_up(mm, rsp, to)
                || code::place(mm, to).is_ok_and(|p| cfi::is_first_return(t, &p))
                || mm.moves_stacks() && is_allowed_unshadowed(t, mm, to)
        }
    }
}

/// In a program whose runtime copies stacks to other places, copies of return addresses have no shadow: what the level
/// `default` says counts.
fn is_allowed_unshadowed(t: &Task, mm: &Arc<Mm>, to: u32) -> bool {
    crate::stats::add("shadow_moved_stacks", 1);
    code::place(mm, to).is_ok_and(|p| cfi::check_unshadowed(t, &p))
}

/// A function may move its own return address up, into memory of its caller's frame (libffi), or behind arguments that it
/// drops (V8). Then the nearest live word below is that of its call: the innermost one, as ever.
fn is_moved_up(mm: &Mm, rsp: u32, to: u32) -> bool {
    let mut below = (1..=MOVED_MAX).map(|n| rsp.wrapping_sub(8 * n));
    let live_word = |off| site(shadow::load(mm.slot(), off)).map(|s| (off, s));
    match below.find_map(live_word) {
        Some((off, s)) if s == to => shadow::store(mm.slot(), off, consumed(live(to))),
        _ => false,
    }
}

/// Shadow words around the rsp of a vfork parent, whose child returns from the same call.
pub struct Saved(Vec<(u32, u64)>);

impl Saved {
    /// Those of the current task.
    pub fn take(t: &Task) -> Saved {
        if !is_on() {
            return Saved(Vec::new());
        }
        let (slot, rsp) = (t.rt.slot(), t.rt.gpr(4) as u32);
        let around = (0..2 * SHARED_WORDS).map(|n| rsp.wrapping_add(8 * n).wrapping_sub(8 * SHARED_WORDS));
        Saved(around.map(|off| (off, shadow::load(slot, off))).collect())
    }

    /// The child is gone: the parent finds them as they were.
    pub fn put_back(&self, t: &Task) {
        for (off, word) in &self.0 {
            shadow::store(t.rt.slot(), *off, *word);
        }
    }
}
