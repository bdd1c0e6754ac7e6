//! Layer 1: seals and opens single blocks. A seal is 28 bytes: nonce and tag of AES-256-GCM, or a digest in the
//! integrity-only form. What a block is and where it belongs goes into the seal, so no block passes for another.
//!
//! Content goes from one buffer to another of the same length on its way through a seal.
use crate::bytes;
use crate::cipher::Cipher;
use sha2::{Digest as _, Sha256};

/// Bytes of a seal.
pub const SEAL: usize = 28;
/// What authenticates one block.
pub type Seal = [u8; SEAL];
const NONCE: usize = 12;

/// What a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A logical block.
    Data = 1,
    /// A node of the map.
    Map = 2,
    /// A node of the space tree.
    SpaceTree = 3,
    /// A block of the free-space bitmap.
    Space = 4,
    /// A block of the journal.
    Journal = 5,
    /// The body of a superblock.
    Super = 6,
}

/// What a block is and where it belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// What it is.
    pub kind: Kind,
    /// Level of a node; 0 for others.
    pub level: u8,
    /// Number among its kind.
    pub index: u64,
}

impl Place {
    fn bytes(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[0] = self.kind as u8;
        bytes[1] = self.level;
        bytes[8..].copy_from_slice(&self.index.to_le_bytes());
        bytes
    }
}

/// Longest additional data: a store's public header, or a seal.
const EXTRA_MAX: usize = 32;
fn associated(place: &Place, extra: &[u8]) -> ([u8; 16 + EXTRA_MAX], usize) {
    let mut bytes = [0; 16 + EXTRA_MAX];
    bytes[..16].copy_from_slice(&place.bytes());
    let n = extra.len().min(EXTRA_MAX);
    bytes[16..16 + n].copy_from_slice(&extra[..n]);
    (bytes, 16 + n)
}

/// Seals blocks. A trait, so that tests can put their own in its place.
pub trait Guard {
    /// Seals `from` into `to`.
    fn seal(&mut self, place: &Place, extra: &[u8], from: &[u8], to: &mut [u8]) -> Seal;
    /// Opens `from` into `to`; false (and `to` without meaning) if it is not what was sealed.
    fn open(&self, place: &Place, extra: &[u8], from: &[u8], to: &mut [u8], seal: &Seal) -> bool;
}

/// Encrypts. Nonces count up from a random start, which every opening of a store draws anew.
pub(crate) struct Gcm {
    cipher: Cipher,
    nonce: u128,
}

impl Gcm {
    pub(crate) fn new(key: &[u8; 32], start: [u8; NONCE]) -> Self {
        let mut wide = [0; 16];
        wide[..NONCE].copy_from_slice(&start);
        Self { cipher: Cipher::new(key), nonce: u128::from_le_bytes(wide) }
    }
}

impl Guard for Gcm {
    fn seal(&mut self, place: &Place, extra: &[u8], from: &[u8], to: &mut [u8]) -> Seal {
        self.nonce = self.nonce.wrapping_add(1);
        let nonce: [u8; NONCE] = bytes::array(&self.nonce.to_le_bytes(), 0);
        let (aad, n) = associated(place, extra);
        let tag = self.cipher.seal(&nonce, &aad[..n], from, to);
        let mut seal = [0; SEAL];
        seal[..NONCE].copy_from_slice(&nonce);
        seal[NONCE..].copy_from_slice(&tag);
        seal
    }
    fn open(&self, place: &Place, extra: &[u8], from: &[u8], to: &mut [u8], seal: &Seal) -> bool {
        let (aad, n) = associated(place, extra);
        self.cipher.open(&bytes::array(seal, 0), &aad[..n], from, to, &bytes::array(seal, NONCE))
    }
}

/// Does not encrypt: the form of images, the same bytes for the same content.
pub(crate) struct Digest;

impl Guard for Digest {
    fn seal(&mut self, place: &Place, extra: &[u8], from: &[u8], to: &mut [u8]) -> Seal {
        to.copy_from_slice(from);
        digest(place, extra, from)
    }
    fn open(&self, place: &Place, extra: &[u8], from: &[u8], to: &mut [u8], seal: &Seal) -> bool {
        to.copy_from_slice(from);
        digest(place, extra, to) == *seal
    }
}

fn digest(place: &Place, extra: &[u8], data: &[u8]) -> Seal {
    let (aad, n) = associated(place, extra);
    let mut hash = Sha256::new();
    hash.update([n as u8]);
    hash.update(&aad[..n]);
    hash.update(data);
    let full = hash.finalize();
    core::array::from_fn(|i| full[i])
}
