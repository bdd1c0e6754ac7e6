"""MRENCLAVE in plain Python: the SDM's blocks, and equality with what the Rust loader measures."""

from __future__ import annotations

import hashlib
import random
from typing import Any

import pytest

from occlum import _native
from occlum._host.image import read_image
from occlum._host.launch import EnclaveOptions
from occlum.config import page
from occlum.sgx import layout
from occlum.sgx.measurement import EXECUTE, PAGE_SIZE, READ, WRITE, Measurement, Page, PageType, measure


def test_blocks_are_those_of_the_manual() -> None:
    content = bytes(range(256)) * 16
    page = Page(0x3000, PageType.REG, READ | EXECUTE, content)
    stream = bytearray()
    stream += b"ECREATE\0" + (1).to_bytes(4, "little") + (1 << 20).to_bytes(8, "little") + bytes(44)
    stream += b"EADD\0\0\0\0" + (0x3000).to_bytes(8, "little") + (0x205).to_bytes(8, "little") + bytes(40)
    for chunk in range(16):
        stream += b"EEXTEND\0" + (0x3000 + 256 * chunk).to_bytes(8, "little") + bytes(48)
        stream += content[256 * chunk : 256 * chunk + 256]
    assert measure(1 << 20, 1, [page]) == hashlib.sha256(stream).digest()


def test_an_unmeasured_page_counts_by_its_place_and_rights_only() -> None:
    one = Page(0, PageType.REG, READ | WRITE, bytes(PAGE_SIZE), measured=False)
    other = Page(0, PageType.REG, READ | WRITE, b"\1" * PAGE_SIZE, measured=False)
    assert measure(1 << 20, 1, [one]) == measure(1 << 20, 1, [other])
    moved = Page(4096, PageType.REG, READ | WRITE, bytes(PAGE_SIZE), measured=False)
    assert measure(1 << 20, 1, [one]) != measure(1 << 20, 1, [moved])


@pytest.mark.parametrize(("offset", "length"), [(1, PAGE_SIZE), (0, PAGE_SIZE - 1), (0, PAGE_SIZE + 1)])
def test_a_page_that_is_none_is_refused(offset: int, length: int) -> None:
    with pytest.raises(ValueError, match="4096"):
        Measurement(1 << 20, 1).add(Page(offset, PageType.REG, READ, bytes(length)))


def options(rng: random.Random) -> bytes:
    """A configuration as users may give it, of one page or more."""
    return page.Config(
        memory_bytes=rng.randrange(64, 4096) << 20,
        vcpus=rng.randrange(1, 9),
        max_tasks=rng.randrange(1, 4096),
        pid_max=rng.randrange(64, 1 << 22),
        cfi=rng.randrange(len(page.CFI_LEVELS)),
        cwd="/",
        env_default=[f"V{number}={'x' * 100}" for number in range(rng.randrange(100))],
        mounts=[page.Mount("/", page.RAMFS)],
    ).encode()


def test_python_and_rust_agree(rng: random.Random) -> None:
    image = read_image()
    for _ in range(3):
        config = options(rng)
        assert layout.mrenclave(image, config).hex() == _native.measure(image, config).hex(), config


def test_every_measured_option_counts() -> None:
    image = read_image()
    base: dict[str, Any] = {"memory_bytes": 1 << 30, "vcpus": 2, "max_tasks": 100, "pid_max": 1000, "cwd": "/"}
    base["mounts"] = [page.Mount("/", page.RAMFS)]
    changed: dict[str, Any] = {"memory_bytes": 1 << 31, "vcpus": 3, "max_tasks": 101, "pid_max": 1001, "cfi": 1}
    changed |= {"flags": page.DEBUG, "cwd": "/tmp", "env_default": ["A=b"], "svn": 1, "entry_points": ["/bin"]}
    results = {_native.measure(image, page.Config(**base).encode())}
    results |= {_native.measure(image, page.Config(**(base | {name: to})).encode()) for name, to in changed.items()}
    results.add(_native.measure(image, page.Config(**(base | {"flags": page.NO_ALIAS})).encode()))
    assert len(results) == 2 + len(changed)


def test_a_changed_image_byte_counts(rng: random.Random) -> None:
    image = bytearray(read_image())
    segment = next(iter(layout.segments(bytes(image))))
    config = EnclaveOptions(1 << 30, 1, 100, 1000).to_config()
    before = _native.measure(bytes(image), config)
    # The first segment begins with the ELF headers; a byte of its content beyond them is what a tamperer changes.
    at = bytes(image).index(segment.content[0x1000 : 0x1000 + 64]) + rng.randrange(64)
    image[at] ^= 1 << rng.randrange(8)
    assert _native.measure(bytes(image), config) != before
