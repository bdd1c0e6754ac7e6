//! The enclave image as a sequence of pages: the ELF file's load segments, the configuration, the vCPU blocks.
//!
//! Order is part of the measurement: segments by address, configuration, then per vCPU its TCS page and the
//! read-write runs of its block, ascending. `occlum.sgx.measurement` computes the same from the same description.
use crate::PalError;
use occlum_sfi_spec::elrange;
use occlum_sgx_arch::measure::Measurement;
use occlum_sgx_arch::{PAGE, layout, secinfo, tcs::Tcs};

/// One page to EADD and EEXTEND.
pub(crate) struct Page {
    /// Linear address (ELRANGE starts at 0, so also the offset).
    pub(crate) addr: u64,
    /// SECINFO.FLAGS.
    pub(crate) flags: u64,
    /// Content.
    pub(crate) bytes: [u8; PAGE],
}

/// The stream after ECREATE.
pub(crate) fn measurement() -> Measurement {
    Measurement::ecreate(1, elrange::SIZE)
}

struct Segment {
    vaddr: u64,
    memsz: u64,
    file: std::ops::Range<usize>,
    flags: u64,
}

fn word(b: &[u8], at: usize, n: usize) -> Result<u64, PalError> {
    let bytes = b.get(at..at + n).ok_or(PalError::Image("it is truncated"))?;
    Ok(bytes.iter().rev().fold(0, |v, b| v << 8 | u64::from(*b)))
}

/// The entry point and load segments.
fn parse(image: &[u8]) -> Result<(u64, Vec<Segment>), PalError> {
    if image.get(..6) != Some(b"\x7fELF\x02\x01") {
        return Err(PalError::Image("it is not an ELF file"));
    }
    let (entry, phoff, phnum) = (word(image, 24, 8)?, word(image, 32, 8)? as usize, word(image, 56, 2)?);
    let mut out = Vec::new();
    for i in 0..phnum as usize {
        let at = phoff.checked_add(i * 56).ok_or(PalError::Image("its headers are out of range"))?;
        if word(image, at, 4)? != 1 {
            continue;
        }
        let f = word(image, at + 4, 4)?;
        let (off, vaddr) = (word(image, at + 8, 8)? as usize, word(image, at + 16, 8)?);
        let (filesz, memsz) = (word(image, at + 32, 8)? as usize, word(image, at + 40, 8)?);
        let end = off.checked_add(filesz).filter(|e| *e <= image.len());
        let end = end.ok_or(PalError::Image("a segment lies outside the file"))?;
        if vaddr < elrange::IMAGE_BASE || vaddr.saturating_add(memsz) > layout::CONFIG_BASE {
            return Err(PalError::Image("a segment lies outside the image region"));
        }
        let flag = |bit: u64, to: u64| if f & bit != 0 { to } else { 0 };
        let flags = flag(4, secinfo::R) | flag(2, secinfo::W) | flag(1, secinfo::X) | secinfo::REG;
        out.push(Segment { vaddr, memsz, file: off..end, flags });
    }
    out.sort_by_key(|s| s.vaddr);
    Ok((entry, out))
}

/// Calls `f` for every page in measurement order.
pub(crate) fn each_page(
    image: &[u8],
    config: &[u8],
    vcpus: u32,
    f: &mut dyn FnMut(&Page) -> Result<(), PalError>,
) -> Result<(), PalError> {
    let (entry, segments) = parse(image)?;
    for s in &segments {
        let mut addr = s.vaddr & !(PAGE as u64 - 1);
        while addr < s.vaddr + s.memsz {
            f(&Page { addr, flags: s.flags, bytes: segment_page(image, s, addr) })?;
            addr += PAGE as u64;
        }
    }
    let rw = secinfo::R | secinfo::W | secinfo::REG;
    let mut addr = layout::CONFIG_BASE;
    for chunk in config.chunks(PAGE) {
        let mut bytes = [0; PAGE];
        bytes[..chunk.len()].copy_from_slice(chunk);
        f(&Page { addr, flags: secinfo::R | secinfo::REG, bytes })?;
        addr += PAGE as u64;
    }
    for n in 0..vcpus {
        let base = layout::thread(n);
        let tcs = Tcs {
            ossa: base + layout::SSA,
            nssa: layout::NSSA,
            oentry: entry,
            ofsbase: base + layout::IDLE_CTX,
        };
        f(&Page { addr: base, flags: secinfo::TCS, bytes: tcs.to_page() })?;
        for (from, to) in layout::RW_RUNS {
            for off in (from..to).step_by(PAGE) {
                f(&Page { addr: base + off, flags: rw, bytes: [0; PAGE] })?;
            }
        }
    }
    Ok(())
}

/// Content of the page at `addr`: file bytes where the segment has them, zero elsewhere.
fn segment_page(image: &[u8], s: &Segment, addr: u64) -> [u8; PAGE] {
    let mut page = [0; PAGE];
    let (file_start, file_end) = (s.vaddr, s.vaddr + s.file.len() as u64);
    let (from, to) = (addr.max(file_start), (addr + PAGE as u64).min(file_end));
    if from < to {
        let src = s.file.start + (from - file_start) as usize;
        let dst = (from - addr) as usize;
        let n = (to - from) as usize;
        page[dst..dst + n].copy_from_slice(&image[src..src + n]);
    }
    page
}
