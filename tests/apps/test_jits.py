"""Programs that make code while they run: LuaJIT (W^X flips), PyPy (writable code), V8, libffi's closures (two mappings of
one file), Forth. tests/guest/src/jit.c has the single ways in which code changes."""

from __future__ import annotations

import importlib.machinery
from pathlib import Path

import pytest

from framework import compiler, same

SOURCES = Path(__file__).parent / "src" / "jits"
PYTHON = "/usr/bin/python3"
MEMORY = ["--memory", "2G"]


def test_luajit(seed: int) -> None:
    result = same([compiler("luajit"), SOURCES / "mix.lua", str(seed % 100000 + 1)], timeout=60)
    assert result.returncode == 0


def test_luajit_interpreter(seed: int) -> None:
    same([compiler("luajit"), "-joff", SOURCES / "mix.lua", str(seed % 100000 + 1)], timeout=60)


def test_pypy(seed: int) -> None:
    result = same([compiler("pypy3"), SOURCES / "mix.py", str(seed % 100000 + 1)], timeout=90, options=MEMORY)
    assert result.returncode == 0


def test_pypy_callbacks(seed: int) -> None:
    result = same([compiler("pypy3"), SOURCES / "callbacks.py", str(seed % 1000 + 1)], timeout=90, options=MEMORY)
    assert result.returncode == 0


@pytest.mark.parametrize("also", ["", "cffi"])
def test_libffi_closures(also: str, seed: int) -> None:
    if also:
        assert importlib.machinery.PathFinder.find_spec("cffi", ["/usr/lib/python3/dist-packages"]), "python3-cffi"
    result = same([PYTHON, SOURCES / "callbacks.py", str(seed % 1000 + 1), also], timeout=60)
    assert result.returncode == 0
    assert ("True" in result.text) == bool(also)


def test_node(seed: int) -> None:
    result = same([compiler("node"), SOURCES / "mix.js", str(seed % 100000 + 1)], timeout=90, options=MEMORY)
    assert result.returncode == 0


def test_gforth() -> None:
    words = ": fib dup 2 < if else dup 1- recurse swap 2 - recurse + then ; : s 0 100000 0 do i + loop ;"
    program = f"{words} 22 fib . s . cr bye"
    result = same([compiler("gforth"), "-e", program], timeout=60)
    assert "17711" in result.text
