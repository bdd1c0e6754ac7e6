//! The vDSO: code that every program gets with `AT_SYSINFO_EHDR` to read the clocks without a system call.
//!
//! Neighbours: `vdso.S` is the code, `loader` maps it, `code` translates it as any other, `time` has the numbers.
//! Invariants: one file for the whole enclave, the ELF file and behind it the page of data, which nobody can open or
//! write; so all processes share its translations, and a write to the mapping makes a copy of the process's own. Its
//! data never changes. `rdtsc` is executed in it and only there (`docs/sfi.md`).
use crate::errno::Result;
use crate::fs::OpenFile;
use crate::mm::{Backing, MapFile, Mm, PAGE, Vma, page_ceil};
use alloc::sync::Arc;
use alloc::vec;
use occlum_linux_abi::mmap as mf;
use occlum_rt::bkl::BklCell;

/// The linked file.
static IMAGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/vdso.so"));
/// Its name in /proc/PID/maps, and that of its data.
const NAME: &str = "[vdso]";
const DATA_NAME: &str = "[vvar]";

static FILE: BklCell<Option<Arc<OpenFile>>> = BklCell::new(None);

/// Bytes of the code's mapping; the data page follows.
fn code_len() -> u64 {
    page_ceil(IMAGE.len() as u64)
}

/// The file, written at its first use: then the clocks are calibrated.
fn file() -> Result<Arc<OpenFile>> {
    if let Some(file) = FILE.with(Clone::clone) {
        return Ok(file);
    }
    let file = crate::fs::ops::open_unnamed(NAME.as_bytes(), (0, 0));
    let mut content = vec![0; (code_len() + PAGE) as usize];
    content[..IMAGE.len()].copy_from_slice(IMAGE);
    let data = content[code_len() as usize..].chunks_exact_mut(8);
    for (word, value) in data.zip(crate::time::parameters()) {
        word.copy_from_slice(&value.to_le_bytes());
    }
    file.inode().write_at(0, &content)?;
    FILE.set(Some(file.clone()));
    Ok(file)
}

/// Maps code and data; returns the address for `AT_SYSINFO_EHDR`.
pub fn map(mm: &Mm) -> Result<u64> {
    let file = file()?;
    let from = |offset| Backing::File(MapFile(file.clone()), offset);
    let code = mf::PROT_READ | mf::PROT_EXEC;
    let at = mm.map(None, 0, code_len() + PAGE, code, from(0))?;
    mm.map(Some(at + code_len()), 0, PAGE, mf::PROT_READ, from(code_len()))?;
    mm.set_name(at, NAME);
    mm.set_name(at + code_len(), DATA_NAME);
    Ok(at)
}

/// Is it the vDSO's code as it came?
pub fn is_code(vma: &Vma) -> bool {
    vma.name == NAME && !vma.has_own_code()
}
