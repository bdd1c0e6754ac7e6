//! Random bytes from RDRAND, with retries (M4).

/// Tries per word; ten suffice on healthy hardware.
const TRIES: u32 = 1000;

/// Fills `buf`. Ends the enclave if the source stays dry: weak randomness would be worse.
pub fn fill(buf: &mut [u8]) {
    for chunk in buf.chunks_mut(8) {
        let word = (0..TRIES).find_map(|_| crate::arch::rdrand()).expect("RDRAND gives no randomness");
        chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
    }
}
