//! Little-endian fields at offsets. Reads beyond the end are zero, writes beyond it are dropped, so no offset
//! can panic.

/// `N` bytes at `at`.
pub(crate) fn array<const N: usize>(from: &[u8], at: usize) -> [u8; N] {
    core::array::from_fn(|i| from.get(at.saturating_add(i)).copied().unwrap_or(0))
}

/// A 32-bit number at `at`.
pub(crate) fn get32(from: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(from, at))
}

/// A 64-bit number at `at`.
pub(crate) fn get64(from: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(from, at))
}

/// Stores `bytes` at `at`.
pub(crate) fn put(to: &mut [u8], at: usize, bytes: &[u8]) {
    for (slot, byte) in to.iter_mut().skip(at).zip(bytes) {
        *slot = *byte;
    }
}
