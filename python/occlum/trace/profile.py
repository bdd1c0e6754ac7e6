"""`--profile`: where programs spend their CPU time, by samples of their stacks.

Formats: speedscope's JSON (https://www.speedscope.app/file-format-schema.json), one profile for each process; and
collapsed stacks, a line `program;outer;...;inner count` for each different stack, as flame-graph tools read them.
Time in the LibOS counts for the function that made the system call; waiting does not count.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from occlum.errors import OptionError
from occlum.trace import options, unwind
from occlum.trace.records import Fields, Kind, Maps, Record, Registers

FORMATS = ("speedscope", "collapsed")
DEFAULT_FREQUENCY = 199
_STACK_BYTES = 16 << 10

# (function, file)
Place = tuple[str, str]


def format_for(path: str) -> str:
    """By the extension of the file: `.json` is speedscope's, others are collapsed stacks."""
    return "speedscope" if path.endswith(".json") else "collapsed"


@dataclass
class _Process:
    """What was seen of one program in one process."""

    pid: int
    maps: Maps
    stacks: Counter[tuple[Place, ...]] = field(default_factory=Counter)

    @property
    def name(self) -> str:
        return f"{self.maps.program.rsplit('/', 1)[-1] or '?'} ({self.pid})"


class Profile:
    """Collects samples, writes the file at the end."""

    def __init__(self, path: str, format_: str | None = None, frequency: int = DEFAULT_FREQUENCY) -> None:
        self.path = Path(path)
        self.format = format_ or format_for(path)
        self.period_ns = 10**9 // frequency
        self.current: dict[int, _Process] = {}
        self.processes: list[_Process] = []
        self.places: dict[tuple[int, int], Place] = {}
        try:
            # Kept open: programs may change names in a shared directory.
            self.file = self.path.open("w", encoding="utf-8", errors="surrogateescape")
        except OSError as error:
            raise OptionError(f"--profile {path}: {error.strerror}", "name a file that can be written") from None

    def wants(self, joined: options.TraceOptions) -> None:
        """Samples."""
        joined.sample_ns = self.period_ns
        joined.sample_stack = max(joined.sample_stack, _STACK_BYTES)

    def take(self, record: Record) -> None:
        """Mappings and samples."""
        if record.kind == Kind.MAPS:
            self._maps(record.pid, Maps.parse(record.body))
        elif record.kind == Kind.SAMPLE and record.pid in self.current:
            fields = Fields(record.body)
            registers = Registers.take(fields)
            self._sample(self.current[record.pid], registers, fields.rest())

    def _maps(self, pid: int, maps: Maps) -> None:
        """Other mappings of the same program, or another program."""
        process = self.current.get(pid)
        if process is not None and process.maps.program == maps.program:
            process.maps = maps
        else:
            self.current[pid] = process = _Process(pid, maps)
            self.processes.append(process)
        self.places = {key: place for key, place in self.places.items() if key[0] != id(process)}

    def _sample(self, process: _Process, registers: Registers, stack: bytes) -> None:
        frames = unwind.Unwinder(process.maps, registers, stack).frames()
        # Words that only look like return addresses would make up callers.
        known = [f for n, f in enumerate(frames) if f.by != "guess" or n == 1]
        places = [self._place(process, frame.address, inner=n == 0) for n, frame in enumerate(known)]
        process.stacks[tuple(reversed(places))] += 1

    def _place(self, process: _Process, address: int, inner: bool) -> Place:
        key = (id(process), address << 1 | inner)
        if key not in self.places:
            name, path = unwind.symbol(process.maps, address, after_call=not inner)
            function = name.rsplit("+0x", 1)[0]
            if function == path.rsplit("/", 1)[-1] or function.startswith("0x"):
                function = f"[{path.rsplit('/', 1)[-1] or 'unknown'}]"
            self.places[key] = (function, path)
        return self.places[key]

    def close(self) -> None:
        """Writes the file."""
        seen = [process for process in self.processes if process.stacks]
        text = self._speedscope(seen) if self.format == "speedscope" else self._collapsed(seen)
        with self.file:
            self.file.write(text)

    def _collapsed(self, processes: list[_Process]) -> str:
        lines: Counter[str] = Counter()
        for process in processes:
            for stack, count in process.stacks.items():
                names = (process.name, *(name.replace(";", ":") for name, _ in stack))
                lines[";".join(names)] += count
        return "".join(f"{line} {count}\n" for line, count in sorted(lines.items()))

    def _speedscope(self, processes: list[_Process]) -> str:
        frames: dict[Place, int] = {}
        profiles = []
        for process in processes:
            samples, weights = [], []
            for stack, count in process.stacks.items():
                samples.append([frames.setdefault(place, len(frames)) for place in stack])
                weights.append(count * self.period_ns)
            profile = {"type": "sampled", "name": process.name, "unit": "nanoseconds", "startValue": 0}
            profiles.append({**profile, "endValue": sum(weights), "samples": samples, "weights": weights})
        shared = [{"name": name, "file": file} if file else {"name": name} for name, file in frames]
        return json.dumps(
            {
                "$schema": "https://www.speedscope.app/file-format-schema.json",
                "exporter": "occlum",
                "name": self.path.name,
                "activeProfileIndex": 0,
                "shared": {"frames": shared},
                "profiles": profiles,
            }
        )
