"""--cfi=shadow-stack: returns go where the call was, and programs go on (docs/shadow-stack.md)."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from framework import cc, compiler, enclave, native, same

SOURCES = Path(__file__).parent / "src"
GUEST = Path(__file__).parents[1] / "guest" / "src"
SHADOW = ["--cfi", "shadow-stack"]
RAN = 7
STOPPED = 128 + 11
FLAGS = "-w -O1 -fno-omit-frame-pointer -fno-stack-protector -fcf-protection=none -pthread".split()
# Attacks that the level `default` lets through, and that work natively.
ATTACKS = ("overwrite", "reuse", "abandoned", "swapped", "race", "pivot", "remapped")
WAYS_TO_STORE = 12
# Hijacks of cfi_stopped.c; what a shadow stack says nothing of.
RETURNS = (
    "return-to-function return-to-instruction return-behind-unused-call return-into-instruction return-to-restorer"
    " forged-sigreturn forged-sigreturn-by-restorer"
).split()
JUMPS = ("jump-to-instruction", "jump-into-instruction")
# Threads, callbacks from foreign code, fibres, exceptions by longjmp.
PROGRAMS = {
    "bash": ["/bin/bash", "-c", "trap 'echo got USR1' USR1; kill -USR1 $$; for i in 1 2 3; do echo $i | cat; done"],
    "perl": ["perl", "-e", "eval{die 'x'}; print sort {$b cmp $a} map {$_*2} 1..9; print $@"],
    "lua": ["lua5.4", "-e", "c=coroutine.wrap(function() for i=1,3 do coroutine.yield(i) end end) print(c(),c(),c())"],
    "sqlite3": ["sqlite3", ":memory:", "create table t(a); insert into t values(3),(1); select a from t order by a;"],
    "python3": [
        "/usr/bin/python3",
        "-c",
        "import ctypes, threading, subprocess\n"
        "f = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(lambda x: x + 1)\n"
        "t = threading.Thread(target=lambda: print(f(41))); t.start(); t.join()\n"
        "print(subprocess.run(['echo', 'child'], capture_output=True).stdout)",
    ],
}
TOPICS = "process exec pipes signals faults threads memory jumps polling files insns many".split()


def attacker() -> Path:
    return cc(SOURCES / "shadow_attacks.c", *FLAGS)


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_works_elsewhere_and_is_stopped(attack: str) -> None:
    assert native([attacker(), attack]).returncode == RAN, "natively it proves nothing"
    assert enclave([attacker(), attack]).returncode == RAN, "at the level default it proves nothing"
    result = enclave([attacker(), attack], options=SHADOW)
    assert result.returncode == STOPPED
    assert "refused by --cfi=shadow-stack" in result.stderr.decode()


@pytest.mark.parametrize("way", range(WAYS_TO_STORE))
def test_no_store_reaches_a_shadow_word(way: int) -> None:
    """The word is overwritten, and its shadow by every addressing mode: at the level default the return goes astray."""
    assert enclave([attacker(), "forge", str(way)]).returncode == RAN
    result = enclave([attacker(), "forge", str(way)], options=SHADOW)
    assert result.returncode == STOPPED
    assert "refused by --cfi=shadow-stack" in result.stderr.decode()


def hijacker() -> Path:
    fixed = ("-w", "-fno-omit-frame-pointer", "-fno-stack-protector", "-fcf-protection=none")
    return cc(SOURCES / "cfi_stopped.c", *fixed)


def test_hijacks_of_returns_are_stopped() -> None:
    for name in (*RETURNS, *JUMPS):
        result = enclave([hijacker(), name], options=SHADOW)
        assert result.returncode == (RAN if name in JUMPS else STOPPED), name


def test_a_violation_is_a_signal_as_linux_gives_it() -> None:
    result = enclave([hijacker(), "return-to-function", "handler"], options=SHADOW)
    assert result.text == "signal 11 code 10 address (nil) trap 21 error 1\n"
    assert result.returncode == 0


@pytest.mark.parametrize("flags", [(), ("-static",), ("-no-pie", "-O0"), ("-fcf-protection=none",)], ids=str)
def test_unusual_control_flow_goes_on(flags: tuple[str, ...]) -> None:
    result = same([cc(SOURCES / "cfi_works.c", "-w", *flags)], options=SHADOW)
    assert result.returncode == 0
    assert b"refused" not in result.stderr


@pytest.mark.parametrize("flags", [("-static",), ("-pie", "-fPIE")], ids=["static", "dynamic"])
@pytest.mark.parametrize("topic", TOPICS)
def test_guest_topics(topic: str, flags: tuple[str, ...]) -> None:
    """All cases of a topic of the guest tests: signals, threads, longjmp, contexts, fork, vfork and the rest."""
    result = same([cc(GUEST / f"{topic}.c", *flags, "-w", "-pthread")], options=SHADOW, timeout=120)
    assert result.returncode == 0
    assert "not so" not in result.text
    assert b"refused" not in result.stderr


def test_go_programs_run(tmp_path: Path) -> None:
    """Go copies stacks: returns that have no shadow word there are judged as at the level default."""
    go = compiler("go")
    binary = tmp_path / "program"
    env = {"PATH": "/usr/bin:/bin:/usr/local/go/bin", "HOME": str(tmp_path), "CGO_ENABLED": "0"}
    subprocess.run([go, "build", "-o", binary, SOURCES / "cfi_goroutines.go"], check=True, env=env)
    assert same([binary], options=SHADOW, timeout=120).returncode == 0


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_of_debian_run(name: str) -> None:
    result = same(PROGRAMS[name], options=SHADOW)
    assert result.returncode == 0
    assert b"refused" not in result.stderr


def test_compilers_and_exceptions_run(tmp_path: Path) -> None:
    result = same([cc(GUEST / "exceptions.cc", "-w", program="g++")], options=SHADOW)
    assert b"refused" not in result.stderr
    (tmp_path / "x.c").write_text('#include <stdio.h>\nint main(void) { return puts("made") < 0; }\n')
    options = [*SHADOW, "-v", str(tmp_path)]
    made = enclave(["gcc", "-O2", "x.c", "-o", "x"], cwd=tmp_path, options=options)
    assert made.returncode == 0, made.stderr
    assert native([tmp_path / "x"]).text == "made\n"
