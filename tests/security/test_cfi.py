"""Control-flow integrity, level by level: hijacks that run natively are stopped, correct programs go on (docs/cfi.md)."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from framework import cc, compiler, enclave, native, same

SOURCES = Path(__file__).parent / "src"
LEVELS = ("default", "strict", "shadow-stack")
RAN = 7
STOPPED = 128 + 11
# Hijack -> the levels that stop it.
HIJACKS = {
    "return-to-function": {"default", "strict", "shadow-stack"},
    "return-to-instruction": {"default", "strict", "shadow-stack"},
    "return-behind-unused-call": {"default", "strict", "shadow-stack"},
    "return-into-instruction": {"default", "strict", "shadow-stack"},
    "return-to-restorer": {"default", "strict", "shadow-stack"},
    "forged-sigreturn": {"default", "strict", "shadow-stack"},
    "forged-sigreturn-by-restorer": {"default", "strict", "shadow-stack"},
    "jump-to-instruction": {"strict"},
    "jump-into-instruction": {"strict"},
    # What `endbr64` marks is a target at every level.
    "jump-to-endbr": set(),
}
ROUNDS = """
for i in 1 2 3; do echo $i | cat; done
trap 'echo got USR1' USR1; kill -USR1 $$
"""


def hijacker(*flags: str) -> Path:
    fixed = ("-w", "-fno-omit-frame-pointer", "-fno-stack-protector", "-fcf-protection=none")
    return cc(SOURCES / "cfi_stopped.c", *fixed, *flags)


@pytest.mark.parametrize("flags", [(), ("-static",)], ids=["dynamic", "static"])
@pytest.mark.parametrize("level", LEVELS)
def test_hijacks_are_stopped(level: str, flags: tuple[str, ...]) -> None:
    wrong = []
    for name, stopped_by in HIJACKS.items():
        assert native([hijacker(*flags), name]).returncode == RAN, f"{name} proves nothing: it does not run natively"
        result = enclave([hijacker(*flags), name], options=["--cfi", level])
        expected = STOPPED if level in stopped_by else RAN
        if result.returncode != expected or ("refused by --cfi=" in result.stderr.decode()) != (expected == STOPPED):
            wrong.append((name, result.returncode, result.stderr))
    assert wrong == []


@pytest.mark.parametrize("level", LEVELS)
def test_a_violation_is_a_signal_as_linux_gives_it(level: str) -> None:
    for name, error in (("return-to-function", 1), ("forged-sigreturn", 2)):
        result = enclave([hijacker(), name, "handler"], options=["--cfi", level])
        assert result.text == f"signal 11 code 10 address (nil) trap 21 error {error}\n"
        assert result.returncode == 0


@pytest.mark.parametrize("flags", [(), ("-static",), ("-no-pie", "-O0"), ("-fcf-protection=none",)], ids=str)
@pytest.mark.parametrize("level", LEVELS)
def test_unusual_control_flow_goes_on(level: str, flags: tuple[str, ...]) -> None:
    result = same([cc(SOURCES / "cfi_works.c", "-w", *flags)], options=["--cfi", level])
    assert result.returncode == 0
    assert b"refused" not in result.stderr


@pytest.mark.parametrize("level", LEVELS)
def test_go_programs_run(level: str, tmp_path: Path) -> None:
    """Goroutines that end in `goexit`, are preempted by signals, and recover from a fault."""

    go = compiler("go")
    binary = tmp_path / "program"
    source = SOURCES / "cfi_goroutines.go"
    env = {"PATH": "/usr/bin:/bin:/usr/local/go/bin", "HOME": str(tmp_path), "CGO_ENABLED": "0"}
    subprocess.run([go, "build", "-o", binary, source], check=True, env=env)
    result = same([binary], options=["--cfi", level], timeout=120)
    assert result.returncode == 0


PROGRAMS = {
    "sh": ["/bin/bash", "-c", ROUNDS],
    "busybox": ["busybox", "sh", "-c", ROUNDS],
    "perl": ["perl", "-e", "eval{die 'x'}; print sort {$b cmp $a} map {$_*2} 1..9; print $@"],
    "lua": [
        "lua5.4",
        "-e",
        "local c=coroutine.wrap(function() for i=1,3 do coroutine.yield(i) end end) print(c(),c(),c())",
    ],
    "sqlite3": ["sqlite3", ":memory:", "create table t(a); insert into t values(3),(1); select a from t order by a;"],
    "python3": [
        "/usr/bin/python3",
        "-c",
        "import ctypes, threading, json, re\n"
        "f = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(lambda x: x + 1)\n"
        "t = threading.Thread(target=lambda: print(f(41))); t.start(); t.join()\n"
        "print(json.dumps({'a': re.sub('x+', 'y', 'axxb')}))",
    ],
}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_of_debian_run(name: str, level: str) -> None:
    result = same(PROGRAMS[name], options=["--cfi", level])
    assert result.returncode == 0
    assert b"refused" not in result.stderr


@pytest.mark.parametrize("level", LEVELS)
def test_compilers_and_exceptions_run(level: str, tmp_path: Path) -> None:
    source = Path(__file__).parents[1] / "guest" / "src" / "exceptions.cc"
    result = same([cc(source, "-w", program="g++")], options=["--cfi", level])
    assert b"refused" not in result.stderr
    (tmp_path / "x.c").write_text('#include <stdio.h>\nint main(void) { return puts("made") < 0; }\n')
    made = enclave(["gcc", "-O2", "x.c", "-o", "x"], cwd=tmp_path, options=["--cfi", level, "-v", str(tmp_path)])
    assert made.returncode == 0, made.stderr
    assert native([tmp_path / "x"]).text == "made\n"
