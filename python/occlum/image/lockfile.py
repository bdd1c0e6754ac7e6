"""`Occlum.lock`: what the last build was made of, and what the next one is to be made of again.

Neighbours: `instance` writes it, `sources` asks it for the versions of Debian packages. It may be kept with the
instance's sources. Invariant: what it says was built.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from occlum.image.tree import BuildError, write_atomically

NAME = "Occlum.lock"
FORMAT = 1
# Differences that are listed.
_SHOWN = 5

Lock = dict[str, Any]


def read(directory: Path) -> Lock | None:
    """The instance's lock file; None if there is none. BuildError if it is not one."""
    try:
        lock = json.loads((directory / NAME).read_text())
        if lock["format"] == FORMAT and isinstance(lock["inputs"], list):
            return dict(lock)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        pass
    raise BuildError(f"{NAME} is no lock file of this version", f"remove it, or bring the old {NAME} back", "OC725")


def write(directory: Path, lock: Lock) -> None:
    """Replaces the lock file in one step."""
    write_atomically(directory / NAME, json.dumps(lock, indent=1) + "\n")


def versions(lock: Lock | None, suite: str) -> dict[str, str]:
    """The Debian packages that the image was made of, and their versions."""
    found: dict[str, str] = {}
    for source in (lock or {}).get("inputs", ()):
        if source.get("kind") == "debian" and source.get("suite") == suite:
            found |= dict(source.get("packages", ()))
    return found


def require_same(old: Lock | None, new: Lock) -> None:
    """BuildError that says where the two differ, if they do."""
    if old is None:
        raise BuildError(f"there is no {NAME}", "`occlum build` without --locked writes it", "OC725")
    different = [name for name in new if name != "inputs" and old.get(name) != new[name]]
    if old["inputs"] != new["inputs"]:
        different += _changes(_flat(old), _flat(new)) or ["inputs"]
    if different:
        more = f", and {len(different) - _SHOWN} more" if len(different) > _SHOWN else ""
        raise BuildError(
            f"the build is not what {NAME} says: {', '.join(different[:_SHOWN])}{more}",
            "`occlum build` without --locked builds it, and writes the new lock file",
            "OC725",
        )


def _flat(lock: Lock) -> dict[str, str]:
    """Everything that the inputs say, by name: packages by their own."""
    found: dict[str, str] = {}
    for source in json.loads(json.dumps(lock["inputs"])):
        packages = source.pop("packages", ())
        found |= {f"{source.get('kind')} {name}": str(value) for name, value in source.items() if name != "kind"}
        found |= {str(name): str(version) for name, version in packages}
    return found


def _changes(old: dict[str, str], new: dict[str, str]) -> list[str]:
    names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    return [f"{name} {old.get(name, 'not there')} -> {new.get(name, 'not there')}" for name in names]
