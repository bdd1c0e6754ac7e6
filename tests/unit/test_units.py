"""Sizes, durations and bind mounts as users write them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from occlum._host.launch import Bind, EnclaveOptions
from occlum._host.units import format_size, parse_duration, parse_size
from occlum.errors import OptionError


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("1k", 1024),
        ("512M", 512 << 20),
        ("2G", 2 << 30),
        ("1.5GiB", 3 << 29),
        ("3MB", 3 << 20),
    ],
)
def test_size_is_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@given(st.integers(min_value=0, max_value=1 << 50))
def test_size_survives_a_round_trip(size: int) -> None:
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize("text", ["", "M", "-1", "1Q", "1 2", "0x10", "1e3"])
def test_bad_size_names_the_fix(text: str) -> None:
    with pytest.raises(OptionError, match="like 512M"):
        parse_size(text)


@pytest.mark.parametrize(("text", "seconds"), [("3", 3), ("1.5s", 1.5), ("250ms", 0.25), ("2m", 120), ("1h", 3600)])
def test_duration_is_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "-1s", "1d", "1 s 2"])
def test_bad_duration_names_the_fix(text: str) -> None:
    with pytest.raises(OptionError, match="like 30s"):
        parse_duration(text)


def test_bind_forms(tmp_path: Path) -> None:
    here = str(tmp_path)
    assert Bind.parse(here) == Bind(here, here, False)
    assert Bind.parse(f"{here}:ro") == Bind(here, here, True)
    assert Bind.parse(f"{here}:/data") == Bind(here, "/data", False)
    assert Bind.parse(f"{here}:/data:ro") == Bind(here, "/data", True)
    assert Bind.parse(f"{here}:/data:rw") == Bind(here, "/data", False)


@pytest.mark.parametrize("text", ["", ":", "/:", "/tmp:relative", "/no/such/path", "/:/a:/b", "/:/a:/b:ro"])
def test_bad_bind_is_refused(text: str) -> None:
    with pytest.raises(OptionError):
        Bind.parse(text)


def test_memory_is_rounded_up_to_pages() -> None:
    assert EnclaveOptions(memory_bytes=(64 << 20) + 1).memory_bytes == (64 << 20) + 4096


def test_too_little_memory_is_refused() -> None:
    with pytest.raises(OptionError, match="at least 64M"):
        EnclaveOptions(memory_bytes=1 << 20)
