"""Toolchains and runtimes at work: real projects are built, kept, compiled and served inside, with the results they
have natively."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

import debian_source
from framework import ROOT, compiler, same

SOURCES = Path(__file__).parent / "src"
CACHE = ROOT / ".cache" / "guest"


def test_make_builds_lua(tmp_path: Path) -> None:
    """`make -j2` with gcc, ar and ranlib; the program is the same to the byte, and runs."""
    source = debian_source.fetch("lua5.4")
    script = f"""
set -e
mkdir {tmp_path}/lua && cp -r {source}/src {source}/Makefile {tmp_path}/lua && cd {tmp_path}/lua
make -s -j2 -C src linux >/dev/null
sha256sum src/lua src/luac src/liblua.a
echo 'local t = {{}} for i = 1, 1e5 do t[i] = i * i % 1009 end table.sort(t) print(_VERSION, t[5000])' >t.lua
src/luac -o t.out t.lua && src/lua t.out
cd / && rm -r {tmp_path}/lua
"""
    assert b"Lua 5.4" in same(["bash", "-c", script], timeout=280).stdout


GIT = """
set -e
export GIT_AUTHOR_DATE='2024-01-02T03:04:05Z' GIT_COMMITTER_DATE='2024-01-02T03:04:05Z' HOME=/nonexistent
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
mkdir work && cd work && git init -q -b main .
for i in 1 2 3 4 5; do
    seq $((i * 100)) >file$i; mkdir -p d$i/e; seq $i >d$i/e/f; git add -A; git commit -q -m "change $i"
done
git checkout -q -b side HEAD~2; echo side >side; git add side; git commit -q -m side
git checkout -q main; git merge -q -m merge side
git log --oneline --graph | cat; git status --short; git diff HEAD~1 --stat | cat
git gc -q --prune=now; git fsck --strict 2>&1; git count-objects
cd ..; git clone -q "file://$PWD/work" copy; git -C copy log -1 --format=%H; git -C copy rev-parse HEAD^{tree}
git clone -q --bare work bare.git; git -C copy push -q "file://$PWD/bare.git" HEAD:refs/heads/pushed
git -C bare.git for-each-ref; git -C copy grep -c 99; git -C copy stash list
rm -rf work copy bare.git
"""


def test_git(tmp_path: Path) -> None:
    result = same(["bash", "-c", GIT], cwd=tmp_path, timeout=120, options=["-v", str(tmp_path)])
    assert result.returncode == 0, result.errors
    assert "merge" in result.text


RUBY = """
require 'digest'
threads = 4.times.map { |i| Thread.new { (1..20000).sum { |x| x * i } } }
puts threads.map(&:value).inspect
r, w = IO.pipe
pid = fork { r.close; w.puts Digest::SHA256.hexdigest('ruby'); exit! 3 }
w.close
puts r.read
Process.wait(pid)
puts $?.exitstatus
h = Hash.new(0)
100_000.times { |i| h[i.to_s.reverse.to_i % 1013] += 1 }
puts h.sort_by { |k, v| [-v, k] }.first(3).inspect
puts Fiber.new { Fiber.yield 1; 2 }.then { |f| [f.resume, f.resume] }.inspect
begin; Integer('x'); rescue ArgumentError => e; puts e.message; end
puts `echo from the shell`
exit 6
"""


def test_ruby() -> None:
    assert same([compiler("ruby"), "-e", RUBY], timeout=60).returncode == 6


NUMPY = """
import numpy as np
r = np.random.default_rng(7)
a = r.standard_normal((300, 300))
print(np.round(np.linalg.det(a / 10), 6), np.round(np.abs(np.fft.fft(a[0])).sum(), 6))
print(np.allclose(np.linalg.inv(a) @ a, np.eye(300)), np.round(np.linalg.svd(a, compute_uv=False)[:3], 6))
print(np.sort(r.integers(0, 1 << 40, 200000))[::40000], (a > 0).sum(), a.astype('f4').sum().round(2))
m = np.memmap('/tmp/numpy.test', dtype='i8', mode='w+', shape=1000); m[:] = np.arange(1000); m.flush()
print(np.fromfile('/tmp/numpy.test', dtype='i8').sum())
import os; os.unlink('/tmp/numpy.test')
"""


def test_numpy() -> None:
    # Its linear algebra chooses code by the CPU, and rounds accordingly: one that both sides have.
    env = {"OPENBLAS_CORETYPE": "Haswell", "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX512_CLX"}
    assert same(["/usr/bin/python3", "-c", NUMPY], env=env, timeout=90).returncode == 0


def test_java(tmp_path: Path) -> None:
    """javac inside, then a program with threads, faults that become exceptions, and a child."""
    compiler("javac")
    script = (
        f"javac -d {tmp_path} {SOURCES}/Threads.java && java -cp {tmp_path} Threads; r=$?; rm -f {tmp_path}/*; exit $r"
    )
    result = same(["sh", "-c", script], timeout=240)
    assert result.returncode == 4
    assert "NullPointerException" in result.text


def test_go_http() -> None:
    output = CACHE / "go-http"
    source = SOURCES / "gohttp" / "main.go"
    if not output.exists() or output.stat().st_mtime < source.stat().st_mtime:
        env = {"CGO_ENABLED": "0", "GOCACHE": str(ROOT / ".cache" / "go"), "GO111MODULE": "off"}
        command = [compiler("go"), "build", "-o", str(output), str(source)]
        subprocess.run(command, check=True, env=os.environ | env, timeout=280)
    assert "slow true context deadline exceeded" in same([output], timeout=90).text


def test_tokio() -> None:
    folder = CACHE / "tokio"
    command = [compiler("cargo"), "build", "--quiet", "--release", "--target-dir", str(folder)]
    done = subprocess.run(command, cwd=SOURCES / "tokio", capture_output=True, text=True, timeout=280, check=False)
    if done.returncode != 0:
        pytest.fail(f"tokio does not build: {done.stderr[-1000:]}")
    assert "signal Some(())" in same([folder / "release" / "tokio-program"], timeout=60).text
