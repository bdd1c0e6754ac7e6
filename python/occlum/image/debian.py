"""Debian packages to a tree, with mmdebstrap: a layer like any other.

Neighbours: `layers`. Package versions are whatever the mirror has; `Occlum.lock` lists them. With the same versions the
tree is the same: mmdebstrap is given a fixed time, and what differs from run to run is left out.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from occlum.image import layers
from occlum.image.tree import FIXED_TIME, BuildError, Tree

_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+(=[A-Za-z0-9.+:~-]+)?")
# Differ with every installation, and nobody runs them.
_VOLATILE = (
    *("/var/log", "/var/cache", "/var/lib/apt/lists", "/etc/machine-id", "/var/lib/systemd", "/etc/resolv.conf"),
    *("/etc/hostname", "/var/lib/dpkg/info/.new", "/dev", "/proc", "/sys", "/run"),
)


def load(packages: tuple[str, ...], suite: str, mirror: str | None, cache: Path, variant: str) -> Tree:
    """The tree with these packages and what they depend on."""
    for package in packages:
        if not _PACKAGE.fullmatch(package):
            raise BuildError(f"{package!r} is no name of a Debian package")
    if (tool := shutil.which("mmdebstrap")) is None:
        raise BuildError("mmdebstrap is not installed", "install it: `apt-get install mmdebstrap`", "OC722")
    cache.mkdir(parents=True, exist_ok=True)
    archive = cache / f".new-debian-{os.getpid()}.tar"
    command = [tool, "--quiet", "--format=tar", f"--variant={variant}", f"--include={','.join(packages)}"]
    command += [suite, str(archive), *([mirror] if mirror else ())]
    environment = os.environ | {"SOURCE_DATE_EPOCH": str(FIXED_TIME), "LC_ALL": "C"}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = done.stderr.strip().splitlines()[-3:] or ["no reason given"]
            raise BuildError(f"mmdebstrap failed: {' '.join(reason)}", "look at the names of packages and the mirror")
        place, _ = layers.unpack(archive, cache)
    finally:
        archive.unlink(missing_ok=True)
    tree = Tree()
    layers.apply(tree, place)
    for path in _VOLATILE:
        node = tree.nodes.get(path)
        tree.remove(path)
        if node is not None and node.kind == "dir":
            tree.add(path, node)
    return tree


def installed(tree: Tree) -> list[tuple[str, str]]:
    """Packages and versions that a tree's dpkg knows."""
    found: dict[str, str] = {}
    for path, node in tree.nodes.items():
        if path == "/var/lib/dpkg/status" or path.startswith("/var/lib/dpkg/status.d/"):
            text = b"".join(node.chunks()).decode(errors="replace") if node.kind == "file" else ""
            for paragraph in text.split("\n\n"):
                fields = dict(re.findall(r"^(Package|Version|Status): (.*)$", paragraph, re.MULTILINE))
                if "Package" in fields and fields.get("Status", "installed").endswith("installed"):
                    found[fields["Package"]] = fields.get("Version", "")
    return sorted(found.items())
