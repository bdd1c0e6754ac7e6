//! Every check earns its place: with it taken out, something is accepted that must not be. Needs the feature `mutate`:
//! `cargo test -p occlum-sfi-verifier --features mutate --test mutation -- --nocapture`
//!
//! A check counts as needed if, without it, a snippet of `fail/` (or a refusal listed below) is accepted; that another
//! check refuses it is not enough.

mod common;
mod slow;

use common::{Accepted, BASE, PROVEN, STUBS, Snippet, check, snippets};
use occlum_sfi_spec::elrange;
use occlum_sfi_verifier::{Check, Proven, check_patch, check_table_entry, is_set, mutate};
use slow::unit::{Places, check_unit};

/// Entries at PROVEN and a branch across a line behind it.
struct Known;

impl Proven for Known {
    fn is_entry(&self, addr: u32) -> bool {
        addr == PROVEN || addr == PROVEN + 11
    }

    fn is_boundary(&self, addr: u32) -> bool {
        self.is_entry(addr)
    }
}

/// Checks without which nothing more is accepted, and why they are there.
const EQUIVALENT: &[(Check, &str)] = &[(
    Check::Length,
    "no form of the table has more than 15 bytes, unless 66 stands beside REX.W, which OpsizeWithWide refuses",
)];

/// Refusals that are no matter of a unit's bytes. True: accepted.
fn in_code(c: Check) -> bool {
    let jump = [0xeb, 0xfe];
    match c {
        Check::InCache => check(elrange::CODE_BASE as u32 - 0x1000, &jump).is_ok(),
        Check::PatchLine => check_patch(PROVEN + 13, [0x0f, 0x84], PROVEN, &Known).is_ok(),
        Check::PatchSite => check_patch(PROVEN + 1, [0, 0xe8], PROVEN, &Known).is_ok(),
        Check::PatchTarget => check_patch(PROVEN + 1, [0, 0xe9], BASE, &Known).is_ok(),
        Check::EntryUnproven => check_table_entry(BASE, &Known).is_ok(),
        _ => false,
    }
}

/// Entries of a unit at `.1`.
struct Of(Accepted, u32);

impl Places for Of {
    fn is_entry(&self, at: u32) -> bool {
        at == PROVEN || is_set(&self.0.entries, at.wrapping_sub(self.1) as usize)
    }

    fn is_boundary(&self, at: u32) -> bool {
        is_set(&self.0.boundaries, at.wrapping_sub(self.1) as usize)
    }
}

/// Accepted although the abstract interpreter sees harm.
fn is_harmful(s: &Snippet) -> bool {
    s.check(&s.code).is_ok_and(|a| check_unit(s.returns(), s.base, &s.code, &STUBS, &Of(a, s.base)).is_err())
}

#[test]
fn without_any_one_check_something_bad_is_accepted() {
    let all = snippets("fail");
    let mut unexpected = Vec::new();
    for (n, &c) in Check::ALL.iter().enumerate() {
        mutate::disable(n);
        let accepted: Vec<&str> =
            all.iter().filter(|s| s.check(&s.code).is_ok()).map(|s| s.title.as_str()).collect();
        let needed = !accepted.is_empty() || in_code(c);
        let argument = EQUIVALENT.iter().find(|e| e.0 == c).map(|e| e.1);
        let harmful = all.iter().filter(|s| is_harmful(s)).count();
        println!(
            "{c:?} ({:?}): {} accepted, {harmful} of them harmful; {:?}",
            c.invariant(),
            accepted.len(),
            argument.or(accepted.first().copied())
        );
        if needed == argument.is_some() {
            unexpected.push(c);
        }
    }
    mutate::disable(usize::MAX);
    assert!(all.iter().all(|s| s.check(&s.code).is_err()), "nothing is disabled any more");
    assert!(unexpected.is_empty(), "{unexpected:?}");
}
