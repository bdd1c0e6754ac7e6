"""Debian packages: as a tree, made by mmdebstrap, and as what files of this machine belong to.

Neighbours: `layers`, `lockfile`. Package versions are whatever the mirror has at the first build, and stay until a
build is forced: `Occlum.lock` lists them, here and elsewhere. With the same versions the tree is the same: mmdebstrap
is given a fixed time, and what differs from run to run is left out.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from occlum.image import layers
from occlum.image.tree import FIXED_TIME, BuildError, Tree, write_atomically

_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+(=[A-Za-z0-9.+:~-]+)?")
_DPKG = "/var/lib/dpkg"
# Differ with every installation, and nobody runs them.
_VOLATILE = (
    *("/var/log", "/var/cache", "/var/lib/apt/lists", "/etc/machine-id", "/var/lib/systemd", "/etc/resolv.conf"),
    *("/etc/hostname", "/var/lib/dpkg/info/.new", "/dev", "/proc", "/sys", "/run"),
)


@dataclass(frozen=True)
class Request:
    """What is to be installed: the configuration's keys, and the versions that are wanted, by package."""

    packages: tuple[str, ...]
    suite: str
    mirror: str | None
    variant: str
    versions: Mapping[str, str]


def load(request: Request, cache: Path, anew: bool) -> Tree:
    """The tree with these packages and what they depend on: those of the last time, unless it is to be made `anew`."""
    for package in request.packages:
        if not _PACKAGE.fullmatch(package):
            raise BuildError(f"{package!r} is no name of a Debian package")
    asked = json.dumps([sorted(request.packages), request.suite, request.mirror, request.variant])
    kept = cache / f"debian-{hashlib.sha256(asked.encode()).hexdigest()}"
    place = None if anew else _kept(kept)
    tree = None if place is None else _tree(place)
    if tree is None or _others(tree, request.versions):
        place = _install(request, cache)
        tree = _tree(place)
        if others := _others(tree, request.versions):
            raise BuildError(
                f"the mirror has other versions than Occlum.lock: {', '.join(others[:3])}",
                "`occlum build --force` takes what the mirror has now; debian_mirror can name a snapshot of that time "
                "(snapshot.debian.org)",
                "OC725",
            )
        write_atomically(kept, place.name)
    return tree


def _others(tree: Tree, versions: Mapping[str, str]) -> list[str]:
    """Packages of the tree that have not the version that is wanted."""
    found = installed(tree) if versions else []
    return [f"{name} {have} instead of {versions[name]}" for name, have in found if versions.get(name, have) != have]


def _tree(place: Path) -> Tree:
    """A layer without what differs from run to run."""
    tree = Tree()
    layers.apply(tree, place)
    for path in _VOLATILE:
        node = tree.nodes.get(path)
        tree.remove(path)
        if node is not None and node.kind == "dir":
            tree.add(path, node)
    return tree


def _kept(kept: Path) -> Path | None:
    """The layer of the last time, if it is still what it was."""
    try:
        place = kept.with_name(kept.read_text())
        return place if layers.digest_of(place).replace(":", "-") == place.name else None
    except OSError:
        return None


def _install(request: Request, cache: Path) -> Path:
    """Has mmdebstrap make the layer."""
    if (tool := shutil.which("mmdebstrap")) is None:
        raise BuildError("mmdebstrap is not installed", "install it: `apt-get install mmdebstrap`", "OC722")
    cache.mkdir(parents=True, exist_ok=True)
    archive = cache / f".new-debian-{os.getpid()}.tar"
    command = [tool, "--quiet", "--format=tar", f"--variant={request.variant}"]
    command += [f"--include={','.join(request.packages)}", *_pins(request.versions)]
    command += [request.suite, str(archive), *([request.mirror] if request.mirror else ())]
    environment = os.environ | {"SOURCE_DATE_EPOCH": str(FIXED_TIME), "LC_ALL": "C"}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = done.stderr.strip().splitlines()[-3:] or ["no reason given"]
            raise BuildError(f"mmdebstrap failed: {' '.join(reason)}", "look at the names of packages and the mirror")
        return layers.unpack(archive, cache)[0]
    finally:
        archive.unlink(missing_ok=True)


def _pins(versions: Mapping[str, str]) -> list[str]:
    """Options that have apt choose these versions, if the mirror has them: apt_preferences(5)."""
    if not versions:
        return []
    pins = "".join(
        f"Package: {name}\nPin: version {version}\nPin-Priority: 1001\n\n" for name, version in versions.items()
    )
    place = '"$1"/etc/apt/preferences.d/occlum-lock'
    return [f"--setup-hook=printf %s {shlex.quote(pins)} > {place}", f"--customize-hook=rm {place}"]


def installed(tree: Tree) -> list[tuple[str, str]]:
    """Packages and versions that a tree's dpkg knows."""
    found: dict[str, str] = {}
    for path, node in tree.nodes.items():
        if path == "/var/lib/dpkg/status" or path.startswith("/var/lib/dpkg/status.d/"):
            text = b"".join(node.chunks()).decode(errors="replace") if node.kind == "file" else ""
            found |= _parse(text)
    return sorted(found.items())


def _parse(status: str) -> dict[str, str]:
    """Packages and versions of a dpkg status file."""
    found = {}
    for paragraph in status.split("\n\n"):
        fields = dict(re.findall(r"^(Package|Version|Status): (.*)$", paragraph, re.MULTILINE))
        if "Package" in fields and fields.get("Status", "installed").endswith("installed"):
            found[fields["Package"]] = fields.get("Version", "")
    return found


def owners(paths: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Of files of this machine those that come from Debian packages: the package and its version."""
    places = {_unmerged(os.path.realpath(path)): path for path in paths}
    found: dict[str, tuple[str, str]] = {}
    try:
        versions = _parse(Path(_DPKG, "status").read_text(errors="replace"))
        for file in Path(_DPKG, "info").glob("*.list"):
            package = file.stem.partition(":")[0]
            for line in file.read_text(errors="replace").splitlines():
                if (path := places.get(_unmerged(line))) is not None:
                    found[path] = (package, versions.get(package, ""))
    except OSError:
        # Not a Debian machine.
        pass
    return found


def _unmerged(path: str) -> str:
    """A path as it was before /usr and / were merged: packages know files by either name."""
    return path.removeprefix("/usr") if path.startswith(("/usr/bin/", "/usr/sbin/", "/usr/lib")) else path
