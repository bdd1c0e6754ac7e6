"""Interpreters and compilers: python3, perl, awk, sqlite3, lua, gcc, g++, Go, Rust."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from framework import ROOT, cc, compiler, enclave, native, same

SOURCES = Path(__file__).parent / "src"
EVERYTHING = SOURCES / "everything.py"
PARTS = ["threads", "children", "fork", "spawn", "data", "signals", "descriptors"]
PYTHONS = {"debian": "/usr/bin/python3", "own": os.path.realpath(sys.executable)}


@pytest.mark.parametrize("which", PYTHONS)
@pytest.mark.parametrize("part", PARTS)
def test_python(which: str, part: str, seed: int) -> None:
    result = same([PYTHONS[which], "-B", EVERYTHING, part, str(seed)], timeout=60)
    assert result.returncode == (128 + 11 if part == "signals" else 0)


def test_python_exit_and_exception() -> None:
    python = PYTHONS["debian"]
    same([python, "-c", "import sys; print(sys.stdin.read()); sys.exit(77)"], input="text")
    same([python, "-c", "raise SystemExit('message')"], compare_stderr=True)
    same([python, "-c", "1 / 0"], compare_stderr=True)
    same([python, "-c", "import os; os.abort()"])
    same([python, "-c", "def f(): f()\ntry: f()\nexcept RecursionError: print('too deep')"])


PROGRAMS = {
    "perl": ["perl", "-e", 'my %h; $h{$_ % 7} += $_ for 1..50000; print "$_ $h{$_}\\n" for sort keys %h; exit 9'],
    "perl-fork": ["perl", "-e", 'pipe(R,W); if(!fork){print W "child\\n"; exit 4} wait; print $?>>8, " ", scalar <R>'],
    "perl-system": ["perl", "-e", 'print `echo quoted`; system("exit 3"); print $? >> 8, "\\n"; print sort <STDIN>'],
    "perl-regex": ["perl", "-ne", 'print "$1\\n" if /(\\d+) the/; END { print "$.\\n" }'],
    "awk": ["awk", '{ n[$2] += $1 } END { for (k in n) print k, n[k] | "sort" }'],
    "mawk": ["mawk", 'BEGIN { while (("seq 20" | getline x) > 0) s += x; print s; printf "%.6f\\n", sin(1) + exp(1) }'],
    "gawk": [
        "gawk",
        'BEGIN { for (i = 0; i < 30000; i++) a[i % 97] += i; asort(a); print a[1], a[97]; system("exit 2") }',
    ],
    "sed": ["sed", "-n", "s/the/THE/gp"],
    "bc": ["bc", "-l"],
    "lua": [
        "lua5.4",
        "-e",
        'local t={} for i=1,5000 do t[#t+1]=i*7%1001 end table.sort(t) print(t[1],t[5000],pcall(error,"e")) os.exit(6)',
    ],
    "lua-coroutines": [
        "lua5.4",
        "-e",
        "local f=coroutine.wrap(function() for i=1,1000 do coroutine.yield(i) end end) local s=0 for i=1,1000 do s=s+f() end print(s, io.popen('echo p'):read('a'))",
    ],
    "sqlite3": [
        "sqlite3",
        ":memory:",
        "create table t(a,b); with recursive c(x) as (select 1 union all select x+1 from c where x<3000) insert into t select x, x*x%97 from c; select b, count(*), sum(a) from t group by b order by 2 desc, 1 limit 5;",
    ],
    "openssl": ["openssl", "dgst", "-sha256"],
    "xargs": ["xargs", "-n", "30", "echo"],
    "dd": ["dd", "bs=100", "skip=3", "count=5", "status=none"],
    "gzip": ["sh", "-c", "gzip -9n | tee /tmp/z.$$ | gunzip | cksum; wc -c < /tmp/z.$$; rm /tmp/z.$$"],
    "xz": ["sh", "-c", "xz -T2 -c | xz -d | cksum"],
    "sort-parallel": ["sort", "--parallel=4", "-S1M", "-k2"],
    "find-exec": ["find", "/etc", "-maxdepth", "1", "-name", "host*", "-exec", "cat", "{}", ";"],
    "git-version": ["git", "--version"],
    "nproc-free-of-crash": [
        "sh",
        "-c",
        "nproc > /dev/null && uname -s && id -u && date -u -d @0 && pwd -P > /dev/null",
    ],
    "timeout": ["timeout", "0.2", "sleep", "20"],
    "env": ["env", "-i", "A=b", "env"],
}


@pytest.mark.parametrize("title", PROGRAMS)
def test_program(title: str, rng: random.Random) -> None:
    argv = PROGRAMS[title]
    if title == "bc":
        text = "".join(f"{rng.randrange(10**20)} * {rng.randrange(1, 10**9)} / 7\n" for _ in range(30)) + "s(1)\n"
    else:
        text = "".join(f"{rng.randrange(10000)} {rng.choice(['the', 'a', 'one'])}\n" for _ in range(3000))
    same([compiler(argv[0]), *argv[1:]], input=text, timeout=40)


def test_gcc_inside(tmp_path: Path, rng: random.Random) -> None:
    """gcc, cc1, as, collect2 and ld inside, then the program that they made."""
    word = str(rng.randrange(10**12))
    multi = SOURCES / "multi"
    script = f"mkdir /tmp/cc.$$ && cd /tmp/cc.$$ && gcc -Wall -O2 -o prog {multi}/*.c && ./prog {word} x; r=$?; cd /; rm -r /tmp/cc.$$; exit $r"
    result = same(["sh", "-c", script], cwd=tmp_path, timeout=90)
    assert word[::-1] in result.text
    separate = (
        f"mkdir /tmp/cc.$$ && cd /tmp/cc.$$ && for f in main reverse checksum; do gcc -c -g -pipe {multi}/$f.c || exit 9; done;"
        f" ar rc parts.a reverse.o checksum.o && gcc main.o parts.a -static -o prog && ./prog {word}; r=$?; rm -r /tmp/cc.$$; exit $r"
    )
    same(["sh", "-c", separate], cwd=tmp_path, timeout=90)


def test_gcc_error_message(tmp_path: Path) -> None:
    (tmp_path / "bad.c").write_text("int main(void) { return undeclared; }\n")
    result = same(["gcc", "-c", "bad.c", "-o", "/tmp/bad.o"], cwd=tmp_path, timeout=60, compare_stderr=True)
    assert result.returncode == 1


def test_equal_object_files(tmp_path: Path) -> None:
    """The compiler inside makes the same bytes as outside."""
    script = f"gcc -O2 -c {SOURCES}/multi/checksum.c -o /tmp/o.$$ && sha256sum < /tmp/o.$$; rm /tmp/o.$$"
    same(["sh", "-c", script], cwd=tmp_path, timeout=60)


def build_once(name: str, source: Path, command: list[str], env: dict[str, str] | None = None) -> Path:
    """Builds into the cache folder unless the source is older than the program."""
    output = ROOT / ".cache" / "guest" / name
    if not output.exists() or output.stat().st_mtime < source.stat().st_mtime:
        output.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([*command, "-o", output, source], check=True, env=dict(os.environ) | (env or {}), timeout=250)
    return output


def test_go() -> None:
    go = compiler("go")
    cache = {"CGO_ENABLED": "0", "GOCACHE": str(ROOT / ".cache" / "go"), "GOFLAGS": "-mod=mod", "GO111MODULE": "off"}
    program = build_once("go-program", SOURCES / "go" / "main.go", [go, "build"], cache)
    result = same([program, "a", "b"], timeout=60)
    assert result.returncode == 3
    assert "child got a line" in result.text


def test_rust() -> None:
    program = build_once("rust-program", SOURCES / "threads.rs", [compiler("rustc"), "-O", "--edition", "2024"])
    result = same([program], timeout=60)
    assert result.returncode == 7


def test_rust_static() -> None:
    flags = ["-O", "--edition", "2024", "-C", "target-feature=+crt-static"]
    program = build_once("rust-static", SOURCES / "threads.rs", [compiler("rustc"), *flags])
    assert same([program], timeout=60).returncode == 7


def test_program_is_found_in_path_inside(tmp_path: Path) -> None:
    program = cc(SOURCES.parents[1] / "guest" / "src" / "hello.c")
    (tmp_path / "my-hello").symlink_to(program)
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    assert enclave(["my-hello", "4"], env=env).returncode == 4
    assert native([shutil.which("sh") or "/bin/sh", "-c", "my-hello 4"], env=env).returncode == 4
