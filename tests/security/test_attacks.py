"""The attack suite: hostile programs beside a victim in one enclave; nothing outside the attacker may notice.

The attacks are `src/attack*.c`: each names its family and the invariant (V, docs/verifier.md) or rule (R, docs/sfi.md)
that it aims at. They run in enclaves only, never on the host; natively the program is only asked for its list.
"""

from __future__ import annotations

import collections
import functools
import os
import random
import re
from pathlib import Path
from typing import NamedTuple

import pytest

from framework import Result, cc, enclave, native

SOURCES = Path(__file__).parent / "src"
LINE = re.compile(r"(\w+): (exit|signal) (\d+), (\d+) tries, (\d+) faults, victim (ok|harmed)(?:, escaped: (.*))?")


class Attack(NamedTuple):
    family: str
    name: str
    aim: str


class Outcome(NamedTuple):
    ended: str
    tries: int
    faults: int
    victim: str
    evidence: str


@functools.cache
def program() -> Path:
    return cc(
        sorted(SOURCES.glob("attack*.c")),
        "-static",
        "-pthread",
        "-w",
        "-fno-toplevel-reorder",
        "-Wl,-e,first_instruction",
    )


@functools.cache
def attacks() -> list[Attack]:
    listed = native([program(), "--list"])
    assert listed.returncode == 0, listed.errors
    return [Attack(*line.split()) for line in listed.text.splitlines()]


class Run(NamedTuple):
    result: Result
    outcomes: dict[str, Outcome]
    expected: str


@pytest.fixture(scope="module")
def suite() -> Run:
    """All attacks, in one enclave; and what the victim, which does a round of work for each, has to say at its end."""
    seed = str(random.Random(f"attacks:{os.environ['OCCLUM_TEST_SEED']}").getrandbits(63) | 1)
    victim = cc(SOURCES / "victim.c", "-static", "-mavx2")
    rounds = len(attacks())
    alone = native([victim, seed], input="x" * rounds)
    result = enclave([program(), seed, victim], timeout=200)
    outcomes = {
        m[1]: Outcome(f"{m[2]} {m[3]}", int(m[4]), int(m[5]), m[6], m[7] or "") for m in LINE.finditer(result.text)
    }
    return Run(result, outcomes, alone.text.removeprefix("+" * rounds).strip())


@pytest.mark.parametrize("attack", [a for a in attacks() if a.family != "control"], ids=lambda attack: attack.name)
def test_attack(attack: Attack, suite: Run) -> None:
    assert attack.name in suite.outcomes, suite.result.errors[-2000:]
    outcome = suite.outcomes[attack.name]
    assert outcome.evidence == ""
    assert outcome.ended == "exit 0", outcome
    assert outcome.victim == "ok"
    assert outcome.tries > 0, outcome


@pytest.mark.parametrize("control", [a for a in attacks() if a.family == "control"], ids=lambda attack: attack.name)
def test_success_is_seen(control: Attack, suite: Run) -> None:
    """What an attack that succeeds would show is recognised."""
    outcome = suite.outcomes[control.name]
    assert outcome.ended == "exit 66"
    assert outcome.evidence


def test_all_went_on(suite: Run) -> None:
    """The victim finished with the right answer, the LibOS served to the end."""
    assert suite.result.returncode == 0, suite.result.errors[-2000:]
    assert not re.search(r"panicked|LibOS crash|occlum failed", suite.result.errors)
    assert len(suite.expected) == 16
    assert suite.result.text.splitlines()[-1] == f"victim: status 0, {suite.expected}"


# Rules that no program can attack: how translations persist (they do not), what speculation may do (docs/security.md).
NOT_ATTACKED = {"R27", "R32"}


def test_attacks_are_many_and_aim_at_all() -> None:
    listed = [attack for attack in attacks() if attack.family != "control"]
    assert len({attack.name for attack in listed}) == len(listed) >= 150
    aimed = collections.Counter(aim for attack in listed for aim in attack.aim.split(","))
    invariants = {f"V{n}" for n in range(1, 15)} | {f"R{n}" for n in range(1, 33)} - NOT_ATTACKED
    assert set(aimed) == invariants
    assert {aim: count for aim, count in aimed.items() if count < 5} == {}
