"""A text file that a thread can hang in without harm: no lock of Python's is held while the system writes."""

from __future__ import annotations

import os

_FULL = 1 << 16


def printable(text: str) -> str:
    """The text with control characters written out: names are the programs' choice, and terminals obey some of them."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == " " else ascii(c)[1:-1] for c in text)


class Output:
    """Text for a descriptor, which it closes at the end unless it is standard error."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.parts: list[str] = []
        self.length = 0

    @classmethod
    def open(cls, path: str, append: bool = False) -> Output:
        """A file of that name, new or longer."""
        how = os.O_APPEND if append else os.O_TRUNC
        return cls(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | how, 0o644))

    def write(self, text: str) -> None:
        """Keeps it until there is enough, or `flush`."""
        self.parts.append(text)
        self.length += len(text)
        if self.length >= _FULL:
            self.flush()

    def flush(self) -> None:
        """Writes what was kept."""
        data = "".join(self.parts).encode(errors="surrogateescape")
        self.parts.clear()
        self.length = 0
        while data:
            data = data[os.write(self.descriptor, data) :]

    def close(self) -> None:
        """There is no more."""
        self.flush()
        if self.descriptor > 2:
            os.close(self.descriptor)
