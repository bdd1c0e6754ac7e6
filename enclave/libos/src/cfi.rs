//! Control-flow integrity: where returns, indirect calls and indirect jumps may go (`docs/cfi.md`).
//!
//! Neighbours: `code` asks at every miss of a lookup table.
use occlum_enclave_abi::CfiLevel;
use occlum_rt::bkl::BklCell;

static LEVEL: BklCell<CfiLevel> = BklCell::new(CfiLevel::Default);

/// Takes the measured level. False: this LibOS does not enforce it.
pub fn init(level: CfiLevel) -> bool {
    LEVEL.set(level);
    level != CfiLevel::ShadowStack
}
