//! Which pages of a domain are resident: a bitmap, 64 pages (256 KiB) a word.
//!
//! Invariant: a page is resident exactly if it shows its content at the host (rights may still be none, PROT_NONE).
use super::{Mm, PAGE, page_ceil};
use alloc::vec::Vec;
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

    /// Runs of pages in `r` whose residency is `want`.
    pub(super) fn runs(&self, r: Range<u64>, want: bool) -> Vec<Range<u64>> {
        if want {
            return self.resident_runs(r);
        }
        let mut out: Vec<Range<u64>> = Vec::new();
        self.inner.with(|i| {
            let mut n = r.start / PAGE;
            let end = page_ceil(r.end) / PAGE;
            while n < end {
                let word = i.resident.get(&(n / 64)).copied().unwrap_or(0);
                if word >> (n % 64) & 1 == 0 {
                    match out.last_mut() {
                        Some(last) if last.end == n * PAGE => last.end += PAGE,
                        _ => out.push(n * PAGE..(n + 1) * PAGE),
                    }
                }
                n += 1;
            }
        });
        out
    }

    pub fn resident_runs(&self, r: Range<u64>) -> Vec<Range<u64>> {
        let mut out: Vec<Range<u64>> = Vec::new();
        let (first, last) = (r.start / PAGE, page_ceil(r.end) / PAGE);
        self.inner.with(|i| {
            for (k, word) in i.resident.range(first / 64..=last / 64) {
                let mut left = *word;
                while left != 0 {
                    let n = k * 64 + u64::from(left.trailing_zeros());
                    left &= left - 1;
                    if n < first || n >= last {
                        continue;
                    }
                    match out.last_mut() {
                        Some(run) if run.end == n * PAGE => run.end += PAGE,
                        _ => out.push(n * PAGE..(n + 1) * PAGE),
                    }
                }
            }
        });
        out
    }
}
