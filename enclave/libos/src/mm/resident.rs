//! Which pages of a domain are resident: a bitmap, 64 pages (256 KiB) a word.
//!
//! Invariant: a page is resident exactly if it shows its content at the host (rights may still be none, PROT_NONE).
use super::{Mm, PAGE, page_ceil};
use alloc::collections::BTreeMap;
use core::ops::Range;

impl Mm {
    pub(super) fn is_resident(&self, page: u64) -> bool {
        let n = page / PAGE;
        self.inner.with(|i| i.resident.get(&(n / 64)).is_some_and(|w| w >> (n % 64) & 1 != 0))
    }

    pub(super) fn set_resident(&self, r: Range<u64>, on: bool) {
        self.inner.with_mut(|i| {
            for n in r.start / PAGE..r.end / PAGE {
                let w = i.resident.entry(n / 64).or_insert(0);
                if on {
                    *w |= 1 << (n % 64);
                } else {
                    *w &= !(1 << (n % 64));
                }
            }
        });
    }

    /// Runs of pages in `r` whose residency is `want`. Each is looked for when it is its turn: there may be too many for one
    /// list.
    pub(super) fn runs(&self, r: Range<u64>, want: bool) -> impl Iterator<Item = Range<u64>> {
        let end = page_ceil(r.end) / PAGE;
        let mut from = (r.start / PAGE).min(end);
        core::iter::from_fn(move || {
            let run = self.inner.with(|i| {
                let first = seek(&i.resident, from..end, want);
                first..seek(&i.resident, first..end, !want)
            });
            from = run.end;
            (!run.is_empty()).then(|| run.start * PAGE..run.end * PAGE)
        })
    }

    pub fn resident_runs(&self, r: Range<u64>) -> impl Iterator<Item = Range<u64>> {
        self.runs(r, true)
    }
}

/// The first page of `r` whose residency is `want`, or the end.
fn seek(resident: &BTreeMap<u64, u64>, r: Range<u64>, want: bool) -> u64 {
    let in_word = |k: u64, word: u64| {
        let wanted = if want { word } else { !word };
        let from = r.start.max(k * 64) % 64;
        let left = wanted & u64::MAX << from;
        (left != 0).then(|| k * 64 + u64::from(left.trailing_zeros()))
    };
    let words = r.start / 64..r.end.div_ceil(64);
    let found = if want {
        resident.range(words).find_map(|(k, word)| in_word(*k, *word))
    } else {
        words.into_iter().find_map(|k| in_word(k, resident.get(&k).copied().unwrap_or(0)))
    };
    found.map_or(r.end, |n| n.min(r.end)).max(r.start)
}
