//! Guest memory: page rights, and the only routines that touch it (R18).
//!
//! Invariants: offset + length is computed in 64 bits and checked against 4 GiB; a page fault inside a
//! routine comes back as `Fault` through stage 1 (I4), so pages may vanish at any time.
use crate::asm::{self, UserResult};
use crate::vcpu::Vcpu;
use core::sync::atomic::Ordering;
use occlum_enclave_abi::Ocall;
use occlum_sfi_spec::domain;

/// Right to read (`protect`).
pub const R: u32 = 1;
/// Right to write.
pub const W: u32 = 2;

const EINVAL: i32 = 22;
const PAGE: u64 = occlum_sfi_spec::PAGE;

/// A guest's 4 GiB.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slot(u32);

/// A page of guest memory could not be accessed. Bytes before it may have been copied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Offset of the access that faulted.
    pub off: u32,
    /// The access was a write.
    pub write: bool,
}

fn result(r: UserResult) -> Result<u64, Fault> {
    if r.fault == 0 {
        return Ok(r.value);
    }
    let write = Vcpu::this().user_fault_write.load(Ordering::Relaxed) != 0;
    // Slots are 4 GiB-aligned: the low half of an address is the offset.
    Err(Fault { off: r.fault as u32, write })
}

impl Slot {
    /// Slot `index`.
    ///
    /// # Panics
    /// If there is no such slot.
    pub const fn new(index: u32) -> Slot {
        assert!((index as u64) < domain::COUNT);
        Slot(index)
    }
    /// Its number.
    pub const fn index(self) -> u32 {
        self.0
    }
    pub(crate) const fn base(self) -> u64 {
        domain::base(self.0 as u64)
    }
    /// Slot with this base (0 for "none yet" gives slot 0, whose memory such a context never uses).
    pub(crate) fn from_base(base: u64) -> Slot {
        Slot((base.saturating_sub(domain::FIRST_BASE) / domain::STRIDE) as u32)
    }

    /// Address of [off, off + len), if that lies in the slot.
    fn range(self, off: u64, len: u64, write: bool) -> Result<u64, Fault> {
        match off.checked_add(len) {
            Some(end) if end <= domain::SIZE => Ok(self.base() + off),
            _ => Err(Fault { off: off as u32, write }),
        }
    }

    /// Sets the rights of whole pages (`R`, `W` or both; 0 none), populates them now, or drops their content
    /// first.
    pub fn protect(
        self,
        off: u64,
        len: u64,
        prot: u32,
        populate: bool,
        drop_content: bool,
    ) -> Result<(), i32> {
        let end = off.checked_add(len).ok_or(EINVAL)?;
        let inside = off >= domain::MAP_MIN && end <= domain::MAP_MAX;
        if !inside || !off.is_multiple_of(PAGE) || !len.is_multiple_of(PAGE) || prot & !(R | W) != 0 {
            return Err(EINVAL);
        }
        if len == 0 {
            return Ok(());
        }
        let flags = u64::from(populate) | u64::from(drop_content) << 1;
        let args = [self.base() + off, len, u64::from(prot), flags];
        let mut refused = crate::ocall::call(Ocall::MemProtect, &args, &[], &mut []);
        if refused != 0 && drop_content {
            self.scrub(off, len);
            refused = crate::ocall::call(Ocall::MemProtect, &args, &[], &mut []);
        }
        match refused {
            0 => Ok(()),
            e => Err(e
                .checked_neg()
                .and_then(|e| i32::try_from(e).ok())
                .filter(|e| (1..4096).contains(e))
                .unwrap_or(EINVAL)),
        }
    }

    /// No content stays where the host would not drop it: callers take the pages for empty, and the next
    /// process may get them.
    fn scrub(self, off: u64, len: u64) {
        for at in (off..off + len).step_by(PAGE as usize) {
            if self.zero(at, PAGE).is_ok() || self.is_zero(at) {
                continue;
            }
            let args = [self.base() + at, PAGE, u64::from(R | W), 0];
            let refused = crate::ocall::call(Ocall::MemProtect, &args, &[], &mut []);
            if self.zero(at, PAGE).is_err() {
                crate::ocall::give_up(Ocall::MemProtect, refused);
            }
        }
    }

    /// Is this page readable and zero?
    fn is_zero(self, at: u64) -> bool {
        let mut piece = [1u8; 256];
        (at..at + PAGE)
            .step_by(piece.len())
            .all(|at| self.read(at, &mut piece).is_ok() && piece.iter().all(|b| *b == 0))
    }

    /// Copies out of the guest.
    pub fn read(self, off: u64, buf: &mut [u8]) -> Result<(), Fault> {
        let src = self.range(off, buf.len() as u64, false)?;
        // SAFETY: 1. the source is guest memory, accessed only by this fixed-up routine; 2. the destination
        // is `buf`.
        result(unsafe { asm::occlum_rt_user_copy(buf.as_mut_ptr() as u64, src, buf.len() as u64) }).map(drop)
    }
    /// Copies into the guest.
    pub fn write(self, off: u64, buf: &[u8]) -> Result<(), Fault> {
        let dst = self.range(off, buf.len() as u64, true)?;
        // SAFETY: 1. the destination is guest memory, which no Rust object overlaps; 2. the source is `buf`.
        result(unsafe { asm::occlum_rt_user_copy(dst, buf.as_ptr() as u64, buf.len() as u64) }).map(drop)
    }
    /// Writes zeros.
    pub fn zero(self, off: u64, len: u64) -> Result<(), Fault> {
        let dst = self.range(off, len, true)?;
        // SAFETY: the destination is guest memory, which no Rust object overlaps.
        result(unsafe { asm::occlum_rt_user_zero(dst, len) }).map(drop)
    }
    /// Copies between guests (or inside one; the ranges do not overlap).
    pub fn copy(src: Slot, src_off: u64, dst: Slot, dst_off: u64, len: u64) -> Result<(), Fault> {
        let from = src.range(src_off, len, false)?;
        let to = dst.range(dst_off, len, true)?;
        // SAFETY: both are guest memory, which no Rust object overlaps.
        result(unsafe { asm::occlum_rt_user_copy(to, from, len) }).map(drop)
    }

    /// Atomic compare-and-exchange of an aligned word; returns the previous value. Unaligned ones fault as reads.
    pub fn cmpxchg_u32(self, off: u64, old: u32, new: u32) -> Result<u32, Fault> {
        if !off.is_multiple_of(4) {
            return Err(Fault { off: off as u32, write: false });
        }
        let at = self.range(off, 4, true)?;
        // SAFETY: guest memory, fixed-up routine.
        result(unsafe { asm::occlum_rt_user_cas32(at, old, new) }).map(|v| v as u32)
    }
}
