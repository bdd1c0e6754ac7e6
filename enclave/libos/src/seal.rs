//! Keys and counters of sealed layers, from the CPU's seal key.
//!
//! Neighbours: `rt::egetkey` asks the CPU, `fs::table_of_mounts` mounts layers and knows each one's key policy. With MRENCLAVE
//! an instance that is built again with other content begins with empty layers, and no other enclave reads the old ones;
//! with MRSIGNER, later versions that the same author signs go on with them, and earlier ones cannot.
use crate::fs::sealed::Slot;
use alloc::string::String;
use hmac::{Hmac, KeyInit, Mac};
use occlum_sgx_arch::counter;
use occlum_sgx_arch::keys::{KeyRequest, SEAL_KEY};
use sha2::Sha256;

const PURPOSE: &[u8] = b"occlum sealed layer v1";

/// The root key of the layer at a place of the tree, under a key policy, as software of this security version has it.
pub fn layer_key(target: &[u8], policy: u16, svn: u16) -> Result<[u8; 32], String> {
    let seal = seal_key(policy, svn)?;
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&seal).map_err(|e| alloc::format!("{e}"))?;
    mac.update(PURPOSE);
    mac.update(target);
    Ok(mac.finalize().into_bytes().into())
}

/// The counter of the layer at a place of the tree. The host names the instance: it can begin another one, whose layers
/// are empty, at any time. Versions of the software share the counter, so its key is that of version 0.
pub fn counter(instance: &[u8], target: &[u8], policy: u16) -> Result<Slot, String> {
    let seal = seal_key(policy, 0)?;
    Ok(Slot { slot: counter::slot(&seal, instance, target), key: counter::key(&seal), policy })
}

fn seal_key(policy: u16, isv_svn: u16) -> Result<[u8; 16], String> {
    let request = KeyRequest { name: SEAL_KEY, policy, isv_svn, ..KeyRequest::default() };
    occlum_rt::egetkey::egetkey(&request)
        .map_err(|code| alloc::format!("the CPU gives no seal key (EGETKEY: {code})"))
}
