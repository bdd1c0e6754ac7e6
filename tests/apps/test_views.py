"""Programs that look at the system and at processes, through /proc, /sys and netlink."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

from framework import enclave, same

SOURCES = Path(__file__).parent / "src"
CPUS, MEMORY_KIB = 2, 1 << 20
OPTIONS = ["--cpus", str(CPUS), "-m", "1G"]


def inside(*argv: str) -> str:
    """What a program says in an enclave of that size; it has to succeed, without complaints."""
    result = enclave(argv, options=OPTIONS)
    assert (result.returncode, result.errors) == (0, ""), result.text
    return result.text


def needs(program: str) -> pytest.MarkDecorator:
    reason = f"{program} is not installed (tools/debian-packages.txt)"
    return pytest.mark.skipif(shutil.which(program) is None, reason=reason)


def test_psutil_sees_what_it_sees_natively() -> None:
    """As many CPUs as the machine has, so that both sides have the same to say."""
    result = same([sys.executable, str(SOURCES / "views.py")], timeout=120)
    assert result.returncode == 0
    assert "NOT SO" not in result.text


def test_processors() -> None:
    assert inside("nproc").strip() == str(CPUS)
    rows = dict(re.findall(r"^([^:\n]+):\s+(.*)$", inside("lscpu"), re.MULTILINE))
    assert rows["CPU(s)"] == str(CPUS)
    assert rows["On-line CPU(s) list"] == f"0,{CPUS - 1}"
    assert rows["Model name"] == "Occlum virtual CPU"
    assert rows["Thread(s) per core"] == "1"
    assert rows["Core(s) per socket"] == str(CPUS)
    assert rows["NUMA node0 CPU(s)"] == f"0,{CPUS - 1}"
    flags = set(rows["Flags"].split())
    # What cpuid says, which hides what cannot be confined.
    assert {"avx2", "fma", "bmi2", "sha_ni", "aes", "rdrand", "hypervisor"} <= flags
    assert not {f for f in flags if f.startswith("avx512")} | ({"rtm", "fsgsbase", "rdpid"} & flags)


def test_cpuinfo_and_cpuid_agree() -> None:
    script = "import re; t = open('/proc/cpuinfo').read(); print(*(re.search(rf'{k}\\s*: (.*)', t)[1] for k in ('vendor_id', 'cpu family', 'model')))"
    assert inside(sys.executable, "-c", script).split() == ["GenuineIntel", "6", "60"]


def test_memory_is_the_enclaves() -> None:
    header, row, swap = inside("free", "-k").splitlines()
    total, used, free, shared, cache, available = map(int, row.split()[1:])
    assert header.split() == ["total", "used", "free", "shared", "buff/cache", "available"]
    assert MEMORY_KIB * 0.8 < total <= MEMORY_KIB
    assert 0 < used < total
    assert 0 < free <= total
    assert shared < total
    assert available <= total
    assert cache < total
    assert swap.split()[1:] == ["0", "0", "0"]


@pytest.mark.parametrize(
    "argv", [("uptime",), ("vmstat",), ("vmstat", "-s"), ("w", "-h"), ("uptime", "-p")], ids=" ".join
)
def test_summaries(argv: tuple[str, ...]) -> None:
    text = inside(*argv)
    assert "nan" not in text
    if argv[0] == "uptime" and len(argv) == 1:
        assert re.search(r"load average: \d+\.\d\d, \d+\.\d\d, \d+\.\d\d", text)


def test_ps_shows_every_process_and_plausible_sizes() -> None:
    script = "sleep 5 & sleep 5 & ps -eo pid,ppid,stat,vsz,rss,nlwp,comm --no-headers; kill %1 %2"
    rows = [line.split(None, 6) for line in inside("bash", "-c", script).splitlines()]
    commands = [row[6] for row in rows]
    assert commands.count("sleep") == 2
    assert {"bash", "ps"} <= set(commands)
    for pid, parent, _, size, resident, threads, _ in rows:
        assert int(pid) > int(parent) >= 0
        assert 0 < int(resident) <= int(size) <= 4 << 20
        assert threads == "1"
    tree = inside("bash", "-c", "bash -c 'sleep 5 & ps axf; kill %1'; :")
    assert re.search(r"\\_ sleep 5", tree)


def test_top_in_batch_mode() -> None:
    text = inside("top", "-b", "-n", "1")
    assert re.search(r"Tasks:\s+\d+ total", text)
    assert re.search(r"MiB Mem :\s+\d+", text)
    assert re.search(r"^\s*1 \S+ .* top$", text, re.MULTILINE)


LISTEN = """
import socket, subprocess, sys
server = socket.create_server(("127.0.0.1", 4321))
client = socket.create_connection(("127.0.0.1", 4321))
sys.exit(subprocess.run(sys.argv[1:]).returncode)
"""


LOCAL = """
import socket, subprocess, sys
listeners = [socket.socket(socket.AF_UNIX, kind) for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET)]
for listener, name in zip(listeners, ("/tmp/a-stream", b"\\0packets")):
    listener.bind(name)
    listener.listen(5)
datagrams = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
datagrams.bind(("::1", 4322))
"""


@needs("ss")
def test_ss() -> None:
    """It asks netlink's SOCK_DIAG, and says nothing on standard error."""
    text = inside(sys.executable, "-c", LISTEN, "ss", "-tan")
    assert re.search(r"LISTEN.*127\.0\.0\.1:4321", text)
    assert re.search(r"ESTAB.*127\.0\.0\.1:4321", text)
    text = inside(sys.executable, "-c", LOCAL + LISTEN, "ss", "-tunlxp")
    for expected in (
        r"^tcp +LISTEN 1 +\d+ +127\.0\.0\.1:4321 +0\.0\.0\.0:\* +users:\(\(\"python",
        r"^udp +UNCONN 0 +0 +\[::1\]:4322 ",
        r"^u_str LISTEN 0 +5 +/tmp/a-stream ",
        r"^u_seq LISTEN 0 +5 +@packets ",
    ):
        assert re.search(expected, text, re.MULTILINE), text
    assert "ESTAB" not in text
    inside(sys.executable, "-c", LISTEN, "ss")


@needs("netstat")
def test_netstat() -> None:
    text = inside(sys.executable, "-c", LISTEN, "netstat", "-tan")
    assert re.search(r"127\.0\.0\.1:4321.*LISTEN", text)
    assert re.search(r"127\.0\.0\.1:4321.*ESTABLISHED", text)
    for options in ("-s", "-i", "-r", "-xa"):
        inside("netstat", options)


@needs("lsof")
def test_lsof() -> None:
    text = inside("lsof", "-w", "-p", "1", "-a", "-d", "cwd,txt,0")
    assert re.search(r"^lsof\s+1 .* txt .*REG .*/lsof$", text, re.MULTILINE)


def test_smaps_add_up() -> None:
    script = """
import re
def rows(name):
    text = open(f"/proc/self/{name}").read()
    return {k: sum(map(int, re.findall(rf"^{k}: +(\\d+) kB", text, re.M))) for k in ("Rss", "Pss", "Private_Dirty")}
x = bytearray(20 << 20)
status = dict(re.findall(r"^(\\w+):\\s+(\\d+) kB", open("/proc/self/status").read(), re.M))
parts, whole = rows("smaps"), rows("smaps_rollup")
assert abs(parts["Rss"] - whole["Rss"]) < 1024, (parts, whole)
assert abs(int(status["VmRSS"]) - whole["Rss"]) < 1024
assert int(status["VmRSS"]) == sum(int(status[k]) for k in ("RssAnon", "RssFile", "RssShmem"))
assert int(status["RssAnon"]) > 20 << 10
assert int(status["VmRSS"]) <= int(status["VmSize"]) <= 4 << 20
assert int(status["VmHWM"]) >= int(status["VmRSS"])
statm = [int(n) for n in open("/proc/self/statm").read().split()]
assert abs(statm[0] * 4 - int(status["VmSize"])) < 1024 and abs(statm[1] * 4 - int(status["VmRSS"])) < 1024
print("fine")
"""
    assert same([sys.executable, "-c", script]).text == "fine\n"


def test_numa_topology_is_one_node() -> None:
    script = (
        "cd /sys/devices/system/node; cat online possible has_cpu node0/cpulist node0/distance; head -1 node0/meminfo"
    )
    lines = inside("bash", "-c", script).splitlines()
    assert lines[:5] == ["0", "0", "0", f"0-{CPUS - 1}", "10"]
    assert re.fullmatch(r"Node 0 MemTotal: +\d+ kB", lines[5])


def test_files_that_programs_read_are_there() -> None:
    """Each has to be readable and to end, natively and inside."""
    names = """self/limits self/mountinfo self/cgroup self/status self/stat self/io self/auxv self/environ self/wchan
        self/oom_score self/oom_score_adj self/task/self/children self/schedstat self/uid_map self/coredump_filter
        cpuinfo meminfo loadavg uptime stat version filesystems mounts swaps vmstat interrupts devices partitions modules
        diskstats net/tcp net/tcp6 net/udp net/udp6 net/unix net/dev net/route net/if_inet6 net/snmp net/netstat
        net/sockstat net/raw net/packet net/netlink sys/kernel/osrelease sys/kernel/hostname sys/kernel/random/uuid
        sys/kernel/core_pattern sys/kernel/randomize_va_space sys/vm/overcommit_memory sys/vm/max_map_count sys/fs/file-nr
        sys/fs/file-max sys/fs/nr_open sys/fs/pipe-max-size sys/net/core/somaxconn sys/net/ipv4/ip_local_port_range"""
    paths = [f"/proc/{name}".replace("self/task/self", "thread-self") for name in names.split()]
    text = inside("busybox", "sh", "-c", f"for f in {' '.join(paths)}; do cat $f >/dev/null || echo $f; done")
    assert text == ""
