"""Where an image's files come from: the configuration's table `image`, and the directory `image/` above it all.

Neighbours: `oci`, `debian`, `include`, `bom` (each gives a tree), `instance` (asks). Also the account of it: the
fingerprint that tells whether anything changed, the inputs for `Occlum.lock`, and the SBOM (CycloneDX 1.5).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from occlum.config import models
from occlum.image import bom, debian, include, lockfile, oci
from occlum.image.tree import BuildError, Node, Tree, from_directory

_DIST_INFO = re.compile(r".*/([^/]+)-([^/-]+)\.(?:dist|egg)-info")


Manifest = list[dict[str, str | int]]


@dataclass
class Gathered:
    """Everything that was gathered for an image."""

    tree: Tree
    inputs: list[dict[str, Any]] = field(default_factory=list)
    settings: oci.Settings | None = None
    # Files of this machine that come from Debian packages: package and version.
    owners: dict[str, tuple[str, str]] = field(default_factory=dict)

    def take(self, tree: Tree, **account: Any) -> None:
        """Puts files of this machine over what is there, and accounts for them."""
        owners = debian.owners(str(node.source) for node in tree.nodes.values() if node.source is not None)
        self.owners |= owners
        self.inputs.append({**account, "packages": sorted(set(owners.values()))})
        graft(self.tree, tree)

    def apply(self, config: models.Config) -> models.Config:
        """The configuration with what an OCI image says about running it, where the file does not say it itself."""
        if self.settings is None:
            return config
        said, settings = config.model_fields_set, self.settings
        words = [*settings.entrypoint, *settings.command]
        changes: dict[str, Any] = {}
        if "command" not in said and words:
            changes["command"] = tuple(words)
        if "entry_points" not in said and words:
            changes["entry_points"] = (self._program(words[0]),)
        if "env" not in said:
            changes["env"] = models.Env(default=tuple(settings.env), untrusted=())
        if "workdir" not in said and settings.workdir:
            changes["workdir"] = settings.workdir
        if "user" not in said and settings.user:
            changes["user"] = self._user(settings.user)
        data = {name: getattr(config, name) for name in said} | changes
        try:
            return models.Config.model_validate(data)
        except ValueError as error:
            raise BuildError(f"what the OCI image says cannot be: {error}") from None

    def _program(self, word: str) -> str:
        if word.startswith("/"):
            return word
        assert self.settings is not None
        path = next((s.removeprefix("PATH=") for s in self.settings.env if s.startswith("PATH=")), "/usr/bin:/bin")
        for directory in path.split(":"):
            place = f"{directory}/{word}"
            if place.startswith("/") and self.tree.nodes.get(self.tree.resolve(place)) is not None:
                return place
        raise BuildError(f"the image has no program {word} in its PATH", "set entry_points in the configuration")

    def _user(self, text: str) -> models.User:
        """`USER[:GROUP]`, names or numbers, looked up in the image's own files."""
        user, _, group = text.partition(":")
        uid, gid = self._number("/etc/passwd", user, 3)
        wanted = self._number("/etc/group", group, 2)[0] if group else gid
        return models.User(uid=uid, gid=wanted)

    def _number(self, path: str, name: str, second: int) -> tuple[int, int]:
        node = self.tree.nodes.get(path)
        text = b"".join(node.chunks()).decode(errors="replace") if node is not None and node.kind == "file" else ""
        for line in text.splitlines():
            fields = line.split(":")
            if len(fields) > second and name in (fields[0], fields[2]) and fields[2].isdecimal():
                return int(fields[2]), int(fields[second]) if fields[second].isdecimal() else 0
        if name.isdecimal():
            return int(name), 0
        raise BuildError(f"the image's user or group {name} is not in its {path}", "set user in the configuration")


def gather(
    directory: Path,
    settings: models.Image,
    report: Callable[[str, int], Any],
    lock: lockfile.Lock | None = None,
    anew: bool = False,
) -> Gathered:
    """Reads all sources of an image, Debian packages as `lock` has them; `anew`: also what was fetched before."""
    cache = directory / ".occlum" / "cache"
    gathered = Gathered(Tree())
    if settings.oci is not None:
        report("reading the OCI image", 0)
        image = oci.load(directory / settings.oci, cache, settings.oci_reference)
        gathered.settings = image.settings
        gathered.inputs.append({"kind": "oci", "file": settings.oci, "digest": image.digest})
        graft(gathered.tree, image.tree)
    if settings.debian:
        report("installing Debian packages", 0)
        suite = settings.debian_suite
        wanted = lockfile.versions(lock, suite)
        request = debian.Request(settings.debian, suite, settings.debian_mirror, settings.debian_variant, wanted)
        tree = debian.load(request, cache, anew)
        gathered.inputs.append({"kind": "debian", "suite": suite, "packages": debian.installed(tree)})
        graft(gathered.tree, tree)
    if settings.include:
        report("collecting programs", 0)
        gathered.take(include.include(settings.include), kind="include", programs=list(settings.include))
    for name in settings.bom:
        gathered.take(bom.Plan(str(directory / name), [str(directory)]).tree(), kind="bom", file=name)
    if (directory / "image").is_dir():
        graft(gathered.tree, from_directory(directory / "image"))
        gathered.inputs.append({"kind": "directory", "path": "image"})
    return gathered


def graft(tree: Tree, above: Tree) -> None:
    """Puts one tree over another. Where the lower one has a link to a directory, the upper's directory goes there."""
    moved: dict[str, str] = {}
    for path, node in above.ordered():
        if path == "/":
            continue
        parent, name = os.path.split(path)
        place = f"{tree.resolve(parent).rstrip('/')}/{name}"
        if node.kind == "dir":
            there = tree.nodes.get(place)
            if there is not None and (there.kind == "dir" or _leads_to_directory(tree, place)):
                continue
        if node.kind == "hard":
            node = Node("hard", node.mode, node.uid, node.gid, target=moved.get(node.target, node.target))
        moved[path] = place
        tree.add(place, node)


def _leads_to_directory(tree: Tree, path: str) -> bool:
    node = tree.nodes.get(tree.resolve(path))
    return node is not None and node.kind == "dir"


def fingerprint(tree: Tree, cache: Path) -> str:
    """A digest of everything in a tree. Digests of files that did not change since are taken from `cache`."""
    try:
        known = json.loads(cache.read_text())
        known = known if isinstance(known, dict) else {}
    except (OSError, ValueError):
        known = {}
    fresh: dict[str, str] = {}
    lines = []
    for path, node in tree.ordered():
        content = ""
        if node.kind == "file":
            key = _state(node)
            content = fresh[key] = str(known.get(key) or _digest(node))
        lines.append([path, node.kind, node.mode, node.uid, node.gid, node.target, content])
    temporary = cache.with_name(".new-digests")
    temporary.write_text(json.dumps(fresh))
    temporary.rename(cache)
    return _digest_of(lines)


def fingerprint_of(manifest: Manifest) -> str:
    """The same of what was written: another one if a file was not what it had been a moment before."""
    defaults = {"path": "", "kind": "", "mode": 0, "uid": 0, "gid": 0, "target": "", "sha256": ""}
    return _digest_of([line.get(name, default) for name, default in defaults.items()] for line in manifest)


def _digest_of(lines: Iterable[list[Any]]) -> str:
    whole = hashlib.sha256(b"image 1\n")
    for line in lines:
        whole.update(json.dumps(line).encode() + b"\n")
    return whole.hexdigest()


def _state(node: Node) -> str:
    """What changes when a file does."""
    try:
        assert node.source is not None
        s = node.source.stat()
    except OSError as error:
        raise BuildError(f"{node.source}: {error.strerror}") from None
    return f"{node.source}:{node.offset}:{node.size}:{s.st_ino}:{s.st_mtime_ns}:{s.st_ctime_ns}:{node.head.hex()}"


def _digest(node: Node) -> str:
    digest = hashlib.sha256()
    for chunk in node.chunks():
        digest.update(chunk)
    return digest.hexdigest()


def sbom(gathered: Gathered, name: str, manifest: Manifest) -> dict[str, Any]:
    """A CycloneDX document: Debian packages, Python distributions, and each file that is of neither."""
    installed = debian.installed(gathered.tree)
    packages = {*installed, *gathered.owners.values()}
    components: list[dict[str, Any]] = [
        {"type": "library", "name": package, "version": version, "purl": f"pkg:deb/debian/{package}@{version}"}
        for package, version in sorted(packages)
    ]
    for path in gathered.tree.nodes:
        if found := _DIST_INFO.fullmatch(path):
            package, version = found[1].lower().replace("_", "-"), found[2]
            purl = f"pkg:pypi/{package}@{version}"
            components.append({"type": "library", "name": package, "version": version, "purl": purl})
    components += [
        {"type": "file", "name": line["path"], "hashes": [{"alg": "SHA-256", "content": line["sha256"]}]}
        for line in manifest
        if line["kind"] == "file" and _is_of_none(gathered, str(line["path"]), bool(installed))
    ]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": name}},
        "components": components,
    }


def _is_of_none(gathered: Gathered, path: str, has_packages: bool) -> bool:
    """Is it a file that no package has brought? Of a tree with packages all files are taken for theirs."""
    source = str(gathered.tree.nodes[path].source or "")
    return source not in gathered.owners and not (has_packages and "/.occlum/cache/" in source)
