"""The exceptions that Occlum raises: one base, each with its cause and, where there is one, the fix.

Those that `subprocess` has are here once more, as subclasses of its own, so that code written for it goes on working.
They are made when they are first asked for: the commands that need none of them do not import subprocess.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import subprocess

    class SubprocessError(subprocess.SubprocessError):
        """Base of what the functions of `subprocess` raise."""

    class CalledProcessError(subprocess.CalledProcessError, SubprocessError):
        """A program that was to succeed did not."""

    class TimeoutExpired(subprocess.TimeoutExpired, SubprocessError):
        """A program took too long."""


__all__ = [
    "CalledProcessError",
    "EnclaveError",
    "EnclaveLost",
    "ImageError",
    "OcclumError",
    "OptionError",
    "SubprocessError",
    "TimeoutExpired",
    "Unsupported",
]


def refused(error: OSError) -> str:
    """What the system refused, in its own words, and over which file."""
    said = error.strerror or str(error)
    if error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {said}"
    try:
        os.getcwd()  # noqa: PTH109
    except FileNotFoundError:
        return "the working directory is not there any more; change to another one"
    return said


class OcclumError(Exception):
    """Base of all errors; `str()` gives the cause, the fix and the code, of which `occlum explain` knows more.

    Attributes:
        cause: what went wrong, in one line.
        fix: what to do about it; where the place that raised it has no better one, that of the table (`codes`).
        code: the error's code. Each class has one for what has none of its own.
    """

    code = "OC300"

    def __init__(self, cause: str, fix: str = "", code: str | None = None) -> None:
        super().__init__(cause, fix)
        self.cause = cause
        self.code = code or type(self).code
        self._fix = fix

    @property
    def fix(self) -> str:
        """What to do about it."""
        if self._fix:
            return self._fix
        from occlum.codes import ERRORS

        return ERRORS[self.code].fix

    def __str__(self) -> str:
        return f"{self.cause}; {self._fix or f'see `occlum explain {self.code}`'} [{self.code}]"


class OptionError(OcclumError):
    """An option has a value that makes no sense."""

    code = "OC101"


class ImageError(OcclumError):
    """The enclave image is missing or not usable."""

    code = "OC200"


class EnclaveError(OcclumError):
    """The enclave could not be created, or failed while it ran."""

    code = "OC300"

    @classmethod
    def from_native(cls, error: Exception | str) -> EnclaveError:
        """What the extension or the enclave says: the cause; often the fix, after a semicolon; the code in brackets."""
        text, _, code = str(error).rpartition(" [OC")
        if not text:
            text, code = str(error), ""
        cause, _, fix = text.rpartition("; ")
        return cls(cause or fix, fix if cause else "", f"OC{code[:-1]}" if code else None)


class StoreError(OcclumError):
    """A sealed store could not be opened, read or changed, or a key is none."""

    code = "OC900"


class EnclaveLost(EnclaveError):
    """A running enclave is gone: it failed, its simulator crashed, or somebody stopped it."""

    code = "OC301"


class Unsupported(OcclumError, ValueError):
    """A parameter that `subprocess` has and an enclave cannot: refused at the call."""

    code = "OC500"


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name not in ("SubprocessError", "CalledProcessError", "TimeoutExpired"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import subprocess

        space = globals()
        if "SubprocessError" not in space:
            docs = {"__module__": __name__, "__doc__": "Base of what the functions of `subprocess` raise."}
            base = space["SubprocessError"] = type("SubprocessError", (subprocess.SubprocessError,), docs)
            for kind in (subprocess.CalledProcessError, subprocess.TimeoutExpired):
                docs = {"__module__": __name__, "__doc__": kind.__doc__}
                space[kind.__name__] = type(kind.__name__, (kind, base), docs)
        return space[name]
