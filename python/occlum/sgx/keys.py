"""EGETKEY in plain Python: the second source of `common/sgx-arch/src/keys.rs` (SDM volume 3D, "EGETKEY").

What the SDM leaves to the CPU is fixed as there: AES-128-CMAC under the device key over the key dependencies, in the
order of the SDM's table. Neighbour: `measurement`, which gives MRENCLAVE.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

SEAL_KEY = 4
# KEYPOLICY bits.
MRENCLAVE, MRSIGNER, NOISVPRODID, CONFIGID, ISVFAMILYID, ISVEXTPRODID = (1 << bit for bit in range(6))
# ATTRIBUTES flags.
INIT, DEBUG, MODE64BIT = 1, 2, 4
XFRM = 7
# Every key depends on these, whatever the mask says.
_ALWAYS = INIT | DEBUG


@dataclass(frozen=True)
class Request:
    """A KEYREQUEST for a seal key."""

    policy: int
    isv_svn: int = 0
    cpu_svn: bytes = bytes(16)
    attribute_mask: tuple[int, int] = (0, 0)
    key_id: bytes = bytes(32)
    misc_mask: int = 0
    config_svn: int = 0


@dataclass(frozen=True)
class Identity:
    """What the CPU knows of an enclave."""

    mrenclave: bytes
    mrsigner: bytes = bytes(32)
    isv_prod_id: int = 0
    attributes: tuple[int, int] = (INIT | MODE64BIT, XFRM)
    misc_select: int = 0
    config_id: bytes = bytes(64)
    family_id: bytes = bytes(16)
    ext_product_id: bytes = bytes(16)


def seal_key(request: Request, enclave: Identity, fuses: bytes) -> bytes:
    """The 16-byte seal key; `fuses` are the 32 bytes of the simulated CPU's fuse key (device key, CR_SEAL_FUSES)."""
    # Takes a while to import.
    from cryptography.hazmat.primitives.ciphers.algorithms import AES
    from cryptography.hazmat.primitives.cmac import CMAC

    def number(value: int, size: int) -> bytes:
        return value.to_bytes(size, "little")

    def when(bit: int, value: bytes) -> bytes:
        return value if request.policy & bit else bytes(len(value))

    mask = (request.attribute_mask[0] | _ALWAYS, request.attribute_mask[1])
    product = 0 if request.policy & NOISVPRODID else enclave.isv_prod_id
    mac = CMAC(AES(fuses[:16]))
    for part in (
        *(number(SEAL_KEY, 2), number(product, 2), number(request.isv_svn, 2), bytes(16)),
        *(number(has & wanted, 8) for has, wanted in zip(enclave.attributes, mask, strict=True)),
        *(number(wanted, 8) for wanted in mask),
        *(when(MRENCLAVE, enclave.mrenclave), when(MRSIGNER, enclave.mrsigner)),
        *(request.key_id, fuses[16:32], request.cpu_svn),
        *(number(enclave.misc_select & request.misc_mask, 4), number(request.misc_mask, 4)),
        *(number(request.policy, 2), when(CONFIGID, enclave.config_id), when(CONFIGID, number(request.config_svn, 2))),
        *(when(ISVFAMILYID, enclave.family_id), when(ISVEXTPRODID, enclave.ext_product_id)),
    ):
        mac.update(part)
    return mac.finalize()


def layer_key(seal: bytes, target: str) -> bytes:
    """The root key of the sealed layer that an enclave with this seal key mounts at `target`."""
    return hmac.digest(seal, b"occlum sealed layer v1" + target.encode(), hashlib.sha256)
