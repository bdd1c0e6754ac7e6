"""PEP 517 backend: builds the enclave image, then lets maturin build and package the extension.

Without this the image would be missing from wheels without a word. Hooks that need no image are maturin's own, under
their own names. `tools/build_enclave.py` is the only place that knows how the image is built.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import maturin
from maturin import (
    build_sdist,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

get_requires_for_build_editable = get_requires_for_build_wheel

_ROOT = Path(__file__).resolve().parents[1]
_IMAGE = _ROOT / "build" / "enclave" / "occlum-libos.elf"
_PACKAGED = _ROOT / "python" / "occlum" / "_data" / "occlum-libos.elf"

Settings = Mapping[str, Any] | None


def stage_image() -> None:
    """Builds the enclave image and puts it where the package expects it."""
    builder = [sys.executable, str(_ROOT / "tools" / "build_enclave.py"), "--output", str(_IMAGE)]
    # The hook's own standard output belongs to the front end's protocol.
    subprocess.run(builder, cwd=_ROOT, check=True, stdout=sys.stderr)
    if _PACKAGED.exists() and _PACKAGED.read_bytes() == _IMAGE.read_bytes():
        return
    _PACKAGED.parent.mkdir(parents=True, exist_ok=True)
    part = _PACKAGED.with_suffix(".part")
    shutil.copyfile(_IMAGE, part)
    part.rename(_PACKAGED)


def build_wheel(wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None) -> str:
    """PEP 517."""
    stage_image()
    return str(maturin.build_wheel(wheel_directory, config_settings, metadata_directory))


def build_editable(
    wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None
) -> str:
    """PEP 660."""
    stage_image()
    return str(maturin.build_editable(wheel_directory, config_settings, metadata_directory))
