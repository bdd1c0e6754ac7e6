"""What can be said of a program without running it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from occlum import _native
from occlum.check.files import Image, Loaded, NotLoadable, load
from occlum.check.findings import Finding

# Code lies below 2 GiB, memory below 4 GiB (docs/addresses.md).
CODE_LIMIT = 2 << 30
ADDRESS_SPACE = 4 << 30
# The C library has every system call; what counts is what programs take from it.
_SYSTEM_LIBRARIES = ("libc.so", "libc.musl", "ld-linux", "ld-musl", "libpthread", "librt.so", "libdl.so", "libm.so")
# Functions of C libraries that are system calls under another name, or need one.
_ALIASES = {
    "io_uring_queue_init": "io_uring_setup",
    "pthread_setaffinity_np": "sched_setaffinity",
    "shm_open": "openat",
    "io_setup": "io_setup",
    "clock_adjtime": "clock_adjtime",
    "ntp_adjtime": "adjtimex",
    "epoll_create": "epoll_create",
    "umount": "umount2",
    "sigqueue": "rt_sigqueueinfo",
    "keyctl_search": "keyctl",
}


def check(program: str, environment: Mapping[str, str], memory: int) -> tuple[Loaded | None, list[Finding]]:
    """All findings about a program that is started with this environment in an enclave of so many bytes."""
    try:
        loaded = load(program, environment)
    except NotLoadable as error:
        return None, [Finding("problem", "file", program, str(error))]
    findings = _loading(loaded, memory)
    for image in loaded.images:
        findings += _code(image)
    return loaded, findings


def _loading(loaded: Loaded, memory: int) -> list[Finding]:
    found = [
        Finding(
            "problem",
            "library",
            by,
            f"needs {name}, which is not there",
            "install it; natively it does not start either",
        )
        for name, by in loaded.missing
    ]
    needed = sum(image.memory for image in loaded.images)
    if needed > ADDRESS_SPACE:
        text = f"its files take {needed >> 20} MiB; a process has 4 GiB of addresses"
        found.append(Finding("problem", "memory", loaded.program.path, text))
    elif needed > memory:
        text = f"its files take {needed >> 20} MiB, the enclave has {memory >> 20} MiB"
        found.append(Finding("problem", "memory", loaded.program.path, text, "raise --memory"))
    for image in loaded.images:
        if image.code_end > CODE_LIMIT:
            text = "has code above 2 GiB, where none can run"
            found.append(Finding("problem", "memory", image.path, text, "link it at a lower address, or as a PIE"))
        if image.executable_stack:
            text = "asks for an executable stack, which there is not"
            advice = "link it with -z noexecstack; only nested functions of C and hand-made code need one"
            found.append(Finding("warning", "memory", image.path, text, advice))
    mode = Path(loaded.program.path).stat().st_mode
    if mode & 0o6000:
        text = "is set-user-ID or set-group-ID; the bits have no effect inside"
        found.append(Finding("warning", "file", loaded.program.path, text, "start it as the user that it needs"))
    return found


def _code(image: Image) -> list[Finding]:
    try:
        verified, scanned = _native.verify_file(image.path), _native.scan_file(image.path)
    except OSError as error:
        return [Finding("problem", "file", image.path, f"cannot be read: {error.strerror}")]
    found = []
    if verified.violation is not None:
        v = verified.violation
        text = f"code at {v.offset:#x} cannot be confined: {v.reason} ({v.disassembly.strip()})"
        found.append(
            Finding("warning", "code", image.path, text, "if it runs there, the process gets SIGILL; please report it")
        )
    if scanned is not None:
        found += _instructions(image, scanned)
        found += _system_calls(image, scanned)
    return found


def _instructions(image: Image, scanned: _native.Scanned) -> list[Finding]:
    found = []
    for name, count, first in scanned.instructions:
        text = f"has {count} x {name} (first at {first:#x}), which raises SIGILL"
        # Libraries have variants for CPUs that say they can, and cpuid says here that this one cannot.
        advice = "programs that ask cpuid do without: the enclave's CPU does not announce it"
        found.append(Finding("note", "instruction", image.path, text, advice))
    return found


def _system_calls(image: Image, scanned: _native.Scanned) -> list[Finding]:
    if Path(image.path).name.startswith(_SYSTEM_LIBRARIES):
        return []
    table = {number: (name, level, note) for number, name, level, note in _native.syscalls()}
    by_name = {name: row for row in table.values() for name in (row[0],)}
    used: dict[str, str] = {}
    for number, _, first in scanned.syscalls:
        if number in table:
            used.setdefault(table[number][0], f"at {first:#x}")
        elif number < 1000:
            text = f"makes system call {number}, which Linux does not have"
            used_text = Finding("note", "system call", image.path, text)
            return [used_text]
    for symbol in image.imports:
        plain = symbol.split("@")[0].removesuffix("64")
        name = _ALIASES.get(plain, plain)
        if name in by_name:
            used.setdefault(name, f"by {symbol}()")
    found = []
    for name, where in sorted(used.items()):
        _, level, note = by_name[name]
        if level == "none":
            text = f"{name} ({where}) is not there: ENOSYS; {note}"
            found.append(Finding("warning", "system call", image.path, text, "it works if the program has another way"))
        elif level == "partial":
            found.append(Finding("note", "system call", image.path, f"{name} ({where}) is partly there: {note}"))
    return found
