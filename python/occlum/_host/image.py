"""Finds and reads the enclave image that the package carries."""

from __future__ import annotations

import os

from occlum.errors import ImageError

_IMAGE = os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), "_data", "occlum-libos.elf")


def image_path() -> str:
    """Where the image is."""
    return _IMAGE


def read_image() -> bytes:
    """The image's bytes."""
    try:
        with open(_IMAGE, "rb") as file:
            return file.read()
    except FileNotFoundError:
        fix = "in a source tree run `make build`; otherwise reinstall the package"
        raise ImageError(f"the enclave image {_IMAGE} is missing", fix) from None
    except OSError as error:
        raise ImageError(f"the enclave image cannot be read: {error}") from None
