//! MRENCLAVE: the SHA-256 stream of ECREATE, EADD and EEXTEND records (SDM 3D, "Enclave measurement").
//!
//! Invariant: every record is one 64-byte block, so the stream never splits a block.
use crate::PAGE;
use sha2::{Digest, Sha256};

/// Bytes measured by one EEXTEND.
pub const EXTEND: usize = 256;

/// An incremental measurement.
#[derive(Clone)]
pub struct Measurement {
    hash: Sha256,
}

/// One 64-byte record: a tag, then fields.
fn record(tag: &[u8], fields: &[(usize, &[u8])]) -> [u8; 64] {
    let mut b = [0; 64];
    b[..tag.len()].copy_from_slice(tag);
    for (at, bytes) in fields {
        b[*at..*at + bytes.len()].copy_from_slice(bytes);
    }
    b
}

impl Measurement {
    /// ECREATE.
    pub fn ecreate(ssa_frame_pages: u32, size: u64) -> Self {
        let mut hash = Sha256::new();
        let fields: [(usize, &[u8]); 2] = [(8, &ssa_frame_pages.to_le_bytes()), (12, &size.to_le_bytes())];
        hash.update(record(b"ECREATE\0", &fields));
        Self { hash }
    }

    /// EADD of the page at `offset` with SECINFO.FLAGS `flags`.
    pub fn eadd(&mut self, offset: u64, flags: u64) {
        // The first 48 bytes of SECINFO are measured; all but FLAGS are zero.
        let fields: [(usize, &[u8]); 2] = [(8, &offset.to_le_bytes()), (16, &flags.to_le_bytes())];
        self.hash.update(record(b"EADD\0\0\0\0", &fields));
    }

    /// EEXTEND of 256 bytes at `offset`.
    pub fn eextend(&mut self, offset: u64, bytes: &[u8; EXTEND]) {
        self.hash.update(record(b"EEXTEND\0", &[(8, &offset.to_le_bytes())]));
        self.hash.update(bytes);
    }

    /// EADD, then EEXTEND of the whole page.
    pub fn add_page(&mut self, offset: u64, flags: u64, page: &[u8; PAGE]) {
        self.eadd(offset, flags);
        for (i, chunk) in page.chunks_exact(EXTEND).enumerate() {
            let mut bytes = [0; EXTEND];
            bytes.copy_from_slice(chunk);
            self.eextend(offset + (i * EXTEND) as u64, &bytes);
        }
    }

    /// EINIT: MRENCLAVE.
    pub fn finish(self) -> [u8; 32] {
        self.hash.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_have_the_fields_of_the_manual() {
        let b = record(b"ECREATE\0", &[(8, &1u32.to_le_bytes()), (12, &0x1_0000u64.to_le_bytes())]);
        assert_eq!(&b[..8], b"ECREATE\0");
        assert_eq!(&b[8..20], &[1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0]);
        assert!(b[20..].iter().all(|x| *x == 0));
    }

    #[test]
    fn a_page_is_one_eadd_and_sixteen_eextends() {
        let page = core::array::from_fn(|i| (i / 256) as u8);
        let mut whole = Measurement::ecreate(1, 1 << 20);
        whole.add_page(0x3000, 0x203, &page);
        let mut steps = Measurement::ecreate(1, 1 << 20);
        steps.eadd(0x3000, 0x203);
        for i in 0..16u64 {
            steps.eextend(0x3000 + 256 * i, &[i as u8; 256]);
        }
        assert_eq!(whole.finish(), steps.finish());
    }

    #[test]
    fn everything_measured_changes_the_result() {
        let base = |frames, size, offset, flags, byte| {
            let mut m = Measurement::ecreate(frames, size);
            m.add_page(offset, flags, &[byte; PAGE]);
            m.finish()
        };
        let first = base(1, 1 << 20, 0, 0x205, 0);
        for other in [
            base(2, 1 << 20, 0, 0x205, 0),
            base(1, 1 << 21, 0, 0x205, 0),
            base(1, 1 << 20, 4096, 0x205, 0),
            base(1, 1 << 20, 0, 0x207, 0),
            base(1, 1 << 20, 0, 0x205, 1),
        ] {
            assert_ne!(first, other);
        }
    }
}
