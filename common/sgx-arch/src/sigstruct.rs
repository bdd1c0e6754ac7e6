//! SIGSTRUCT, and what EINIT does with it (SDM volume 3D, "Enclave Signature Structure" and "EINIT").
//!
//! Neighbours: the simulated CPU in `host/pal` initializes enclaves by `einit`; `keys` derives keys from the identity that
//! comes out; `python/occlum/sgx/sigstruct.py` makes the structure and is the second source. Launch control is flexible:
//! any signer's enclave may run. Invariant: an identity comes only out of a structure whose signature holds.
use crate::keys::Identity;
use sha2::{Digest, Sha256};

/// Bytes of a SIGSTRUCT.
pub const SIGSTRUCT: usize = 1808;

/// ATTRIBUTES.FLAGS.
pub mod attributes {
    /// EINIT has been done.
    pub const INIT: u64 = 1;
    /// A debugger may look into it.
    pub const DEBUG: u64 = 1 << 1;
    /// 64-bit code.
    pub const MODE64BIT: u64 = 1 << 2;
    /// Key separation and sharing: CONFIGID, CONFIGSVN, ISVFAMILYID and ISVEXTPRODID count.
    pub const KSS: u64 = 1 << 7;
    /// XFRM: x87, SSE, AVX.
    pub const XFRM: u64 = 7;
}
/// MISCSELECT.EXINFO: page faults tell their address.
pub const EXINFO: u32 = 1;

const HEADER: [u8; 16] = *b"\x06\0\0\0\xE1\0\0\0\0\0\x01\0\0\0\0\0";
const HEADER2: [u8; 16] = *b"\x01\x01\0\0\x60\0\0\0\x60\0\0\0\x01\0\0\0";
const VENDOR_INTEL: u32 = 0x8086;
/// DigestInfo of SHA-256 (RFC 8017, section 9.2).
const DIGEST_INFO: [u8; 19] = *b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\0\x04\x20";
const KEY: usize = 384;
// Offsets of the SDM's table.
const MODULUS: usize = 128;
const EXPONENT: usize = 512;
const SIGNATURE: usize = 516;
const BODY: usize = 900;
const BODY_END: usize = 1028;
const Q1: usize = 1040;
const Q2: usize = 1424;
const RESERVED: [core::ops::Range<usize>; 4] = [44..MODULUS, 910..912, 992..1008, BODY_END..Q1];

/// What the CPU knows of an enclave before EINIT (SECS).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Secs {
    /// The finished measurement.
    pub mrenclave: [u8; 32],
    /// ATTRIBUTES: flags, XFRM.
    pub attributes: [u64; 2],
    /// MISCSELECT.
    pub misc_select: u32,
    /// CONFIGID; zero without KSS.
    pub config_id: [[u8; 32]; 2],
    /// CONFIGSVN; zero without KSS.
    pub config_svn: u16,
}

/// Error codes of EINIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum EinitError {
    /// SGX_INVALID_SIG_STRUCT: it is none.
    SigStruct = 1,
    /// SGX_INVALID_ATTRIBUTE: it is for an enclave with other ATTRIBUTES or another MISCSELECT.
    Attribute = 2,
    /// SGX_INVALID_MEASUREMENT: it is for another enclave.
    Measurement = 4,
    /// SGX_INVALID_SIGNATURE: the key has not signed this.
    Signature = 8,
}
impl core::fmt::Display for EinitError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::SigStruct => "it is no SIGSTRUCT (SGX_INVALID_SIG_STRUCT)",
            Self::Attribute => {
                "it is for an enclave with other attributes, such as debug (SGX_INVALID_ATTRIBUTE)"
            }
            Self::Measurement => "it is for an enclave with another MRENCLAVE (SGX_INVALID_MEASUREMENT)",
            Self::Signature => "its signature is not of its content (SGX_INVALID_SIGNATURE)",
        })
    }
}

/// EINIT: who the enclave is from now on.
pub fn einit(sigstruct: &[u8; SIGSTRUCT], secs: &Secs) -> Result<Identity, EinitError> {
    let s = sigstruct;
    let vendor = u32::from_le_bytes(at(s, 16));
    let form = at(s, 0) == HEADER && at(s, 24) == HEADER2 && u32::from_le_bytes(at(s, EXPONENT)) == 3;
    let reserved = RESERVED.into_iter().any(|range| s[range].iter().any(|b| *b != 0));
    if !form || reserved || (vendor != 0 && vendor != VENDOR_INTEL) {
        return Err(EinitError::SigStruct);
    }
    if !is_signed(s) {
        return Err(EinitError::Signature);
    }
    if at::<32>(s, 960) != secs.mrenclave {
        return Err(EinitError::Measurement);
    }
    let word = |i| u64::from_le_bytes(at(s, i));
    let (misc, misc_mask) = (u32::from_le_bytes(at(s, 900)), u32::from_le_bytes(at(s, 904)));
    let flags = (word(928) ^ secs.attributes[0]) & word(944) == 0;
    let xfrm = (word(936) ^ secs.attributes[1]) & word(952) == 0;
    // CET_ATTRIBUTES and their mask; the enclave's are zero.
    let cet = s[908] & s[909] == 0;
    if !flags || !xfrm || !cet || (misc ^ secs.misc_select) & misc_mask != 0 {
        return Err(EinitError::Attribute);
    }
    let kss = secs.attributes[0] & attributes::KSS != 0;
    let id = |i| if kss { at(s, i) } else { [0; 16] };
    Ok(Identity {
        mrenclave: secs.mrenclave,
        mrsigner: Sha256::digest(&s[MODULUS..EXPONENT]).into(),
        isv_prod_id: u16::from_le_bytes(at(s, 1024)),
        isv_svn: u16::from_le_bytes(at(s, 1026)),
        attributes: [secs.attributes[0] | attributes::INIT, secs.attributes[1]],
        misc_select: secs.misc_select,
        config_id: secs.config_id,
        config_svn: secs.config_svn,
        family_id: id(912),
        ext_product_id: id(1008),
    })
}

/// Is the signature (RSA-3072, exponent 3, PKCS #1 v1.5) one of the content? As the CPU does, by Q1 and Q2 without dividing:
/// S*S = Q1*M + r and r*S = Q2*M + S^3 mod M, with both remainders below M.
fn is_signed(s: &[u8; SIGSTRUCT]) -> bool {
    let (modulus, signature) = (number(s, MODULUS), number(s, SIGNATURE));
    let cubed = remainder(&product(&signature, &signature), &number(s, Q1), &modulus)
        .and_then(|square| remainder(&product(&square, &signature), &number(s, Q2), &modulus));
    let digest = Sha256::new().chain_update(&s[..MODULUS]).chain_update(&s[BODY..BODY_END]).finalize();
    // 0x00 0x01 0xff... 0x00 DigestInfo, the first byte the most significant.
    let mut padded = [0xff; KEY];
    (padded[0], padded[1]) = (0, 1);
    let info = KEY - digest.len() - DIGEST_INFO.len();
    padded[info - 1] = 0;
    padded[info..KEY - digest.len()].copy_from_slice(&DIGEST_INFO);
    padded[KEY - digest.len()..].copy_from_slice(&digest);
    padded.reverse();
    // A key of 3072 bits, not of fewer.
    modulus[LIMBS - 1] >> 31 == 1
        && less(&signature, &modulus)
        && cubed.is_some_and(|cubed| cubed == number(&padded, 0))
}

const LIMBS: usize = KEY / 4;
type Number = [u32; LIMBS];
type Product = [u32; 2 * LIMBS];

fn at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    core::array::from_fn(|i| bytes[at + i])
}
fn number(bytes: &[u8], from: usize) -> Number {
    core::array::from_fn(|i| u32::from_le_bytes(at(bytes, from + 4 * i)))
}
fn less(a: &[u32], b: &[u32]) -> bool {
    a.iter().rev().lt(b.iter().rev())
}
fn product(a: &Number, b: &Number) -> Product {
    let mut out = [0; 2 * LIMBS];
    for (i, x) in a.iter().enumerate() {
        let mut carry = 0;
        for (j, y) in b.iter().enumerate() {
            let sum = u64::from(*x) * u64::from(*y) + u64::from(out[i + j]) + carry;
            out[i + j] = sum as u32;
            carry = sum >> 32;
        }
        out[i + LIMBS] = carry as u32;
    }
    out
}
/// `whole - quotient * modulus`, if that is what is left of a division.
fn remainder(whole: &Product, quotient: &Number, modulus: &Number) -> Option<Number> {
    let mut left = *whole;
    let mut borrow = 0i64;
    for (l, p) in left.iter_mut().zip(product(quotient, modulus)) {
        let difference = i64::from(*l) - i64::from(p) + borrow;
        *l = difference as u32;
        borrow = difference >> 32;
    }
    let (low, high) = left.split_at(LIMBS);
    let low: Number = low.try_into().ok()?;
    (borrow == 0 && high.iter().all(|l| *l == 0) && less(&low, modulus)).then_some(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of `python/occlum/sgx/sigstruct.py`, signed by the development key: MRENCLAVE 0, 1, 2..., product 9, SVN 3, debug, KSS,
    /// family id 5.
    const SIGNED: &[u8; SIGSTRUCT] = include_bytes!("../tests/sigstruct.bin");
    fn secs() -> Secs {
        let flags = attributes::DEBUG | attributes::MODE64BIT | attributes::KSS;
        Secs {
            mrenclave: core::array::from_fn(|i| i as u8),
            attributes: [flags, attributes::XFRM],
            misc_select: EXINFO,
            ..Secs::default()
        }
    }

    #[test]
    fn the_identity_is_the_signed_one() {
        let secs = Secs { config_id: [[4; 32]; 2], config_svn: 6, ..secs() };
        let identity = einit(SIGNED, &secs).expect("an identity");
        assert_eq!((identity.isv_prod_id, identity.isv_svn, identity.family_id), (9, 3, [5; 16]));
        assert_eq!((identity.mrenclave, identity.config_svn), (secs.mrenclave, 6));
        assert_eq!(identity.attributes, [secs.attributes[0] | attributes::INIT, attributes::XFRM]);
        let digest: [u8; 32] = Sha256::digest(&SIGNED[MODULUS..EXPONENT]).into();
        assert_eq!(identity.mrsigner, digest);
    }

    #[test]
    fn it_is_for_one_enclave_with_these_attributes() {
        let refused = |change: &dyn Fn(&mut Secs)| {
            let mut other = secs();
            change(&mut other);
            einit(SIGNED, &other).expect_err("refused")
        };
        assert_eq!(refused(&|s| s.mrenclave[31] ^= 1), EinitError::Measurement);
        assert_eq!(refused(&|s| s.attributes[0] ^= attributes::DEBUG), EinitError::Attribute);
        assert_eq!(refused(&|s| s.attributes[0] ^= attributes::KSS), EinitError::Attribute);
        assert_eq!(refused(&|s| s.attributes[1] = 3), EinitError::Attribute);
        assert_eq!(refused(&|s| s.misc_select = 0), EinitError::Attribute);
    }

    #[test]
    fn every_changed_bit_that_counts_is_noticed() {
        // SWDEFINED and the bytes behind VENDOR and DATE are the author's, but signed as all of the first 128 bytes.
        for byte in 0..SIGSTRUCT {
            let mut other = *SIGNED;
            other[byte] ^= 1 << (byte % 8);
            let found = einit(&other, &secs());
            assert!(
                matches!(found, Err(EinitError::SigStruct | EinitError::Signature)),
                "byte {byte}: {found:?}"
            );
        }
    }
}
