//! Bringing pages in: faults of the guest and of the LibOS's own copies, and pages known to be touched soon.
//!
//! Invariants: a page gets rights only after it has its content (while the LibOS writes what a guest may not write, the
//! other threads are outside: pages of a file may stay for the next process); what a failed attempt took is given back.
use super::budget::{admit_last, charge};
use super::{Backing, MapFile, Mm, PAGE, Vma, page_ceil, page_floor, parts, rights};
use crate::errno::{Errno, Result};
use core::ops::Range;
use occlum_linux_abi::mmap as mf;
use occlum_rt::vcpu::stop_others;
use occlum_sfi_spec::domain;

/// Pages brought in at one fault (of a small vma; larger ones take more).
pub(super) const FAULT_PAGES: u64 = 16;

/// Kind of access that faulted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Load.
    Read,
    /// Store.
    Write,
    /// Instruction fetch (translation).
    Exec,
}

impl FaultError {
    /// Pages could not be brought in with their content.
    pub(super) fn of_content(e: Errno) -> Self {
        if e == Errno::ENOMEM { FaultError::OutOfMemory } else { FaultError::NoContent }
    }
    /// Of a system call that was to touch the page.
    pub fn errno(self) -> Errno {
        match self {
            FaultError::OutOfMemory | FaultError::HeapFull | FaultError::Mappings => Errno::ENOMEM,
            _ => Errno::EFAULT,
        }
    }
}

/// Why a fault can't be resolved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultError {
    /// No mapping: SIGSEGV, SEGV_MAPERR.
    NotMapped,
    /// Mapping without that right: SIGSEGV, SEGV_ACCERR.
    Denied,
    /// Beyond the end of the file, or the file cannot be read there: SIGBUS, BUS_ADRERR.
    NoContent,
    /// The enclave's memory is used up.
    OutOfMemory,
    /// The LibOS's own memory is used up.
    HeapFull,
    /// The process has its share of the host's mappings (`parts`).
    Mappings,
}

impl Mm {
    /// Makes the page at `off` (and some around it) accessible, or says why not.
    pub fn handle_fault(&self, off: u32, access: Access) -> core::result::Result<(), FaultError> {
        let off = u64::from(off);
        let found = self.find(off).or_else(|| self.grow(off));
        let (start, vma) = found.ok_or(FaultError::NotMapped)?;
        let needed = match access {
            Access::Read => mf::PROT_READ | mf::PROT_WRITE | mf::PROT_EXEC,
            Access::Write => mf::PROT_WRITE,
            Access::Exec => mf::PROT_EXEC,
        };
        if vma.prot() & needed == 0 {
            return Err(FaultError::Denied);
        }
        if self.is_lost.get() {
            return Err(FaultError::OutOfMemory);
        }
        let page = page_floor(off);
        if self.is_resident(page) {
            if access == Access::Write {
                self.unguard_page(start, &vma, page).map_err(|_| FaultError::OutOfMemory)?;
            }
            return Ok(());
        }
        let mut window = self.window(start, &vma, page);
        let scarce = self.mappings_are_scarce(0);
        if scarce && !vma.is_shared() && page < vma.content_end(start) {
            let within = start..vma.end.min(vma.content_end(start));
            let fill = self.thrifty_window(window, page, within, rights(vma.prot()));
            window = fill.ok_or(FaultError::Mappings)?;
        }
        for run in self.runs(window, false) {
            match self.commit(start, &vma, run.clone(), (page, access)) {
                // Others are not to make room for holes.
                Err(FaultError::OutOfMemory) if scarce => return Err(FaultError::Mappings),
                done => done?,
            }
        }
        Ok(())
    }

    /// The mapping above `off` grows there, if it is such a one.
    #[cold]
    fn grow(&self, off: u64) -> Option<(u64, Vma)> {
        const RLIMIT_STACK: usize = 3;
        const RLIMIT_AS: usize = 9;
        let p = crate::process::current_process();
        let room = p.rlimit(RLIMIT_AS).saturating_sub(self.mapped_bytes());
        let (start, grown) = self.grow_down(off, p.rlimit(RLIMIT_STACK), room)?;
        if grown.region.is_some() {
            self.drop_translations(start..grown.end);
        }
        self.find(off)
    }

    pub(super) fn window(&self, start: u64, vma: &Vma, page: u64) -> Range<u64> {
        let len = vma.end - start;
        let file = matches!(vma.backing, Backing::File(..));
        let span = if file || len >= 16 << 20 { 4 * FAULT_PAGES } else { FAULT_PAGES } * PAGE;
        let a = page & !(span - 1);
        let mut r = a.max(start)..(a + span).min(vma.end);
        r.end = r.end.min(vma.content_end(start).max(page + PAGE));
        r
    }

    pub(super) fn commit(
        &self,
        start: u64,
        vma: &Vma,
        run: Range<u64>,
        (page, access): (u64, Access),
    ) -> core::result::Result<(), FaultError> {
        match &vma.backing {
            Backing::Shared(object, o, _) => {
                return self.commit_shared(start, vma, (object, *o), run, (page, access));
            }
            _ if page >= vma.content_end(start) && run.contains(&page) => return Err(FaultError::NoContent),
            _ => {}
        }
        let part = |run: Range<u64>| match &vma.backing {
            Backing::File(f, foff) => {
                let from = foff + (run.start - start);
                super::before_read(f.0.inode().as_ref(), from..from + (run.end - run.start));
                self.add_pages(run.clone(), rights(vma.prot()), || self.copy_in(f, from, &run))
            }
            _ => self.add_zero_pages(run, rights(vma.prot())),
        };
        // Where there is no room for the pages around it, the page alone may do.
        let done = match part(run.clone()) {
            failed @ Err(_) if self.mappings_are_scarce(0) => failed,
            Err(_) if run.contains(&page) && run.end - run.start > PAGE => part(page..page + PAGE),
            Err(_) if !run.contains(&page) => Ok(()),
            done => done,
        };
        done.map_err(|e| match FaultError::of_content(e) {
            FaultError::OutOfMemory if admit_last().is_err() => FaultError::HeapFull,
            why => why,
        })
    }

    /// Charges new zero pages and gives them their rights.
    fn add_zero_pages(&self, run: Range<u64>, host: u32) -> Result<()> {
        self.charged(run.clone(), || self.protect(run, host, true, false))
    }

    /// Charges new pages, lets `fill` write their content, and gives them their rights.
    pub(super) fn add_pages(
        &self,
        run: Range<u64>,
        host: u32,
        fill: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        self.charged(run.clone(), || {
            if host != 3 {
                stop_others(self.slot);
            }
            self.protect(run.clone(), 3, true, false)?;
            fill()?;
            if host == 3 { Ok(()) } else { self.protect(run, host, false, false) }
        })
    }

    /// Makes pages resident if `bring` brings them; else nothing is left of them.
    fn charged(&self, run: Range<u64>, bring: impl FnOnce() -> Result<()>) -> Result<()> {
        let pages = (run.end - run.start) / PAGE;
        if !charge(pages) {
            return Err(Errno::ENOMEM);
        }
        if let Err(e) = bring() {
            self.withdraw(run);
            return Err(e);
        }
        self.count_pages(pages as i64);
        self.set_resident(run, true);
        Ok(())
    }

    /// File content into pages that are writable now; beyond the end of the file they stay zero.
    pub(super) fn copy_in(&self, f: &MapFile, mut foff: u64, run: &Range<u64>) -> Result<()> {
        let mut buf = crate::fs::try_vec((run.end - run.start).min(64 << 10) as usize)?;
        let mut at = run.start;
        while at < run.end {
            let want = (run.end - at).min(buf.len() as u64) as usize;
            let n = f.read_at(foff, &mut buf[..want])?;
            if n == 0 {
                break;
            }
            self.slot.write(at, &buf[..n]).map_err(|_| Errno::EFAULT)?;
            at += n as u64;
            foff += n as u64;
        }
        Ok(())
    }

    /// Commits the pages of a range at once, as far as vmas cover it (what exec knows will be touched).
    pub fn populate(&self, r: Range<u64>) -> Result<()> {
        for (start, vma) in self.vmas_in(r.clone()) {
            let part = page_floor(r.start.max(start))..page_ceil(r.end.min(vma.end));
            for run in self.runs(part, false) {
                let first = run.start;
                match self.commit(start, &vma, run, (first, Access::Read)) {
                    // Whoever touches such a page hears of it.
                    Err(FaultError::NoContent) => {}
                    done => done.map_err(|_| Errno::ENOMEM)?,
                }
            }
        }
        Ok(())
    }

    /// Writes into this domain, which need not be the current one.
    pub fn write_foreign(&self, off: u64, data: &[u8]) -> Result<()> {
        if off.saturating_add(data.len() as u64) > domain::SIZE {
            return Err(Errno::EFAULT);
        }
        for part in parts(off, data.len()) {
            while let Err(f) = self.slot.write(off + part.start as u64, &data[part.clone()]) {
                self.handle_fault(f.off, Access::Write).map_err(FaultError::errno)?;
            }
        }
        Ok(())
    }
    /// Reads from this domain, which need not be the current one.
    pub fn read_foreign(&self, off: u64, buf: &mut [u8]) -> Result<()> {
        if off.saturating_add(buf.len() as u64) > domain::SIZE {
            return Err(Errno::EFAULT);
        }
        for part in parts(off, buf.len()) {
            while let Err(f) = self.slot.read(off + part.start as u64, &mut buf[part.clone()]) {
                self.handle_fault(f.off, Access::Read).map_err(FaultError::errno)?;
            }
        }
        Ok(())
    }
}
