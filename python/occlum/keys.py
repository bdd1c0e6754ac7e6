"""Image keys: the secrets that open sealed stores, in files that only their owner can read.

A key file has 64 hexadecimal digits (32 bytes), or 16 bytes as `xx-xx-...`, the form of the original Occlum. The latter
are stretched: HMAC-SHA256 under the 16 bytes of `occlum image key v1`. Neighbours: `sealed` and `occlum._host.launch`.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from pathlib import Path

from occlum.errors import StoreError

KEY_BYTES = 32
FORMS = "a key file has 64 hexadecimal digits, or 16 bytes as xx-xx-..."
_LONGEST = 4096
_LONG = re.compile(rf"[0-9a-fA-F]{{{2 * KEY_BYTES}}}")
_SHORT = re.compile(r"(?:[0-9a-fA-F]{2}-){15}[0-9a-fA-F]{2}")
_STRETCH = b"occlum image key v1"


def generate_key(path: Path) -> None:
    """Writes a new image key to a file of its own that only its owner can read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:
        file.write(secrets.token_hex(KEY_BYTES).encode() + b"\n")


def read_key(path: Path) -> bytes:
    """Reads an image key; 32 bytes, whatever its form."""
    fix = "make one with `occlum gen-image-key FILE`"
    try:
        # No text is longer, and the file may be anything.
        with path.open("rb") as file:
            text = file.read(_LONGEST).decode("ascii", errors="replace")
    except OSError as error:
        raise StoreError(f"the key {path} cannot be read: {error.strerror}", fix, "OC901") from None
    text = "".join(text.split())
    if _SHORT.fullmatch(text):
        return hmac.digest(bytes.fromhex(text.replace("-", "")), _STRETCH, hashlib.sha256)
    if not _LONG.fullmatch(text):
        raise StoreError(f"{path} is no image key: {FORMS}", fix, "OC901")
    return bytes.fromhex(text)
