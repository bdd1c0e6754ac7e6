"""The Python programs in examples/ do what they say. The shell scripts are run by test_shells."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from framework import ROOT

EXAMPLES = ROOT / "examples"


def run(name: str, *arguments: str) -> str:
    """What the example prints."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_all_python_examples_are_run_here() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == {"asyncio_chat.py", "numpy_job.py", "processes.py"}


def test_processes() -> None:
    lines = run("processes.py").splitlines()
    ends = sorted(line.rpartition(" ")[2] for line in lines if "ended with" in line and not line.endswith("with 0"))
    assert ends == [str(number) for number in range(1, 10)]


def test_asyncio() -> None:
    lines = run("asyncio_chat.py").splitlines()
    assert lines[0] == "6 * 7 = 42"
    assert lines[1] == f"2 ^ 100 = {2**100}"
    assert lines[2].endswith("= 1.41421356237309504880")


def test_numpy_job(tmp_path: Path) -> None:
    """With the system's Python, whose numpy is Debian's; cloudpickle is the one outside."""
    import cloudpickle

    python = tmp_path / "python"
    folder = Path(cloudpickle.__file__).parents[1]
    python.write_text(f'#!/bin/sh\nexport PYTHONPATH={tmp_path}\nexec /usr/bin/python3 "$@"\n')
    python.chmod(0o755)
    (tmp_path / "cloudpickle").symlink_to(folder / "cloudpickle")
    natively = (
        "import runpy, sys; sys.modules['occlum'] = sys\n"
        f"job = runpy.run_path('{EXAMPLES}/numpy_job.py')['largest_eigenvalue']\n"
        "for size in (10, 20, 40): print(f'{size:3} {job(size):.4f}')"
    )
    outside = subprocess.run(["/usr/bin/python3", "-c", natively], capture_output=True, text=True, check=True)
    assert run("numpy_job.py", str(python)) == outside.stdout
