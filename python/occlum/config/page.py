"""The measured configuration, byte for byte: docs/configuration-page.md.

Neighbours: `common/enclave-abi`'s `config` is the reader inside the enclave, with the same names; nothing there reads
TOML or JSON. Invariant: a configuration has exactly one encoding.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from occlum.errors import OptionError

T = TypeVar("T")

MAGIC = b"OCCLCFG2"
# Bytes of a whole configuration, and entries of each of its lists.
MAX_SIZE = 1 << 20
MAX_ENTRIES = 4096
ROOT_SIZE = 32

# Config.flags
DEBUG = 1
HOST_VIEW = 2
DISABLE_LOG = 4
KSS = 8
NO_ALIAS = 16

# Config.cfi is the place in this list.
CFI_LEVELS = ("default", "strict", "shadow-stack")

# Mount.kind
SEALED_IMAGE, SEALED_LAYER, HOSTFS, RAMFS, PROCFS, DEVFS, SYSFS = range(1, 8)
KIND_NAMES = {
    SEALED_IMAGE: "sealed-image",
    SEALED_LAYER: "sealed-layer",
    HOSTFS: "hostfs",
    RAMFS: "ramfs",
    PROCFS: "procfs",
    DEVFS: "devfs",
    SYSFS: "sysfs",
}
# Mount.flags
READ_ONLY = 1
# Mount.options: the image key opens it, which the host hands over.
IMAGE_KEYED = "key=image"

_HEAD = struct.Struct("<8sI")
_FIXED = struct.Struct("<QIIIIIIIQQHH16s16s")
_NUMBERS = (
    *("memory_bytes", "vcpus", "max_tasks", "pid_max", "cfi", "flags", "uid", "gid", "stack_bytes", "data_bytes"),
    *("product_id", "svn", "family_id", "ext_product_id"),
)
_MOUNT = struct.Struct("<II")
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True)
class Mount:
    """A row of the mount table; rows of one target that follow each other are layers, the lowest first."""

    target: str
    kind: int
    flags: int = 0
    source: str = ""
    options: str = ""
    root: bytes = bytes(ROOT_SIZE)

    def is_image_keyed(self) -> bool:
        """Does it need the image key?"""
        return IMAGE_KEYED in self.options.split(",")

    def encode(self) -> bytes:
        """Its bytes."""
        texts = b"".join(_text(text) for text in (self.target, self.source, self.options))
        return _MOUNT.pack(self.kind, self.flags) + texts + self.root


@dataclass(frozen=True)
class Config:
    """Everything that MRENCLAVE covers besides the enclave image."""

    memory_bytes: int
    vcpus: int
    max_tasks: int
    pid_max: int
    cfi: int = 0
    flags: int = 0
    uid: int = 0
    gid: int = 0
    # RLIMIT_STACK and RLIMIT_DATA at the start; 0: the LibOS's own.
    stack_bytes: int = 0
    data_bytes: int = 0
    # ISVPRODID, ISVSVN, ISVFAMILYID, ISVEXTPRODID
    product_id: int = 0
    svn: int = 0
    family_id: bytes = bytes(16)
    ext_product_id: bytes = bytes(16)
    cwd: str = ""
    entry_points: Sequence[str] = ()
    env_default: Sequence[str] = ()
    env_untrusted: Sequence[str] = ()
    mounts: Sequence[Mount] = field(default_factory=tuple)

    def encode(self) -> bytes:
        """Its bytes. OptionError if something does not fit."""
        try:
            fixed = _FIXED.pack(*(getattr(self, name) for name in _NUMBERS))
        except struct.error as error:
            raise OptionError(f"a number of the configuration is out of range: {error}") from None
        body = fixed + _text(self.cwd)
        for texts in (self.entry_points, self.env_default, self.env_untrusted):
            body += _LENGTH.pack(len(texts)) + b"".join(map(_text, texts))
        body += _LENGTH.pack(len(self.mounts)) + b"".join(mount.encode() for mount in self.mounts)
        size = _HEAD.size + len(body)
        longest = max(map(len, (self.entry_points, self.env_default, self.env_untrusted, self.mounts)))
        if size > MAX_SIZE or longest > MAX_ENTRIES:
            cause = f"the configuration has {size} bytes and up to {longest} entries in a list"
            raise OptionError(cause, f"at most {MAX_SIZE} bytes and {MAX_ENTRIES} entries fit")
        return _HEAD.pack(MAGIC, size) + body

    @classmethod
    def decode(cls, data: bytes) -> Config:
        """The configuration of these bytes, as `encode` wrote them. ValueError if they are none."""
        if len(data) < _HEAD.size or _HEAD.unpack_from(data) != (MAGIC, len(data)):
            raise ValueError("these bytes do not begin like a configuration of their length")
        reader = _Reader(data, _HEAD.size)
        config = cls(
            **dict(zip(_NUMBERS, reader.unpack(_FIXED), strict=True)),
            cwd=reader.text(),
            entry_points=reader.entries(reader.text),
            env_default=reader.entries(reader.text),
            env_untrusted=reader.entries(reader.text),
            mounts=reader.entries(reader.mount),
        )
        if reader.at != len(data):
            raise ValueError("something follows the configuration")
        return config


def sharing(config: Config) -> str:
    """How processes share memory: `aliases`, one page at several places (a capability of the simulation only), or
    `copies`, as hardware would have it."""
    return "copies" if config.flags & NO_ALIAS else "aliases"


def describe(config: Config) -> dict[str, Any]:
    """A configuration for people: names and texts for what are numbers in it."""
    names = {DEBUG: "debug", HOST_VIEW: "host-view", DISABLE_LOG: "no-log", KSS: "kss", NO_ALIAS: "no-alias"}
    facts: dict[str, Any] = {name: getattr(config, name) for name in _NUMBERS}
    facts["cfi"] = CFI_LEVELS[config.cfi]
    facts["flags"] = [name for bit, name in names.items() if config.flags & bit]
    facts["family_id"], facts["ext_product_id"] = config.family_id.hex(), config.ext_product_id.hex()
    facts |= {"cwd": config.cwd, "entry_points": list(config.entry_points)}
    facts |= {"env_default": list(config.env_default), "env_untrusted": list(config.env_untrusted)}
    facts["mounts"] = [_describe_mount(mount) for mount in config.mounts]
    return facts


def _describe_mount(mount: Mount) -> str:
    words = [mount.target, KIND_NAMES[mount.kind], mount.source, mount.options]
    words += ["read-only"] if mount.flags & READ_ONLY else []
    words += [f"root {mount.root[:28].hex()}"] if any(mount.root) else []
    return " ".join(filter(None, words))


def _text(text: str) -> bytes:
    data = text.encode(errors="surrogateescape")
    return _LENGTH.pack(len(data)) + data


class _Reader:
    """Takes values from the front of bytes. ValueError if there are too few."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self.at = at

    def take(self, size: int) -> bytes:
        """The next bytes."""
        taken = self._data[self.at : self.at + size]
        if len(taken) < size:
            raise ValueError("the configuration is cut off")
        self.at += size
        return taken

    def unpack(self, form: struct.Struct) -> tuple[Any, ...]:
        """The next numbers."""
        return form.unpack(self.take(form.size))

    def count(self) -> int:
        """The next length."""
        return int.from_bytes(self.take(_LENGTH.size), "little")

    def text(self) -> str:
        """The next string."""
        return self.take(self.count()).decode(errors="surrogateescape")

    def entries(self, one: Callable[[], T]) -> tuple[T, ...]:
        """The next list."""
        count = self.count()
        if count > MAX_ENTRIES:
            raise ValueError("a list of the configuration is too long")
        return tuple(one() for _ in range(count))

    def mount(self) -> Mount:
        """The next row of the mount table."""
        kind, flags = _MOUNT.unpack(self.take(_MOUNT.size))
        return Mount(
            kind=kind,
            flags=flags,
            target=self.text(),
            source=self.text(),
            options=self.text(),
            root=self.take(ROOT_SIZE),
        )
