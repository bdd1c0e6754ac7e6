"""What a program does in an enclave, as far as it did not work."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from occlum import _native
from occlum._host import launch
from occlum._host.units import format_size
from occlum.check.findings import Finding
from occlum.trace import decode, names, options, session
from occlum.trace.decode import Argument, Call
from occlum.trace.records import Fields, Kind, Record, blobs
from occlum.trace.structures import Style

# Calls that programs make to find out whether they are there: ENOSYS is an answer.
_PROBES = {
    "rseq",
    "io_uring_setup",
    "landlock_create_ruleset",
    "map_shadow_stack",
    "cachestat",
    "futex_waitv",
    "openat2",
}
_LIMIT_ERRORS = {errno.EMFILE: "descriptors", errno.ENFILE: "open files", errno.EAGAIN: "processes or threads"}
_FORKS = ("clone", "clone3", "fork", "vfork")


@dataclass
class Observed:
    """A run."""

    outcome: _native.Outcome
    calls: int
    findings: list[Finding] = field(default_factory=list)

    @property
    def stats(self) -> dict[str, int]:
        """Counters of the enclave."""
        return {name: int(value) for name, value in self.outcome.stats if value.isdigit()}


class _Watcher:
    """Counts what failed for the enclave's sake; keeps one example of each."""

    def __init__(self, known: Mapping[int, tuple[str, str, str]]) -> None:
        self.known = known
        self.table: dict[int, tuple[str, tuple[Argument, ...]]] = {}
        self.open: dict[int, Call] = {}
        self.calls = 0
        self.failed: Counter[tuple[str, str]] = Counter()
        self.examples: dict[tuple[str, str], str] = {}
        self.signals: Counter[str] = Counter()

    def wants(self, joined: options.TraceOptions) -> None:
        joined.calls |= set(range(options.CALLS_LIMIT))
        joined.signals |= {4, 11}
        joined.flags |= options.ARGUMENTS
        joined.string_limit = 32

    def take(self, record: Record) -> None:
        fields = Fields(record.body)
        if record.kind == Kind.ROW:
            number = fields.one("I")
            name, _, rest = fields.rest().decode().partition("(")
            words = [word.split(":") for word in rest.rstrip(")").split(",") if word]
            self.table[number] = (name, tuple(Argument(word[0], word[-1]) for word in words))
        elif record.kind == Kind.ENTER:
            number = fields.one("I")
            values = fields.take("6Q")
            name, arguments = self.table.get(number, (self.known.get(number, (f"call {number}", "", ""))[0], ()))
            self.open[record.tid] = Call(number, name, arguments, values[: len(arguments)], blobs(fields))
        elif record.kind == Kind.LEAVE and (call := self.open.pop(record.tid, None)):
            fields.one("I")
            call.result = fields.one("q")
            self.calls += 1
            if call.failed:
                self._failed(call)
        elif record.kind == Kind.SIGNAL:
            number, disposition = fields.take("II")
            code = Fields(fields.raw(128)).take("iii")[2]
            if disposition == 0 and code > 0:
                self.signals[names.SIGNALS[number]] += 1

    def _failed(self, call: Call) -> None:
        code = -(call.result or 0)
        kind = ""
        if code == errno.ENOSYS:
            kind = "ENOSYS"
        elif code == errno.EINVAL and any(a.type.endswith(("flags", "cmd", "option", "op")) for a in call.arguments):
            kind = "EINVAL"
        elif code == errno.ENOMEM:
            kind = "ENOMEM"
        elif code in _LIMIT_ERRORS and (code != errno.EAGAIN or call.name in _FORKS):
            kind = errno.errorcode[code]
        if kind:
            key = (kind, call.name)
            self.failed[key] += 1
            if key not in self.examples:
                shown = [decode.argument(call, n, Style()) for n in range(len(call.arguments))]
                self.examples[key] = f"{call.name}({', '.join(shown)})"

    def close(self) -> None:
        """Nothing is left to do."""

    def findings(self, program: str) -> list[Finding]:
        found = []
        for (kind, name), count in sorted(self.failed.items()):
            example = self.examples[kind, name]
            times = f"{count} time{'s' if count > 1 else ''}"
            if kind == "ENOSYS":
                level = "note" if name in _PROBES else "warning"
                number = {row[0]: note for row in self.known.values() for note in (row[2],)}
                found.append(
                    Finding(level, "system call", program, f"{name} failed {times} with ENOSYS: {number.get(name, '')}")
                )
            elif kind == "EINVAL":
                text = f"{name} failed {times} with EINVAL, as for flags that are not supported: {example}"
                found.append(
                    Finding("note", "system call", program, text, "natively it may fail as well: compare with strace")
                )
            elif kind == "ENOMEM":
                text = f"{name} failed {times} with ENOMEM: {example}"
                advice = "a process has 4 GiB of addresses; raise --memory if the enclave's memory ended"
                found.append(Finding("warning", "memory", program, text, advice))
            else:
                what = _LIMIT_ERRORS[getattr(errno, kind)]
                found.append(Finding("warning", "run", program, f"{name} failed {times} with {kind}: no more {what}"))
        return found


def observe(
    argv: Sequence[str], job: launch.Launch, enclave: launch.EnclaveOptions, timeout_s: float | None
) -> Observed:
    """Runs the program in an enclave and watches it."""
    table = {number: (name, level, note) for number, name, level, note in _native.syscalls()}
    watcher = _Watcher(table)
    job = replace(job, trace=session.options_of([watcher]))
    with session.session([watcher]) as descriptor:
        outcome = launch.run(enclave, job, trace_fd=descriptor, timeout_s=timeout_s)
    observed = Observed(outcome, watcher.calls, watcher.findings(argv[0]))
    _judge(observed, argv[0], watcher)
    return observed


def _judge(observed: Observed, program: str, watcher: _Watcher) -> None:
    add = observed.findings.append
    stats = observed.stats
    if count := stats.get("unsupported_instructions", 0):
        text = f"{count} instructions raised SIGILL because they are not supported (standard error names them)"
        add(Finding("problem", "instruction", program, text))
    if count := stats.get("refused", 0):
        add(Finding("problem", "code", program, f"{count} pieces of code were refused by the verifier"))
    if count := stats.get("oom_kills", 0):
        add(
            Finding(
                "problem",
                "memory",
                program,
                f"{count} processes ended because the enclave's memory did",
                "raise --memory",
            )
        )
    for name in ("cfi_returns", "cfi_branches", "cfi_sigreturns"):
        if count := stats.get(name, 0):
            text = f"{count} branches were refused by control-flow integrity (standard error names them)"
            add(Finding("problem", "code", program, text, "if the program is right, please report it"))
    for name, count in watcher.signals.items():
        if not stats.get("unsupported_instructions"):
            text = f"{count} processes died of {name}"
            add(
                Finding(
                    "warning", "run", program, text, "if it does not happen natively, see --crash-report of occlum try"
                )
            )
    outcome = observed.outcome
    peak = format_size(stats.get("peak_memory", 0))
    ended = {
        "exited": "exit status",
        "signaled": "signal",
        "timed-out": "stopped by --timeout",
        "failed": "occlum failed",
    }
    text = f"ran: {ended[outcome.kind]} {outcome.value}; {observed.calls} system calls, at most {peak} of memory"
    if outcome.kind == "failed":
        add(Finding("problem", "run", program, f"{text}: {outcome.message}"))
    else:
        add(Finding("note", "run", program, text))
