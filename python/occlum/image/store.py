"""Writes a tree into an image: a read-only sealed store, integrity-only or encrypted. Equal trees give equal bytes.

Neighbours: `tree` (what is written), `occlum._native` (the store). Why the bytes are the same: names come in one order;
every time is `FIXED_TIME`; the size follows from the content; a store without key has no random numbers, and those of
an encrypted one come from `Encryption`.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from occlum import _native
from occlum._host.files import is_full
from occlum._host.image import read_image
from occlum.image.tree import FIXED_TIME, BuildError, Node, Tree

BLOCK = 4096
_NS = 1_000_000_000
_TYPES = {"file": stat.S_IFREG, "dir": stat.S_IFDIR}

# Told how many bytes more were written.
Progress = Callable[[int], None]


def _ignore(_: int) -> None:
    pass


class Written(NamedTuple):
    """An image: the root that pins it (28 bytes), and what is in it."""

    root: bytes
    manifest: list[dict[str, str | int]]


class Encryption(NamedTuple):
    """How an image is encrypted: the image key, and a digest of all that its bytes depend on.

    What is random in a store comes from the two, so the same image has the same bytes; and since nothing else has the
    digest, no key stream serves two contents.
    """

    key: bytes
    digest: str

    def seed(self, blocks: int) -> bytes:
        """For a store of this size."""
        return hmac.digest(self.key, f"occlum image seed v1 {self.digest} {blocks}".encode(), "sha256")


def keyed_fingerprint(key: bytes, fingerprint: str) -> str:
    """The digest of a tree for an encrypted image: with the key, and with the code that lays out stores."""
    return hmac.digest(key, fingerprint.encode() + hashlib.sha256(read_image()).digest(), "sha256").hex()


def write(tree: Tree, path: Path, progress: Progress = _ignore, encryption: Encryption | None = None) -> Written:
    """Makes the image file at `path`, which must not be there yet."""
    blocks = _estimate(tree)
    while True:
        try:
            return _write(tree, path, blocks, progress, encryption)
        except _Full:
            path.unlink()
            blocks *= 2
        except BaseException:
            path.unlink(missing_ok=True)
            raise


class _Full(Exception):
    """The store is too small for the tree."""


def _estimate(tree: Tree) -> int:
    """Blocks for the content, for what describes it, and for the store's own trees."""
    content = sum(-(-node.size // BLOCK) for node in tree.nodes.values())
    return 2048 + content + content // 32 + len(tree.nodes) // 4


def _write(tree: Tree, path: Path, blocks: int, progress: Progress, encryption: Encryption | None) -> Written:
    key, seed = (encryption.key, encryption.seed(blocks)) if encryption else (None, None)
    try:
        with path.open("xb") as file:
            file.truncate(blocks * BLOCK)
        store = _native.SealedFs(path, key, format=True, fixed_ns=FIXED_TIME * _NS, seed=seed)
        manifest = list(_fill(store, tree, progress))
        store.close(True)
        opened = _native.SealedFs(path, key, read_only=True)
        root = opened.figures()[4]
        opened.close(False)
        with path.open("rb") as file:
            os.fsync(file.fileno())
    except OSError as error:
        fix = "make room on that disk" if is_full(error) else f"see what {path.parent} is: `ls -ld {path.parent}`"
        raise BuildError(f"{path}: {error.strerror}", fix) from None
    except _native.NativeError as error:
        if "no space left" in str(error) or "full" in str(error):
            free = os.statvfs(path.parent)
            if free.f_bavail * free.f_frsize > BLOCK * 256:
                raise _Full from None
        raise BuildError(f"{path}: {error}", "make room on that disk, and build again") from None
    return Written(root, manifest)


def _fill(store: _native.SealedFs, tree: Tree, progress: Progress) -> Iterator[dict[str, str | int]]:
    """Writes all nodes; a line of the manifest for each."""
    for path, node in tree.ordered():
        name = os.fsencode(path)
        line: dict[str, str | int] = {"path": path, "kind": node.kind, "mode": node.mode}
        if node.uid or node.gid:
            line |= {"uid": node.uid, "gid": node.gid}
        if node.kind == "link":
            store.symlink(name, os.fsencode(node.target), node.uid, node.gid)
            line["target"] = node.target
        elif node.kind == "hard":
            store.link(os.fsencode(node.target), name)
            line["target"] = node.target
        else:
            if path != "/":
                store.create(name, _TYPES[node.kind] | node.mode, node.uid, node.gid)
            store.set_owner(name, node.mode, node.uid, node.gid)
        if node.kind == "file":
            line |= {"size": node.size, "sha256": _content(store, name, node, progress)}
        yield line


def _content(store: _native.SealedFs, name: bytes, node: Node, progress: Progress) -> str:
    digest = hashlib.sha256()
    offset = 0
    for chunk in node.chunks():
        digest.update(chunk)
        store.write(name, offset, chunk)
        offset += len(chunk)
        progress(len(chunk))
    return digest.hexdigest()
