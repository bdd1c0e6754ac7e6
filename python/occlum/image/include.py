"""Programs of this machine with all that they need: `occlum new --include python3`.

Neighbours: `elf` (shared libraries), `tree`. A program is found in PATH or named by its path; a script brings its
interpreter; an interpreter brings what its language needs, by the rows of `_LANGUAGES`.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from occlum.image import elf
from occlum.image.tree import BuildError, Node, Tree, file_node, from_directory

_PYTHON = "import os; print(os.path.dirname(os.__file__))"


class Language(NamedTuple):
    """What an interpreter needs besides its libraries: a pattern of its name, and what lists its directories."""

    pattern: str
    directories: Callable[[str], list[str]]


def _lines(*command: str) -> list[str]:
    """The lines that a program prints."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, cwd="/")
    except (OSError, subprocess.SubprocessError) as error:
        raise BuildError(f"{command[0]} does not say where its modules are: {error}") from None
    return done.stdout.splitlines()


def _python(program: str) -> list[str]:
    # -I: nothing of this user's is asked.
    return _lines(program, "-I", "-c", _PYTHON)


def _perl(program: str) -> list[str]:
    return _lines(program, "-e", 'print "$_\\n" for @INC')


def _ruby(program: str) -> list[str]:
    return _lines(program, "-e", "puts $LOAD_PATH")


def _node(_: str) -> list[str]:
    return ["/usr/share/nodejs"]


_LANGUAGES = (
    Language(r"python3(\.\d+)?", _python),
    Language(r"perl(\d.*)?", _perl),
    Language(r"ruby(\d.*)?", _ruby),
    Language(r"node(js)?", _node),
)
# Of these directories nobody runs anything.
_UNUSED = {"test", "tests", "idlelib", "turtledemo", "lib2to3", "ensurepip", "site-packages", "dist-packages"}


def include(names: tuple[str, ...]) -> Tree:
    """The tree of all that these programs need."""
    tree = Tree()
    for name in names:
        found = name if "/" in name else shutil.which(name)
        if found is None or not os.path.isfile(found):
            raise BuildError(f"there is no program {name} here", "install it, or give its path", "OC722")
        path = _outside_venv(os.path.abspath(found))
        _add_program(tree, path, 0)
        usual = f"/usr/bin/{os.path.basename(path)}"
        if os.path.dirname(path) not in ("/bin", "/sbin", "/usr/bin", "/usr/sbin"):
            tree.add(usual, Node("link", 0o777, target=path))
    return tree


def _outside_venv(path: str) -> str:
    """The Python that a virtual environment was made with: only that one finds its modules without it."""
    for _ in range(4):
        try:
            with open(os.path.join(os.path.dirname(os.path.dirname(path)), "pyvenv.cfg"), encoding="utf-8") as file:
                homes = [line.partition("=")[2].strip() for line in file if line.partition("=")[0].strip() == "home"]
        except OSError:
            break
        path = os.path.join(homes[0], os.path.basename(path)) if homes else path
    return path


def _add_program(tree: Tree, path: str, depth: int) -> None:
    if depth > 4:
        raise BuildError(f"{path}: too many interpreters of interpreters")
    _add_file(tree, path)
    for library in elf.dependencies(path):
        _add_library(tree, library)
    if interpreter := _shebang(path):
        _add_program(tree, interpreter, depth + 1)
        return
    name = os.path.basename(os.path.realpath(path))
    for language in _LANGUAGES:
        if re.fullmatch(language.pattern, name):
            for directory in language.directories(path):
                _add_modules(tree, directory)


def _shebang(path: str) -> str | None:
    """The interpreter that a script names; what env(1) would find."""
    with open(path, "rb") as file:
        line = file.readline(256)
    if not line.startswith(b"#!"):
        return None
    words = os.fsdecode(line[2:].strip()).split()
    if words and os.path.basename(words[0]) == "env":
        program = next((word for word in words[1:] if not word.startswith("-") and "=" not in word), "")
        return shutil.which(program)
    return words[0] if words and os.path.isfile(words[0]) else None


def _add_file(tree: Tree, path: str) -> None:
    """A file at its own path, and the links that lead to it from there."""
    seen = 0
    while os.path.islink(path) and (seen := seen + 1) < 40:
        target = os.readlink(path)
        tree.add(path, Node("link", 0o777, target=target))
        path = os.path.normpath(os.path.join(os.path.dirname(path), target))
    status = os.stat(path)
    tree.add(path, file_node(Path(path), stat.S_IMODE(status.st_mode) & ~0o022, status))


def _add_library(tree: Tree, path: str) -> None:
    _add_file(tree, path)
    directory = os.path.dirname(path)
    if directory not in elf.GLIBC_DIRS + elf.MUSL_DIRS:
        # Its place is in this machine's ld.so.cache, which the image has not.
        tree.add(f"/usr/lib/x86_64-linux-gnu/{os.path.basename(path)}", Node("link", 0o777, target=path))


def _add_modules(tree: Tree, directory: str) -> None:
    if not os.path.isdir(directory) or directory in ("/", "/usr", "/usr/lib"):
        return
    for path, node in _without_unused(from_directory(Path(directory))):
        place = os.path.normpath(f"{directory}/{path}")
        tree.add(place, node if node.kind != "hard" else node_of_hard(directory, node))
        if node.kind == "file" and (path.endswith(".so") or ".so." in path):
            for library in elf.dependencies(str(node.source)):
                _add_library(tree, library)


def node_of_hard(directory: str, node: Node) -> Node:
    """A hard link of a grafted directory."""
    return Node("hard", node.mode, target=os.path.normpath(f"{directory}/{node.target}"))


def _without_unused(tree: Tree) -> Iterator[tuple[str, Node]]:
    for path, node in tree.ordered():
        names = path.strip("/").split("/")
        if not _UNUSED.intersection(names[:2]) and path != "/":
            yield path, node
