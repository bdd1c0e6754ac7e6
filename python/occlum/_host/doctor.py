"""What this machine offers to enclaves, as a list of findings: each check looks at one thing and knows the fix.

Neighbours: `cli.doctor` (prints them), `launch` (the trial). Invariants: a check changes nothing on the machine and
never raises; all that it reads comes through `Machine`, so that tests can describe machines that they are not on.
"""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from occlum._host import image, launch, registry, units
from occlum.errors import OcclumError

__all__ = ["CHECKS", "FEATURES", "Feature", "Finding", "Machine", "examine", "trial"]

# In order of badness. `note`: worth knowing, neither good nor bad.
STATES = ("ok", "note", "warning", "bad")

OLDEST_KERNEL = (5, 9)
FEWEST_MAPPINGS = 65530
FEWEST_FILES = 1024
# What one enclave reserves: its slots, tables and stacks.
ADDRESS_SPACE = 48 << 40
_AT_HWCAP2 = 26
_HWCAP2_FSGSBASE = 1 << 1
_UNLIMITED = resource.RLIM_INFINITY


class Feature(NamedTuple):
    """Where CPUID says whether the CPU has something. `rust`: the compiler's name for it."""

    name: str
    rust: str
    leaf: int
    subleaf: int
    register: int
    bit: int


_EAX, _EBX, _ECX = 0, 1, 2
# What the enclave image and its ciphers are built with (tools/build_enclave.py; a test compares), what translated code
# uses, and what saves the state of programs. FSGSBASE stands alone: the kernel has a say in it.
FEATURES = (
    Feature("SSSE3", "ssse3", 1, 0, _ECX, 9),
    Feature("SSE4.1", "sse4.1", 1, 0, _ECX, 19),
    Feature("AES-NI", "aes", 1, 0, _ECX, 25),
    Feature("PCLMULQDQ", "pclmulqdq", 1, 0, _ECX, 1),
    Feature("AVX", "avx", 1, 0, _ECX, 28),
    Feature("AVX2", "avx2", 7, 0, _EBX, 5),
    Feature("BMI2", "bmi2", 7, 0, _EBX, 8),
    Feature("SHA-NI", "sha", 7, 0, _EBX, 29),
    Feature("XGETBV1", "", 0xD, 1, _EAX, 2),
)


@dataclass(frozen=True)
class Finding:
    """What a check found. `fix` is empty where there is nothing to do."""

    group: str
    name: str
    state: str
    found: str
    fix: str = ""

    def as_json(self) -> dict[str, str]:
        """For `--json`."""
        return asdict(self)


class Machine:
    """Where the checks look."""

    def text(self, path: str) -> str | None:
        """A file's text; `None` if it cannot be read."""
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                return file.read().strip()
        except OSError:
            return None

    def data(self, path: str) -> bytes:
        """A file's bytes; none if it cannot be read."""
        try:
            with open(path, "rb") as file:
                return file.read()
        except OSError:
            return b""

    def access(self, path: str) -> bool | None:
        """May it be read and written? `None` if it is not there."""
        return os.access(path, os.R_OK | os.W_OK) if os.path.exists(path) else None  # noqa: PTH110

    def limit(self, number: int) -> tuple[int, int]:
        """Soft and hard limit."""
        return resource.getrlimit(number)

    def cpuid(self, leaf: int, subleaf: int = 0) -> tuple[int, int, int, int]:
        """eax, ebx, ecx, edx."""
        from occlum import _native

        return _native.cpuid(leaf, subleaf)

    def kernel(self) -> str:
        """Its release."""
        return os.uname().release

    def architecture(self) -> str:
        """The machine's."""
        return os.uname().machine


Check = Callable[[Machine], Iterator[Finding]]
CHECKS: list[Check] = []


def _check(function: Check) -> Check:
    CHECKS.append(function)
    return function


def _bit(value: int, number: int) -> bool:
    return bool(value >> number & 1)


# The package.


@_check
def _package(_: Machine) -> Iterator[Finding]:
    group = "package"
    version = sys.version.split()[0]
    yield Finding(group, "Python", "ok", f"{platform.python_implementation()} {version}")
    try:
        digest = launch.measure(launch.EnclaveOptions()).hex()
    except OcclumError as error:
        yield Finding(group, "enclave image", "bad", error.cause, error.fix)
        return
    yield Finding(group, "enclave image", "ok", f"{os.path.getsize(image.image_path())} bytes")  # noqa: PTH202
    yield Finding(group, "MRENCLAVE", "ok", f"{digest} (default options)")
    try:
        yield Finding(group, "runtime directory", "ok", str(registry.runtime_directory()))
    except OcclumError as error:
        yield Finding(group, "runtime directory", "bad", error.cause, error.fix)


# Kernel and CPU.


@_check
def _kernel(machine: Machine) -> Iterator[Finding]:
    release, architecture = machine.kernel(), machine.architecture()
    numbers = tuple(int(word) for word in release.split("-")[0].split(".")[:2] if word.isdecimal())
    old = len(numbers) == 2 and numbers < OLDEST_KERNEL
    fix = "boot Linux 5.9 or newer: older ones keep FSGSBASE from programs" if old else ""
    yield Finding("system", "kernel", "bad" if old else "ok", f"Linux {release}", fix)
    other = architecture != "x86_64"
    fix = "use an x86-64 machine" if other else ""
    yield Finding("system", "architecture", "bad" if other else "ok", architecture, fix)


@_check
def _processor(machine: Machine) -> Iterator[Finding]:
    words = struct.pack("<12I", *(word for leaf in range(0x80000002, 0x80000005) for word in machine.cpuid(leaf)))
    name = words.replace(b"\0", b" ").decode(errors="replace").strip()
    yield Finding("system", "processor", "ok", name or "unknown")
    _, ebx, _, _ = machine.cpuid(7)
    missing = [f.name for f in FEATURES if not _bit(machine.cpuid(f.leaf, f.subleaf)[f.register], f.bit)]
    found = f"lacks {', '.join(missing)}" if missing else ", ".join(f.name for f in FEATURES)
    fix = "use a newer CPU (Intel since 2019, AMD since 2017), or let the hypervisor pass its features through"
    yield Finding("system", "CPU features", "bad" if missing else "ok", found, fix if missing else "")
    yield _fsgsbase(machine, ebx)


def _fsgsbase(machine: Machine, ebx: int) -> Finding:
    """The instruction in the CPU, and the kernel's leave to use it (AT_HWCAP2)."""
    in_cpu, words = _bit(ebx, 0), machine.data("/proc/self/auxv")
    pairs = dict(struct.iter_unpack("<QQ", words[: len(words) // 16 * 16]))
    allowed = bool(pairs.get(_AT_HWCAP2, 0) & _HWCAP2_FSGSBASE)
    if in_cpu and allowed:
        return Finding("system", "FSGSBASE", "ok", "in the CPU, allowed by the kernel")
    if in_cpu:
        fix = "boot without `nofsgsbase`, and Linux 5.9 or newer"
        return Finding("system", "FSGSBASE", "bad", "in the CPU, but the kernel does not allow it", fix)
    return Finding(
        "system", "FSGSBASE", "bad", "not in the CPU", "let the hypervisor pass it through, or use another CPU"
    )


# SGX. This version simulates: nothing here stops it.


@_check
def _sgx(machine: Machine) -> Iterator[Finding]:
    _, ebx, ecx, _ = machine.cpuid(7)
    if not _bit(ebx, 2):
        yield Finding("SGX", "CPU", "note", "no SGX (CPUID.7.EBX[2]); enclaves are simulated, which needs none")
        return
    leaf = machine.cpuid(0x12)
    versions = [name for number, name in ((0, "SGX1"), (1, "SGX2")) if _bit(leaf[0], number)]
    if not versions:
        fix = "enable SGX in the firmware's settings if you want to use it one day"
        yield Finding("SGX", "CPU", "note", "in the CPU, but the firmware left it off", fix)
        return
    control = "launch control open" if _bit(ecx, 30) else "no flexible launch control (SGX_LC)"
    yield Finding("SGX", "CPU", "ok", f"{', '.join(versions)}; {control}")
    size = sum(_section(machine.cpuid(0x12, number)) for number in range(2, 10))
    yield Finding("SGX", "protected memory (EPC)", "ok", units.format_size(size))


@_check
def _sharing(_: Machine) -> Iterator[Finding]:
    found = "aliased, as only the simulation can; --no-alias shares as hardware would"
    yield Finding("SGX", "shared memory", "note", found)


def _section(registers: tuple[int, int, int, int]) -> int:
    """Bytes of an EPC section (SDM, CPUID leaf 12H, subleaf 2 and up); 0 if there is none."""
    eax, _, ecx, edx = registers
    return (edx & 0xFFFFF) << 32 | ecx & 0xFFFFF000 if eax & 0xF == 1 else 0


@_check
def _devices(machine: Machine) -> Iterator[Finding]:
    for path, what in (
        ("/dev/sgx_enclave", "makes enclaves"),
        ("/dev/sgx_provision", "lets enclaves attest themselves"),
        ("/var/run/aesmd/aesm.socket", "Intel's attestation service (AESM)"),
    ):
        usable = machine.access(path)
        if usable is None:
            yield Finding("SGX", path, "note", f"not there ({what}); not needed in simulation")
        else:
            fix = "" if usable else f"for hardware mode you would need the right to use it: look at `ls -l {path}`"
            yield Finding("SGX", path, "ok" if usable else "note", what if usable else f"{what}; not yours to use", fix)


# Limits.


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


@_check
def _memory(machine: Machine) -> Iterator[Finding]:
    wanted = units.parse_size(launch.DEFAULT_MEMORY)
    sizes = dict(line.split(":", 1) for line in (machine.text("/proc/meminfo") or "").splitlines() if ":" in line)
    free = _number(sizes.get("MemAvailable", "").removesuffix("kB").strip())
    if free is not None:
        few = free << 10 < wanted
        fix = f"give enclaves less than the default of {launch.DEFAULT_MEMORY}, with -m" if few else ""
        yield Finding("limits", "memory", "warning" if few else "ok", f"{free >> 10} MiB available", fix)
    most = _number(_cgroup(machine, "memory.max"))
    if most is not None:
        few = most < wanted
        fix = f"raise the container's limit, or use -m {max(64, most // 2 >> 20)}M" if few else ""
        yield Finding("limits", "memory of the control group", "warning" if few else "ok", f"{most >> 20} MiB", fix)
    strict = machine.text("/proc/sys/vm/overcommit_memory") == "2"
    fix = "`sysctl vm.overcommit_memory=0`: enclaves reserve more than they use" if strict else ""
    found = "strict (2)" if strict else "allowed"
    yield Finding("limits", "overcommit of memory", "warning" if strict else "ok", found, fix)


@_check
def _mappings(machine: Machine) -> Iterator[Finding]:
    most = _number(machine.text("/proc/sys/vm/max_map_count"))
    if most is None:
        return
    few = most < FEWEST_MAPPINGS
    fix = f"`sysctl vm.max_map_count={FEWEST_MAPPINGS}`; every process inside uses some hundreds" if few else ""
    yield Finding("limits", "mappings (vm.max_map_count)", "warning" if few else "ok", str(most), fix)


def _shown(value: int, as_size: bool) -> str:
    return "unlimited" if value == _UNLIMITED else units.format_size(value) if as_size else str(value)


@_check
def _rlimits(machine: Machine) -> Iterator[Finding]:
    for name, number, fewest, state, option in (
        ("address space (RLIMIT_AS)", resource.RLIMIT_AS, ADDRESS_SPACE, "bad", "-v"),
        ("data (RLIMIT_DATA)", resource.RLIMIT_DATA, ADDRESS_SPACE, "warning", "-d"),
        ("open files (RLIMIT_NOFILE)", resource.RLIMIT_NOFILE, FEWEST_FILES, "warning", "-n"),
        ("processes and threads (RLIMIT_NPROC)", resource.RLIMIT_NPROC, 64, "warning", "-u"),
    ):
        soft, hard = machine.limit(number)
        few = soft != _UNLIMITED and soft < fewest
        enough = "unlimited" if fewest == ADDRESS_SPACE else str(fewest)
        by_root = "" if hard == _UNLIMITED or hard >= fewest else " (root has to raise the hard limit first)"
        fix = f"`ulimit {option} {enough}`{by_root}" if few else ""
        found = _shown(soft, as_size=fewest == ADDRESS_SPACE)
        yield Finding("limits", name, state if few else "ok", found, fix)


# Containers.


def _cgroup(machine: Machine, name: str) -> str | None:
    """A control file of this process's group (version 2)."""
    line = next((line for line in (machine.text("/proc/self/cgroup") or "").splitlines() if line.startswith("0::")), "")
    path = line.removeprefix("0::").rstrip("/")
    found = machine.text(f"/sys/fs/cgroup{path}/{name}") if line else None
    return found if found is not None else machine.text(f"/sys/fs/cgroup/{name}")


@_check
def _container(machine: Machine) -> Iterator[Finding]:
    kinds = [
        name
        for path, name in (("/.dockerenv", "Docker"), ("/run/.containerenv", "Podman"))
        if machine.access(path) is not None
    ]
    yield Finding("container", "kind", "note" if kinds else "ok", kinds[0] if kinds else "none that is known")
    quota = (_cgroup(machine, "cpu.max") or "max").split()
    if len(quota) == 2 and quota[0].isdecimal() and quota[1].isdecimal():
        yield Finding("container", "CPU time", "note", f"{int(quota[0]) / int(quota[1]):.2f} CPUs")
    pids = _number(_cgroup(machine, "pids.max"))
    if pids is not None and pids < 64:
        fix = "raise it (`docker run --pids-limit`): an enclave has a thread for each CPU and some more"
        yield Finding("container", "threads (pids.max)", "warning", str(pids), fix)
    status = dict(line.split(":", 1) for line in (machine.text("/proc/self/status") or "").splitlines() if ":" in line)
    filtered = status.get("Seccomp", "0").strip() == "2"
    found = "system calls are filtered; the trial tells whether too many" if filtered else "no filter"
    yield Finding("container", "seccomp", "note" if filtered else "ok", found)


def examine(machine: Machine | None = None) -> Iterator[Finding]:
    """Runs all checks but the trial."""
    for check in CHECKS:
        yield from check(machine or Machine())


def trial(command: list[str] | None = None, timeout_s: float = 60.0) -> Finding:
    """Starts a small enclave with a program, in a process of its own: the proof of the pudding."""
    program = shutil.which("true") or sys.executable
    argv = command or [sys.executable, "-P", "-m", "occlum", "try", "-q", "-m", "256M", "--cpus", "1", program]
    begin = time.perf_counter()
    fix = "look at what is bad above; if nothing is, report it with `occlum doctor --report`"
    with contextlib.suppress(subprocess.TimeoutExpired):
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=timeout_s,
        )
        if done.returncode == 0:
            seconds = time.perf_counter() - begin
            return Finding("trial", "an enclave starts", "ok", f"`{program}` ran in one: {seconds * 1000:.0f} ms")
        last: Any = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        return Finding("trial", "an enclave starts", "bad", last, fix)
    return Finding("trial", "an enclave starts", "bad", f"no end after {timeout_s:.0f} s", fix)
