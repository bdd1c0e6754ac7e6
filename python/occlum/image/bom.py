"""BOM files: which files of this machine go where in an image. The schema is that of the original's copy_bom.

Neighbours: `elf` (automatic dependencies), `tree`; `occlum copy-bom` is the command line. A BOM is read completely, and
checked, before anything is copied. Variables of the environment are expanded in paths; there are no wildcards.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import stat
from collections.abc import Iterator
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from occlum.image import elf
from occlum.image.tree import BuildError, Node, Tree, file_node, plain

_LONGEST = 4 << 20
_MOST_INCLUDES = 100


class BomError(BuildError):
    """A BOM cannot be carried out. `status`: the original's exit status for it."""

    code = "OC721"

    def __init__(self, cause: str, fix: str = "", status: int = -3) -> None:
        super().__init__(cause, fix)
        self.status = status & 0xFF


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class FileEntry(_Model):
    """A file with more to say than its name."""

    name: str
    hash: str | None = None
    autodep: bool = True
    rename: str | None = None


class CopyEntry(_Model):
    """Files and directories from one place."""

    # "from" is a word of Python's.
    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    dirs: list[str] | None = None
    files: list[str | FileEntry] | None = None


class Link(_Model):
    """A symbolic link: what it says, and its name."""

    src: str
    linkname: str | None = None


class Target(_Model):
    """What goes below one directory of the image."""

    target: str
    mkdirs: list[str] | None = None
    createlinks: list[Link] | None = None
    # Read by hand: its key `from`.
    copy_: list[dict[str, Any]] | None = None


class Bom(_Model):
    """A BOM file."""

    includes: list[str] | None = None
    excludes: list[str] | None = None
    targets: list[dict[str, Any]] | None = None


class Copy(NamedTuple):
    """A file or directory to copy, and where to."""

    source: str
    target: str
    autodep: bool
    contents_only: bool


def default_include_dirs() -> list[str]:
    """Where included BOMs are looked for: here, and those that come with the package."""
    package = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    return [".", os.path.join(package, "config", "bom")]


def parse(path: str) -> Bom:
    """Reads one file."""
    import yaml

    try:
        if os.path.getsize(path) > _LONGEST:
            raise BomError(f"{path} is longer than {_LONGEST} bytes")
        with open(path, encoding="utf-8") as file:
            data = yaml.safe_load(file)
        return Bom.model_validate(data if data is not None else {})
    except OSError as error:
        raise BomError(f"{path}: {error.strerror}", status=-1) from None
    except ValidationError as error:
        raise BomError(_first(path, error), "see docs/images.md for what a BOM can say") from None
    except UnicodeDecodeError:
        raise BomError(f"{path} is no text (UTF-8)", "look whether it is the right file") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise BomError(f"{path} is no YAML file: {' '.join(str(error).split())}") from None


def _first(path: str, error: ValidationError) -> str:
    item = error.errors()[0]
    return f"{path}: {'.'.join(map(str, item['loc'])) or 'the whole'}: {item['msg']}"


class Plan:
    """A BOM with all that it includes, ready to be carried out."""

    def __init__(self, path: str, include_dirs: list[str] | None = None) -> None:
        self.directories: list[str] = []
        self.links: list[tuple[str, str]] = []
        self.copies: list[Copy] = []
        self.excludes: list[str] = []
        self._include_dirs = [*(include_dirs or []), *default_include_dirs()]
        self._seen: set[str] = set()
        self._read(path)

    def _read(self, path: str) -> None:
        real = os.path.realpath(path)
        if real in self._seen:
            return
        self._seen.add(real)
        if len(self._seen) > _MOST_INCLUDES:
            raise BomError(f"{path}: more than {_MOST_INCLUDES} files are included")
        bom = parse(path)
        for name in bom.includes or ():
            self._read(self._included(name, path))
        self.excludes += bom.excludes or ()
        for place, target in enumerate(bom.targets or ()):
            self._target(target, f"{path}: targets.{place}")

    def _included(self, name: str, path: str) -> str:
        name = expand(name, path)
        for directory in [*self._include_dirs, os.path.dirname(path)]:
            if os.path.isfile(found := os.path.join(directory, name)):
                return found
        fix = "name its directory with --include-dir"
        raise BomError(f"{path} includes {name}, which is nowhere", fix, status=-1)

    def _target(self, data: dict[str, Any], where: str) -> None:
        known = {("copy_" if key == "copy" else key): value for key, value in data.items() if key != "copy_"}
        try:
            target = Target.model_validate(known)
            top = plain(expand(target.target, where))
            self.directories.append(top)
            self.directories += [plain(f"{top}/{expand(name, where)}") for name in target.mkdirs or ()]
            for link in target.createlinks or ():
                src = expand(link.src, where)
                name = link.linkname or os.path.basename(src)
                self.links.append((src, plain(f"{top}/{expand(name, where)}")))
            for entry in target.copy_ or ():
                self._copy(dict(entry), top, where)
        except ValidationError as error:
            raise BomError(_first(where, error)) from None

    def _copy(self, data: dict[str, Any], top: str, where: str) -> None:
        origin = expand(str(data.pop("from", "") or ""), where)
        entry = CopyEntry.model_validate(data)
        for name in entry.dirs or ():
            source = os.path.join(origin, expand(name, where))
            contents_only = source.endswith("/")
            source = source.rstrip("/") or "/"
            if not os.path.isdir(source):
                raise BomError(f"{where}: there is no directory {source}", status=-1)
            target = top if contents_only else plain(f"{top}/{os.path.basename(source)}")
            self.copies.append(Copy(source, target, True, contents_only))
        for item in entry.files or ():
            file = item if isinstance(item, FileEntry) else FileEntry(name=item)
            source = os.path.join(origin, expand(file.name, where))
            if not os.path.isfile(source):
                raise BomError(f"{where}: there is no file {source}", status=-1)
            _check_hash(source, file.hash, where)
            name = file.rename or os.path.basename(source)
            self.copies.append(Copy(source, plain(f"{top}/{name}"), file.autodep, False))

    def nodes(self) -> Iterator[tuple[str, Node]]:
        """Everything that it makes, in order; later ones replace earlier ones."""
        for directory in self.directories:
            yield directory, Node("dir")
        libraries: dict[str, str] = {}
        for copy in self.copies:
            for path, source in self._files(copy):
                if source is None:
                    yield path, Node("dir")
                    continue
                yield path, _file(source)
                if copy.autodep:
                    libraries |= _libraries(source)
        for path, source in sorted(libraries.items()):
            yield path, _file(source)
        for source, path in self.links:
            yield path, Node("link", 0o777, target=source)

    def _files(self, copy: Copy) -> Iterator[tuple[str, str | None]]:
        if os.path.isfile(copy.source):
            yield copy.target, copy.source
            return
        yield copy.target, None
        # Links are followed, as the original does; `seen` ends their circles.
        seen = {os.path.realpath(copy.source)}
        for directory, names, files in os.walk(copy.source, followlinks=True):
            below = os.path.relpath(directory, copy.source)
            place = copy.target if below == "." else f"{copy.target}/{below}"
            names[:] = sorted(name for name in names if self._enter(os.path.join(directory, name), seen))
            yield from ((plain(f"{place}/{name}"), None) for name in names)
            for name in sorted(files):
                source = os.path.join(directory, name)
                if not self._is_excluded(name) and os.path.exists(source):
                    yield plain(f"{place}/{name}"), source

    def _enter(self, directory: str, seen: set[str]) -> bool:
        real = os.path.realpath(directory)
        if real in seen and os.path.islink(directory):
            return False
        seen.add(real)
        return not self._is_excluded(os.path.basename(directory))

    def _is_excluded(self, name: str) -> bool:
        return any(fnmatch.fnmatch(name, pattern) for pattern in self.excludes)

    def tree(self) -> Tree:
        """The same as a tree."""
        tree = Tree()
        for path, node in self.nodes():
            if node.kind != "dir" or tree.nodes.get(path) is None:
                tree.add(path, node)
        return tree


def _libraries(source: str) -> dict[str, str]:
    extra = tuple(filter(None, os.environ.get("LD_LIBRARY_PATH", "").split(":")))
    try:
        return elf.dependencies(source, extra)
    except BuildError as error:
        raise BomError(error.cause, "install it, or set LD_LIBRARY_PATH", status=-8) from None


def _file(source: str) -> Node:
    from pathlib import Path

    status = os.stat(source)
    if not stat.S_ISREG(status.st_mode):
        raise BomError(f"{source} is no regular file", status=-2)
    return file_node(Path(source), stat.S_IMODE(status.st_mode) & ~0o022, status)


def _check_hash(source: str, wanted: str | None, where: str) -> None:
    if wanted is None:
        return
    with open(source, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != wanted.lower():
        raise BomError(f"{where}: {source} has the hash {found}, not {wanted}", status=-7)


def expand(text: str, where: str) -> str:
    """Variables of the environment in a text. BomError if one is not set."""
    done = os.path.expandvars(text)
    if "$" in done:
        raise BomError(f"{where}: {text!r} names a variable that is not set")
    return done
