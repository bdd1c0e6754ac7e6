//! ELRANGE in the simulator: reserved address space, image pages, rights, the shared arena.
use crate::PalError;
use crate::image::Page;
use crate::ocall::Memory;
use occlum_sfi_spec::{domain, elrange};
use occlum_sgx_arch::{layout, secinfo};
use std::ops::Range;
use std::sync::Arc;

const PAGE: u64 = 4096;
/// Size of the shared arena (sparse).
const ARENA: i64 = 64 << 30;

/// The regions of ELRANGE, reserved.
pub(super) struct Elrange {
    regions: Vec<Range<u64>>,
    arena: i32,
}

/// Index of the code cache in `regions`.
const CODE: usize = 1;
/// Index of the heap.
const HEAP: usize = 2;

fn regions() -> [Range<u64>; 5] {
    let slots = domain::FIRST_BASE - (36 << 30)..domain::base(domain::COUNT);
    let kstacks = elrange::KSTACK_BASE..elrange::KSTACK_BASE + elrange::KSTACK_STRIDE * elrange::KSTACK_MAX;
    [
        elrange::IMAGE_BASE..elrange::IMAGE_END,
        elrange::CODE_BASE..elrange::CODE_END,
        elrange::HEAP_BASE..elrange::HEAP_BASE + elrange::HEAP_SIZE,
        kstacks,
        slots,
    ]
}

impl Elrange {
    /// Reserves every region without rights.
    pub(super) fn create() -> Result<Elrange, PalError> {
        let name = c"occlum-arena";
        // SAFETY: 1. `name` is a C string; 2. ftruncate has no memory arguments.
        let arena = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) };
        if arena < 0 {
            return Err(PalError::last_os("memfd_create"));
        }
        let mut e = Elrange { regions: Vec::new(), arena };
        // SAFETY: as above.
        if unsafe { libc::ftruncate(arena, ARENA) } < 0 {
            return Err(PalError::last_os("sizing the shared arena"));
        }
        for r in regions() {
            reserve(&r)?;
            e.regions.push(r);
        }
        for (n, r) in e.regions.iter().enumerate() {
            let (at, len) = (r.start as *mut libc::c_void, (r.end - r.start) as usize);
            // SAFETY: 1. the range is reserved by us; 2. advice changes no content.
            unsafe {
                // The code cache is RWX from the start (S5: EMODPR per patch is not affordable).
                if n == CODE && libc::mprotect(at, len, prot(7)) < 0 {
                    return Err(PalError::last_os("making the code cache executable"));
                }
                if n == CODE || n == HEAP {
                    libc::madvise(at, len, libc::MADV_HUGEPAGE);
                }
            }
        }
        Ok(e)
    }

    /// Ready to add the image's pages: the image region is writable as a whole until `Loader::finish`.
    pub(super) fn loader(&self) -> Result<Loader, PalError> {
        set_rights(&(elrange::IMAGE_BASE..elrange::IMAGE_END), 3)?;
        Ok(Loader { runs: Vec::new() })
    }

    /// Tells the image where a simulated EEXIT leaves.
    pub(super) fn set_gate(&self, vcpu: u32, gate: u64) {
        let at = (layout::thread(vcpu) + layout::SIM_GATE) as *mut u64;
        // SAFETY: 1. the page was added read-write; 2. the vCPU has not started.
        unsafe { at.write(gate) };
    }

    fn check(&self, addr: u64, len: u64) -> bool {
        let Some(end) = addr.checked_add(len) else { return false };
        addr.is_multiple_of(PAGE)
            && len.is_multiple_of(PAGE)
            && len > 0
            && self.regions[1..].iter().any(|r| r.start <= addr && end <= r.end)
    }
}

/// Adds the image's pages in measurement order, which is ascending. Rights are set once for each run of equal ones.
pub(super) struct Loader {
    /// Pages so far and their rights; ascending, apart or of different rights.
    runs: Vec<(Range<u64>, u32)>,
}

impl Loader {
    /// EADD: content and rights of one page.
    pub(super) fn add_page(&mut self, p: &Page) -> Result<(), PalError> {
        // TCS pages have no rights by SECINFO; the simulator keeps CSSA in them.
        let flags = if p.flags & secinfo::TCS != 0 { secinfo::R | secinfo::W } else { p.flags };
        self.note(p.addr, (flags & 7) as u32)?;
        if p.bytes.iter().any(|b| *b != 0) {
            // SAFETY: 1. `note` bounded the page to the image region, which is reserved by us and writable until `finish`.
            unsafe { (p.addr as *mut u8).copy_from_nonoverlapping(p.bytes.as_ptr(), PAGE as usize) };
        }
        Ok(())
    }

    fn note(&mut self, addr: u64, rights: u32) -> Result<(), PalError> {
        let end = self.runs.last().map_or(elrange::IMAGE_BASE, |(run, _)| run.end);
        if addr < end || addr > elrange::IMAGE_END - PAGE {
            return Err(PalError::Image("its pages overlap"));
        }
        match self.runs.last_mut() {
            Some((run, same)) if run.end == addr && *same == rights => run.end += PAGE,
            _ => self.runs.push((addr..addr + PAGE, rights)),
        }
        Ok(())
    }

    /// The rights of every page added; what was not added has none.
    pub(super) fn finish(self) -> Result<(), PalError> {
        let mut at = elrange::IMAGE_BASE;
        for (run, rights) in &self.runs {
            set_rights(&(at..run.start), 0)?;
            if *rights != 3 {
                set_rights(run, *rights)?;
            }
            at = run.end;
        }
        set_rights(&(at..elrange::IMAGE_END), 0)
    }
}

fn set_rights(range: &Range<u64>, rights: u32) -> Result<(), PalError> {
    let len = (range.end - range.start) as usize;
    // SAFETY: 1. the callers' ranges lie in the image region, which is ours; no vCPU has started.
    if len > 0 && unsafe { libc::mprotect(range.start as *mut _, len, prot(rights)) } < 0 {
        return Err(PalError::last_os("adding the enclave's pages"));
    }
    Ok(())
}

fn reserve(r: &Range<u64>) -> Result<(), PalError> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED_NOREPLACE;
    // SAFETY: 1. MAP_FIXED_NOREPLACE replaces nothing that exists.
    let at =
        unsafe { libc::mmap(r.start as *mut _, (r.end - r.start) as usize, libc::PROT_NONE, flags, -1, 0) };
    if at == libc::MAP_FAILED {
        let error = std::io::Error::last_os_error();
        return Err(PalError::AddressInUse { start: r.start, end: r.end, error });
    }
    Ok(())
}

fn prot(rights: u32) -> i32 {
    let bit = |b: u32, p: i32| if rights & b != 0 { p } else { 0 };
    bit(1, libc::PROT_READ) | bit(2, libc::PROT_WRITE) | bit(4, libc::PROT_EXEC)
}

fn result(ok: i32) -> i64 {
    if ok < 0 { -i64::from(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)) } else { 0 }
}

impl Memory for Arc<Elrange> {
    fn protect(&self, addr: u64, len: u64, rights: u32, flags: u32, pattern: u64) -> i64 {
        if !self.check(addr, len) {
            return -i64::from(libc::EINVAL);
        }
        if flags & 4 != 0 {
            return place_filled(addr, len, rights, pattern);
        }
        if flags & 2 != 0 && rights == 0 {
            return self.alias(addr, len, u64::MAX, 0);
        }
        let (at, n) = (addr as *mut libc::c_void, len as usize);
        // SAFETY: 1. the range lies inside regions that are ours; 2. the enclave asked for the change.
        unsafe {
            if flags & 2 != 0 && libc::madvise(at, n, libc::MADV_DONTNEED) < 0 {
                return result(-1);
            }
            if libc::mprotect(at, n, prot(rights)) < 0 {
                return result(-1);
            }
            if flags & 1 != 0 && rights & 2 != 0 {
                // Advice only: without it the pages come one by one.
                libc::madvise(at, n, libc::MADV_POPULATE_WRITE);
            }
        }
        0
    }

    fn alias(&self, addr: u64, len: u64, arena_offset: u64, rights: u32) -> i64 {
        if !self.check(addr, len) {
            return -i64::from(libc::EINVAL);
        }
        let private = arena_offset == u64::MAX;
        if !private && arena_offset.saturating_add(len) > ARENA as u64 {
            return -i64::from(libc::ENOMEM);
        }
        let (flags, fd, off) = if private {
            (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE, -1, 0)
        } else {
            // Each page touched for the first time would be a fault.
            (libc::MAP_SHARED | libc::MAP_POPULATE, self.arena, arena_offset as i64)
        };
        // SAFETY: 1. the range lies inside regions that are ours; 2. the enclave asked for the change.
        let at = unsafe {
            libc::mmap(addr as *mut _, len as usize, prot(rights), flags | libc::MAP_FIXED, fd, off)
        };
        result(if at == libc::MAP_FAILED { -1 } else { 0 })
    }
}

/// Pages that appear with their content: filled elsewhere, then moved.
fn place_filled(addr: u64, len: u64, rights: u32, pattern: u64) -> i64 {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_POPULATE;
    let n = len as usize;
    // SAFETY: 1. the source is a fresh mapping of our own, filled inside its length, and gone once it is moved or
    // unmapped; 2. the target was checked to be ours.
    unsafe {
        let at = libc::mmap(std::ptr::null_mut(), n, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        if at == libc::MAP_FAILED {
            return result(-1);
        }
        std::slice::from_raw_parts_mut(at.cast::<u64>(), n / 8).fill(pattern);
        let how = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        if libc::mprotect(at, n, prot(rights)) < 0
            || libc::mremap(at, n, n, how, addr as *mut libc::c_void) == libc::MAP_FAILED
        {
            let error = result(-1);
            libc::munmap(at, n);
            return error;
        }
    }
    0
}

impl Drop for Elrange {
    fn drop(&mut self) {
        for r in &self.regions {
            // SAFETY: 1. the region is ours and no vCPU runs any more.
            unsafe { libc::munmap(r.start as *mut _, (r.end - r.start) as usize) };
        }
        // SAFETY: 1. the descriptor is ours.
        unsafe { libc::close(self.arena) };
    }
}

#[cfg(test)]
mod tests {
    use super::{Loader, PAGE, elrange};

    const BASE: u64 = elrange::IMAGE_BASE;

    #[test]
    fn pages_of_equal_rights_are_one_run() {
        let mut loader = Loader { runs: Vec::new() };
        let pages = [(0, 5), (1, 5), (2, 3), (4, 3), (5, 3)];
        for (n, rights) in pages {
            loader.note(BASE + n * PAGE, rights).unwrap();
        }
        let at = |from, to| BASE + from * PAGE..BASE + to * PAGE;
        assert_eq!(loader.runs, [(at(0, 2), 5), (at(2, 3), 3), (at(4, 6), 3)]);
    }

    #[test]
    fn a_page_is_added_once_and_inside_the_region() {
        let mut loader = Loader { runs: Vec::new() };
        loader.note(BASE + PAGE, 3).unwrap();
        for addr in [BASE, BASE + PAGE, BASE - PAGE, elrange::IMAGE_END, !(PAGE - 1)] {
            assert!(loader.note(addr, 3).is_err(), "{addr:#x}");
        }
    }
}
