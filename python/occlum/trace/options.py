"""What the enclave is to tell: `TraceOptions` of common/enclave-abi/src/trace.rs."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

ARGUMENTS, PATHS, ENDS, CRASH_FIRST, CRASH_ALL, CORE = (1 << bit for bit in range(6))
CALLS_LIMIT = 512
_WIRE = struct.Struct("<IIQIQ8Q")


@dataclass
class TraceOptions:
    """Wishes of several readers, joined."""

    flags: int = 0
    string_limit: int = 0
    # ns between two samples of a vCPU; 0: no samples.
    sample_ns: int = 0
    # Most bytes of stack in a sample.
    sample_stack: int = 0
    signals: set[int] = field(default_factory=set)
    calls: set[int] = field(default_factory=set)

    def encode(self) -> bytes:
        """The wire form."""
        words = [0] * (CALLS_LIMIT // 64)
        for number in self.calls:
            words[number // 64] |= 1 << number % 64
        return _WIRE.pack(self.flags, self.string_limit, self.sample_ns, self.sample_stack, _bits(self.signals), *words)


def _bits(numbers: Iterable[int]) -> int:
    return sum(1 << (number - 1) for number in numbers)
