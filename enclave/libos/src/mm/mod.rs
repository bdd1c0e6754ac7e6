//! A domain's memory: the vma set, which pages are resident, faults, mmap and friends, fork's copy, the page budget.
//!
//! Neighbours: `rt::slot` (page rights and copies), `code` (translations of executable vmas), `fs` (file content).
//! Parts: `vma` (a mapping), `shown` (the set, and what shows a file), `resident` (the bitmap), `fault` (bringing pages in), `map` (mmap and kin), `shared`
//! (shared objects), `copies` (their pages without aliases), `shadow` (shadow words), `filemap` (files and their mappings agree), `parked` (pages kept for the next process), `tables` (lookup-table entries), `idle` (tables of programs that wait), `guard`
//! (pages with translated code are not written unseen), `fork` (the copy), `pieces` (mappings of the host's),
//! `budget` (pages and slots of the enclave).
//! Invariants: vmas do not overlap and lie in [MAP_MIN, MAP_MAX); a page that is not resident has no rights at the host
//! and reads zero when it gets them; every resident private page is charged to the enclave's budget once.
mod budget;
mod copies;
mod fault;
mod filemap;
mod fork;
mod guard;
mod idle;
mod map;
mod parked;
mod pieces;
mod resident;
mod shadow;
mod shared;
mod shown;
mod tables;
mod vma;

pub use budget::{admit, admit_last, available, give_way, in_use, taken, total};
pub use copies::{forbid_aliases, parts};
pub use fault::{Access, FaultError};
pub use filemap::{
    after_truncate, after_write, before_read, before_truncate, is_shared_writable, write_back,
};
pub use idle::look as look_for_idle;
pub use map::CODE_TOP;
pub use pieces::total as host_mappings;
pub use shared::{SharedObject, shared_object};
pub use vma::{Backing, Fork, MapFile, STACK, Vma};

use crate::errno::{Errno, Result};
use crate::sched::{Breath, WaitQueue};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use budget::{BUDGET, FreeSlot, drop_parked, drop_tables, take_slot};
use core::ops::Range;
use occlum_linux_abi::mmap as mf;
use occlum_rt::bkl::BklCell;
use occlum_rt::slot::Slot;
use parked::{DIRTY_MAX, Held, Parked};
use pieces::Pieces;
use shown::Vmas;
use tables::{Affinity, Retained};
use vma::{Search, find};

/// Page size.
pub const PAGE: u64 = 4096;
/// Pages from which on memory is large, and bytes of it that go at once.
const SHED_MIN: u64 = 16 << 10;
const SHED: u64 = 16 << 20;

/// Where exec put things, for brk and /proc.
#[derive(Clone, Default)]
pub struct Layout {
    /// Start of the heap.
    pub brk_start: u64,
    /// Its end now.
    pub brk: u64,
    /// Initial stack pointer.
    pub stack_top: u64,
    /// Bytes of argv on the stack.
    pub args: Range<u64>,
    /// Bytes of envp on the stack.
    pub env: Range<u64>,
    /// The auxiliary vector as written.
    pub auxv: Vec<u8>,
    /// Code range of the program.
    pub code: Range<u64>,
    /// The program's runtime moves stacks by itself (`libos::shadow`).
    pub moves_stacks: bool,
}

struct Inner {
    vmas: Vmas,
    /// Bitmap of 64 pages by start / 256 KiB.
    resident: BTreeMap<u64, u64>,
    layout: Layout,
    /// Where the search for free ranges goes on: below and above EXEC_MAX, below CODE_TOP.
    search: [Search; 3],
}

/// A domain in use.
pub struct Mm {
    slot: Slot,
    inner: BklCell<Inner>,
    /// Most pages it ever had.
    pub peak_pages: BklCell<u64>,
    pages: BklCell<u64>,
    affinity: Affinity,
    /// Table entries from the slot's last process, valid once the same region is mapped at the same place.
    retained: BklCell<Vec<Retained>>,
    /// File pages that the slot still holds, without rights.
    parked: BklCell<Vec<Parked>>,
    /// Mappings of the host's that the slot takes.
    pieces: BklCell<Pieces>,
    /// Regions whose entries the tables hold now.
    filled: BklCell<Vec<Retained>>,
    /// How long its processes had run at the last round of `idle` (ns), and whether that was no more than at the one before.
    ran: BklCell<(u64, bool)>,
    /// Chunks of shadow words that are there.
    shadow: BklCell<BTreeSet<u64>>,
    /// What it has brought in of shared code (`code`).
    code_account: u64,
    /// Commands of membarrier(2) that the program has registered for.
    pub barriers: BklCell<u32>,
    /// The slot shows pages that it should not, for the host refused to take them out.
    is_lost: BklCell<bool>,
    /// A page was just taken from another place of this domain.
    moved_within: BklCell<bool>,
    /// mlockall(MCL_FUTURE): new mappings are locked.
    pub lock_new: BklCell<bool>,
    /// Others with the ids of its processes may look into it (PR_SET_DUMPABLE).
    pub dumpable: BklCell<bool>,
    /// A call changes mappings one after the other; who waits for its end.
    changing: BklCell<bool>,
    changed: WaitQueue,
}

fn page_floor(x: u64) -> u64 {
    x & !(PAGE - 1)
}
/// Rounds up to a page.
pub fn page_ceil(x: u64) -> u64 {
    x.saturating_add(PAGE - 1) & !(PAGE - 1)
}

/// Host rights for guest rights: code is never executed in place, so X is R.
fn rights(prot: u32) -> u32 {
    match prot & (mf::PROT_READ | mf::PROT_WRITE | mf::PROT_EXEC) {
        0 => 0,
        p if p & mf::PROT_WRITE != 0 => 3,
        _ => 1,
    }
}

impl Mm {
    /// An empty domain, in the slot that ran the same program last if one is free.
    pub fn new(affinity: Affinity) -> Result<Arc<Mm>> {
        Mm::admit_domain()?;
        let mut free = take_slot(affinity).ok_or(Errno::ENOMEM)?;
        let slot = Slot::new(free.index);
        let same = free.affinity == affinity;
        if !same {
            drop_tables(&mut free);
            drop_parked(&mut free);
        }
        let mm = Arc::new(Mm {
            slot,
            inner: BklCell::new(Inner {
                vmas: Vmas::new(slot.index()),
                resident: BTreeMap::new(),
                layout: Layout::default(),
                search: [Search::default(); 3],
            }),
            peak_pages: BklCell::new(0),
            pages: BklCell::new(0),
            affinity,
            retained: BklCell::new(if same { free.retained } else { Vec::new() }),
            parked: BklCell::new(free.parked),
            pieces: BklCell::new(free.pieces),
            filled: BklCell::new(Vec::new()),
            ran: BklCell::new((u64::MAX, false)),
            shadow: BklCell::new(BTreeSet::new()),
            code_account: crate::code::new_account(),
            barriers: BklCell::new(0),
            is_lost: BklCell::new(false),
            lock_new: BklCell::new(false),
            dumpable: BklCell::new(true),
            changing: BklCell::new(false),
            changed: WaitQueue::new(),
            moved_within: BklCell::new(false),
        });
        shown::register(&mm);
        Ok(mm)
    }
    /// The program its tables are kept for.
    pub fn affinity(&self) -> Affinity {
        self.affinity
    }
    /// The account of the code that it brings in.
    pub fn code_account(&self) -> u64 {
        self.code_account
    }
    /// Its slot.
    pub fn slot(&self) -> Slot {
        self.slot
    }
    /// Layout as exec left it.
    pub fn layout(&self) -> Layout {
        self.inner.with(|i| i.layout.clone())
    }
    /// Does the program's runtime move stacks by itself?
    pub fn moves_stacks(&self) -> bool {
        self.inner.with(|i| i.layout.moves_stacks)
    }
    /// Sets the layout (exec).
    pub fn set_layout(&self, l: Layout) {
        self.inner.with_mut(|i| i.layout = l);
    }
    /// Resident private pages.
    pub fn resident_pages(&self) -> u64 {
        self.pages.get()
    }
    /// Mapped bytes.
    pub fn mapped_bytes(&self) -> u64 {
        self.inner.with(|i| i.vmas.iter().map(|(s, v)| v.end - s).sum())
    }
    /// Number of vmas.
    pub fn mapping_count(&self) -> usize {
        self.inner.with(|i| i.vmas.len())
    }
    /// The vma that contains `off`.
    pub fn find(&self, off: u64) -> Option<(u64, Vma)> {
        self.inner.with(|i| find(&i.vmas, off).map(|(s, v)| (s, v.clone())))
    }

    /// Does an executable vma contain `off`?
    pub fn is_executable(&self, off: u64) -> bool {
        self.inner.with(|i| find(&i.vmas, off).is_some_and(|(_, v)| v.prot() & mf::PROT_EXEC != 0))
    }

    /// The process ends, and nobody else has the domain (`holders`: references that count for nobody): large memory goes
    /// bit by bit, so that others get on meanwhile.
    pub fn shed(self: &Arc<Self>, holders: usize) {
        if Arc::strong_count(self) > holders {
            return;
        }
        for (start, vma) in self.vmas().filter(|(start, v)| v.is_shared() && v.end - start >= SHED) {
            // What cannot go now goes with the rest.
            let _ = self.unmap_slowly(start..vma.end);
        }
        if self.pages.get() < SHED_MIN {
            return;
        }
        let mut breath = Breath::begin();
        for (start, vma) in self.vmas().filter(|(_, v)| !v.is_shared() && rights(v.prot()) == 3) {
            for at in (start..vma.end).step_by(SHED as usize) {
                for run in self.runs(at..vma.end.min(at + SHED), true) {
                    // What the host does not take goes with the rest.
                    let _ = self.take_away(run);
                }
                breath.take();
            }
        }
    }

    fn protect(&self, r: Range<u64>, host_rights: u32, populate: bool, drop_content: bool) -> Result<()> {
        let ask = || self.slot.protect(r.start, r.end - r.start, host_rights, populate, drop_content);
        // Refused, for want of mappings of the host's or of its memory: what is only kept gives way.
        ask().or_else(|_| {
            give_way();
            ask().map_err(|_| Errno::ENOMEM)
        })?;
        self.pieces
            .with_mut(|p| if drop_content && host_rights == 0 { p.take(r) } else { p.give(r, host_rights) });
        Ok(())
    }

    fn count_pages(&self, delta: i64) {
        let n = self.pages.get().saturating_add_signed(delta);
        self.pages.set(n);
        self.peak_pages.set(self.peak_pages.get().max(n));
    }
}

impl Drop for Mm {
    fn drop(&mut self) {
        shown::unregister(self.slot.index());
        crate::code::end_account(self.code_account);
        self.drop_shadow();
        let vmas = self.inner.with_mut(|i| i.vmas.take());
        for (start, vma) in vmas.iter().filter(|(_, v)| v.is_shared()) {
            self.release(*start, vma);
        }
        let mut parked = self.parkable(&vmas);
        let dirty = |p: &Parked| matches!(p.held, Held::Dirty);
        if parked.iter().filter(|p| dirty(p)).map(Parked::pages).sum::<u64>() > DIRTY_MAX {
            parked.iter().filter(|p| dirty(p)).for_each(|p| self.withdraw(p.range.clone()));
            parked.retain(|p| !dirty(p));
        }
        parked.append(&mut self.parked.take());
        let retained = self.close_tables();
        if self.is_lost.get() {
            return;
        }
        let (index, pieces) = (self.slot.index(), self.pieces.replace(Pieces::new()));
        let mut free = FreeSlot { index, affinity: self.affinity, retained, parked, pieces };
        if free.pieces.are_many() {
            drop_tables(&mut free);
        }
        BUDGET.with_mut(|b| b.free_slots.push(free));
    }
}
