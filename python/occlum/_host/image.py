"""Finds and reads the enclave image that the package carries."""

from __future__ import annotations

from pathlib import Path

from occlum.errors import ImageError

_IMAGE = Path(__file__).resolve().parents[1] / "_data" / "occlum-libos.elf"


def image_path() -> Path:
    """Where the image is."""
    return _IMAGE


def read_image() -> bytes:
    """The image's bytes."""
    try:
        return _IMAGE.read_bytes()
    except FileNotFoundError:
        fix = "in a source tree run `make build`; otherwise reinstall the package"
        raise ImageError(f"the enclave image {_IMAGE} is missing", fix) from None
    except OSError as error:
        raise ImageError(f"the enclave image cannot be read: {error}") from None
