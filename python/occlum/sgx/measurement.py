"""MRENCLAVE from the SDM's text: the hash over ECREATE, EADD and EEXTEND of every page.

Intel SDM volume 3D: section 38.4.1 (ECREATE), "EADD", "EEXTEND" in chapter 39.3 give the 64-byte blocks that each leaf
function adds to the running SHA-256; EINIT finalises it. This file knows only those; `layout` knows Occlum's pages.
Numbers are little-endian, reserved bytes zero.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator
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
        self._hash = hashlib.sha256(_ecreate(enclave_size, ssa_frame_pages))

    def add(self, page: Page) -> None:
        """EADD of one page, then EEXTEND of each of its chunks if the loader measures its content."""
        for part in _added(page):
            self._hash.update(part)

    def finish(self) -> bytes:
        """EINIT: MRENCLAVE."""
        return self._hash.digest()


def _ecreate(enclave_size: int, ssa_frame_pages: int) -> bytes:
    # The name, SECS.SSAFRAMESIZE, SECS.SIZE; the rest of the block is zero.
    return _block(b"ECREATE", struct.pack("<IQ", ssa_frame_pages, enclave_size))


def _added(page: Page) -> Iterator[bytes]:
    """What a page adds to the hash."""
    if len(page.content) != PAGE_SIZE or page.offset % PAGE_SIZE:
        raise ValueError("a page is 4096 bytes at a multiple of 4096")
    # EADD: the page's offset from SECS.BASEADDR, then 48 bytes of SECINFO, of which FLAGS are the first 8.
    yield _block(b"EADD", struct.pack("<QQ", page.offset, page.flags()))
    for start in range(0, PAGE_SIZE, CHUNK_SIZE) if page.measured else ():
        # EEXTEND: the chunk's offset in one block, then its 256 bytes as four blocks.
        yield _block(b"EEXTEND", struct.pack("<Q", page.offset + start))
        yield page.content[start : start + CHUNK_SIZE]


def stream(enclave_size: int, ssa_frame_pages: int, pages: Iterable[Page]) -> Iterator[bytes]:
    """The bytes that are hashed, in order. Of an enclave all of whose pages are measured they are also its SGXS file,
    the format of enclaves that Fortanix's tools read."""
    yield _ecreate(enclave_size, ssa_frame_pages)
    for page in pages:
        yield from _added(page)


def measure(enclave_size: int, ssa_frame_pages: int, pages: Iterable[Page]) -> bytes:
    """MRENCLAVE of an enclave of this size whose pages are added in this order."""
    measurement = Measurement(enclave_size, ssa_frame_pages)
    for page in pages:
        measurement.add(page)
    return measurement.finish()


def _block(name: bytes, fields: bytes) -> bytes:
    """One 64-byte block: the leaf's name in 8 bytes, its fields, zeros."""
    return (name.ljust(8, b"\0") + fields).ljust(_BLOCK_SIZE, b"\0")
