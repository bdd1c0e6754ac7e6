"""An independent reader of sealed stores, written from docs/sealed-format.md: a second source for the Rust crates.

It checks every seal it follows and knows nothing of writing. It reads whole stores into memory.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

BLOCK = 4096
FANOUT = 128
DATA, MAP_NODE, JOURNAL, SUPERBLOCK = 1, 2, 5, 6
Entry = tuple[int, bytes]


class Damaged(Exception):
    """A seal does not match."""


def place(kind: int, level: int, index: int) -> bytes:
    return struct.pack("<BB6xQ", kind, level, index)


@dataclass
class SealedReader:
    """The logical blocks of a store."""

    raw: bytes
    key: bytes | None
    data_key: bytes = b""
    map_root: Entry = (0, b"")
    map_height: int = 0
    changes: dict[int, Entry] = field(default_factory=dict)

    def __post_init__(self) -> None:
        found = [s for s in (self._superblock(0), self._superblock(1)) if s]
        if not found:
            raise Damaged("no superblock opens")
        _, body, seal, self.data_key = max(found, key=lambda s: s[0])
        journal, self.map_height = struct.unpack_from("<QI", body, 16)
        self.map_root = self._entry(body, 32)
        self._replay(journal, seal)

    def _block(self, number: int) -> bytes:
        return self.raw[number * BLOCK : (number + 1) * BLOCK]

    @staticmethod
    def _entry(block: bytes, at: int) -> Entry:
        return struct.unpack_from("<I", block, at)[0], block[at + 4 : at + 32]

    def _open(self, data_key: bytes, aad: bytes, content: bytes, seal: bytes) -> bytes:
        if not data_key:
            if hashlib.sha256(bytes([len(aad)]) + aad + content).digest()[:28] != seal:
                raise Damaged(aad.hex())
            return content
        try:
            return AESGCM(data_key).decrypt(seal[:12], content + seal[12:], aad)
        except InvalidTag as error:
            raise Damaged(aad.hex()) from error

    def _superblock(self, slot: int) -> tuple[int, bytes, bytes, bytes] | None:
        block = self._block(slot)
        if block[:8] != b"OCLMSEAL":
            return None
        version, form = struct.unpack_from("<II", block, 8)
        assert (version, form) == (1, 1 if self.key else 0)
        header, data_key = block[:32], b""
        if self.key:
            text = b"occlum sealed disk v1: key wrap" + block[16:32]
            wrapping = hmac.new(self.key, text, hashlib.sha256).digest()
            data_key = AESGCM(wrapping).decrypt(block[32:44], block[44:92], header)
        seal = block[96:124]
        try:
            body = self._open(data_key, place(SUPERBLOCK, 0, slot) + header, block[128:], seal)
        except Damaged:
            return None
        return struct.unpack_from("<Q", body)[0], body, seal, data_key

    def _replay(self, blocks: int, seal: bytes) -> None:
        commits: list[tuple[bool, dict[int, Entry]]] = []
        changes: dict[int, Entry] = {}
        for index in range(blocks):
            block = self._block(2 + index)
            try:
                rest = self._open(self.data_key, place(JOURNAL, 0, index) + seal, block[28:], block[:28])
            except Damaged:
                break
            seal = block[:28]
            flags, count = struct.unpack_from("<II", rest)
            for at in range(16, 16 + 36 * count, 36):
                changes[struct.unpack_from("<I", rest, at)[0]] = self._entry(rest, at + 4)
            if flags & 1:
                commits.append((bool(flags & 2), changes))
                changes = {}
        if commits and not commits[-1][0] and not self._whole(commits[-1][1]):
            commits.pop()
        for _, made in commits:
            self.changes |= made

    def _whole(self, changes: dict[int, Entry]) -> bool:
        try:
            for logical, entry in changes.items():
                self._content(logical, entry)
        except Damaged:
            return False
        return True

    def _content(self, logical: int, entry: Entry) -> bytes:
        if entry[0] == 0:
            return bytes(BLOCK)
        return self._open(self.data_key, place(DATA, 0, logical), self._block(entry[0]), entry[1])

    def read(self, logical: int) -> bytes:
        """One logical block."""
        return self._content(logical, self.locate(logical))

    def locate(self, logical: int) -> Entry:
        """The entry of a logical block."""
        if logical in self.changes:
            return self.changes[logical]
        entry = self.map_root if logical < FANOUT**self.map_height else (0, b"")
        for level in range(self.map_height - 1, -1, -1):
            if entry[0] == 0:
                break
            index = logical // FANOUT ** (level + 1)
            node = self._open(self.data_key, place(MAP_NODE, level, index), self._block(entry[0]), entry[1])
            entry = self._entry(node, logical // FANOUT**level % FANOUT * 32)
        return entry


@dataclass(frozen=True)
class Inode:
    """What an inode's item says."""

    mode: int
    nlink: int
    size: int


class SealedTree:
    """The files of a store."""

    def __init__(self, disk: SealedReader) -> None:
        self.disk = disk
        superblock = disk.read(1)
        assert superblock[:8] == b"OCLMFS1\0"
        root, _, _, _, self.seed = struct.unpack_from("<IIQQQ", superblock, 8)
        self.items = dict(self._items(root))

    def _items(self, node: int) -> Iterator[tuple[tuple[int, int, int], bytes]]:
        block = self.disk.read(node)
        kind, count = struct.unpack_from("<BxH", block)
        at = 4
        for _ in range(count):
            key = struct.unpack_from("<QBQ", block, at)
            at += 17
            if kind == 1:
                (length,) = struct.unpack_from("<H", block, at)
                yield key, block[at + 2 : at + 2 + length]
                at += 2 + length
            else:
                yield from self._items(struct.unpack_from("<I", block, at)[0])
                at += 4

    def inode(self, ino: int) -> Inode:
        mode, _, _, nlink, _, size = struct.unpack_from("<IIIIQQ", self.items[ino, 1, 0])
        return Inode(mode, nlink, size)

    def hash(self, name: bytes) -> int:
        mask = (1 << 64) - 1
        h: int = self.seed ^ 0xCBF29CE484222325
        for byte in name:
            h = (h ^ byte) * 0x100000001B3 & mask
        rotated = (self.seed << 17 | self.seed >> 47) & mask
        h = (h ^ h >> 32 ^ rotated) * 0xD6E8FEB86659FD93 & mask
        return h ^ h >> 29

    def names(self, directory: int) -> dict[bytes, int]:
        found = {}
        for (ino, kind, position), value in self.items.items():
            at = 0
            while (ino, kind) == (directory, 3) and at < len(value):
                child, _, length = struct.unpack_from("<QBB", value, at)
                name = value[at + 10 : at + 10 + length]
                assert self.hash(name) == position
                found[name] = child
                at += 10 + length
        return found

    def content(self, ino: int) -> bytes:
        inode = self.inode(ino)
        if inode.mode & 0o170000 == 0o120000:
            pieces = sorted((k, v) for k, v in self.items.items() if k[:2] == (ino, 5))
            return b"".join(value for _, value in pieces)
        out = bytearray(inode.size)
        for (owner, kind, first), value in self.items.items():
            if (owner, kind) == (ino, 4):
                block, count = struct.unpack("<II", value)
                for i in range(count):
                    start = (first + i) * BLOCK
                    if start < inode.size:
                        out[start : start + BLOCK] = self.disk.read(block + i)
        return bytes(out[: inode.size])

    def walk(self, ino: int = 1, path: str = "") -> Iterator[tuple[str, int]]:
        """All paths with their inodes."""
        yield path or "/", ino
        if self.inode(ino).mode & 0o170000 == 0o040000:
            for name, child in sorted(self.names(ino).items()):
                yield from self.walk(child, f"{path}/{name.decode()}")
