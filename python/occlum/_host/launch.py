"""From what the caller wants to what the enclave gets: measured options, launch parameters, one run.

Neighbours: `image` (the bytes that are loaded), `occlum._native` (does it), `occlum.cli` (asks for it). The split is
the one of MRENCLAVE: `EnclaveOptions` are measured, `Launch` is not.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from occlum._host.image import read_image
from occlum._host.units import format_size, parse_size
from occlum.config import page
from occlum.errors import EnclaveError, OptionError

if TYPE_CHECKING:
    from occlum import _native

PAGE_SIZE = 4096
DEFAULT_MEMORY = "2G"
DEFAULT_CPUS = 2
DEFAULT_MAX_TASKS = 4096
DEFAULT_PID_MAX = 32768
SMALLEST_MEMORY = 64 << 20
LARGEST_MEMORY = 1 << 40
CFI_LEVELS = page.CFI_LEVELS


@dataclass(frozen=True)
class EnclaveOptions:
    """What MRENCLAVE covers besides the image. The defaults are constants, so that machines agree on it."""

    memory_bytes: int = parse_size(DEFAULT_MEMORY)
    cpus: int = DEFAULT_CPUS
    max_tasks: int = DEFAULT_MAX_TASKS
    pid_max: int = DEFAULT_PID_MAX
    cfi: str = CFI_LEVELS[0]
    no_alias: bool = False

    def __post_init__(self) -> None:
        if not SMALLEST_MEMORY <= self.memory_bytes <= LARGEST_MEMORY:
            fix = f"give at least {format_size(SMALLEST_MEMORY)} and at most {format_size(LARGEST_MEMORY)}"
            raise OptionError(f"an enclave cannot have {format_size(self.memory_bytes)} of memory", fix)
        # Whole pages: the enclave accounts in pages.
        whole = -(-self.memory_bytes // PAGE_SIZE) * PAGE_SIZE
        object.__setattr__(self, "memory_bytes", whole)

    def to_config(self) -> bytes:
        """The measured configuration: a debug enclave with a view of this machine's files."""
        if self.cfi not in page.CFI_LEVELS:
            raise OptionError(f"{self.cfi!r} is no level of control-flow integrity", f"give one of {page.CFI_LEVELS}")
        return page.Config(
            memory_bytes=self.memory_bytes,
            vcpus=self.cpus,
            max_tasks=self.max_tasks,
            pid_max=self.pid_max,
            cfi=page.CFI_LEVELS.index(self.cfi),
            flags=page.DEBUG | page.HOST_VIEW | (page.NO_ALIAS if self.no_alias else 0),
        ).encode()

    def sigstruct(self) -> bytes:
        """None: the view of this machine has no keys, so nothing depends on who signed."""
        return b""


# Named tuples, where nothing is checked: a dataclass takes several times as long to make.


class Bind(NamedTuple):
    """A host directory or file shared with the enclave."""

    host: str
    guest: str
    read_only: bool = False

    @classmethod
    def parse(cls, text: str) -> Bind:
        """`PATH`, `PATH:ro`, `HOST:GUEST` or `HOST:GUEST:ro`."""
        parts = text.split(":")
        read_only = len(parts) > 1 and parts[-1] in ("ro", "rw")
        mode = parts.pop() if read_only else "rw"
        if len(parts) not in (1, 2) or not all(parts):
            raise OptionError(
                f"{text!r} is not a bind mount", "write PATH or HOST:GUEST, then :ro if read-only", "OC102"
            )
        host = os.path.join(os.getcwd(), parts[0]).rstrip("/") or "/"
        guest = parts[1] if len(parts) == 2 else host
        if not os.path.exists(host):
            raise OptionError(f"{host} does not exist on this machine", "create it, or name another path", "OC102")
        if not guest.startswith("/"):
            raise OptionError(f"{guest!r} is not an absolute path", "write the whole path inside the enclave", "OC102")
        return cls(host, guest, mode == "ro")

    def to_native(self) -> tuple[bytes, bytes, bytes]:
        """The extension's form."""
        return os.fsencode(self.host), os.fsencode(self.guest), b"ro" if self.read_only else b"rw"


@dataclass(frozen=True)
class SealedMount:
    """A sealed store that the enclave mounts. `key` of None: an image, which is read-only."""

    store: str
    guest: str
    read_only: bool = False
    key: bytes | None = field(default=None, repr=False)
    # A file that plays the trusted counter.
    insecure_counter: str | None = None

    @classmethod
    def parse(cls, text: str) -> SealedMount:
        """`STORE:GUEST` or `STORE:GUEST:ro`."""
        parts = text.split(":")
        mode = parts.pop() if len(parts) > 2 and parts[-1] in ("ro", "rw") else "rw"
        if len(parts) != 2 or not all(parts):
            raise OptionError(f"{text!r} is not a sealed mount", "write STORE:GUEST, then :ro if read-only")
        store = os.path.abspath(parts[0])
        if not os.path.isfile(store):
            raise OptionError(f"{store} is not a store", "make one with occlum fs mkfs")
        if not parts[1].startswith("/") or parts[1].strip("/") == "":
            raise OptionError(f"{parts[1]!r} is not a place for a store", "write the whole path inside the enclave")
        return cls(store, parts[1], mode == "ro")

    def to_native(self) -> tuple[bytes, bytes, bytes]:
        """The extension's form."""
        words = ["sealed", "ro" if self.read_only else "rw"]
        if self.key is not None:
            words.append(f"key={self.key.hex()}")
        if self.insecure_counter is not None:
            words.append(f"counter={os.fsencode(self.insecure_counter).hex()}")
        return os.fsencode(self.store), os.fsencode(self.guest), ",".join(words).encode()


class Publish(NamedTuple):
    """A port of this machine that leads to one inside."""

    host: str
    port: int
    inside: int
    datagram: bool = False

    @classmethod
    def parse(cls, text: str) -> Publish:
        """`[HOST:]PORT:PORT[/tcp|/udp]`: this machine's port, then the one inside; an IPv6 HOST stands in brackets."""
        ports, _, protocol = text.partition("/")
        host, _, rest = ports.rpartition("]:") if ports.startswith("[") else ("", "", ports)
        host = host.removeprefix("[")
        if not host and rest.count(":") == 2:
            host, _, rest = rest.partition(":")
        try:
            if host:
                # Not needed by other starts, which are to be quick.
                import ipaddress

                ipaddress.ip_address(host)
            port, inside = (int(number) for number in rest.split(":"))
            known = protocol in ("", "tcp", "udp") and (protocol or "/" not in text)
            if not known or not all(0 < number < 1 << 16 for number in (port, inside)):
                raise ValueError
        except ValueError:
            fix = "write PORT:PORT or ADDRESS:PORT:PORT (this machine's first), then /udp if it is for UDP"
            raise OptionError(f"{text!r} does not name ports to publish", fix, "OC103") from None
        return cls(host, port, inside, protocol == "udp")

    def to_native(self) -> tuple[str, int, int, bool]:
        """The extension's form."""
        return self.host, self.port, self.inside, self.datagram


def parse_config_id(text: str) -> bytes:
    """CONFIGID of its base64 form: up to 64 bytes, zeros behind them."""
    # Only here.
    import base64
    import binascii

    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        data = bytes(65)
    if len(data) > 64:
        raise OptionError(f"{text!r} is no CONFIGID", "write up to 64 bytes in base64")
    return data.ljust(64, b"\0")


NETWORKS = ("none", "outbound", "host")


class Given(NamedTuple):
    """What an enclave that stays, or an instance's, is given at its start: not measured."""

    # CONFIGID (64 bytes, or none) and CONFIGSVN, which its keys know; only with KSS.
    config_id: bytes = b""
    config_svn: int = 0
    image_key: bytes | None = None
    network: str = "outbound"
    publish: tuple[Publish, ...] = ()

    def __repr__(self) -> str:
        """Without the key."""
        return f"Given({self.config_id!r}, {self.config_svn}, ..., {self.network!r}, {self.publish!r})"

    def to_json(self) -> dict[str, Any]:
        """For the owner process."""
        key = None if self.image_key is None else self.image_key.hex()
        return self._asdict() | {"config_id": self.config_id.hex(), "image_key": key}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Given:
        """From there."""
        key = data["image_key"]
        return cls(
            bytes.fromhex(data["config_id"]),
            data["config_svn"],
            None if key is None else bytes.fromhex(key),
            data["network"],
            tuple(Publish(*published) for published in data["publish"]),
        )


NOTHING_GIVEN = Given()


@dataclass(frozen=True)
class Launch:
    """One program run; nothing here is measured, the LibOS checks it all."""

    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    # None: this process's, or / where that is not inside.
    cwd: str | None = None
    binds: Sequence[Bind] = ()
    sealed: Sequence[SealedMount] = ()
    # Options of `occlum.trace`, in their wire form.
    trace: bytes = b""
    stats: bool = False
    report_changes: bool = False
    keep: str | None = None
    # No program of its own: the enclave takes orders (`_native.Resident`).
    resident: bool = False
    # What the mount table of an instance names -> path on this machine.
    sources: Mapping[str, str] = field(default_factory=dict)
    network: str = "outbound"
    publish: Sequence[Publish] = ()
    given: Given = NOTHING_GIVEN

    def __post_init__(self) -> None:
        taken = Counter((published.host, published.port, published.datagram) for published in self.publish)
        for (_, port, _), times in taken.items():
            if times > 1:
                raise OptionError(f"port {port} is published {times} times", "name another port", "OC103")

    def flags(self) -> int:
        """The flag word of the launch parameters."""
        from occlum import _native

        flags = {"none": _native.FLAG_NET_NONE, "outbound": 0, "host": _native.FLAG_NET_HOST}[self.network]
        for wanted, bit in (
            (self.stats, _native.FLAG_STATS),
            (self.report_changes, _native.FLAG_REPORT_CHANGES),
            (self.resident, _native.FLAG_RESIDENT),
            (self.cwd is None, _native.FLAG_ANY_CWD),
        ):
            flags |= bit if wanted else 0
        for descriptor in range(0 if self.resident else 3):
            if os.isatty(descriptor):
                flags |= _native.FLAG_TTY0 << descriptor
        return flags

    def to_native(self) -> _native.LaunchParams:
        """The extension's form; text goes back to the bytes it came from."""
        from occlum import _native

        return _native.LaunchParams(
            program=os.fsencode(self.argv[0]),
            argv=[os.fsencode(argument) for argument in self.argv],
            envp=[os.fsencode(f"{key}={value}") for key, value in self.env.items()],
            cwd=os.fsencode(os.getcwd() if self.cwd is None else self.cwd),
            binds=[*(bind.to_native() for bind in self.binds), *(store.to_native() for store in self.sealed)],
            hostname=os.fsencode(os.uname().nodename),
            uid=os.getuid(),
            gid=os.getgid(),
            flags=self.flags(),
            trace=self.trace,
            keep=None if self.keep is None else os.fsencode(self.keep),
            sources=[(name.encode(), os.fsencode(path)) for name, path in self.sources.items()],
        )


def measure(options: Measured) -> bytes:
    """MRENCLAVE of the enclave that `run` starts with these options."""
    from occlum import _native

    try:
        return _native.measure(read_image(), options.to_config())
    except _native.NativeError as error:
        raise EnclaveError.from_native(error) from None


class Measured(Protocol):
    """What has a measured configuration: options of `try`, or an instance that was built."""

    def to_config(self) -> bytes:
        """Its bytes."""

    def sigstruct(self) -> bytes:
        """Its signature."""


def run(
    options: Measured, launch: Launch, trace_fd: int | None = None, timeout_s: float | None = None
) -> _native.Outcome:
    """Runs the program in a fresh enclave to its end."""
    from occlum import _native

    try:
        return _native.run(
            read_image(),
            options.to_config(),
            launch.to_native(),
            trace_fd=trace_fd,
            timeout_s=timeout_s,
            publish=[published.to_native() for published in launch.publish],
            identity=(options.sigstruct(), launch.given.config_id, launch.given.config_svn),
        )
    except _native.NativeError as error:
        raise EnclaveError.from_native(error) from None
