//! EGETKEY: key requests, and the derivation that a CPU does with them (SDM volume 3D, "EGETKEY" and "Key Request").
//!
//! Neighbours: `enclave/rt` asks with a `KeyRequest`, the simulated CPU in `host/pal` answers by `derive`,
//! `python/occlum/sgx/keys.py` is the second source. What the SDM leaves to the CPU is fixed here: the key is AES-128-CMAC
//! under the device key over the key dependencies, in the order of the SDM's table, little-endian, without padding.
//! Invariants: a request that the SDM refuses is refused with its error code; nothing else changes the key but what the
//! dependencies list.
#[cfg(feature = "cpu")]
use cmac::{Cmac, KeyInit, Mac};

/// Bytes of a KEYREQUEST.
pub const KEYREQUEST: usize = 512;
/// KEYNAME of the seal key.
pub const SEAL_KEY: u16 = 4;

/// KEYPOLICY bits.
pub mod policy {
    /// The key depends on MRENCLAVE.
    pub const MRENCLAVE: u16 = 1;
    /// The key depends on MRSIGNER.
    pub const MRSIGNER: u16 = 2;
    /// It does not depend on ISVPRODID.
    pub const NOISVPRODID: u16 = 4;
    /// It depends on CONFIGID and CONFIGSVN.
    pub const CONFIGID: u16 = 8;
    /// It depends on ISVFAMILYID.
    pub const ISVFAMILYID: u16 = 16;
    /// It depends on ISVEXTPRODID.
    pub const ISVEXTPRODID: u16 = 32;
    #[cfg(feature = "cpu")]
    pub(super) const ALL: u16 = 63;
}

/// ATTRIBUTES that every key depends on: INIT, DEBUG.
#[cfg(feature = "cpu")]
const ALWAYS: u64 = 0b11;

/// Error codes of EGETKEY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum KeyError {
    /// SGX_INVALID_CPUSVN: newer than the CPU's.
    CpuSvn = 32,
    /// SGX_INVALID_ISVSVN: newer than the enclave's, or CONFIGSVN is.
    IsvSvn = 64,
    /// SGX_INVALID_KEYNAME: no such key, or reserved bits are set.
    KeyName = 256,
}

/// What of a KEYREQUEST a seal key depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyRequest {
    /// Which key.
    pub name: u16,
    /// `policy` bits.
    pub policy: u16,
    /// Security version of the software.
    pub isv_svn: u16,
    /// Security version of the CPU.
    pub cpu_svn: [u8; 16],
    /// Which ATTRIBUTES the key depends on (flags, XFRM).
    pub attribute_mask: [u64; 2],
    /// Chosen by software.
    pub key_id: [u8; 32],
    /// Which MISCSELECT bits the key depends on.
    pub misc_mask: u32,
    /// Security version of the configuration.
    pub config_svn: u16,
}

impl KeyRequest {
    /// The structure in memory.
    pub fn to_bytes(&self) -> [u8; KEYREQUEST] {
        let mut b = [0; KEYREQUEST];
        b[0..2].copy_from_slice(&self.name.to_le_bytes());
        b[2..4].copy_from_slice(&self.policy.to_le_bytes());
        b[4..6].copy_from_slice(&self.isv_svn.to_le_bytes());
        b[8..24].copy_from_slice(&self.cpu_svn);
        b[24..32].copy_from_slice(&self.attribute_mask[0].to_le_bytes());
        b[32..40].copy_from_slice(&self.attribute_mask[1].to_le_bytes());
        b[40..72].copy_from_slice(&self.key_id);
        b[72..76].copy_from_slice(&self.misc_mask.to_le_bytes());
        b[76..78].copy_from_slice(&self.config_svn.to_le_bytes());
        b
    }
    /// Reads the structure; reserved bytes must be zero.
    pub fn from_bytes(b: &[u8; KEYREQUEST]) -> Result<Self, KeyError> {
        if b[6..8].iter().chain(&b[78..]).any(|x| *x != 0) {
            return Err(KeyError::KeyName);
        }
        let u16_at = |i: usize| u16::from_le_bytes([b[i], b[i + 1]]);
        let u64_at = |i: usize| u64::from_le_bytes(core::array::from_fn(|k| b[i + k]));
        Ok(Self {
            name: u16_at(0),
            policy: u16_at(2),
            isv_svn: u16_at(4),
            cpu_svn: core::array::from_fn(|k| b[8 + k]),
            attribute_mask: [u64_at(24), u64_at(32)],
            key_id: core::array::from_fn(|k| b[40 + k]),
            misc_mask: u32::from_le_bytes(core::array::from_fn(|k| b[72 + k])),
            config_svn: u16_at(76),
        })
    }
}

/// What the CPU knows of an enclave (SECS), as far as keys depend on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Measurement of the enclave.
    pub mrenclave: [u8; 32],
    /// Measurement of its signer's key.
    pub mrsigner: [u8; 32],
    /// Product.
    pub isv_prod_id: u16,
    /// Security version.
    pub isv_svn: u16,
    /// ATTRIBUTES: flags, XFRM.
    pub attributes: [u64; 2],
    /// MISCSELECT.
    pub misc_select: u32,
    /// CONFIGID.
    pub config_id: [[u8; 32]; 2],
    /// CONFIGSVN.
    pub config_svn: u16,
    /// ISVFAMILYID.
    pub family_id: [u8; 16],
    /// ISVEXTPRODID.
    pub ext_product_id: [u8; 16],
}

/// What a CPU has of its own.
#[derive(Clone)]
pub struct Device {
    /// The key that stands in for what is burnt into a CPU.
    pub key: [u8; 16],
    /// CR_SEAL_FUSES.
    pub seal_fuses: [u8; 16],
    /// Owner epoch.
    pub owner_epoch: [u8; 16],
    /// The CPU's security version.
    pub cpu_svn: [u8; 16],
}

/// EGETKEY: the key that a CPU gives the enclave.
#[cfg(feature = "cpu")]
pub fn derive(request: &KeyRequest, enclave: &Identity, device: &Device) -> Result<[u8; 16], KeyError> {
    if request.name != SEAL_KEY || request.policy & !policy::ALL != 0 {
        return Err(KeyError::KeyName);
    }
    if request.cpu_svn.iter().zip(&device.cpu_svn).any(|(asked, has)| asked > has) {
        return Err(KeyError::CpuSvn);
    }
    if request.isv_svn > enclave.isv_svn {
        return Err(KeyError::IsvSvn);
    }
    let wants = |bit: u16| request.policy & bit != 0;
    if wants(policy::CONFIGID) && request.config_svn > enclave.config_svn {
        return Err(KeyError::IsvSvn);
    }
    let product = if wants(policy::NOISVPRODID) { 0 } else { enclave.isv_prod_id };
    let mask = [request.attribute_mask[0] | ALWAYS, request.attribute_mask[1]];
    let mut mac = <Cmac<aes::Aes128> as KeyInit>::new(&device.key.into());
    let mut part = |bytes: &[u8], wanted: bool| {
        for byte in bytes {
            mac.update(&[if wanted { *byte } else { 0 }]);
        }
    };
    part(&request.name.to_le_bytes(), true);
    part(&product.to_le_bytes(), true);
    part(&request.isv_svn.to_le_bytes(), true);
    part(&device.owner_epoch, true);
    for (attributes, mask) in enclave.attributes.iter().zip(mask) {
        part(&(attributes & mask).to_le_bytes(), true);
    }
    for mask in mask {
        part(&mask.to_le_bytes(), true);
    }
    part(&enclave.mrenclave, wants(policy::MRENCLAVE));
    part(&enclave.mrsigner, wants(policy::MRSIGNER));
    part(&request.key_id, true);
    part(&device.seal_fuses, true);
    part(&request.cpu_svn, true);
    part(&(enclave.misc_select & request.misc_mask).to_le_bytes(), true);
    part(&request.misc_mask.to_le_bytes(), true);
    part(&request.policy.to_le_bytes(), true);
    part(enclave.config_id.as_flattened(), wants(policy::CONFIGID));
    part(&request.config_svn.to_le_bytes(), wants(policy::CONFIGID));
    part(&enclave.family_id, wants(policy::ISVFAMILYID));
    part(&enclave.ext_product_id, wants(policy::ISVEXTPRODID));
    Ok(mac.finalize().into_bytes().into())
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;

    fn setting() -> (KeyRequest, Identity, Device) {
        let request = KeyRequest { name: SEAL_KEY, policy: policy::MRENCLAVE, ..KeyRequest::default() };
        let enclave = Identity { mrenclave: [1; 32], mrsigner: [2; 32], isv_svn: 3, ..Identity::default() };
        let device = Device { key: [4; 16], seal_fuses: [5; 16], owner_epoch: [0; 16], cpu_svn: [6; 16] };
        (request, enclave, device)
    }

    #[test]
    fn requests_cross_as_bytes() {
        let (mut request, ..) = setting();
        (request.key_id, request.attribute_mask, request.config_svn) = ([9; 32], [1 << 40, 7], 5);
        assert_eq!(KeyRequest::from_bytes(&request.to_bytes()), Ok(request));
        let mut bytes = request.to_bytes();
        bytes[100] = 1;
        assert_eq!(KeyRequest::from_bytes(&bytes), Err(KeyError::KeyName));
    }

    #[test]
    fn the_policy_says_what_the_key_depends_on() {
        let (request, enclave, device) = setting();
        let key = |r: &KeyRequest, e: &Identity| derive(r, e, &device).expect("key");
        let other = Identity { mrenclave: [7; 32], ..enclave.clone() };
        assert_ne!(key(&request, &enclave), key(&request, &other));
        let by_signer = KeyRequest { policy: policy::MRSIGNER, ..request };
        assert_eq!(key(&by_signer, &enclave), key(&by_signer, &other));
        let stranger = Identity { mrsigner: [8; 32], ..enclave.clone() };
        assert_ne!(key(&by_signer, &enclave), key(&by_signer, &stranger));
        let debug = Identity { attributes: [2, 0], ..enclave.clone() };
        assert_ne!(key(&request, &enclave), key(&request, &debug));
    }

    #[test]
    fn newer_versions_than_ones_own_are_refused() {
        let (request, enclave, device) = setting();
        let with = |change: &dyn Fn(&mut KeyRequest)| {
            let mut r = request;
            change(&mut r);
            derive(&r, &enclave, &device)
        };
        assert!(with(&|r| r.isv_svn = 3).is_ok());
        assert_eq!(with(&|r| r.isv_svn = 4), Err(KeyError::IsvSvn));
        assert_eq!(with(&|r| r.cpu_svn[15] = 7), Err(KeyError::CpuSvn));
        assert_eq!(with(&|r| r.name = 9), Err(KeyError::KeyName));
        assert_eq!(with(&|r| r.policy = 64), Err(KeyError::KeyName));
        assert_ne!(with(&|r| r.isv_svn = 2), with(&|r| r.isv_svn = 3));
    }
}
