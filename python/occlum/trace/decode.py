"""Arguments and results of system calls as text, by the types that the enclave's table gives them.

Neighbours: `names` (numbers), `structures`, `strace` (lines). A type without a row here is a number. Invariant: what
was copied may be short, hostile or missing; then the pointer is shown, never an error.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from occlum.trace import names
from occlum.trace.records import Blob, Form
from occlum.trace.structures import (
    STRUCTURES,
    Style,
    open_flags,
    permissions,
    pointer,
    quoted,
    sockaddr,
    unpack,
)

AT_FDCWD = -100


@dataclass(frozen=True)
class Argument:
    """An argument of a call."""

    name: str
    type: str


@dataclass
class Call:
    """A call, as far as it is known: before it returned there is no result, and nothing of what it wrote."""

    number: int
    name: str
    arguments: tuple[Argument, ...]
    values: tuple[int, ...]
    before: dict[int, Blob]
    after: dict[int, Blob] = field(default_factory=dict)
    result: int | None = None

    @property
    def failed(self) -> bool:
        """Did it return an errno?"""
        return self.result is not None and -4096 < self.result < 0


def signed32(value: int) -> int:
    """The low half as a C `int`."""
    value &= 0xFFFF_FFFF
    return value - (1 << 32) if value >> 31 else value


def signed64(value: int) -> int:
    """A C `long`."""
    return value - (1 << 64) if value >> 63 else value


def _clone_flags(value: int) -> str:
    signal_ = value & 0xFF
    text = names.flags(value & ~0xFF, names.FLAGS["clone"]) if value & ~0xFF else ""
    name = names.SIGNALS.get(signal_, str(signal_)) if signal_ else ""
    return "|".join(filter(None, (text, name))) or "0"


def _futex_op(value: int) -> str:
    op = names.VALUES["futex_op"].get(value & 0x7F, f"{value & 0x7F:#x}")
    return op + ("_PRIVATE" if value & 0x80 else "") + ("|FUTEX_CLOCK_REALTIME" if value & 0x100 else "")


def _sock_kind(value: int) -> str:
    kind = names.SOCK_KINDS.get(value & 0xF, str(value & 0xF))
    rest = value & ~0xF
    return kind + (f"|{names.flags(rest, names.FLAGS['sock'])}" if rest else "")


# Numbers that are more than one name or one set of flags.
SPECIAL: dict[str, Callable[[int], str]] = {
    "int": lambda v: str(signed32(v)),
    "uint": lambda v: str(v & 0xFFFF_FFFF),
    "size": str,
    "off": lambda v: str(signed64(v)),
    "ptr": pointer,
    "flags": lambda v: f"{v:#x}" if v else "0",
    "mode": permissions,
    "open_flags": open_flags,
    "clone_flags": _clone_flags,
    "futex_op": _futex_op,
    "sock_kind": _sock_kind,
}


def number(type_: str, value: int) -> str:
    """A number by its type."""
    if show := SPECIAL.get(type_):
        return show(value)
    if known := names.VALUES.get(type_):
        small = signed32(value)
        plain = small if small in known else value & 0xFFFF_FFFF
        return known.get(plain, str(small) if abs(small) < 4096 else f"{value & 0xFFFF_FFFF:#x}")
    if known := names.FLAGS.get(type_):
        return names.flags(value & 0xFFFF_FFFF, known)
    return pointer(value)


def _descriptor(call: Call, n: int, style: Style) -> str:
    value = signed32(call.values[n])
    if value == AT_FDCWD and call.arguments[n].type == "dirfd":
        return "AT_FDCWD"
    return str(value) + path_of(call.before.get(n), style)


def path_of(blob: Blob | None, style: Style) -> str:
    """`</path>` of a descriptor, if it is wanted and known."""
    if not style.paths or blob is None or blob.form != Form.PATH:
        return ""
    return f"<{blob.data.decode(errors='replace')}>"


def _text(call: Call, n: int, _: Style) -> str | None:
    blob = call.before.get(n)
    if blob is None or blob.form != Form.BYTES:
        return None
    whole = blob.data.endswith(b"\0")
    return quoted(blob.data.removesuffix(b"\0")) + ("" if whole else "...")


def _strings(call: Call, n: int, style: Style) -> str | None:
    blob = call.before.get(n)
    if blob is None or blob.form != Form.LIST:
        return None
    found = [quoted(data.removesuffix(b"\0"), whole - 1, style.string_limit) for whole, data in blob.elements()]
    if call.arguments[n].name == "envp" and not style.whole:
        plural = "" if len(found) == 1 else "s"
        return f"{pointer(call.values[n])} /* {len(found)} var{plural} */"
    return f"[{', '.join(found)}]"


def _buffer(call: Call, n: int, style: Style) -> str | None:
    written = call.arguments[n].type in ("outbuf", "dirents")
    blob = (call.after if written else call.before).get(n)
    if blob is None or blob.form != Form.BYTES:
        return None
    whole = (call.result or 0) if written else call.values[n + 1] if n + 1 < len(call.values) else len(blob.data)
    if call.name == "getcwd":
        return quoted(blob.data.split(b"\0")[0])
    return quoted(blob.data, whole, style.string_limit)


def _vector(call: Call, n: int, style: Style) -> str | None:
    blob = (call.after if call.arguments[n].type == "iov_out" else call.before).get(n)
    if blob is None or blob.form != Form.LIST:
        return None
    return _elements(list(blob.elements()), style)


def _elements(elements: list[tuple[int, bytes]], style: Style) -> str:
    found = [f"{{iov_base={quoted(data, whole, style.string_limit)}, iov_len={whole}}}" for whole, data in elements]
    return f"[{', '.join(found)}]"


def _message(call: Call, n: int, style: Style) -> str | None:
    blob = (call.after if call.arguments[n].type == "msghdr_out" else call.before).get(n)
    if blob is None or blob.form != Form.LIST:
        return None
    header, name, control, *rest = blob.elements()
    words = unpack("QIxxxxQQQQI", header[1])
    if not words:
        return None
    address = (sockaddr(name[1], style) if name[1] else None) or pointer(words[0])
    text = f"msg_name={address}, msg_namelen={words[1]}, msg_iov={_elements(rest, style)}, msg_iovlen={words[3]}"
    text += f", msg_controllen={control[0]}, msg_flags={names.flags(words[6], names.FLAGS['msg_flags'])}"
    return f"{{{text}}}"


def _structure(call: Call, n: int, style: Style) -> str | None:
    type_ = call.arguments[n].type
    show = STRUCTURES.get(type_) or STRUCTURES.get(type_.removesuffix("_in").removesuffix("_out"))
    if show is None:
        return None
    texts: list[str] = []
    # What poll and select found stands behind the result.
    for part in (call.before,) if type_ in ("pollfds", "fd_set") else (call.before, call.after):
        blob = part.get(n)
        if blob is not None and blob.form == Form.BYTES and (text := show(blob.data, style)):
            texts.append(text)
    # Both: what it was, and what became of it.
    if len(texts) == 2:
        if type_ == "flock":
            return texts[1]
        return texts[0] if texts[0] == texts[1] else f"{texts[0]} => {texts[1]}"
    return texts[0] if texts else None


def _fcntl(call: Call, n: int, style: Style) -> str | None:
    command = number("fcntl_cmd", call.values[1])
    value = call.values[n]
    match command:
        case "F_GETFD" | "F_GETFL" | "F_GETOWN" | "F_GETSIG" | "F_GETPIPE_SZ" | "F_GET_SEALS" | "F_GETLEASE":
            return ""
        case "F_SETFD":
            return names.flags(value & 0xFFFF_FFFF, {1: "FD_CLOEXEC"})
        case "F_SETFL":
            return open_flags(value)
        case "F_GETLK" | "F_SETLK" | "F_SETLKW" | "F_OFD_GETLK" | "F_OFD_SETLK" | "F_OFD_SETLKW":
            return _structure(call, n, style)
        case _:
            return str(signed32(value))


_SETTING_REQUESTS = ("TIOCSWINSZ", "FIONBIO", "TIOCSPGRP", "TIOCSPTLCK", "TCSETS", "TCSETSW", "TCSETSF")


def _ioctl(call: Call, n: int, _: Style) -> str | None:
    request = number("ioctl_request", call.values[1])
    blob = call.after.get(n) or call.before.get(n)
    if blob is None or blob.form != Form.BYTES or (call.failed and request not in _SETTING_REQUESTS):
        return None
    if request in ("TIOCGWINSZ", "TIOCSWINSZ") and (words := unpack("4H", blob.data)):
        return "{{ws_row={}, ws_col={}, ws_xpixel={}, ws_ypixel={}}}".format(*words)
    if request in ("FIONREAD", "FIONBIO", "TIOCGPGRP", "TIOCSPGRP", "TIOCGPTN", "TIOCSPTLCK", "TIOCOUTQ") and (
        words := unpack("i", blob.data)
    ):
        return f"[{words[0]}]"
    if request in ("TCGETS", "TCSETS", "TCSETSW", "TCSETSF") and (words := unpack("4I", blob.data)):
        return "{{c_iflag={:#x}, c_oflag={:#x}, c_cflag={:#x}, c_lflag={:#x}, ...}}".format(*words)
    return None


def _socket_option(call: Call, n: int, style: Style) -> str | None:
    blob = (call.after if call.arguments[n].type == "optval_out" else call.before).get(n)
    if blob is None or blob.form != Form.BYTES:
        return None
    words = unpack("i", blob.data) if len(blob.data) == 4 else None
    return f"[{words[0]}]" if words else quoted(blob.data, limit=style.string_limit)


def _option_name(call: Call, n: int) -> str:
    level, option = signed32(call.values[1]), signed32(call.values[n])
    return names.SOCKET_OPTIONS.get(level, {}).get(option, str(option))


_BY_TYPE: dict[str, Callable[[Call, int, Style], str | None]] = {
    "fd": _descriptor,
    "dirfd": _descriptor,
    "str": _text,
    "path": _text,
    "strings": _strings,
    "inbuf": _buffer,
    "outbuf": _buffer,
    "iov_in": _vector,
    "iov_out": _vector,
    "msghdr_in": _message,
    "msghdr_out": _message,
    "ioctl_arg": _ioctl,
    "optval_in": _socket_option,
    "optval_out": _socket_option,
}


_FD_FLAG_PREFIXES = {
    "epoll_create1": "EPOLL",
    "eventfd2": "EFD",
    "timerfd_create": "TFD",
    "signalfd4": "SFD",
    "accept4": "SOCK",
    "inotify_init1": "IN",
}


def argument(call: Call, n: int, style: Style) -> str:
    """Argument `n`, as far as the call has come."""
    type_ = call.arguments[n].type
    value = call.values[n]
    if call.name == "fcntl" and n == 2:
        shown = _fcntl(call, n, style)
        return pointer(value) if shown is None else shown
    if call.name in ("getsockopt", "setsockopt") and n == 2:
        return _option_name(call, n)
    if type_ == "fd_flags" and (prefix := _FD_FLAG_PREFIXES.get(call.name)):
        return names.flags(value & 0xFFFF_FFFF, {0x80000: f"{prefix}_CLOEXEC", 0x800: f"{prefix}_NONBLOCK"})
    if call.name == "socket" and n == 2:
        return names.PROTOCOLS.get(value, str(value)) if call.values[0] in (2, 10) else str(value)
    if show := _BY_TYPE.get(type_):
        text = show(call, n, style)
        return pointer(value) if text is None else text
    text = _structure(call, n, style)
    if text is not None:
        return text
    if type_ in SPECIAL or type_ in names.VALUES or type_ in names.FLAGS:
        return number(type_, value)
    return pointer(value)


def is_written(type_: str) -> bool:
    """Is it shown only once the call has returned?"""
    return type_.endswith(("_out", "_inout")) or type_ in (
        "outbuf",
        "dirents",
        "epoll_events",
        "flock",
        "ioctl_arg",
    )


# How many arguments operations of prctl have, if not two.
_PRCTL_ARGUMENTS = {
    **dict.fromkeys(("PR_GET_DUMPABLE", "PR_GET_KEEPCAPS", "PR_GET_SECCOMP", "PR_GET_SECUREBITS"), 1),
    "PR_GET_TIMERSLACK": 1,
    "PR_SET_SECCOMP": 3,
    "PR_CAP_AMBIENT": 5,
    "PR_SET_VMA": 5,
    "PR_SET_MM": 5,
    **dict.fromkeys(("PR_SET_NO_NEW_PRIVS", "PR_GET_NO_NEW_PRIVS", "PR_SET_THP_DISABLE", "PR_GET_THP_DISABLE"), 5),
}

# Modes count only where a file may be made.
_MODE_NEEDS = {"open": 1, "openat": 2, "mq_open": 1}


def shown_arguments(call: Call) -> int:
    """How many of the arguments mean something."""
    at = _MODE_NEEDS.get(call.name)
    if at is not None and not call.values[at] & 0o20000100:
        return at + 1
    if call.name == "prctl":
        return _PRCTL_ARGUMENTS.get(number("prctl_option", call.values[0]), 2)
    if call.name == "fcntl" and argument(call, 2, Style()) == "":
        return 2
    if call.name == "futex" and number("futex_op", call.values[1]).startswith("FUTEX_WAKE"):
        return 3
    return len(call.arguments)


def _ready(blob: Blob | None) -> str:
    """What poll found, behind its result."""
    if blob is None or blob.form != Form.BYTES:
        return ""
    found = []
    for at in range(0, len(blob.data) - 7, 8):
        fd, _, revents = struct.unpack_from("<ihH", blob.data, at)
        if revents:
            found.append(f"{{fd={fd}, revents={names.flags(revents, names.FLAGS['poll'])}}}")
    return f" ([{', '.join(found)}])" if found else ""


def _ready_sets(call: Call) -> str:
    """What select found."""
    found = []
    for n, label in ((1, "in"), (2, "out"), (3, "except")):
        blob = call.after.get(n)
        if blob is not None and blob.form == Form.BYTES and any(blob.data):
            found.append(f"{label} {STRUCTURES['fd_set'](blob.data, Style())}")
    return f" ({', '.join(found)})" if found else ""


def result(call: Call, style: Style) -> str:
    """What came back: `= 3</path>`, `= -1 ENOENT (No such file or directory)`."""
    if call.result is None:
        return "= ?"
    if call.failed:
        code = -call.result
        return f"= -1 {names.ERRNOS.get(code, code)} ({os.strerror(code)})"
    if call.name in ("mmap", "brk", "mremap", "shmat") or call.result > 0xFFFF_FFFF:
        return f"= {call.result:#x}"
    if call.name == "fcntl" and call.values[1] == 3:
        return f"= {call.result:#x} (flags {open_flags(call.result)})"
    if call.name == "fcntl" and call.values[1] == 1:
        return f"= {call.result:#x} (flags FD_CLOEXEC)" if call.result else "= 0"
    if call.name in ("poll", "ppoll", "select", "pselect6") and call.result == 0:
        return "= 0 (Timeout)"
    if call.name == "umask":
        return f"= {permissions(call.result)}"
    if call.name in ("poll", "ppoll"):
        return f"= {call.result}{_ready(call.after.get(0))}"
    if call.name in ("select", "pselect6"):
        return f"= {call.result}{_ready_sets(call)}"
    return f"= {call.result}" + path_of(call.after.get(6), style)
