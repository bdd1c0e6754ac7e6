//! Control-flow integrity: where returns, indirect calls and indirect jumps may go (`docs/cfi.md`).
//!
//! Neighbours: `code` asks at every miss of a lookup table, and what is allowed may stay in the table, so the policy costs
//! nothing afterwards; `signal` reports frames and asks at sigreturn. Isolation does not depend on anything here.
//! Invariants: an answer that may stay in a table rests on the region alone, so that a process which gets the table with
//! its slot would be told the same; what rests on the state of a process is asked each time.
use crate::code::{self, Place};
use crate::process::Task;
use crate::signal::{self, Info};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use occlum_enclave_abi::CfiLevel;
use occlum_linux_abi::signo::SIGSEGV;
use occlum_rt::bkl::BklCell;
use occlum_sfi_spec::Returns;
use occlum_sfi_spec::table::Kind;

static LEVEL: BklCell<CfiLevel> = BklCell::new(CfiLevel::Default);

/// Most violations that get a line in the log.
const LINES_MAX: u32 = 32;
/// si_code of Linux for a control protection fault; the CPU's vector and error codes.
const SEGV_CPERR: i32 = 10;
const VECTOR_CP: u64 = 21;
const CP_RET: u64 = 1;
const CP_IRET: u64 = 2;
const CP_ENDBR: u64 = 3;

/// Takes the measured level, before any code is translated.
pub fn init(level: CfiLevel) {
    LEVEL.set(level);
    let shadow = level == CfiLevel::ShadowStack;
    occlum_rt::code::set_returns(if shadow { Returns::Shadow } else { Returns::Table });
}

/// What a branch that is allowed leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// The table entry: the next one goes without asking.
    Always,
    /// Nothing.
    Once,
}

/// May a branch of this kind go to `place`, which is executable?
pub fn check(t: &Task, kind: Kind, place: &Place) -> Option<Allowed> {
    match kind {
        // The return was compared with its shadow word.
        Kind::Ret if LEVEL.get() == CfiLevel::ShadowStack => Some(Allowed::Always),
        Kind::Ret => check_return(t, place),
        Kind::Call => Some(Allowed::Always),
    }
}

fn check_return(t: &Task, place: &Place) -> Option<Allowed> {
    let off = place.off;
    if place.region.returns_to(off) || place.code_changed() && place.is_behind_call() {
        return Some(Allowed::Always);
    }
    let flow = &t.process.flow;
    if flow.with(|f| f.restores(off)) || flow.with_mut(|f| f.pay(off)) {
        return Some(Allowed::Once);
    }
    is_return_made_by_hand(place).then_some(Allowed::Always)
}

/// A return address that code has put on a stack without a call: where a coroutine ends (`makecontext`, Boost.Context),
/// or one behind a nop that stands for the call (Go's `goexit`). Its address was taken by an instruction.
fn is_return_made_by_hand(place: &Place) -> bool {
    const NOP: u8 = 0x90;
    let off = place.off;
    code::is_taken(&place.mm, off) || place.byte_before() == Some(NOP) && code::is_taken(&place.mm, off - 1)
}

/// May a return that has no shadow word go to `place`? The first on a stack may, and one that a signal put off.
pub fn is_first_return(t: &Task, place: &Place) -> bool {
    is_return_made_by_hand(place) || t.process.flow.with_mut(|f| f.pay(place.off))
}

/// May it, by the rules of the level `default`?
pub fn check_unshadowed(t: &Task, place: &Place) -> bool {
    check_return(t, place).is_some()
}

/// A return whose shadow word says otherwise: SIGSEGV, with rip at the `ret` as on Linux.
pub fn shadow_violation(t: &Arc<Task>, target: u32) {
    crate::stats::add("cfi_returns", 1);
    report(t, "return", target, "the call that it returns from came from elsewhere");
    raise(t, CP_RET);
}

/// The branch is not allowed: SIGSEGV as Linux gives it for a control protection fault, with rip at the target.
pub fn violation(t: &Arc<Task>, kind: Kind, target: u32) {
    let (what, why, error) = match kind {
        Kind::Ret => ("return", "no call returns there", CP_RET),
        Kind::Call => ("indirect call or jump", "nothing in the program names that as a target", CP_ENDBR),
    };
    crate::stats::add(if kind == Kind::Ret { "cfi_returns" } else { "cfi_branches" }, 1);
    report(t, what, target, why);
    raise(t, error);
}

/// sigreturn without a frame.
pub fn no_frame(t: &Arc<Task>, rip: u32) {
    crate::stats::add("cfi_sigreturns", 1);
    report(t, "sigreturn", rip, "no signal was delivered with that frame");
    raise(t, CP_IRET);
}

fn raise(t: &Arc<Task>, error: u64) {
    signal::force(t, SIGSEGV as i32, Info { code: SEGV_CPERR, payload: [0, 0, error, VECTOR_CP] });
}

fn report(t: &Arc<Task>, what: &str, target: u32, why: &str) {
    static LINES: BklCell<u32> = BklCell::new(0);
    let n = LINES.get();
    if n >= LINES_MAX {
        return;
    }
    LINES.set(n + 1);
    let level = LEVEL.get();
    let advice = match level {
        CfiLevel::Strict => "; if the program is right, run it with --cfi=default",
        CfiLevel::ShadowStack => "; if the program moves its stacks by itself, run it with --cfi=default",
        CfiLevel::Default => "; if the program is right, this is a bug of occlum",
    };
    let text = format!(
        "occlum: pid {}: {what} to {target:#x}{} refused by --cfi={}: {why}{advice}\n",
        t.process.pid,
        file_and_offset(t, target),
        level.name()
    );
    occlum_rt::log(&text);
}

/// " (FILE+OFFSET)" of an address in a mapped file.
fn file_and_offset(t: &Task, target: u32) -> String {
    let found = t.process.mm().and_then(|mm| mm.find(u64::from(target)));
    let Some((start, vma)) = found else { return String::new() };
    let Some(file) = vma.backing.file() else { return String::new() };
    let at = u64::from(target) - start + vma.backing.offset();
    format!(" ({}+{at:#x})", String::from_utf8_lossy(&file.path()))
}
