"""The measured configuration: the vector that Rust has, too, and what is refused."""

from __future__ import annotations

import contextlib
import random

import pytest

from framework import ROOT
from occlum import _native
from occlum._host.image import read_image
from occlum.config import page
from occlum.errors import OptionError

VECTOR = ROOT / "common/enclave-abi/tests/configuration.hex"

INSTANCE = page.Config(
    memory_bytes=512 << 20,
    vcpus=2,
    max_tasks=32,
    pid_max=32768,
    flags=page.DEBUG | page.KSS,
    product_id=3,
    svn=1,
    family_id=b"\1" * 16,
    ext_product_id=b"\2" * 16,
    cwd="/",
    entry_points=("/bin", "/usr/bin/python3"),
    env_default=("OCCLUM=yes",),
    env_untrusted=("EXAMPLE",),
    mounts=(
        page.Mount("/", page.SEALED_IMAGE, page.READ_ONLY, "image", "", b"\7" * 32),
        page.Mount("/", page.RAMFS),
        page.Mount("/proc", page.PROCFS),
    ),
)


def test_the_vector_is_what_rust_reads() -> None:
    data = bytes.fromhex(VECTOR.read_text())
    assert INSTANCE.encode() == data
    assert page.Config.decode(data) == INSTANCE


def test_changed_bytes_are_refused_by_rust_or_mean_something_else(rng: random.Random) -> None:
    image, data = read_image(), INSTANCE.encode()
    before = _native.measure(image, data)
    for _ in range(40):
        changed = bytearray(data)
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        with contextlib.suppress(_native.NativeError):
            assert _native.measure(image, bytes(changed)) != before


@pytest.mark.parametrize("length", [0, 7, 12, 60, 99, 150])
def test_cut_off_configurations_are_refused(length: int) -> None:
    data = INSTANCE.encode()[:length]
    with pytest.raises(ValueError, match="configuration"):
        page.Config.decode(data)
    with pytest.raises(_native.NativeError, match="configuration is damaged"):
        _native.measure(read_image(), data)


def test_what_does_not_fit_is_an_error() -> None:
    with pytest.raises(OptionError, match="out of range"):
        page.Config(1 << 70, 1, 1, 2).encode()
    with pytest.raises(OptionError, match="entries"):
        page.Config(1 << 30, 1, 1, 2, entry_points=["/x"] * 5000).encode()
