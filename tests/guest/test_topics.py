"""The guest programs by topic: each case runs natively and in an enclave and must say and return the same.

A case also checks itself: it returns the number of broken expectations, so the native run must end with 0.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from framework import cc, native, same

SOURCES = Path(__file__).parent / "src"
TOPICS = (
    # One source each.
    "process exec pipes signals faults frames threads memory jit races jumps times polling files ptys handles ipc watches"
    " insns many net rights hostile vdso"
    " schedule futexes interrupts moving attributes peers mounts edges names sharing sigio returns"
).split()
CASES = [
    (topic, case)
    for topic in TOPICS
    for case in re.findall(r"^CASE\((\w+)\)", (SOURCES / f"{topic}.c").read_text(), re.MULTILINE)
]
# What does not work yet, with what is missing. A listed case that passes fails the run.
GAPS: dict[tuple[str, str], str] = {}
COMMON = ["-w", "-pthread"]
TIMEOUT = 20


def program(topic: str, *flags: str) -> Path:
    return cc(SOURCES / f"{topic}.c", *flags, *COMMON)


@pytest.mark.parametrize(("topic", "case"), CASES, ids=[f"{t}-{c}" for t, c in CASES])
def test_case(topic: str, case: str, seed: int, request: pytest.FixtureRequest) -> None:
    if reason := GAPS.get((topic, case)):
        request.applymarker(pytest.mark.xfail(reason=reason, strict=True))
    env = {"GUEST_SEED": str(seed)}
    result = same([program(topic, "-static"), case], env=env, timeout=TIMEOUT)
    assert result.returncode == 0, result.text


@pytest.mark.parametrize("topic", [t for t in TOPICS if t not in ("many", "hostile")])
def test_topic_dynamic(topic: str) -> None:
    """All cases of a topic in one enclave, position-independent and dynamically linked."""
    gaps = [f"-{case}" for gap_topic, case in GAPS if gap_topic == topic]
    result = same([program(topic, "-pie", "-fPIE"), *gaps], timeout=60)
    assert result.returncode == 0
    assert "not so" not in result.text


# What has to do with memory that processes share, or that one process has at two places.
WITHOUT_ALIASES = ("sharing", "memory", "ipc", "futexes", "races", "jit", "threads")


COPIED = [(topic, case) for topic, case in CASES if topic in WITHOUT_ALIASES[:3]]


@pytest.mark.parametrize(("topic", "case"), COPIED, ids=[f"{t}-{c}" for t, c in COPIED])
def test_case_without_aliases(topic: str, case: str, seed: int) -> None:
    """The same cases where no page is in two places at once."""
    env = {"GUEST_SEED": str(seed)}
    result = same([program(topic, "-static"), case], env=env, timeout=TIMEOUT, options=["--no-alias"])
    assert result.returncode == 0, result.text


@pytest.mark.parametrize("topic", WITHOUT_ALIASES[3:])
def test_topic_without_aliases(topic: str) -> None:
    result = same([program(topic, "-pie", "-fPIE")], timeout=60, options=["--no-alias"])
    assert result.returncode == 0
    assert "not so" not in result.text


def test_cases_are_complete() -> None:
    """The list that pytest sees is the list that the programs have."""
    assert len(CASES) > 130
    assert native([program("process", "-static"), "no such case"]).returncode == 99
