"""`occlum umount`: ends what `occlum mount` began."""

from __future__ import annotations

import fcntl
import subprocess
from pathlib import Path

import click

from occlum.errors import StoreError


def _source(directory: Path) -> Path | None:
    """The store that is mounted there."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        source, target, kind, *_ = line.encode().decode("unicode_escape").split(" ")
        if target == str(directory) and kind == "fuse.occlum":
            return Path(source)
    return None


@click.command("umount")
@click.argument("directory", type=click.Path(path_type=Path))
def command(directory: Path) -> None:
    """Unmount a sealed store from DIRECTORY; returns when all that was written is durable."""
    store = _source(directory.resolve())
    if store is None:
        raise StoreError(f"no sealed store is mounted at {directory}", "`findmnt -t fuse.occlum` lists those that are")
    done = subprocess.run(["fusermount3", "-u", str(directory)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise StoreError(f"{directory} cannot be unmounted: {done.stderr.strip()}", "end what still uses it")
    # The process that serves it gives up the lock last of all.
    with store.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
