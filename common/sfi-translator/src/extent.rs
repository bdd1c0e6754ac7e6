//! Finds the instructions of one fragment: a linear extent with all paths that stay inside it.
//!
//! Neighbours: `classify` names each instruction; `emit` walks the result.
//! Invariants: items are in ascending order of offset and do not overlap; a gap between two of them means that control
//! never falls from one to the other.

use crate::classify::{Class, classify};
use crate::{Config, Env, Error, Source};
use alloc::vec::Vec;
use iced_x86::{Decoder, DecoderError, DecoderOptions, Instruction};
use occlum_sfi_spec::domain;

/// Padding or foreign code that may lie between two blocks of one fragment.
const MAX_GAP: u32 = 256;

/// One original instruction.
pub(crate) struct Item {
    pub(crate) instr: Instruction,
    pub(crate) class: Class,
    pub(crate) off: u32,
    /// A branch of this fragment goes here.
    pub(crate) leader: bool,
    /// The item before it is a call.
    pub(crate) return_site: bool,
}

impl Item {
    /// Offset of the following instruction.
    pub(crate) fn next(&self) -> u32 {
        self.off.wrapping_add(self.instr.len() as u32)
    }
}

/// The instructions of a fragment; none if the start is translated already.
pub(crate) struct Extent {
    pub(crate) items: Vec<Item>,
}

impl Extent {
    /// Position of the leader at `off`.
    pub(crate) fn leader_at(&self, off: u32) -> Option<usize> {
        let n = self.items.binary_search_by_key(&off, |i| i.off).ok()?;
        (self.items[n].leader || n == 0).then_some(n)
    }
}

/// Decodes from `src.start` on.
pub(crate) fn find(cfg: &Config, src: Source<'_>, env: &dyn Env) -> Result<Extent, Error> {
    let mut items: Vec<Item> = Vec::new();
    let mut targets: Vec<u32> = Vec::new();
    let mut pc = src.start;
    if env.lookup(pc).is_some() {
        return Ok(Extent { items });
    }
    while items.len() < cfg.max_instructions.max(1) {
        let known = !items.is_empty() && env.lookup(pc).is_some();
        let decoded = if known { None } else { decode(src, pc) };
        if decoded.is_none() && !known {
            break;
        }
        let mut ends = true;
        if let Some(instr) = decoded {
            let class = classify(&instr, cfg.native_tsc);
            let return_site = items.last().is_some_and(|p| p.next() == pc && p.class.is_call());
            items.push(Item { instr, class, off: pc, leader: false, return_site });
            if let Class::Jmp(t) | Class::Jcc(t) | Class::Loop(t) = class {
                targets.push(t);
            }
            pc = pc.wrapping_add(instr.len() as u32);
            ends = class.ends_block();
        }
        if ends {
            match next_block(&targets, pc, known) {
                Some(t) => pc = t,
                None => break,
            }
        }
    }
    if items.is_empty() {
        return Err(Error::Truncated);
    }
    mark_leaders(&mut items, targets);
    Ok(Extent { items })
}

/// All instructions of `src` one after the other, whether or not control gets there.
pub(crate) fn linear(src: Source<'_>) -> Extent {
    let mut items = Vec::new();
    let mut pc = src.start;
    while let Some(instr) = decode(src, pc) {
        items.push(Item {
            instr,
            class: classify(&instr, false),
            off: pc,
            leader: false,
            return_site: false,
        });
        pc = pc.wrapping_add(instr.len() as u32);
    }
    Extent { items }
}

/// The nearest branch target behind a block's end at `pc`. `known`: `pc` itself is translated already.
fn next_block(targets: &[u32], pc: u32, known: bool) -> Option<u32> {
    let first = if known { pc.checked_add(1)? } else { pc };
    targets.iter().copied().filter(|&t| t >= first && t - first <= MAX_GAP).min()
}

fn decode(src: Source<'_>, pc: u32) -> Option<Instruction> {
    if u64::from(pc) >= domain::EXEC_MAX {
        return None;
    }
    let bytes = src.bytes.get(pc.checked_sub(src.start)? as usize..)?;
    let limit = (domain::EXEC_MAX - u64::from(pc)).min(bytes.len() as u64) as usize;
    let mut decoder = Decoder::with_ip(64, &bytes[..limit.min(16)], u64::from(pc), DecoderOptions::NONE);
    let instr = decoder.decode();
    if decoder.last_error() == DecoderError::NoMoreBytes { None } else { Some(instr) }
}

fn mark_leaders(items: &mut [Item], mut targets: Vec<u32>) {
    targets.extend(items.iter().filter_map(|i| if let Class::Call(t) = i.class { Some(t) } else { None }));
    targets.sort_unstable();
    targets.dedup();
    for t in targets {
        if let Ok(n) = items.binary_search_by_key(&t, |i| i.off) {
            items[n].leader = true;
        }
    }
}
