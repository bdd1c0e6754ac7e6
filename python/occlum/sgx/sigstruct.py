"""SIGSTRUCT, the enclave's certificate: what its author signs, byte for byte.

Intel SDM volume 3D, section 38.13 (table "Layout of Enclave Signature Structure"); EINIT (40.3) checks it. Numbers are
little-endian, the key's and signature's, too. RSA itself is the caller's: this file says what is signed, and checks.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

SIZE = 1808
KEY_SIZE = 384
EXPONENT = 3

_HEADER = bytes.fromhex("06000000E10000000000010000000000")
_HEADER2 = bytes.fromhex("01010000600000006000000001000000")
# Offsets of the table.
_VENDOR, _DATE, _HEADER2_AT, _MODULUS, _EXPONENT, _SIGNATURE = 16, 20, 24, 128, 512, 516
_MISCSELECT, _FAMILY, _ATTRIBUTES, _HASH, _EXTPROD, _PRODID = 900, 912, 928, 960, 1008, 1024
_Q1, _Q2 = 1040, 1424
# What is signed: the first 128 bytes and these.
_BODY, _BODY_END = 900, 1028

# ATTRIBUTES.FLAGS (SDM 38.7.1).
DEBUG, MODE64BIT, KSS = 1 << 1, 1 << 2, 1 << 7
# ATTRIBUTES.XFRM: x87, SSE, AVX, which one page of SSA frame holds.
XFRM = 7
# MISCSELECT.EXINFO: page faults tell their address (SDM 38.7.2).
EXINFO = 1
# DigestInfo of SHA-256 (PKCS #1 v1.5, RFC 8017 section 9.2).
_DIGEST_INFO = bytes.fromhex("3031300d060960864801650304020105000420")


@dataclass(frozen=True)
class Facts:
    """What a SIGSTRUCT says about an enclave."""

    mrenclave: bytes
    product_id: int = 0
    svn: int = 0
    debug: bool = False
    family_id: bytes = bytes(16)
    ext_product_id: bytes = bytes(16)
    # Key separation and sharing: without it the two ids are zero.
    kss: bool = False
    # Year, month, day as decimal digits: 20260131.
    date: int = 20260101

    def flags(self) -> int:
        """ATTRIBUTES.FLAGS."""
        return MODE64BIT | (DEBUG if self.debug else 0) | (KSS if self.kss else 0)


def unsigned(facts: Facts) -> bytearray:
    """The structure without key and signature."""
    data = bytearray(SIZE)
    data[: len(_HEADER)] = _HEADER
    # VENDOR 0: not Intel's. DATE is BCD: the decimal digits are its hexadecimal ones.
    struct.pack_into("<I", data, _DATE, int(str(facts.date), 16))
    data[_HEADER2_AT : _HEADER2_AT + len(_HEADER2)] = _HEADER2
    struct.pack_into("<II", data, _MISCSELECT, EXINFO, 0xFFFF_FFFF)
    data[_FAMILY : _FAMILY + 16] = facts.family_id
    # The masks are all ones: attributes are exactly these, so a release enclave cannot be made a debug one.
    struct.pack_into("<QQQQ", data, _ATTRIBUTES, facts.flags(), XFRM, (1 << 64) - 1, (1 << 64) - 1)
    data[_HASH : _HASH + 32] = facts.mrenclave
    data[_EXTPROD : _EXTPROD + 16] = facts.ext_product_id
    struct.pack_into("<HH", data, _PRODID, facts.product_id, facts.svn)
    return data


def to_sign(data: bytes | bytearray) -> bytes:
    """The 256 bytes that are signed (RSA, PKCS #1 v1.5, SHA-256)."""
    return bytes(data[:_MODULUS]) + bytes(data[_BODY:_BODY_END])


def signed(facts: Facts, modulus: int, signature: int) -> bytes:
    """The whole structure. ValueError if the signature is not one of these facts by this key."""
    data = unsigned(facts)
    for at, number in ((_MODULUS, modulus), (_SIGNATURE, signature)):
        data[at : at + KEY_SIZE] = number.to_bytes(KEY_SIZE, "little")
    struct.pack_into("<I", data, _EXPONENT, EXPONENT)
    # With q1 and q2 EINIT checks S^3 mod M by multiplications alone (SDM 38.13, Q1 and Q2).
    q1 = signature * signature // modulus
    q2 = (signature**3 - q1 * signature * modulus) // modulus
    for at, number in ((_Q1, q1), (_Q2, q2)):
        data[at : at + KEY_SIZE] = number.to_bytes(KEY_SIZE, "little")
    verify(bytes(data))
    return bytes(data)


def mrsigner(modulus: int) -> bytes:
    """MRSIGNER: SHA-256 of the modulus (SDM 38.13, MODULUS)."""
    return hashlib.sha256(modulus.to_bytes(KEY_SIZE, "little")).digest()


@dataclass(frozen=True)
class Parsed:
    """A SIGSTRUCT that holds what it says."""

    facts: Facts
    modulus: int

    @property
    def mrsigner(self) -> bytes:
        """Whose it is."""
        return mrsigner(self.modulus)


def verify(data: bytes) -> Parsed:
    """Checks a SIGSTRUCT as EINIT does, and takes it apart. ValueError says what is wrong."""
    if len(data) != SIZE or data[:16] != _HEADER or data[_HEADER2_AT : _HEADER2_AT + 16] != _HEADER2:
        raise ValueError("this is no SIGSTRUCT")
    reserved = data[44:_MODULUS] + data[910:_FAMILY] + data[992:_EXTPROD] + data[_BODY_END:_Q1]
    if any(reserved):
        raise ValueError("reserved bytes of the SIGSTRUCT are not zero")
    modulus, signature, q1, q2 = (
        int.from_bytes(data[at : at + KEY_SIZE], "little") for at in (_MODULUS, _SIGNATURE, _Q1, _Q2)
    )
    (exponent,) = struct.unpack_from("<I", data, _EXPONENT)
    if exponent != EXPONENT or modulus.bit_length() != KEY_SIZE * 8 or signature >= modulus:
        raise ValueError("the key of the SIGSTRUCT is not RSA-3072 with exponent 3")
    padded = _DIGEST_INFO + hashlib.sha256(to_sign(data)).digest()
    expected = b"\0\1" + b"\xff" * (KEY_SIZE - 3 - len(padded)) + b"\0" + padded
    if pow(signature, 3, modulus) != int.from_bytes(expected, "big"):
        raise ValueError("the signature of the SIGSTRUCT is not of its content")
    if q1 != signature * signature // modulus or q2 != (signature**3 - q1 * signature * modulus) // modulus:
        raise ValueError("q1 or q2 of the SIGSTRUCT is wrong")
    flags, _, _, _ = struct.unpack_from("<QQQQ", data, _ATTRIBUTES)
    product_id, svn = struct.unpack_from("<HH", data, _PRODID)
    facts = Facts(
        mrenclave=data[_HASH : _HASH + 32],
        product_id=product_id,
        svn=svn,
        debug=bool(flags & DEBUG),
        family_id=data[_FAMILY : _FAMILY + 16],
        ext_product_id=data[_EXTPROD : _EXTPROD + 16],
        kss=bool(flags & KSS),
        date=int(f"{struct.unpack_from('<I', data, _DATE)[0]:x}"),
    )
    return Parsed(facts, modulus)
