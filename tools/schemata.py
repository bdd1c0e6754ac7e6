"""All mutants of Rust sources in one build: a function with mutants gets a copy of its body for each of them.

    fn f(..) -> T { match selected() { 7 => { body, changed one way } 8 => { .. } _ => { body } } }

`selected()` reads a number that stands in the binary behind a magic one, so that choosing a mutant is a change of eight
bytes in a file. The module is added to copies of the sources only. What cannot be written so (constants, `const fn`,
functions in functions, mutants that do not compile) is left to a build of its own. Neighbour: `mutate`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MAGIC = bytes.fromhex("6f63636c756d2d6d7574616e743a6e6f")
# `used` keeps the compiler from taking the numbers for constants.
MODULE = f"""
#[doc(hidden)]
pub mod mutant {{
    use core::sync::atomic::{{AtomicU64, Ordering}};
    #[used]
    static NUMBER: [AtomicU64; 3] = [
        AtomicU64::new({int.from_bytes(MAGIC[:8], "little"):#x}),
        AtomicU64::new({int.from_bytes(MAGIC[8:], "little"):#x}),
        AtomicU64::new(0),
    ];
    pub fn selected() -> u64 {{
        NUMBER[2].load(Ordering::Relaxed)
    }}
}}
"""
# Comments, strings and characters: braces in them do not count. A lifetime has no second quote.
LITERALS = re.compile(r'//[^\n]*|/\*.*?\*/|b?"(?:\\.|[^"\\])*"|b?\'(?:\\[^\']+|[^\'\\\n])\'', re.DOTALL)
HEAD = re.compile(r"(?P<const>\bconst )?\bfn \w+")


@dataclass(frozen=True)
class Change:
    """One changed line (0-based) and the number that selects it."""

    number: int
    line: int
    after: str


@dataclass(frozen=True)
class Function:
    """Where the body lies, from behind its opening brace up to its closing one."""

    start: int
    end: int
    is_const: bool


def functions(source: str) -> list[Function]:
    """All functions with bodies."""
    text = LITERALS.sub(lambda m: re.sub(r"[^\n]", " ", m[0]), source)
    found = []
    for head in HEAD.finditer(text):
        depth, at = 0, head.end()
        while at < len(text) and (depth or text[at] not in "{;"):
            depth += (text[at] in "([") - (text[at] in ")]")
            at += 1
        if text[at : at + 1] != "{":
            continue
        start, depth = at + 1, 0
        while True:
            depth += (text[at] == "{") - (text[at] == "}")
            if depth == 0:
                break
            at += 1
        found.append(Function(start, at, head["const"] is not None))
    return found


def offsets(source: str) -> list[int]:
    """Where each line begins."""
    lines = [0]
    for line in source.splitlines(keepends=True):
        lines.append(lines[-1] + len(line))
    return lines


def place(found: list[Function], start: int, end: int) -> Function | None:
    """The one function whose body has the line, unless it has or lies in another one with it."""
    around = [f for f in found if f.start < end and start < f.end]
    if len(around) != 1 or around[0].is_const:
        return None
    inside = any(around[0].start < f.start and f.end < around[0].end for f in found)
    return None if inside else around[0]


def changed(source: str, body: Function, change: Change, lines: list[int]) -> str:
    """The body with one line changed, as far as the line belongs to it."""
    start, end = lines[change.line], lines[change.line + 1]
    before = source[start:end].rstrip("\n")
    head, tail = max(body.start - start, 0), max(start + len(before) - body.end, 0)
    after = change.after[head : len(change.after) - tail]
    if before[:head] != change.after[:head] or before[len(before) - tail :] != change.after[len(change.after) - tail :]:
        raise ValueError("the change is outside the body")
    return source[body.start : max(start, body.start)] + after + source[min(start + len(before), body.end) : body.end]


def weave(source: str, changes: Sequence[Change], selected: str) -> tuple[str, set[int], dict[int, int]]:
    """The source with all changes that can be woven in, their numbers, and which of them each new line belongs to."""
    found, lines = functions(source), offsets(source)
    bodies: dict[Function, list[tuple[int, str]]] = {}
    for change in changes:
        function = place(found, lines[change.line], lines[change.line + 1])
        if function is None:
            continue
        try:
            bodies.setdefault(function, []).append((change.number, changed(source, function, change, lines)))
        except ValueError:
            continue
    out, at, owner, woven = "", 0, {}, set()
    for function in sorted(bodies, key=lambda f: f.start):
        out += source[at : function.start] + f" match {selected} {{"
        for number, body in bodies[function]:
            first = out.count("\n")
            out += f"\n{number}u64 => {{{body}}}"
            owner.update(dict.fromkeys(range(first + 1, out.count("\n") + 1), number))
            woven.add(number)
        out += f"\n_ => {{{source[function.start : function.end]}}}\n}}"
        at = function.end
    return out + source[at:], woven, owner


def select(binary: Path, number: int, copy: Path) -> Path:
    """A copy of the binary in which that mutant runs; 0: none of them."""
    content = bytearray(binary.read_bytes())
    at = content.find(MAGIC)
    if at < 0 or content.find(MAGIC, at + 1) >= 0:
        raise ValueError(f"{binary} has no place for the number of a mutant, or several")
    content[at + 16 : at + 24] = number.to_bytes(8, "little")
    copy.unlink(missing_ok=True)
    copy.write_bytes(content)
    copy.chmod(0o755)
    return copy
