"""What a check says."""

from __future__ import annotations

from dataclasses import asdict, dataclass

# From bad to good: it will not work; it may not work; worth knowing.
LEVELS = ("problem", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One thing, where it is, and what to do about it."""

    level: str
    # "file", "library", "code", "system call", "instruction", "memory", "run"
    topic: str
    where: str
    text: str
    advice: str = ""

    def as_json(self) -> dict[str, str]:
        """For `--json`."""
        return asdict(self)


def worst(findings: list[Finding]) -> str | None:
    """The worst level there is."""
    present = {finding.level for finding in findings}
    return next((level for level in LEVELS if level in present), None)
