"""Mappings of the host process, which all programs of an enclave share: counted right, and nobody takes them all."""

from __future__ import annotations

import resource
import subprocess
from pathlib import Path

from framework import OCCLUM, cc, enclave

SOURCE = Path(__file__).parent / "src" / "pieces.c"
# Of a host's stacks, heap and files, which come and go while programs run.
OWN = 64
# What a host that refuses memory gives all the same.
ROOM = 32 << 20


def test_the_host_needs_no_more_mappings_than_are_counted() -> None:
    program = cc(SOURCE, "-static", "-w")
    command = [str(OCCLUM), "try", "-m", "2G", str(program), "count"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        counts = []
        for line in process.stdout:
            host = len(Path(f"/proc/{process.pid}/maps").read_text().splitlines())
            counts.append((line.rpartition(" ")[0], int(line.rpartition(" ")[2]), host))
            process.stdin.write("x")
            process.stdin.flush()
    assert process.returncode == 0
    _, counted, own = counts[0]
    own -= counted
    assert len(counts) == 7
    assert all(host - count <= own + OWN for _, count, host in counts), counts
    assert counts[1][1] > counted + 1500
    assert all(count < counted + 500 for name, count, _ in counts if name == "gone"), counts


def test_a_hog_takes_no_mapping_that_its_neighbour_needs() -> None:
    program = cc(SOURCE, "-static", "-w")
    result = enclave([program, "hogs"], timeout=120, options=["-m", "1G"])
    assert (result.returncode, result.text) == (0, "done\n"), result.errors[-2000:]
    assert "panicked" not in result.errors


def test_who_has_used_up_its_share_goes_on_with_what_it_has() -> None:
    program = cc(SOURCE, "-static", "-w")
    result = enclave([program, "holes"], options=["-m", "1G"])
    assert (result.returncode, result.text) == (0, "done\n"), result.errors[-2000:]


def test_what_ended_programs_leave_is_given_back() -> None:
    """Before a program is refused, or ends, for want of what nobody uses."""
    program = cc(SOURCE, "-static", "-w")
    result = enclave([program, "after_others"], timeout=120, options=["-m", "1G"])
    assert (result.returncode, result.text) == (0, "done\n"), result.errors[-2000:]


def test_what_is_only_kept_gives_way_where_the_host_refuses() -> None:
    program = cc(SOURCE, "-static", "-w")
    command = [str(OCCLUM), "try", "-m", "1G", str(program), "refused_memory"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline().startswith("left")
        status = Path(f"/proc/{process.pid}/status").read_text()
        held = int(status.partition("VmData:")[2].split()[0]) << 10
        resource.prlimit(process.pid, resource.RLIMIT_DATA, (held + ROOM, resource.RLIM_INFINITY))
        process.stdin.write("x")
        process.stdin.flush()
        assert process.stdout.read() == "done\n"
    assert process.returncode == 0


def test_single_pages_given_back_make_no_mappings() -> None:
    """As garbage collectors do: every second page of 64 MiB, which would be 16,384 mappings of the host's."""
    text = """
import mmap
size = 64 << 20
memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory.write(b"x" * size)
for at in range(0, size, 8192):
    memory.madvise(mmap.MADV_DONTNEED, at, 4096)
assert memory[:] == (bytes(4096) + b"x" * 4096) * (size // 8192)
rows = dict(line.split() for line in open("/proc/occlum"))
print(int(rows["mappings"]) < 8000)
"""
    assert enclave(["/usr/bin/python3", "-c", text]).stdout == b"True\n"
