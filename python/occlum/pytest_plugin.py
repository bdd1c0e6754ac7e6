"""The pytest plugin: tests get an enclave as a fixture. pytest loads it by itself where the package is installed.

    def test_sorts(enclave):
        assert enclave.check_output(["sort"], input=b"b\\na\\n") == b"a\\nb\\n"

An enclave starts with the first test that wants one. Neighbours: `enclave`. It is loaded into every run of pytest, so
nothing of the package is imported before a fixture is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from occlum.enclave import Enclave

__all__ = ["enclave", "fresh_enclave"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """The enclave's size: on the command line, or in the configuration file."""
    group = parser.getgroup("occlum", "enclaves for tests")
    group.addoption("--enclave-memory", metavar="SIZE", help="memory of the fixtures' enclaves, like 512M")
    group.addoption("--enclave-cpus", metavar="N", type=int, help="host threads in each at once")
    parser.addini("enclave_memory", "memory of the fixtures' enclaves", default="2G")
    parser.addini("enclave_cpus", "host threads in each at once", default="2")
    parser.addini("enclave_binds", "directories shared with them, as `occlum try -v` takes them", type="linelist")


def _start(config: pytest.Config) -> Enclave:
    from occlum.enclave import Enclave

    memory = config.getoption("--enclave-memory") or config.getini("enclave_memory")
    cpus = config.getoption("--enclave-cpus") or int(config.getini("enclave_cpus"))
    return Enclave.from_host(memory=memory, cpus=cpus, binds=config.getini("enclave_binds"))


@pytest.fixture(scope="session")
def enclave(pytestconfig: pytest.Config) -> Iterator[Enclave]:
    """An enclave that all tests of the run share, files that their programs make and all."""
    with _start(pytestconfig) as shared:
        yield shared


@pytest.fixture
def fresh_enclave(pytestconfig: pytest.Config) -> Iterator[Enclave]:
    """An enclave for this test alone."""
    with _start(pytestconfig) as own:
        yield own
