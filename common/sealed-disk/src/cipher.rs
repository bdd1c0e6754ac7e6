//! AES-256-GCM under one key, by RustCrypto's `aes-gcm`: from one buffer to another of the same length.
//!
//! In the enclave this crate and its ciphers are built for AVX (`tools/rustc_enclave.py`), so whoever works on a store there
//! gives the program's vector state up first.
use aes_gcm::Aes256Gcm;
use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::aead::{AeadInOut, KeyInit};

/// A key that is ready for use.
pub(crate) struct Cipher(Aes256Gcm);

impl Cipher {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self(Aes256Gcm::new(key.into()))
    }
    /// Encrypts `from` into `to`; returns the tag.
    pub(crate) fn seal(&self, nonce: &[u8; 12], aad: &[u8], from: &[u8], to: &mut [u8]) -> [u8; 16] {
        // It fails for messages of 64 GiB only, or another length of `to`; a zero tag would then just not open.
        let Ok(buffers) = InOutBuf::new(from, to) else { return [0; 16] };
        self.0.encrypt_inout_detached(nonce.into(), aad, buffers).map_or([0; 16], Into::into)
    }
    /// Decrypts `from` into `to`; false (and `to` without meaning) if the tag is another one.
    pub(crate) fn open(
        &self,
        nonce: &[u8; 12],
        aad: &[u8],
        from: &[u8],
        to: &mut [u8],
        tag: &[u8; 16],
    ) -> bool {
        let Ok(buffers) = InOutBuf::new(from, to) else { return false };
        self.0.decrypt_inout_detached(nonce.into(), aad, buffers, tag.into()).is_ok()
    }
}
