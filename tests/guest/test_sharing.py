"""Shared memory with and without aliases, as the host's mappings show it; programs that live on shared memory."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from framework import enclave, enclave_argv, environment, same

# Below it there is nothing of programs (`sfi_spec::domain`).
SLOTS = 1 << 40
PAGE = 4096

# Fork-inherited memory, a memory file at two places, a file on disk, and this program's own code and libraries; two
# processes have written to all of it, and stay.
SHARER = """
import mmap, os, sys, tempfile
memory = os.memfd_create("memory")
os.truncate(memory, 8 * 4096)
disk = tempfile.TemporaryFile()
disk.truncate(8 * 4096)
maps = [mmap.mmap(-1, 8 * 4096)] + [mmap.mmap(fd, 8 * 4096) for fd in (memory, memory, disk.fileno())]
ready, go = os.pipe(), os.pipe()
for m in maps:
    m[:] = b"p" * len(m)
if os.fork() == 0:
    for n, m in enumerate(maps):
        m[4096 * n : 4096 * n + 5] = b"child"
    os.write(ready[1], b".")
    os.read(go[0], 1)
    os._exit(0)
os.read(ready[0], 1)
print(*(m[4096 * n : 4096 * n + 6].decode() for n, m in enumerate(maps)), flush=True)
sys.stdin.read()
"""


def twice_mapped(pid: int) -> set[tuple[str, int]]:
    """Pages of files (a page of the enclave that has two addresses is one) that two places of the slots show."""
    seen: set[tuple[str, int]] = set()
    twice: set[tuple[str, int]] = set()
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        area, _, offset, device, inode = line.split()[:5]
        start, end = (int(x, 16) for x in area.split("-"))
        if start < SLOTS or start >= 1 << 46 or inode == "0":
            continue
        for at in range(0, end - start, PAGE):
            page = (f"{device}:{inode}", int(offset, 16) + at)
            (twice if page in seen else seen).add(page)
    return twice


@pytest.mark.parametrize(("options", "aliases"), [((), True), (("--no-alias",), False)], ids=["aliases", "copies"])
def test_pages_in_two_places(options: tuple[str, ...], aliases: bool) -> None:
    argv = enclave_argv(["python3", "-c", SHARER], options)
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment()) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"childp childp childp childp\n"
            assert bool(twice_mapped(process.pid)) == aliases
        finally:
            process.communicate()
    assert process.returncode == 0


POOL = """
import multiprocessing as mp
from multiprocessing import shared_memory

def work(args):
    name, n = args
    block = shared_memory.SharedMemory(name)
    for i in range(n, 40000, 4):
        block.buf[i] = (block.buf[i] + n + 1) % 256
    block.close()
    return n

def count(value, lock):
    for _ in range(300):
        with lock:
            value.value += 1

if __name__ == "__main__":
    mp.set_start_method(METHOD)
    block = shared_memory.SharedMemory(create=True, size=40000)
    with mp.Pool(4) as pool:
        print(sorted(pool.map(work, [(block.name, n) for n in range(4)])))
    print(bytes(block.buf[:8]), sum(block.buf))
    block.close()
    block.unlink()
    value, lock = mp.Value("i", 0, lock=False), mp.Lock()
    children = [mp.Process(target=count, args=(value, lock)) for _ in range(3)]
    [c.start() for c in children]
    [c.join() for c in children]
    print(value.value)
"""


@pytest.mark.parametrize("options", [(), ("--no-alias",)], ids=["aliases", "copies"])
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing(method: str, options: tuple[str, ...], tmp_path: Path) -> None:
    """Shared blocks, values and locks of Python's processes."""
    script = tmp_path / "pool.py"
    script.write_text(f"METHOD = {method!r}\n{POOL}")
    same(["python3", script], options=options)


def test_memory_comes_back() -> None:
    """Copies of shared pages are given back with their processes: more come and go than there is room for."""
    script = """
import mmap, os
for round in range(12):
    m = mmap.mmap(-1, 8 << 20)
    m[:] = bytes([round]) * len(m)
    for _ in range(2):
        if os.fork() == 0:
            assert m.find(b"\\0", 0 if round else len(m)) < 0
            os._exit(0)
        assert os.wait()[1] == 0
    m.close()
print("done")
"""
    result = enclave(["python3", "-c", script], options=["--no-alias", "-m", "96M"])
    assert (result.returncode, result.stdout) == (0, b"done\n"), result.text
