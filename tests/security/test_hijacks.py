"""The matrix of control-flow hijacks: how many work natively, and at each level of control-flow integrity.

`docs/cfi.md` has the table that this test makes; `OCCLUM_WRITE_TABLE=1` writes it there.
"""

from __future__ import annotations

import os
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from framework import ROOT, Result, cc, enclave, native

SOURCE = Path(__file__).parent / "src" / "hijacks.c"
PAGE = ROOT / "docs" / "cfi.md"
LEVELS = ("default", "strict", "shadow-stack")
FLAGS = (
    "-O1 -w -fno-omit-frame-pointer -fno-stack-protector -fcf-protection=none -no-pie -fno-pie -U_FORTIFY_SOURCE"
    " -fno-builtin -Wl,-z,norelro -Wl,-z,lazy -Wl,-z,execstack"
).split()
FORMS = 304
TARGETS = ("return-address", "frame-pointer", "function-pointer", "jump-buffer", "table", "got")
PAYLOADS = (
    "injected-code",
    "libc-function",
    "unused-function",
    "middle-of-function",
    "inside-instruction",
    "gadget-chain",
    "call-preceded-chain",
    "unused-call-preceded-chain",
)
# Of each payload, how many may still work: what a level does not claim to stop (docs/cfi.md says why).
ALLOWED: dict[str, dict[str, int]] = {
    "default": {
        "libc-function": 28,
        "unused-function": 28,
        "middle-of-function": 28,
        "inside-instruction": 28,
        "call-preceded-chain": 34,
    },
    # An exported function of a library is a target: `dlsym` may have given its address.
    "strict": {"libc-function": 28, "call-preceded-chain": 6},
    # Calls and jumps as at the default level; no chain goes on behind them.
    "shadow-stack": {
        "libc-function": 28,
        "unused-function": 28,
        "middle-of-function": 28,
        "inside-instruction": 28,
    },
}

Form = tuple[str, str, str, str]


def forms(result: Result) -> dict[Form, bool]:
    """Which forms of the matrix ran."""
    lines = [line.split() for line in result.text.splitlines()]
    return {(a, b, c, d): end == "ran" for a, b, c, d, end in (line for line in lines if len(line) == 5)}


@cache
def matrix(level: str) -> dict[Form, bool]:
    program = cc(SOURCE, *FLAGS)
    if level == "native":
        return forms(native([program]))
    return forms(enclave([program], options=["--cfi", level], timeout=120))


def counts(level: str, column: int) -> Counter[str]:
    return Counter(form[column] for form, ran in matrix(level).items() if ran)


def table() -> str:
    """The table of the documentation."""
    columns = ("native", *LEVELS)
    lines = ["| | forms | " + " | ".join(columns) + " |", "|---|---|" + "---|" * len(columns)]
    for names, column in ((TARGETS, 1), (PAYLOADS, 3)):
        for name in names:
            of = sum(form[column] == name for form in matrix("native"))
            lines.append(f"| {name} | {of} | " + " | ".join(str(counts(c, column)[name]) for c in columns) + " |")
    total = " | ".join(str(sum(matrix(c).values())) for c in columns)
    return "\n".join([*lines, f"| all | {FORMS} | {total} |"])


def test_the_matrix_is_whole_and_works_natively() -> None:
    assert len(matrix("native")) == FORMS
    ran = counts("native", 3)
    # Injected code runs only on the stack, which alone the flags make executable.
    assert ran["injected-code"] >= 10
    assert all(ran[payload] >= 33 for payload in PAYLOADS if payload != "injected-code"), ran
    assert all(counts("native", 1)[target] >= 28 for target in TARGETS), "each target can be hijacked"


@pytest.mark.parametrize("level", LEVELS)
def test_a_level_stops_what_it_claims_to(level: str) -> None:
    assert matrix(level).keys() == matrix("native").keys()
    ran = counts(level, 3)
    assert {p: n for p, n in ran.items() if n > ALLOWED[level].get(p, 0)} == {}
    gained = [form for form, ran in matrix(level).items() if ran and not matrix("native")[form]]
    assert gained == [], "a form that fails natively works inside"


@pytest.mark.parametrize("level", LEVELS)
def test_overwritten_return_addresses_lead_only_behind_calls(level: str) -> None:
    ran = {form[3] for form, ran in matrix(level).items() if ran and form[1] in ("return-address", "frame-pointer")}
    assert ran <= ({"call-preceded-chain"} if level != "shadow-stack" else set())


def test_the_documentation_has_this_table() -> None:
    text = PAGE.read_text()
    start, end = text.index("| | forms |"), text.index("| all |")
    written = text[start : text.index("\n", end)]
    if os.environ.get("OCCLUM_WRITE_TABLE"):
        PAGE.write_text(text.replace(written, table()))
        return
    assert written == table()
