"""The record of a campaign: a page of docs/records that people read and `make replay` reads back.

Neighbours: `campaign` runs campaigns and writes records, `tests/unit/test_record.py` pins the format. A record says
what ran (commit, seed, machine), and for each shard how much and a digest of what came of it, so that any shard can be
run again and compared.
"""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Counts in one line of the record.
COLUMNS = 3


@dataclass
class Shard:
    """A part of a campaign that depends on seed and number alone."""

    number: int
    done: int
    digest: str
    problems: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


@dataclass
class Record:
    """A campaign that ran."""

    campaign: str
    commit: str
    seed: int
    # What a shard was asked for: sequences, mutants, calls, runs.
    rounds: int
    machine: str
    date: str
    minutes: float
    shards: list[Shard] = field(default_factory=list)

    def counts(self) -> Counter[str]:
        """Over all shards."""
        total: Counter[str] = Counter()
        for shard in self.shards:
            total.update(shard.counts)
        return total

    def problems(self) -> list[str]:
        """Over all shards."""
        return [f"shard {s.number}: {problem}" for s in self.shards for problem in s.problems]


def commit() -> str:
    """What is tested; with `-dirty` if that is no commit."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*", "--abbrev=40"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def commit_seed() -> int:
    """For slices of campaigns: another one with each commit, the same for everybody who tests it."""
    command = ["git", "rev-parse", "--short=8", "HEAD"]
    head = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    return int(head, 16) if head else 1


def machine() -> str:
    """The CPU, and what the kernel calls itself."""
    cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    family = re.search(r"^cpu family\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    release = Path("/proc/sys/kernel/osrelease").read_text().split("-")[0].strip()
    return f"{cpu[1] if cpu else 'unknown CPU'} (family {family[1] if family else '?'}), Linux {release}"


def table(rows: Sequence[tuple[str, ...]], *head: str) -> str:
    """A Markdown table."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def packed(counts: Counter[str]) -> str:
    """`name count` pairs, several in a line, in columns."""
    items = [f"{name} {count}" for name, count in sorted(counts.items())]
    width = max(map(len, items), default=0)
    lines = (items[n : n + COLUMNS] for n in range(0, len(items), COLUMNS))
    return "".join("  ".join(item.ljust(width) for item in line).rstrip() + "\n" for line in lines)


def render(record: Record, title: str, text: str) -> str:
    """The page."""
    facts = [
        ("campaign", record.campaign),
        ("commit", record.commit),
        ("seed", str(record.seed)),
        ("rounds of a shard", str(record.rounds)),
        ("machine", record.machine),
        ("date", record.date),
        ("minutes", f"{record.minutes:.0f}"),
        ("shards", str(len(record.shards))),
        ("done", str(sum(s.done for s in record.shards))),
        ("problems", str(len(record.problems()))),
    ]
    shards = [(str(s.number), str(s.done), s.digest) for s in record.shards]
    page = f"# {title}\n\n{text.strip()}\n\nRepeat a shard: `make replay RECORD=<this file> SHARD=<number>`.\n\n"
    page += table(facts, "what", "value")
    if record.problems():
        page += "\n## Problems\n\n" + "".join(f"- {problem}\n" for problem in record.problems())
    page += f"\n## Counts\n\n```\n{packed(record.counts())}```\n"
    return page + "\n## Shards\n\n" + table(shards, "shard", "done", "digest")


def parse(page: str) -> Record:
    """What `render` wrote; counts stay unread. Raises ValueError for anything else."""
    facts = dict(re.findall(r"^\| ([a-z][a-z ]*) \| (.*) \|$", page, re.MULTILINE))
    rows = re.findall(r"^\| (\d+) \| (\d+) \| ([0-9a-f]+) \|$", page, re.MULTILINE)
    try:
        return Record(
            campaign=facts["campaign"],
            commit=facts["commit"],
            seed=int(facts["seed"]),
            rounds=int(facts["rounds of a shard"]),
            machine=facts["machine"],
            date=facts["date"],
            minutes=float(facts["minutes"]),
            shards=[Shard(int(number), int(done), digest) for number, done, digest in rows],
        )
    except KeyError as lacking:
        raise ValueError(f"no record of a campaign: it lacks {lacking}") from None
