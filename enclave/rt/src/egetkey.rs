//! EGETKEY. The simulated CPU stands outside: the request crosses as an OCALL, where hardware executes ENCLU.
use occlum_enclave_abi::Ocall;
use occlum_sgx_arch::keys::{KEYREQUEST, KeyRequest};

/// The key, or the error code that EGETKEY leaves in RAX.
pub fn egetkey(request: &KeyRequest) -> Result<[u8; 16], u64> {
    let bytes: [u8; KEYREQUEST] = request.to_bytes();
    let mut key = [0; 16];
    match crate::ocall::call(Ocall::Egetkey, &[], &bytes, &mut key) {
        0 => Ok(key),
        code => Err(code as u64),
    }
}
