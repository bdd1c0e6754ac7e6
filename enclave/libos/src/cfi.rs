//! Control-flow integrity: where returns, indirect calls and indirect jumps may go (`docs/cfi.md`).
//!
//! Neighbours: `code` asks at every miss of a lookup table, and what is allowed may stay in the table, so the policy costs
//! nothing afterwards; `signal` reports frames and asks at sigreturn. Isolation does not depend on anything here.
//! Invariants: an answer that may stay in a table rests on code and files alone, so that the next process of the program,
//! which may get the table with its slot, would be told the same; what rests on the state of a process is asked each time.
use crate::code::{self, CodeError, Place};
use crate::mm::{Backing, FaultError, MapFile, PAGE, Vma};
use crate::process::Task;
use crate::sched::Breath;
use crate::signal::{self, Info};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::RefCell;
use occlum_cfi::{Facts, File, Resumed};
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
pub fn check(t: &Task, kind: Kind, place: &Place) -> Result<Option<Allowed>, CodeError> {
    match kind {
        // The return was compared with its shadow word.
        Kind::Ret if LEVEL.get() == CfiLevel::ShadowStack => Ok(Some(Allowed::Always)),
        Kind::Ret => check_return(t, place),
        Kind::Call => check_branch(place),
    }
}

fn check_return(t: &Task, place: &Place) -> Result<Option<Allowed>, CodeError> {
    let off = place.off;
    // Compilers put return addresses into frames that they rebuild: of a function given up, of an interpreter's.
    let by_call = place.region.returns_to(off) || place.code_changed() && place.is_behind_call();
    if by_call || place.is_generated() {
        return Ok(Some(Allowed::Always));
    }
    let flow = &t.process.flow;
    if flow.with(|f| f.restores(off)) || flow.with_mut(|f| f.pay(off)) {
        return Ok(Some(Allowed::Once));
    }
    Ok(is_return_made_by_hand(place)?.then_some(Allowed::Always))
}

/// A return address that code has put on a stack without a call: where a coroutine ends (`makecontext`, Boost.Context),
/// or one behind a nop that stands for the call (Go's `goexit`). Its address was taken by an instruction, and no other
/// file can name it. Or a builtin that V8 goes on in when it has given a function up.
fn is_return_made_by_hand(place: &Place) -> Result<bool, CodeError> {
    const NOP: u8 = 0x90;
    let off = place.off;
    let before = place.byte_before().unwrap_or(0);
    if before == NOP && code::is_taken(&place.mm, off - 1) {
        return Ok(true);
    }
    if !code::is_taken(&place.mm, off) {
        let builtin = with_facts(place, |facts, file, vaddr| facts.is_builtin(file, vaddr, before))?;
        return Ok(builtin == Some(true));
    }
    let exported = with_facts(place, |facts, _, vaddr| facts.is_exported(vaddr))?;
    Ok(exported != Some(true))
}

/// Is this the level that narrows indirect calls and jumps?
pub fn is_strict() -> bool {
    LEVEL.get() == CfiLevel::Strict
}

fn check_branch(place: &Place) -> Result<Option<Allowed>, CodeError> {
    const ENDBR64: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];
    // Code that the program writes has no file that would name its targets.
    let allowed = !is_strict()
        || place.code_changed()
        || place.region.returns_to(place.off)
        || place.region.has_in_table(place.off)
        || place.is_step_behind_label()
        || code::is_taken(&place.mm, place.off)
        || place.bytes() == Some(ENDBR64)
        || with_facts(place, |facts, file, vaddr| is_named(place, facts, file, vaddr))? == Some(true);
    Ok(allowed.then_some(Allowed::Always))
}

fn is_named(place: &Place, facts: &Facts, file: &dyn File, vaddr: u64) -> bool {
    let (before, first) = (place.byte_before().unwrap_or(0), place.bytes().map_or(0, |[b]| b));
    facts.names(vaddr)
        || facts.is_landing_pad(file, vaddr)
        || facts.is_of_a_runtime(file, vaddr, before, first)
}

/// A file in the enclave, as the reader of its facts wants it; with a breath, others get on while it is read.
struct Reader<'a>(&'a MapFile, Option<RefCell<Breath>>);

impl File for Reader<'_> {
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> bool {
        if let Some(breath) = &self.1 {
            breath.borrow_mut().take();
        }
        let (mut at, mut rest) = (offset, buf);
        while !rest.is_empty() {
            let Ok(n) = self.0.0.inode().read_at(at, rest) else { return false };
            if n == 0 {
                return false;
            }
            at = at.saturating_add(n as u64);
            rest = &mut rest[n..];
        }
        true
    }
}

/// By file id and version. `None`: no ELF file.
type FactsOfFiles = BTreeMap<(u64, u64), Option<Arc<Facts>>>;
/// What files name as targets.
static FACTS: BklCell<FactsOfFiles> = BklCell::new(BTreeMap::new());
static READ: BklCell<u64> = BklCell::new(0);
/// Most files whose facts are kept, and the part of the enclave's memory that these may take.
const FILES_MAX: usize = 512;
const MEMORY_PART: u64 = 32;

/// Drops the facts: they can be read again.
pub fn reclaim() {
    FACTS.with_mut(core::mem::take);
}

/// How many files were read so far. Others run meanwhile: what was known of mappings before counts for nothing then.
pub fn files_read() -> u64 {
    READ.get()
}

fn facts_of(file: &MapFile, breath: Option<Breath>) -> Result<Option<Arc<Facts>>, CodeError> {
    let id = file.id();
    if let Some(known) = FACTS.with(|all| all.get(&id).cloned()) {
        return Ok(known);
    }
    let full = CodeError::Fault(FaultError::HeapFull);
    crate::mm::admit(Facts::MEMORY_MAX).map_err(|_| full)?;
    READ.set(READ.get() + 1);
    let facts = Facts::read(&Reader(file, breath.map(RefCell::new))).map_err(|_| full)?.map(Arc::new);
    let memory = |facts: &Option<Arc<Facts>>| facts.as_ref().map_or(0, |f| f.memory());
    FACTS.with_mut(|all| {
        let kept = all.values().map(memory).sum::<u64>() + memory(&facts);
        if all.len() >= FILES_MAX || kept > crate::mm::total() * PAGE / MEMORY_PART {
            all.clear();
        }
        all.insert(id, facts.clone());
    });
    Ok(facts)
}

/// Asks the facts of the file that shows at `place`, with the address there in terms of the file. `None`: it has none.
fn with_facts<T>(
    place: &Place,
    ask: impl FnOnce(&Facts, &dyn File, u64) -> T,
) -> Result<Option<T>, CodeError> {
    let Some((file, offset)) = place.in_file() else { return Ok(None) };
    let Some(facts) = facts_of(file, Some(Breath::begin()))? else { return Ok(None) };
    Ok(facts.code_at(offset).map(|vaddr| ask(&facts, &Reader(file, None), vaddr)))
}

/// Where the jump tables lead whose addresses instructions of the mapping at `start` made. Entries are distances from
/// the table itself, or from a label whose address the same code made.
pub fn jump_tables(start: u64, vma: &Vma, constants: &[u32]) -> Vec<u32> {
    let mut targets = Vec::new();
    let Backing::File(file, offset) = &vma.backing else { return targets };
    if !is_strict() || vma.has_own_code() {
        return targets;
    }
    let Ok(Some(facts)) = facts_of(file, None) else { return targets };
    let Some(vaddr) = facts.page_at(*offset) else { return targets };
    // The file lies this much higher than it says.
    let moved = start.wrapping_sub(vaddr);
    let is_label = |c: &&u32| (start..vma.end).contains(&u64::from(**c));
    for (n, table) in constants.iter().enumerate() {
        let end = constants.get(n + 1).map_or(u64::MAX, |next| u64::from(*next));
        for base in constants.iter().filter(|base| is_label(base) && *base != table).chain([table]) {
            let at = |c: u64| c.wrapping_sub(moved);
            let found =
                facts.jump_table(&Reader(file, None), at(u64::from(*table)), at(u64::from(*base)), at(end));
            targets.extend(found.into_iter().map(|t| u64::from(t).wrapping_add(moved) as u32));
        }
    }
    targets
}

/// May sigreturn take the frame at `frame` and go on at `rip`? Else the task has its signal.
pub fn may_resume(t: &Arc<Task>, frame: u32, rip: u32) -> bool {
    let why = match t.process.flow.with_mut(|f| f.returned(frame, rip)) {
        Resumed::NoFrame => "no signal was delivered with that frame",
        Resumed::Interrupted => return true,
        Resumed::Elsewhere => {
            let place = t.process.mm().and_then(|mm| code::place(&mm, rip).ok());
            // What is not executable faults there.
            let Some(place) = place else { return true };
            if matches!(check_branch(&place), Ok(Some(_))) {
                return true;
            }
            "a handler chose what nothing in the program names as a target"
        }
    };
    crate::stats::add("cfi_sigreturns", 1);
    report(t, "sigreturn", rip, why);
    raise(t, CP_IRET);
    false
}

/// May a return that has no shadow word go to `place`? The first on a stack may, and one that a signal put off.
pub fn is_first_return(t: &Task, place: &Place) -> bool {
    matches!(is_return_made_by_hand(place), Ok(true)) || t.process.flow.with_mut(|f| f.pay(place.off))
}

/// May it, by the rules of the level `default`?
pub fn check_unshadowed(t: &Task, place: &Place) -> bool {
    matches!(check_return(t, place), Ok(Some(_)))
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
    format!(" ({}+{at:#x})", crate::trace::printable(&file.path()))
}
