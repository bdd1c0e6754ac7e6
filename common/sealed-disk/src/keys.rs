//! Keys: a store has one random data key, kept in its header wrapped by the root key that the user or the
//! enclave brings. Rotation of the root key wraps the data key anew and touches no data.
use crate::bytes;
use crate::cipher::Cipher;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// How a store is opened.
#[derive(Clone, Copy)]
pub enum Key<'a> {
    /// Integrity only: no key.
    None,
    /// Encrypted: the root key.
    Root(&'a [u8; 32]),
}

/// Where random bytes come from.
pub trait Random {
    /// Fills `bytes`.
    fn fill(&mut self, bytes: &mut [u8]);
}

/// Bytes of a wrapped key: nonce, ciphertext, tag.
pub(crate) const WRAPPED: usize = 60;
const PURPOSE: &[u8] = b"occlum sealed disk v1: key wrap";

fn wrapping_key(root: &[u8; 32], id: &[u8; 16]) -> Option<Cipher> {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(root).ok()?;
    mac.update(PURPOSE);
    mac.update(id);
    Some(Cipher::new(&mac.finalize().into_bytes().into()))
}

/// Wraps the data key; `header` (the store's public header) is authenticated with it.
pub(crate) fn wrap(
    root: &[u8; 32],
    id: &[u8; 16],
    header: &[u8],
    key: &[u8; 32],
    nonce: [u8; 12],
) -> [u8; WRAPPED] {
    let mut out = [0; WRAPPED];
    out[..12].copy_from_slice(&nonce);
    if let Some(cipher) = wrapping_key(root, id) {
        let tag = cipher.seal(&nonce, header, key, &mut out[12..44]);
        out[44..].copy_from_slice(&tag);
    }
    out
}

/// The data key, if `root` is the key it was wrapped with.
pub(crate) fn unwrap(
    root: &[u8; 32],
    id: &[u8; 16],
    header: &[u8],
    wrapped: &[u8; WRAPPED],
) -> Option<[u8; 32]> {
    let mut key = [0; 32];
    let cipher = wrapping_key(root, id)?;
    let (nonce, tag) = (bytes::array(wrapped, 0), bytes::array(wrapped, 44));
    cipher.open(&nonce, header, &wrapped[12..44], &mut key, &tag).then_some(key)
}
