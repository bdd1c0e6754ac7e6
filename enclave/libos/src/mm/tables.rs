//! What the slot's lookup tables hold: entries of the regions that run here, and those kept from the last process.
//!
//! Invariants: while a guest runs, every entry lies in a range of `filled`, and entries in a vma's range belong to that
//! vma's region or to none: a place that is not mapped, or mapped otherwise, leads to nothing the last process left.
//! Entries of regions that are one process's own never outlive it.
use super::budget::{charge, uncharge};
use super::vma::overlapping_mut;
use super::{FaultError, Mm};
use crate::code::Region;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use occlum_linux_abi::mmap as mf;
use occlum_rt::code::{self, Committed};
use occlum_sfi_spec::domain::EXEC_MAX;
use occlum_sfi_spec::table::Kind;

/// Program identity that a slot's lookup tables were filled for.
pub type Affinity = (u64, u64);

/// A mapping whose table entries a slot still holds: guest range and region.
pub(super) type Retained = (u64, u64, u64);

impl Mm {
    /// Remembers the translations of the vma at `start`.
    pub fn set_region(&self, start: u64, region: Arc<Region>) {
        let end = self.inner.with_mut(|i| {
            let v = i.vmas.get_mut(start)?;
            v.region = Some(region.clone());
            Some(v.end)
        });
        if let Some(end) = end {
            self.claim_entries((start, end, region.id()));
        }
    }

    /// The tables hold entries of exactly this region in its range: kept ones of the same region, or none.
    pub(super) fn claim_entries(&self, new: Retained) {
        let overlaps = |r: &Retained| r.0 < new.1 && new.0 < r.1;
        let foreign = self.retained.with(|list| list.iter().any(|r| overlaps(r) && *r != new));
        if foreign {
            occlum_rt::code::table_clear(self.slot, new.0 as u32, new.1.min(EXEC_MAX) as u32);
        }
        self.retained.with_mut(|list| cut(list, &(new.0..new.1)));
        self.filled.with_mut(|f| {
            cut(f, &(new.0..new.1));
            f.push(new);
        });
    }

    /// The domain is about to run: of what the slot's last process left in the tables, only entries of regions that are
    /// mapped again at the same place stay.
    pub fn settle_tables(&self) {
        if self.retained.with(Vec::is_empty) {
            return;
        }
        for (start, vma) in self.vmas().filter(|(_, v)| v.region.is_none()) {
            if let Some(region) = crate::code::known_region(start, &vma) {
                self.set_region(start, region);
            }
        }
        for r in self.retained.take() {
            occlum_rt::code::table_clear(self.slot, r.0 as u32, r.1.min(EXEC_MAX) as u32);
        }
    }

    /// Brings the pages of a table for these offsets in, which are charged until the slot loses its tables.
    pub fn commit_table(&self, kind: Kind, offs: Range<u32>) -> core::result::Result<(), FaultError> {
        for run in code::table_missing(self.slot, kind, offs.clone(), self.around()) {
            if self.mappings_have_run_out() {
                return Err(FaultError::Mappings);
            }
            let pages = run.end - run.start;
            if !charge(pages) {
                return Err(FaultError::OutOfMemory);
            }
            let done = code::table_commit(self.slot, kind, run.clone());
            if done == Committed::Not {
                uncharge(pages);
                return Err(FaultError::OutOfMemory);
            }
            self.pieces.with_mut(|p| p.give_table(kind, run, done == Committed::MovedIn));
            super::idle::expect_look();
        }
        if code::table_is_there(self.slot, kind, offs.start) { Ok(()) } else { Err(FaultError::OutOfMemory) }
    }

    /// Is this region mapped, at `start`, and executable?
    pub fn runs_region(&self, start: u64, id: u64) -> bool {
        self.inner.with(|i| {
            let v = i.vmas.get(&start).filter(|v| v.prot() & mf::PROT_EXEC != 0);
            v.and_then(|v| v.region.as_ref()).is_some_and(|r| r.id() == id)
        })
    }

    /// The regions in the range are not what they were: no entry of them stays in reach, and no thread in their code.
    pub(super) fn drop_translations(&self, r: Range<u64>) {
        let gone: Vec<(Arc<Region>, u64)> = self.inner.with_mut(|i| {
            let hit = overlapping_mut(&mut i.vmas, r.clone()).filter(|(_, v)| v.region.is_some());
            hit.filter_map(|(_, v)| v.take_region().map(|r| (r, v.end))).collect()
        });
        for (region, end) in gone {
            self.detach(region, end);
        }
    }

    /// The mappings in the range, whose translations processes shared, get translations of their own.
    pub fn own_code(&self, r: Range<u64>) {
        self.drop_translations(r);
    }

    /// Of a region that ended at `end`, and that its vma has no more, nothing stays in reach.
    pub(super) fn detach(&self, region: Arc<Region>, end: u64) {
        self.disable(region.start()..end);
        self.unguard(&region);
        crate::code::regions_changed(self.slot);
    }

    /// No table entry leads to code of regions in the range any more. The region may stay: its fragments are not lost.
    fn disable(&self, r: Range<u64>) {
        let mut gone = alloc::vec![(r.start, r.end, 0)];
        self.filled.with_mut(|f| {
            f.retain(|x| {
                let hit = x.0 < r.end && r.start < x.1;
                if hit {
                    gone.push(*x);
                }
                !hit
            });
        });
        for x in gone {
            occlum_rt::code::table_clear(self.slot, x.0 as u32, x.1.min(EXEC_MAX) as u32);
        }
    }

    /// The rights of whole vmas in the range were `old` and are now what `vma` says: which translations does that leave?
    pub(super) fn code_rights_changed(&self, start: u64, old: u32) {
        let Some(vma) = self.inner.with(|i| i.vmas.get(&start).cloned()) else { return };
        let Some(region) = &vma.region else { return };
        if region.is_shared() {
            // The file's pages become this domain's own.
            return self.drop_translations(start..vma.end);
        }
        let (was, is) = (old & mf::PROT_EXEC != 0, vma.prot() & mf::PROT_EXEC != 0);
        if was && !is {
            self.disable(start..vma.end);
            crate::code::regions_changed(self.slot);
        } else if is && !was {
            self.claim_entries((start, vma.end, region.id()));
        }
    }

    /// Drops the translations of all code that only this domain has.
    pub fn drop_private_code(&self) {
        for (_, vma) in self.vmas() {
            if let Some(r) = &vma.region {
                r.drop_pages(0..u64::from(u32::MAX));
            }
        }
    }

    /// Leaves only entries of shared regions in the tables.
    pub(super) fn close_tables(&self) -> Vec<Retained> {
        let mut keep = self.filled.take();
        let stale = !self.retained.with(Vec::is_empty);
        for r in keep.iter().filter(|r| !crate::code::is_shared_region(r.2)) {
            occlum_rt::code::table_clear(self.slot, r.0 as u32, r.1.min(EXEC_MAX) as u32);
        }
        keep.retain(|r| crate::code::is_shared_region(r.2));
        if stale {
            keep.extend(self.retained.take());
        }
        keep
    }
}

/// Takes the range out of the list; what sticks out of it stays, for its entries do.
fn cut(list: &mut Vec<Retained>, r: &Range<u64>) {
    let mut rest = Vec::new();
    list.retain(|x| {
        let hit = x.0 < r.end && r.start < x.1;
        if hit && x.0 < r.start {
            rest.push((x.0, r.start, x.2));
        }
        if hit && r.end < x.1 {
            rest.push((r.end, x.1, x.2));
        }
        !hit
    });
    list.append(&mut rest);
}
