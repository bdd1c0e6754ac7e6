"""The text of a crash report: what happened, registers, code, backtrace, mappings."""

from __future__ import annotations

from occlum.trace import names, unwind
from occlum.trace.output import printable
from occlum.trace.records import Fields, Maps, Record, Registers

_MARKS = {"guess": " (guessed: a word on the stack that follows a call)", "frame pointer": " (by frame pointer)"}


def _cause(signal_: int, code: int, address: int, error: int) -> str:
    name = names.SIGNALS.get(signal_, str(signal_))
    code_name = names.SI_CODES.get(name, {}).get(code) or names.VALUES["si_code"].get(code, f"code {code}")
    if name not in ("SIGSEGV", "SIGBUS"):
        return f"{name} ({code_name})"
    if code == 0x80:
        return f"{name} ({code_name}): an address or instruction that programs may not use"
    access = "executing" if error & 0x10 else "writing" if error & 2 else "reading"
    why = {"SEGV_MAPERR": "nothing is mapped there", "SEGV_ACCERR": "the mapping's rights do not allow it"}
    return f"{name} ({code_name}) {access} {address:#x}: {why.get(code_name, 'no access')}"


def report(record: Record, maps: Maps) -> str:
    """The whole text of one crash."""
    fields = Fields(record.body)
    signal_, code, address, error = fields.take("IiQI")
    instruction = fields.counted()
    registers = Registers.take(fields)
    stack = fields.rest()
    lines = [
        f"crash: {maps.program or '?'} (pid {record.pid}, thread {record.tid}): {_cause(signal_, code, address, error)}"
    ]
    where, path = unwind.symbol(maps, registers["rip"], after_call=False)
    lines.append(f"  at {registers['rip']:#010x} {where}{f' in {path}' if path and path not in where else ''}")
    lines.append(f"  code at rip: {instruction.hex(' ') or 'not readable'}")
    lines += _registers(registers)
    lines.append("  backtrace:")
    for n, frame in enumerate(unwind.Unwinder(maps, registers, stack).frames()):
        name, file = unwind.symbol(maps, frame.address, after_call=n > 0)
        inside = f" in {file}" if file.startswith("/") else ""
        lines.append(f"    #{n:<2} {frame.address:#010x} {name}{inside}{_MARKS.get(frame.by, '')}")
    lines.append("  mappings:")
    for m in maps.mappings:
        rights = "".join(letter if m.rights & bit else "-" for letter, bit in (("r", 1), ("w", 2), ("x", 4)))
        lines.append(f"    {m.start:08x}-{m.end:08x} {rights} {m.offset:08x} {m.path}".rstrip())
    return "".join(f"occlum: {printable(line)}\n" for line in lines)


def _registers(registers: Registers) -> list[str]:
    found = [f"{name:>7} {value:016x}" for name, value in zip(registers.NAMES, registers.values, strict=True)]
    return ["  " + " ".join(found[n : n + 4]) for n in range(0, len(found), 4)]
