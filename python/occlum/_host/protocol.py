"""What owner processes and their clients say to each other: small JSON messages, framed by their length.

Neighbours: `server` (the owner's end), `client` (the other). A message is four bytes of length, little-endian, and that
many bytes of JSON, an object. Descriptors travel with the first bytes of the message that names them (SCM_RIGHTS), so
no byte of a stream ever passes through here. The first message of a connection carries `v`, the version. Both sides
treat what they read as hostile: a message that is too long, no object or out of turn ends the connection.
"""

from __future__ import annotations

import json
import struct
from typing import Any

VERSION = 1
# An order of the enclave's is at most 4 MiB; JSON writes odd bytes with six.
MAX_MESSAGE = 24 << 20
# Linux passes no more with one message.
MAX_DESCRIPTORS = 253
_LENGTH = struct.Struct("<I")

Message = dict[str, Any]


class ProtocolError(Exception):
    """The other side does not speak the protocol."""


def encode(message: Message) -> bytes:
    """The message as it travels."""
    body = json.dumps(message, separators=(",", ":")).encode()
    if len(body) > MAX_MESSAGE:
        raise ProtocolError(f"a message of {len(body)} bytes is too long")
    return _LENGTH.pack(len(body)) + body


class Decoder:
    """Puts messages together from what arrives."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> None:
        """Adds what was read."""
        self._data += data

    def next(self) -> Message | None:
        """The next whole message; `None` if more has to arrive first."""
        if len(self._data) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._data)
        if length > MAX_MESSAGE:
            raise ProtocolError(f"a message of {length} bytes is too long")
        end = _LENGTH.size + length
        if len(self._data) < end:
            return None
        body = bytes(self._data[_LENGTH.size : end])
        del self._data[:end]
        try:
            message = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise ProtocolError(f"a message is not JSON: {error}") from None
        if not isinstance(message, dict):
            raise ProtocolError("a message is not an object")
        return message
