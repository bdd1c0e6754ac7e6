//! How many places of a file control may go to, at each level of control-flow integrity, without running it.
//!
//! Neighbours: `common/cfi` and the translator's survey say what the enclave would learn; `docs/cfi.md` has the rules. The
//! enclave knows of calls and constants only once their code was translated, so these counts are upper bounds.
//! Invariants: files are hostile: any bytes give a report.

use crate::verify::{Part, executable};
use occlum_cfi::{Facts, decodes_to};
use occlum_sfi_translator::{Source, Survey, survey};
use std::collections::BTreeSet;
use std::path::Path;

/// Bytes that are decoded at once.
const WINDOW: usize = 64 << 10;
/// Bytes behind a label in which the enclave looks for steps.
const STEPS: usize = 1000;
const ENDBR64: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];
const NOP: u8 = 0x90;

/// Places that control may go to.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) boundaries: u64,
    pub(crate) returns: u64,
    pub(crate) branches: u64,
    pub(crate) strict_branches: u64,
}

/// A file's code with what it says.
struct Code<'a> {
    file: &'a [u8],
    parts: Vec<Part>,
    seen: Survey,
}

/// Counts for a file. `None`: it has no code for this machine.
pub(crate) fn file(path: &Path) -> std::io::Result<Option<Counts>> {
    Ok(bytes(&std::fs::read(path)?))
}

fn bytes(file: &[u8]) -> Option<Counts> {
    let parts = executable(file).ok().filter(|parts| !parts.is_empty())?;
    let facts = Facts::read(&file).ok()??;
    let mut code = Code { file, parts, seen: Survey::default() };
    code.survey();
    let boundaries: BTreeSet<u32> = code.seen.boundaries.iter().copied().collect();
    let returns = code.returns(&facts);
    let strict = code.strict(&facts);
    Some(Counts {
        boundaries: boundaries.len() as u64,
        returns: returns.len() as u64,
        branches: boundaries.len() as u64,
        strict_branches: strict.len() as u64,
    })
}

impl Code<'_> {
    fn survey(&mut self) {
        for part in &self.parts {
            let bytes = &self.file[part.file.clone()];
            let mut at = 0;
            while at < bytes.len() {
                let window = &bytes[at..bytes.len().min(at + WINDOW)];
                let s = survey(Source { start: part.offset.wrapping_add(at as u32), bytes: window });
                at += (s.len as usize).max(1);
                self.seen.boundaries.extend(s.boundaries);
                self.seen.returns.extend(s.returns);
                self.seen.taken.extend(s.taken);
                self.seen.spreads.extend(s.spreads);
            }
        }
    }

    /// The bytes from an address on; none if no code is there.
    fn at(&self, vaddr: u32) -> &[u8] {
        let inside = |p: &&Part| (vaddr.wrapping_sub(p.offset) as usize) < p.file.len();
        self.parts
            .iter()
            .find(inside)
            .map_or(&[], |p| &self.file[p.file.start + vaddr.wrapping_sub(p.offset) as usize..p.file.end])
    }

    fn is_code(&self, vaddr: u32) -> bool {
        !self.at(vaddr).is_empty()
    }

    /// Behind calls, and addresses made by instructions that no other file can name.
    fn returns(&self, facts: &Facts) -> BTreeSet<u32> {
        let taken = self.seen.taken.iter().copied().filter(|t| self.is_code(*t));
        let made = taken.flat_map(|t| {
            let own = (!facts.is_exported(u64::from(t))).then_some(t);
            let behind_nop = (self.at(t).first() == Some(&NOP)).then(|| t.wrapping_add(1));
            own.into_iter().chain(behind_nop)
        });
        self.seen.returns.iter().copied().chain(made).collect()
    }

    fn strict(&self, facts: &Facts) -> BTreeSet<u32> {
        let mut all: BTreeSet<u32> = self.seen.returns.iter().copied().collect();
        all.extend(facts.named());
        all.extend(facts.landing_pads(&self.file));
        all.extend(self.seen.taken.iter().copied().filter(|t| self.is_code(*t)));
        all.extend(self.tables(facts));
        for label in &self.seen.spreads {
            let bytes = self.at(*label);
            let steps =
                (0..STEPS.min(bytes.len())).filter(|n| decodes_to(&bytes[..bytes.len().min(1024)], *n));
            all.extend(steps.map(|n| label.wrapping_add(n as u32)));
        }
        let boundaries = self.seen.boundaries.iter().copied();
        all.extend(boundaries.filter(|b| {
            let before = b.checked_sub(1).and_then(|before| self.at(before).first()).copied().unwrap_or(0);
            let bytes = self.at(*b);
            let first = bytes.first().copied().unwrap_or(0);
            bytes.starts_with(&ENDBR64) || facts.is_of_a_runtime(&self.file, u64::from(*b), before, first)
        }));
        all
    }

    fn tables(&self, facts: &Facts) -> Vec<u32> {
        let tables: BTreeSet<u32> = self.seen.taken.iter().copied().collect();
        let ends = tables.iter().skip(1).map(|t| u64::from(*t)).chain([u64::MAX]);
        let found = tables.iter().zip(ends).flat_map(|(t, end)| {
            let table = u64::from(*t);
            facts.jump_table(&self.file, table, table, end)
        });
        found.collect()
    }
}
