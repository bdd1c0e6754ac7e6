"""Programs that make code while they run: LuaJIT (W^X flips), PyPy (writable code), V8, libffi's closures (two mappings of
one file), Forth, BEAM (a memfd mapped twice), SBCL (a heap of which all is code). tests/guest/src/jit.c has the single ways in which code changes."""

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


def test_erlang() -> None:
    program = """
        Parent = self(),
        Pids = [spawn(fun() -> receive N -> Parent ! N * N end end) || _ <- lists:seq(1, 500)],
        [P ! N || {P, N} <- lists:zip(Pids, lists:seq(1, 500))],
        io:format("~p ~p~n", [lists:sum([receive N -> N end || _ <- Pids]), catch 1 / (length(Pids) - 500)]),
        io:format("~s", [os:cmd("echo from a port")]),
        halt().
    """
    result = same([compiler("erl"), "-noshell", "-eval", program], timeout=90, options=MEMORY)
    assert "41791750" in result.text


def test_sbcl() -> None:
    program = """
        (progn
          (defun fib (n) (if (< n 2) n (+ (fib (- n 1)) (fib (- n 2)))))
          (compile 'fib)
          (format t "~a ~a~%" (fib 20) (length (write-to-string (expt 7 1000))))
          (sb-ext:gc :full t)
          (format t "~a~%" (handler-case (error "caught") (error (e) e)))
          (sb-ext:exit :code 3))
    """
    result = same([compiler("sbcl"), "--noinform", "--non-interactive", "--eval", program], timeout=90, options=MEMORY)
    assert "6765 846" in result.text
