//! Keys and counters of sealed layers, from the CPU's seal key.
//!
//! Neighbours: `rt::egetkey` asks the CPU, `fs::table_mounts` mounts layers. The seal key depends on MRENCLAVE: an
//! instance that is built again with other content begins with empty layers, and no other enclave reads the old ones.
use crate::fs::sealed::Slot;
use alloc::string::String;
use hmac::{Hmac, Mac};
use occlum_sgx_arch::counter;
use occlum_sgx_arch::keys::{KeyRequest, SEAL_KEY, policy};
use sha2::Sha256;

const PURPOSE: &[u8] = b"occlum sealed layer v1";

/// The root key of the layer at a place of the tree.
pub fn layer_key(target: &[u8]) -> Result<[u8; 32], String> {
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(&seal_key()?).map_err(|e| alloc::format!("{e}"))?;
    mac.update(PURPOSE);
    mac.update(target);
    Ok(mac.finalize().into_bytes().into())
}

/// The counter of the layer at a place of the tree. The host names the instance: it can begin another one, whose layers
/// are empty, at any time.
pub fn counter(instance: &[u8], target: &[u8]) -> Result<Slot, String> {
    let seal = seal_key()?;
    Ok(Slot { slot: counter::slot(&seal, instance, target), key: counter::key(&seal) })
}

fn seal_key() -> Result<[u8; 16], String> {
    let isv_svn = crate::policy::config().identity.svn;
    let request = KeyRequest { name: SEAL_KEY, policy: policy::MRENCLAVE, isv_svn, ..KeyRequest::default() };
    occlum_rt::egetkey::egetkey(&request)
        .map_err(|code| alloc::format!("the CPU gives no seal key (EGETKEY: {code})"))
}
