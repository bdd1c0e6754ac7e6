"""Layers: tar archives, plain or compressed, to trees. What OCI images and mmdebstrap give.

Neighbours: `oci`, `debian`. Archives are hostile: paths and links that lead out of the tree, devices, entries below
something that is no directory, and archives that grow without bound are refused; so is a layer whose digest is not the
promised one. Content stays where it is, in a decompressed copy of the layer: nothing is extracted.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import lzma
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from occlum.image.tree import BuildError, Node, Tree, plain

# Beyond these a layer is no layer but an attack, or a mistake.
MOST_BYTES = 32 << 30
MOST_RATIO = 200
MOST_ENTRIES = 1_000_000
_CHUNK = 1 << 20
WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"


class LayerError(BuildError):
    """An archive cannot be a layer of an image."""

    code = "OC723"


def unpack(archive: Path, cache: Path, digest: str | None = None) -> tuple[Path, str]:
    """The decompressed archive, in `cache`, and its own digest. `digest`: what the archive itself has to have."""
    if digest is not None and (found := digest_of(archive)) != digest:
        raise LayerError(f"{archive.name} has the digest {found}, not {digest}", "get the image again")
    cache.mkdir(parents=True, exist_ok=True)
    fresh = cache / f".new-{archive.name}-{os.getpid()}"
    try:
        # Unbuffered: others go on from where its descriptor is.
        with archive.open("rb", buffering=0) as file, _opened(file, archive) as content, fresh.open("wb") as out:
            found = _copy(content, out, archive)
        place = cache / found.replace(":", "-")
        fresh.rename(place)
    except (OSError, EOFError, gzip.BadGzipFile, lzma.LZMAError) as error:
        reason = getattr(error, "strerror", None) or error
        raise LayerError(f"{archive.name} cannot be decompressed: {reason}", "get the image again") from None
    finally:
        fresh.unlink(missing_ok=True)
    return place, found


def digest_of(path: Path) -> str:
    """`sha256:...` of a file."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


@contextlib.contextmanager
def _opened(file: io.FileIO, archive: Path) -> Iterator[BinaryIO]:
    """What is in a file that may be compressed. At the end it has to have been all of it."""
    head = file.read(6)
    file.seek(0)
    if head.startswith(b"\x1f\x8b"):
        with gzip.GzipFile(fileobj=file) as content:
            yield content  # type: ignore[misc]
    elif head.startswith(b"\xfd7zXZ\0"):
        with lzma.LZMAFile(file) as content:
            yield content  # type: ignore[misc]
    elif head.startswith(b"\x28\xb5\x2f\xfd"):
        if (zstd := shutil.which("zstd")) is None:
            raise LayerError("a layer is compressed by zstd", "install zstd")
        with subprocess.Popen([zstd, "-dcq"], stdin=file, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            assert process.stdout is not None
            yield process.stdout  # type: ignore[misc]
        if process.returncode != 0:
            raise LayerError(f"{archive.name} cannot be decompressed: zstd refuses it", "get the image again")
    else:
        yield file


def _copy(source: BinaryIO, out: BinaryIO, archive: Path) -> str:
    most = min(MOST_BYTES, max(64 << 20, archive.stat().st_size * MOST_RATIO))
    digest, size = hashlib.sha256(), 0
    while chunk := source.read(_CHUNK):
        size += len(chunk)
        if size > most:
            raise LayerError(f"{archive.name} grows to more than {most >> 20} MiB", "this is no honest layer")
        digest.update(chunk)
        out.write(chunk)
    return f"sha256:{digest.hexdigest()}"


def apply(tree: Tree, archive: Path) -> None:
    """Puts a plain tar archive over a tree, as a layer: whiteouts remove what is below."""
    try:
        with tarfile.open(archive, "r:", errorlevel=2) as tar:
            for count, member in enumerate(tar):
                if count > MOST_ENTRIES:
                    raise LayerError(f"{archive.name} has more than {MOST_ENTRIES} entries")
                _whiteout(tree, archive, member)
            for member in tar:
                _member(tree, archive, member)
    except (tarfile.TarError, ValueError, EOFError, OverflowError) as error:
        raise LayerError(f"{archive.name} is a damaged tar archive: {error}", "get the image again") from None
    except OSError as error:
        raise LayerError(f"{archive.name}: {error.strerror or error}") from None


def _whiteout(tree: Tree, archive: Path, member: tarfile.TarInfo) -> None:
    """What a member hides of the layers below: nothing of its own layer, wherever it stands there."""
    if not os.path.basename(member.name).startswith(WHITEOUT):
        return
    directory, name = os.path.split(_inside(tree, archive, member.name))
    if name == OPAQUE:
        tree.remove_below(directory)
    else:
        tree.remove(os.path.join(directory, name.removeprefix(WHITEOUT)))


def _member(tree: Tree, archive: Path, member: tarfile.TarInfo) -> None:
    path = _inside(tree, archive, member.name)
    directory, name = os.path.split(path)
    if name.startswith(WHITEOUT):
        return
    if member.isdev() and (directory == "/dev" or directory.startswith("/dev/")):
        # /dev is the enclave's own; tools that make trees put some there.
        return
    tree.add(path, _node(tree, archive, member))


def _inside(tree: Tree, archive: Path, name: str) -> str:
    """The path of a member, with the links that lead to its directory followed inside the tree."""
    try:
        if name.startswith("/"):
            raise BuildError("an absolute path")
        path = plain(name)
        directory, last = os.path.split(path)
        return f"{tree.resolve(directory).rstrip('/')}/{last}" if last else "/"
    except BuildError:
        raise LayerError(f"{archive.name} has an entry {name!r}, which leads out of the image") from None


def _node(tree: Tree, archive: Path, member: tarfile.TarInfo) -> Node:
    mode, uid, gid = member.mode & 0o7777, member.uid, member.gid
    if not (0 <= uid < 1 << 32 and 0 <= gid < 1 << 32):
        raise LayerError(f"{archive.name}: {member.name} has an owner that cannot be")
    if member.isdir():
        return Node("dir", mode, uid, gid)
    if member.issym():
        # Where it leads is decided inside the enclave, whose root it cannot leave.
        if not member.linkname or "\0" in member.linkname or len(os.fsencode(member.linkname)) > 4095:
            raise LayerError(f"{archive.name}: the link {member.name} leads nowhere")
        return Node("link", 0o777, uid, gid, target=member.linkname)
    if member.islnk():
        target = _inside(tree, archive, member.linkname)
        if (node := tree.nodes.get(target)) is None or node.kind not in ("file", "hard"):
            raise LayerError(f"{archive.name}: {member.name} is another name of {member.linkname}, which is not there")
        return Node("hard", mode, uid, gid, target=node.target if node.kind == "hard" else target)
    if member.issparse() or not member.isreg():
        raise LayerError(f"{archive.name}: {member.name} is neither file, directory nor link", "images have no devices")
    if member.offset_data + member.size > archive.stat().st_size:
        raise LayerError(f"{archive.name} is cut off in {member.name}", "get the image again")
    return Node("file", mode, uid, gid, source=archive, offset=member.offset_data, size=member.size)
