//! fork's copy of a domain.
//!
//! Invariants: the child has the same vmas at the same offsets; every private page the parent has is copied, except
//! pristine file pages, which come again from the page cache; a parked page of the child's slot is overwritten or
//! filled before the child runs.
use super::budget::admit;
use super::{Backing, Fork, Mm, Vma, rights};
use crate::errno::{Errno, Result};
use crate::ipc::shm::{Did, note};
use crate::sched::Breath;
use alloc::sync::Arc;
use core::ops::Range;
use occlum_rt::slot::Slot;

/// Bytes that are copied between looks at who else wants to get on.
const PIECE: u64 = 8 << 20;

impl Mm {
    /// A copy of this domain in another slot: same vmas, same offsets, resident pages copied. `alone`: only the caller
    /// runs in it.
    pub fn fork(&self, alone: bool) -> Result<Arc<Mm>> {
        admit(self.mapping_count() as u64 * 256)?;
        if self.mappings_are_scarce(self.host_mappings()) {
            return Err(Errno::ENOMEM);
        }
        let child = Mm::new(self.affinity)?;
        let mut breath = alone.then(Breath::begin);
        for (start, v) in self.vmas().filter(|(_, v)| v.fork != Fork::Leave) {
            breath.iter_mut().for_each(|b| _ = b.take());
            if let Some(region) = v.region.as_ref().filter(|r| r.is_shared()) {
                child.claim_entries((region.start(), v.end, region.id()));
            }
            child.inner.with_mut(|i| i.vmas.insert(start, v.forked()));
        }
        child.set_layout(self.layout());
        child.dumpable.set(self.dumpable.get());
        // The copy is of one moment: threads that ran on meanwhile would tear it (R29).
        occlum_rt::vcpu::stop_others(self.slot);
        for (start, vma) in self.vmas().filter(|(_, v)| v.fork != Fork::Leave) {
            child.settle_parked(start, &vma, vma.fork == Fork::Wipe)?;
            if vma.fork == Fork::Wipe {
                continue;
            }
            if let Backing::Shared(object, ..) = &vma.backing {
                note(object, Did::Attach);
                continue;
            }
            // Pages that the slot had and the parent has not: nobody overwrites them below.
            if rights(vma.prot()) == 3 {
                for held in child.resident_runs(start..vma.end) {
                    for run in self.runs(held, false) {
                        child.refill(start, &vma, run)?;
                    }
                }
            }
            for at in (start..vma.end).step_by(PIECE as usize) {
                for run in self.resident_runs(at..vma.end.min(at + PIECE)) {
                    self.copy_pages(&child, &vma, run)?;
                }
                breath.iter_mut().for_each(|b| _ = b.take());
            }
        }
        self.copy_shadow(&child)?;
        child.hide_parked()?;
        child.settle_tables();
        Ok(child)
    }

    /// Copies resident pages into the child: over pages its slot has already, or into new ones.
    pub(super) fn copy_pages(&self, child: &Mm, vma: &Vma, run: Range<u64>) -> Result<()> {
        if rights(vma.prot()) == 3 {
            for part in child.resident_runs(run.clone()) {
                let n = part.end - part.start;
                Slot::copy(self.slot, part.start, child.slot, part.start, n).map_err(|_| Errno::EFAULT)?;
            }
        }
        for part in child.runs(run, false) {
            self.copy_run(child, vma, part)?;
        }
        Ok(())
    }

    pub(super) fn copy_run(&self, child: &Mm, vma: &Vma, run: Range<u64>) -> Result<()> {
        let n = run.end - run.start;
        let host = rights(vma.prot());
        // Pristine file pages come again from the page cache, or are parked in the slot already.
        if vma.is_pristine() {
            return Ok(());
        }
        if host == 0 {
            self.protect(run.clone(), 1, false, false)?;
        }
        let copied = child.add_pages(run.clone(), host, || {
            Slot::copy(self.slot, run.start, child.slot, run.start, n).map_err(|_| Errno::EFAULT)
        });
        if host == 0 {
            self.protect(run, 0, false, false)?;
        }
        copied
    }
}
