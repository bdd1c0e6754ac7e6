"""Sizes and durations as people write them: `512M`, `2G`, `1.5s`, `2m`."""

from __future__ import annotations

import re

from occlum.errors import OptionError

_SIZE_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_TIME_UNITS = {"": 1.0, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_size(text: str) -> int:
    """Bytes; K, M, G and T are powers of 1024, with or without `B` or `iB`."""
    found = re.fullmatch(r"(\d{1,18}(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if found is None:
        raise OptionError(f"{text!r} is not a size", "write a number and K, M or G, like 512M")
    return int(float(found[1]) * _SIZE_UNITS[found[2].upper()])


def parse_duration(text: str) -> float:
    """Seconds; a bare number is seconds too."""
    found = re.fullmatch(r"(\d{1,18}(?:\.\d+)?)\s*(ms|s|m|h|)", text.strip())
    if found is None:
        raise OptionError(f"{text!r} is not a duration", "write a number and ms, s, m or h, like 30s")
    return float(found[1]) * _TIME_UNITS[found[2]]


def format_size(size_bytes: int) -> str:
    """The shortest exact form that `parse_size` reads back."""
    for unit in ("T", "G", "M", "K"):
        factor = _SIZE_UNITS[unit]
        if size_bytes and size_bytes % factor == 0:
            return f"{size_bytes // factor}{unit}"
    return str(size_bytes)
