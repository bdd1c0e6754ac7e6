//! Keys: a store has one random data key, kept in its header wrapped by the root key that the user or the
//! enclave brings. Rotation of the root key wraps the data key anew and touches no data.
use aes_gcm::aead::{AeadInPlace, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce, Tag};
use hmac::{Hmac, Mac};
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

fn wrapping_key(root: &[u8; 32], id: &[u8; 16]) -> Option<Aes256Gcm> {
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(root).ok()?;
    mac.update(PURPOSE);
    mac.update(id);
    Some(Aes256Gcm::new(&mac.finalize().into_bytes()))
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
    out[12..44].copy_from_slice(key);
    if let Some(cipher) = wrapping_key(root, id)
        && let Ok(tag) = cipher.encrypt_in_place_detached(Nonce::from_slice(&nonce), header, &mut out[12..44])
    {
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
    key.copy_from_slice(&wrapped[12..44]);
    let (nonce, tag) = (Nonce::from_slice(&wrapped[..12]), Tag::from_slice(&wrapped[44..]));
    wrapping_key(root, id)?.decrypt_in_place_detached(nonce, header, &mut key, tag).ok()?;
    Some(key)
}
