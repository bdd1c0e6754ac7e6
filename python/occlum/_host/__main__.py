"""The owner process: `python -m occlum._host`, started by `client.start_owner` with its settings on standard input.

It leaves its starter's process group and session, loads the enclave, and says on descriptor `ready` how that went: one
line of JSON. From then on it serves its socket (`server`) until the enclave ends.
"""

from __future__ import annotations

import os
import sys


def _leave_starter() -> None:
    """Lives on by itself: nobody's child, no terminal's process."""
    if os.fork():
        os._exit(0)
    os.setsid()


def main() -> int:
    """Runs the enclave to its end."""
    settings = sys.stdin.buffer.read()
    _leave_starter()
    # After the fork: the starter waits for no import.
    import json

    from occlum._host.owner import run

    return run(json.loads(settings))


if __name__ == "__main__":
    sys.exit(main())
