"""MRENCLAVE from the SDM's text: the hash over ECREATE, EADD and EEXTEND of every page.

Intel SDM volume 3D: section 38.4.1 (ECREATE), "EADD", "EEXTEND" in chapter 39.3 give the 64-byte blocks that each leaf
function adds to the running SHA-256; EINIT finalises it. This file knows only those; `layout` knows Occlum's pages.
Numbers are little-endian, reserved bytes zero.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

PAGE_SIZE = 4096
# EEXTEND measures this much at a time (SDM 39.3, EEXTEND, "256-byte chunk").
CHUNK_SIZE = 256
_BLOCK_SIZE = 64


class PageType(IntEnum):
    """SECINFO.FLAGS.PAGE_TYPE (SDM 38.11, table "Supported PAGE_TYPE")."""

    SECS = 0
    TCS = 1
    REG = 2


# SECINFO.FLAGS permission bits (SDM 38.12.1, "SECINFO.FLAGS").
READ = 1
WRITE = 2
EXECUTE = 4


@dataclass(frozen=True)
class Page:
    """One page that the loader adds: where, with what rights, holding what."""

    offset: int
    kind: PageType
    rights: int
    content: bytes
    measured: bool = True

    def flags(self) -> int:
        """SECINFO.FLAGS: rights in bits 0-2, page type in bits 8-15."""
        return self.rights | self.kind << 8


class Measurement:
    """The running hash of one enclave being built."""

    def __init__(self, enclave_size: int, ssa_frame_pages: int) -> None:
        # ECREATE: the name, SECS.SSAFRAMESIZE, SECS.SIZE; the rest of the block is zero.
        self._hash = hashlib.sha256(_block(b"ECREATE", struct.pack("<IQ", ssa_frame_pages, enclave_size)))

    def add(self, page: Page) -> None:
        """EADD of one page, then EEXTEND of each of its chunks if the loader measures its content."""
        if len(page.content) != PAGE_SIZE or page.offset % PAGE_SIZE:
            raise ValueError("a page is 4096 bytes at a multiple of 4096")
        # EADD: the page's offset from SECS.BASEADDR, then 48 bytes of SECINFO, of which FLAGS are the first 8.
        self._hash.update(_block(b"EADD", struct.pack("<QQ", page.offset, page.flags())))
        if page.measured:
            self._extend(page)

    def _extend(self, page: Page) -> None:
        for start in range(0, PAGE_SIZE, CHUNK_SIZE):
            # EEXTEND: the chunk's offset in one block, then its 256 bytes as four blocks.
            self._hash.update(_block(b"EEXTEND", struct.pack("<Q", page.offset + start)))
            self._hash.update(page.content[start : start + CHUNK_SIZE])

    def finish(self) -> bytes:
        """EINIT: MRENCLAVE."""
        return self._hash.digest()


def measure(enclave_size: int, ssa_frame_pages: int, pages: Iterable[Page]) -> bytes:
    """MRENCLAVE of an enclave of this size whose pages are added in this order."""
    measurement = Measurement(enclave_size, ssa_frame_pages)
    for page in pages:
        measurement.add(page)
    return measurement.finish()


def _block(name: bytes, fields: bytes) -> bytes:
    """One 64-byte block: the leaf's name in 8 bytes, its fields, zeros."""
    return (name.ljust(8, b"\0") + fields).ljust(_BLOCK_SIZE, b"\0")
