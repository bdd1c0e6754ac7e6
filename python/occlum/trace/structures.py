"""Structures and strings of system calls as text.

Neighbours: `decode` asks for them by the names of types. Invariant: a structure that is cut short gives `None`.
"""

from __future__ import annotations

import ipaddress
import stat as modes
import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from occlum.trace import names


@dataclass(frozen=True)
class Style:
    """How much is shown."""

    string_limit: int = 32
    paths: bool = False
    whole: bool = False


_ESCAPES = {9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}


def quoted(data: bytes, whole: int | None = None, limit: int | None = None) -> str:
    """`"text"`, with `...` if there is more than is shown. Octal escapes are short where no digit follows."""
    shown = data if limit is None else data[:limit]
    out = []
    for n, byte in enumerate(shown):
        if byte in _ESCAPES:
            out.append(_ESCAPES[byte])
        elif 32 <= byte < 127:
            out.append(chr(byte))
        else:
            digit = n + 1 < len(shown) and 48 <= shown[n + 1] < 56
            out.append(f"\\{byte:03o}" if digit else f"\\{byte:o}")
    more = len(shown) < (len(data) if whole is None else whole)
    return f'"{"".join(out)}"' + ("..." if more else "")


def pointer(value: int) -> str:
    """An address."""
    return f"{value:#x}" if value else "NULL"


def unpack(format_: str, data: bytes) -> tuple[int, ...] | None:
    wire = struct.Struct("<" + format_)
    return wire.unpack_from(data) if len(data) >= wire.size else None


def _pair(first: str, second: str) -> Callable[[bytes, Style], str | None]:
    def show(data: bytes, _: Style) -> str | None:
        words = unpack("qq", data)
        return f"{{{first}={words[0]}, {second}={words[1]}}}" if words else None

    return show


_timespec = _pair("tv_sec", "tv_nsec")
_timeval = _pair("tv_sec", "tv_usec")


def _twice(one: Callable[[bytes, Style], str | None], pattern: str) -> Callable[[bytes, Style], str | None]:
    def show(data: bytes, style: Style) -> str | None:
        first, second = one(data[:16], style), one(data[16:32], style)
        return pattern.format(first, second) if first and second else None

    return show


def mode(value: int) -> str:
    """`S_IFREG|0644`."""
    kinds = {
        modes.S_IFREG: "S_IFREG",
        modes.S_IFDIR: "S_IFDIR",
        modes.S_IFCHR: "S_IFCHR",
        modes.S_IFBLK: "S_IFBLK",
        modes.S_IFIFO: "S_IFIFO",
        modes.S_IFLNK: "S_IFLNK",
        modes.S_IFSOCK: "S_IFSOCK",
    }
    bits = modes.S_IMODE(value)
    extra = [name for bit, name in ((0o4000, "S_ISUID"), (0o2000, "S_ISGID"), (0o1000, "S_ISVTX")) if bits & bit]
    return "|".join(
        [kinds.get(modes.S_IFMT(value), f"{modes.S_IFMT(value):#o}"), *extra, f"{bits & 0o777:#04o}".replace("0o", "0")]
    )


def permissions(value: int) -> str:
    return mode(value) if modes.S_IFMT(value) else f"0{value & 0o7777:o}".rjust(3, "0")


def _when(seconds: int, ns: int) -> str:
    try:
        text = datetime.fromtimestamp(seconds, UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        return f"{seconds}"
    return f"{seconds} /* {text}.{ns:09} */"


def _stat(data: bytes, style: Style) -> str | None:
    words = unpack("QQQIIIxxxxQqqqqqqqqq", data)
    if not words:
        return None
    dev, ino, nlink, mode_, uid, gid, rdev, size, blksize, blocks, *times = words
    device = modes.S_ISCHR(mode_) or modes.S_ISBLK(mode_)
    what = f"st_rdev=makedev({rdev >> 8 & 0xFFF:#x}, {rdev & 0xFF:#x})" if device else f"st_size={size}"
    if not style.whole:
        return f"{{st_mode={mode(mode_)}, {what}, ...}}"
    shown = [
        f"st_dev=makedev({dev >> 8 & 0xFFF:#x}, {dev & 0xFF:#x}), st_ino={ino}, st_mode={mode(mode_)}",
        f"st_nlink={nlink}",
        f"st_uid={uid}, st_gid={gid}, st_blksize={blksize}, st_blocks={blocks}, {what}",
        *(f"st_{name}={_when(times[2 * n], times[2 * n + 1])}" for n, name in enumerate(("atime", "mtime", "ctime"))),
    ]
    return f"{{{', '.join(shown)}}}"


def _statx(data: bytes, _: Style) -> str | None:
    words = unpack("IIQIIIHxxQQ", data)
    if not words:
        return None
    mask, mode_, size = words[0], words[6], words[8]
    mask_text = names.flags(mask, names.FLAGS["statx_mask"])
    return f"{{stx_mask={mask_text}, stx_mode={mode(mode_)}, stx_size={size}, ...}}"


def _sigset(data: bytes, _: Style) -> str | None:
    words = unpack("Q", data)
    return names.signal_set(words[0]) if words else None


def _sigaction(data: bytes, _: Style) -> str | None:
    words = unpack("QQQQ", data)
    if not words:
        return None
    handler, flags, restorer, mask = words
    who = {0: "SIG_DFL", 1: "SIG_IGN"}.get(handler, f"{handler:#x}")
    text = f"sa_handler={who}, sa_mask={names.signal_set(mask)}, sa_flags={names.flags(flags, names.FLAGS['sa'])}"
    return f"{{{text}, sa_restorer={restorer:#x}}}" if flags & 0x4000000 else f"{{{text}}}"


def siginfo(data: bytes) -> str:
    """The fields that the code says are there."""
    number, _, code = struct.unpack_from("<iii", data)
    pid, uid, status = struct.unpack_from("<iIi", data, 16)
    (address,) = struct.unpack_from("<Q", data, 16)
    name = names.SIGNALS.get(number, str(number))
    generic = names.VALUES["si_code"].get(code)
    code_name = generic or names.SI_CODES.get(name, {}).get(code, str(code))
    text = f"si_signo={name}, si_code={code_name}"
    if name == "SIGCHLD" and code > 0 and not generic:
        ended = names.SIGNALS.get(status, str(status)) if code != 1 else str(status)
        text += f", si_pid={pid}, si_uid={uid}, si_status={ended}"
    elif code in (0, -6):
        text += f", si_pid={pid}, si_uid={uid}"
    elif code == -2:
        text += f", si_timerid={pid:#x}, si_overrun={uid}, si_int={status}"
    elif code in (-1, -3):
        text += f", si_pid={pid}, si_uid={uid}, si_int={status}"
    elif code > 0 and not generic:
        text += f", si_addr={pointer(address)}"
    return f"{{{text}}}"


def _siginfo(data: bytes, _: Style) -> str | None:
    return siginfo(data) if len(data) >= 32 else None


def _stack(data: bytes, _: Style) -> str | None:
    words = unpack("Qi4xQ", data)
    if not words:
        return None
    flags = names.flags(words[1], names.FLAGS["ss"])
    return f"{{ss_sp={pointer(words[0])}, ss_flags={flags}, ss_size={words[2]}}}"


def _limit(value: int) -> str:
    if value == (1 << 64) - 1:
        return "RLIM64_INFINITY"
    return f"{value // 1024}*1024" if value > 1024 and value % 1024 == 0 else str(value)


def _rlimit(data: bytes, _: Style) -> str | None:
    words = unpack("QQ", data)
    return f"{{rlim_cur={_limit(words[0])}, rlim_max={_limit(words[1])}}}" if words else None


def _rusage(data: bytes, style: Style) -> str | None:
    words = unpack("qqqqq", data)
    if not words:
        return None
    user, system = _timeval(data[:16], style), _timeval(data[16:32], style)
    return f"{{ru_utime={user}, ru_stime={system}, ru_maxrss={words[4]}, ...}}"


def _utsname(data: bytes, _: Style) -> str | None:
    parts = [data[65 * n : 65 * n + 65].split(b"\0")[0] for n in range(3)]
    return f"{{sysname={quoted(parts[0])}, nodename={quoted(parts[1])}, release={quoted(parts[2])}, ...}}"


def _sysinfo(data: bytes, _: Style) -> str | None:
    words = unpack("q3QQQ", data)
    return f"{{uptime={words[0]}, totalram={words[4]}, freeram={words[5]}, ...}}" if words else None


def _tms(data: bytes, _: Style) -> str | None:
    words = unpack("4q", data)
    return "{{tms_utime={}, tms_stime={}, tms_cutime={}, tms_cstime={}}}".format(*words) if words else None


def _clone_args(data: bytes, _: Style) -> str | None:
    words = unpack("8Q", data)
    if not words:
        return None
    flags, pidfd, child, parent, exit_signal, stack, size, tls = words
    shown = [f"flags={names.flags(flags, names.FLAGS['clone'])}"]
    for name, value in (("pidfd", pidfd), ("child_tid", child), ("parent_tid", parent)):
        shown += [f"{name}={value:#x}"] if value else []
    shown += [
        f"exit_signal={names.SIGNALS.get(exit_signal, exit_signal)}",
        f"stack={pointer(stack)}",
        f"stack_size={size:#x}",
    ]
    return f"{{{', '.join(shown + ([f'tls={tls:#x}'] if tls else []))}}}"


def _open_how(data: bytes, _: Style) -> str | None:
    words = unpack("QQQ", data)
    return f"{{flags={open_flags(words[0])}, mode={permissions(words[1])}, resolve={words[2]:#x}}}" if words else None


def _pollfds(data: bytes, _: Style) -> str | None:
    known = names.FLAGS["poll"]
    found = []
    for at in range(0, len(data) - 7, 8):
        fd, events, revents = struct.unpack_from("<ihh", data, at)
        text = f"fd={fd}, events={names.flags(events & 0xFFFF, known)}"
        found.append(f"{{{text}, revents={names.flags(revents & 0xFFFF, known)}}}" if revents else f"{{{text}}}")
    return f"[{', '.join(found)}]"


def _epoll_events(data: bytes, _: Style) -> str | None:
    found = []
    for at in range(0, len(data) - 11, 12):
        events, value = struct.unpack_from("<IQ", data, at)
        low = value & 0xFFFF_FFFF
        shown = f"{{u32={low}, u64={value}}}" if low == value else f"{{u32={low}, u64={value:#x}}}"
        found.append(f"{{events={names.flags(events, names.FLAGS['epoll'])}, data={shown}}}")
    return f"[{', '.join(found)}]"


def _epoll_event(data: bytes, style: Style) -> str | None:
    text = _epoll_events(data, style)
    return text[1:-1] if text and len(text) > 2 else None


def _fd_set(data: bytes, _: Style) -> str | None:
    found = [str(8 * n + bit) for n, byte in enumerate(data) for bit in range(8) if byte >> bit & 1]
    return f"[{' '.join(found)}]"


def sockaddr(data: bytes, style: Style) -> str | None:
    if len(data) < 2:
        return None
    (family,) = struct.unpack_from("<H", data)
    name = names.VALUES["family"].get(family, str(family))
    head = f"{{sa_family={name}"
    if family == 1:
        path = data[2:]
        if not path:
            return head + "}"
        if path[0] == 0:
            return f"{head}, sun_path=@{quoted(path[1:])}}}"
        return f"{head}, sun_path={quoted(path.split(bytes(1))[0])}}}"
    if family == 2 and len(data) >= 8:
        (port,) = struct.unpack_from(">H", data, 2)
        return f'{head}, sin_port=htons({port}), sin_addr=inet_addr("{".".join(map(str, data[4:8]))}")}}'
    if family == 10 and len(data) >= 24:
        (port,) = struct.unpack_from(">H", data, 2)
        address = ipaddress.IPv6Address(data[8:24])
        return f'{head}, sin6_port=htons({port}), sin6_addr="{address}"}}'
    return f"{head}, sa_data={quoted(data[2:], limit=style.string_limit)}}}"


def _flock(data: bytes, _: Style) -> str | None:
    words = unpack("hhxxxxqqi", data)
    if not words or words[0] not in (0, 1, 2) or words[1] not in (0, 1, 2):
        return None
    kind, whence, start, length, _pid = words
    names_ = ("F_RDLCK", "F_WRLCK", "F_UNLCK")
    return f"{{l_type={names_[kind]}, l_whence={names.VALUES['whence'][whence]}, l_start={start}, l_len={length}}}"


def _numbers(format_: str, pattern: str = "[{}]") -> Callable[[bytes, Style], str | None]:
    def show(data: bytes, _: Style) -> str | None:
        words = unpack(format_, data)
        return pattern.format(", ".join(map(str, words))) if words else None

    return show


def wait_status(status: int) -> str:
    """As the macros of wait(2) say it."""
    if status == 0xFFFF:
        return "{WIFCONTINUED(s)}"
    if status & 0xFF == 0x7F:
        return f"{{WIFSTOPPED(s) && WSTOPSIG(s) == {names.SIGNALS.get(status >> 8 & 0xFF, status >> 8 & 0xFF)}}}"
    if status & 0x7F == 0:
        return f"{{WIFEXITED(s) && WEXITSTATUS(s) == {status >> 8 & 0xFF}}}"
    dumped = " && WCOREDUMP(s)" if status & 0x80 else ""
    return f"{{WIFSIGNALED(s) && WTERMSIG(s) == {names.SIGNALS.get(status & 0x7F, status & 0x7F)}{dumped}}}"


def _status(data: bytes, _: Style) -> str | None:
    words = unpack("I", data)
    return f"[{wait_status(words[0])}]" if words else None


def open_flags(value: int) -> str:
    """The access mode, then the flags."""
    access = ("O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE")[value & 3]
    rest = value & ~3
    return access + (f"|{names.flags(rest, names.FLAGS['open'])}" if rest else "")


# What structures look like, by the name of the type without _in and _out.
STRUCTURES: dict[str, Callable[[bytes, Style], str | None]] = {
    "timespec": _timespec,
    "timeval": _timeval,
    "timespecs": _twice(_timespec, "[{}, {}]"),
    "timevals": _twice(_timeval, "[{}, {}]"),
    "itimerval": _twice(_timeval, "{{it_interval={}, it_value={}}}"),
    "itimerspec": _twice(_timespec, "{{it_interval={}, it_value={}}}"),
    "stat": _stat,
    "statx": _statx,
    "sigset": _sigset,
    "sigaction": _sigaction,
    "siginfo": _siginfo,
    "stack": _stack,
    "rlimit": _rlimit,
    "rusage": _rusage,
    "utsname": _utsname,
    "sysinfo": _sysinfo,
    "tms": _tms,
    "clone_args": _clone_args,
    "open_how": _open_how,
    "pollfds": _pollfds,
    "epoll_events": _epoll_events,
    "epoll_event": _epoll_event,
    "fd_set": _fd_set,
    "sockaddr": sockaddr,
    "flock": _flock,
    "fds": _numbers("ii"),
    "int": _numbers("i"),
    "int_inout": _numbers("i"),
    "long": _numbers("q"),
    "off_inout": _numbers("q"),
    "status": _status,
}
