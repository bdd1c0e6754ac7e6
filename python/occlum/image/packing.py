"""Packs what a build made of an instance into an archive. The same build gives the same bytes.

Neighbours: `built` (what is needed to run), `occlum.cli.package`.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import tarfile
from pathlib import Path

from occlum._host.files import is_full
from occlum.config import files, page
from occlum.image import built, lockfile
from occlum.image.instance import SBOM
from occlum.image.tree import FIXED_TIME, BuildError


def pack(directory: Path, target: Path, *, debug: bool) -> None:
    """Writes the archive, in one step. BuildError, InstanceError."""
    with built.build_lock(str(directory)):
        what = built.load(str(directory))
        config = page.Config.decode(what.config)
        if config.flags & page.DEBUG and not debug:
            fix = "set metadata.debuggable = false and build again, or give --debug"
            raise BuildError("this is a debug enclave: whoever runs it can look into it", fix, "OC724")
        if what.is_stale():
            raise BuildError("the configuration has changed since the build", "build again: `occlum build`", "OC724")
        image = what.sources["image"]
        names = [files.find(directory).name, built.DESCRIPTION, image]
        # What an encrypted image hides is not told beside it.
        names += [] if any(row.is_image_keyed() for row in config.mounts) else [SBOM, lockfile.NAME]
        fresh = target.with_name(f".new-{target.name}")
        try:
            # No name and no time in the gzip header.
            with fresh.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, 0) as packed:
                _write(directory, names, packed)
            os.replace(fresh, target)
        except OSError as error:
            with contextlib.suppress(OSError):
                fresh.unlink(missing_ok=True)
            fix = "make room on that disk" if is_full(error) else "name a file that can be written"
            raise BuildError(f"{target}: {error.strerror}", fix) from None


def _write(directory: Path, names: list[str], packed: gzip.GzipFile) -> None:
    with tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        for name in (built.MARKER, "build", "run"):
            tar.addfile(_info(f"{directory.name}/{name}", tarfile.DIRTYPE, 0o755))
        for name in sorted(names):
            path = directory / name
            info = _info(f"{directory.name}/{name}", tarfile.REGTYPE, 0o644)
            info.size = path.stat().st_size
            with path.open("rb") as file:
                tar.addfile(info, file)


def _info(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.mtime = kind, mode, FIXED_TIME
    return info
