"""The pages of an Occlum enclave, in the order in which the loader adds them: what `measurement` hashes.

A second source: it restates the layout that `common/sgx-arch` and `host/pal` implement, from the image file and the
measured configuration alone. The order is: the image's segments by address, the configuration, then for each vCPU its
TCS and the pages behind it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from occlum.sgx import measurement
from occlum.sgx.measurement import EXECUTE, PAGE_SIZE, READ, WRITE, Page, PageType

# SECS.BASEADDR, SECS.SIZE and SECS.SSAFRAMESIZE (SDM 38.7).
ENCLAVE_BASE = 0
ENCLAVE_SIZE = 1 << 46
SSA_FRAME_PAGES = 1

# The first page of the configuration; the number of vCPUs in it (docs/configuration-page.md).
CONFIG_BASE = 0x37F0_0000
_CONFIG_VCPUS = 20

THREADS_BASE = 0x3800_0000
THREAD_STRIDE = 256 << 10
# Offsets in the block of a vCPU.
_SSA = 0x1000
_NSSA = 2
_IDLE_CONTEXT = 0x3800
_READ_WRITE_RUNS = ((0x1000, 0x4000), (0x5000, 0x8000), (0x9000, 0xD000), (0x1_0000, 0x3_0000))

_ZERO_PAGE = bytes(PAGE_SIZE)

# ELF-64: offsets in the file header and in a program header (ELF specification, figures 1-3 and 2-1).
_E_ENTRY, _E_PHOFF, _E_PHENTSIZE = 24, 32, 54
_PT_LOAD = 1
_PF_X, _PF_W, _PF_R = 1, 2, 4


@dataclass(frozen=True)
class Segment:
    """One loadable segment of the image."""

    address: int
    size: int
    rights: int
    content: bytes

    def pages(self) -> Iterator[Page]:
        """Its pages in ascending order; what the file does not fill is zero, and measured too."""
        start = self.address // PAGE_SIZE * PAGE_SIZE
        lead = self.address - start
        whole = -(-(lead + self.size) // PAGE_SIZE) * PAGE_SIZE
        data = (bytes(lead) + self.content).ljust(whole, b"\0")
        for offset in range(0, whole, PAGE_SIZE):
            yield Page(start + offset - ENCLAVE_BASE, PageType.REG, self.rights, data[offset : offset + PAGE_SIZE])


def segments(image: bytes) -> Iterator[Segment]:
    """The image's loadable segments, in the order of the file's table."""
    (table,) = struct.unpack_from("<Q", image, _E_PHOFF)
    entry_size, count = struct.unpack_from("<HH", image, _E_PHENTSIZE)
    for number in range(count):
        kind, flags, offset, address, _, file_size, memory_size, _ = struct.unpack_from(
            "<IIQQQQQQ", image, table + number * entry_size
        )
        if kind == _PT_LOAD and memory_size:
            rights = sum(ours for theirs, ours in ((_PF_R, READ), (_PF_W, WRITE), (_PF_X, EXECUTE)) if flags & theirs)
            yield Segment(address, memory_size, rights, image[offset : offset + file_size])


def tcs_page(block: int, entry: int) -> bytes:
    """The TCS at the start of a vCPU's block (SDM 38.8, table "Layout of Thread Control Structure")."""
    page = bytearray(PAGE_SIZE)
    struct.pack_into("<Q", page, 16, block + _SSA)  # OSSA
    struct.pack_into("<I", page, 28, _NSSA)  # NSSA
    struct.pack_into("<Q", page, 32, entry)  # OENTRY
    struct.pack_into("<Q", page, 48, block + _IDLE_CONTEXT)  # OFSBASE
    struct.pack_into("<Q", page, 56, block + _IDLE_CONTEXT)  # OGSBASE
    struct.pack_into("<II", page, 64, 0xFFFF_FFFF, 0xFFFF_FFFF)  # FSLIMIT, GSLIMIT
    return bytes(page)


def thread_pages(vcpu: int, entry: int) -> Iterator[Page]:
    """A vCPU's TCS, then its SSA frames, runtime page and stacks, which start as zeros."""
    block = THREADS_BASE + vcpu * THREAD_STRIDE - ENCLAVE_BASE
    # EADD requires (and so measures) no rights for a TCS page.
    yield Page(block, PageType.TCS, 0, tcs_page(block, entry))
    for start, end in _READ_WRITE_RUNS:
        for offset in range(start, end, PAGE_SIZE):
            yield Page(block + offset, PageType.REG, READ | WRITE, _ZERO_PAGE)


def config_pages(config: bytes) -> Iterator[Page]:
    """The pages of the configuration; the last one is filled up with zeros."""
    for offset in range(0, len(config), PAGE_SIZE):
        content = config[offset : offset + PAGE_SIZE].ljust(PAGE_SIZE, b"\0")
        yield Page(CONFIG_BASE + offset - ENCLAVE_BASE, PageType.REG, READ, content)


def pages(image: bytes, config: bytes) -> Iterator[Page]:
    """Every page of the enclave, in the loader's order."""
    (entry,) = struct.unpack_from("<Q", image, _E_ENTRY)
    for segment in sorted(segments(image), key=lambda segment: segment.address):
        yield from segment.pages()
    yield from config_pages(config)
    (vcpus,) = struct.unpack_from("<I", config, _CONFIG_VCPUS)
    for vcpu in range(vcpus):
        yield from thread_pages(vcpu, entry - ENCLAVE_BASE)


def mrenclave(image: bytes, config: bytes) -> bytes:
    """MRENCLAVE of the enclave that this image and this configuration make."""
    return measurement.measure(ENCLAVE_SIZE, SSA_FRAME_PAGES, pages(image, config))
