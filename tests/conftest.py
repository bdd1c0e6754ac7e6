"""Fixtures for all tests: the printed seed, random inputs, and the enclave command."""

from __future__ import annotations

import os
import random
import secrets
import signal
from pathlib import Path

import pytest

from framework import OCCLUM

_SEED = int(os.environ.get("OCCLUM_TEST_SEED") or secrets.randbelow(2**32))


def pytest_configure() -> None:
    """Makes the run independent of who started it.

    With pytest-xdist every worker must use the seed that the controller printed. A shell starts background jobs with
    SIGINT and SIGQUIT ignored, `nohup` with SIGHUP; programs would inherit that, natively too.
    """
    os.environ["OCCLUM_TEST_SEED"] = str(_SEED)
    for number in (signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> str:
    """Names the seed, so that a failure can be repeated."""
    return f"seed: {_SEED} (repeat with OCCLUM_TEST_SEED={_SEED})"


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """The seed of this test: from the run's seed and the test's name, printed when the test fails."""
    value = random.Random(f"{_SEED}:{request.node.nodeid}").getrandbits(32)
    print(f"test seed {value}; repeat with OCCLUM_TEST_SEED={_SEED}")
    return value


@pytest.fixture
def rng(seed: int) -> random.Random:
    """A generator for this test's inputs."""
    return random.Random(seed)


@pytest.fixture(scope="session")
def occlum_command() -> Path:
    """The installed command; tests that need it fail early, with the remedy, if it is missing."""
    if not OCCLUM.exists():
        pytest.fail(f"{OCCLUM} is missing; run: make build")
    return OCCLUM
