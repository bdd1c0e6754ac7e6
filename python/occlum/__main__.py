"""The `occlum` command and `python -m occlum`: into `cli` and out again, without what a short run does not need.

A command that only starts a program is over in milliseconds. Collecting garbage while modules are imported, and taking
the interpreter apart at the end, would be a good part of them.
"""

from __future__ import annotations

import gc
import os
import sys


def main() -> None:
    """Runs the command and ends the process with its status."""
    gc.disable()
    from occlum import cli

    gc.enable()
    status = cli.main()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        status = status or cli.EXIT_OCCLUM_FAILED
    os._exit(status)


if __name__ == "__main__":
    main()
