"""The verifier stays small enough to be read: lines of logic, and of each function.

docs/verifier.md states the numbers. Neighbour: `test_layers` (what the verifier may depend on).
"""

from __future__ import annotations

import re
from pathlib import Path

SOURCES = Path(__file__).parents[2] / "common" / "sfi-verifier" / "src"
MOST_LINES = 1200
LONGEST_FUNCTION = 60
# Rules, patterns, fixed instructions, checks: data of one row each; and the numbers of the patterns' steps.
TABLE = re.compile(
    r"^(?:pub(?:\(crate\))? )?(?:const|static) [A-Z_]+: &\[?&?\w[^\n]*[^;\n]\n.*?^\];"
    r"|^checks! \{.*?^\}"
    r"|^    pub\(crate\) const \w+: u8 = \d+;$",
    re.MULTILINE | re.DOTALL,
)
FUNCTION = re.compile(r"^( *)(?:pub(?:\(crate\))? )?(?:const )?fn \w+.*?^\1\}", re.MULTILINE | re.DOTALL)


def lines(text: str) -> int:
    """How many are neither blank nor only a comment."""
    return sum(bool(line.strip()) and not line.strip().startswith("//") for line in text.splitlines())


def test_logic_outside_tables_is_small() -> None:
    # `inspect` is for tests alone.
    texts = [path.read_text() for path in SOURCES.glob("*.rs") if path.name != "inspect.rs"]
    tables = [table for text in texts for table in TABLE.findall(text)]
    assert len(tables) > len(texts)
    assert 0 < sum(map(lines, texts)) - sum(map(lines, tables)) <= MOST_LINES


def test_functions_are_short() -> None:
    found = [match[0] for path in SOURCES.glob("*.rs") for match in FUNCTION.finditer(path.read_text())]
    assert found
    assert max(map(lines, found)) <= LONGEST_FUNCTION
