"""The pytest plugin and the IPython magics, as their users have them: in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TESTS = """
import pathlib

def test_shared(enclave):
    assert enclave.check_output(["sort"], input=b"b\\na\\n") == b"a\\nb\\n"
    enclave.check_call(["touch", "/tmp/made-inside"])

def test_shared_still(enclave):
    assert enclave.fs.exists("/tmp/made-inside")
    assert enclave.stats["memory_total"] == 256 << 20
    assert enclave.check_output(["cat", "/shared/file"]) == b"content"

def test_fresh(fresh_enclave, enclave):
    assert fresh_enclave.name != enclave.name
    assert not fresh_enclave.fs.exists("/tmp/made-inside")
"""


def run_pytest(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """pytest in a directory of its own, with the plugin that the package brings along."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_tests_have_enclaves(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(TESTS)
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "file").write_text("content")
    settings = f"[pytest]\nenclave_memory = 1G\nenclave_binds =\n    {tmp_path}/shared:/shared:ro\n"
    (tmp_path / "pytest.ini").write_text(settings)
    done = run_pytest(tmp_path, "--enclave-memory", "256M", "--enclave-cpus", "1")
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


def test_tests_without_enclaves_start_none(tmp_path: Path) -> None:
    """And import nothing of the package but the plugin."""
    test = "import sys\n\ndef test():\n    assert 'occlum.enclave' not in sys.modules\n"
    (tmp_path / "test_mine.py").write_text(test)
    done = run_pytest(tmp_path)
    assert done.returncode == 0, done.stdout


NOTEBOOK = """
import sys, threading, time, os, signal
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

shell = InteractiveShell.instance()

def cell(text):
    with capture_output() as captured:
        result = shell.run_cell(text)
    return captured.stdout, captured.stderr, result.error_in_exec

assert cell("%load_ext occlum")[2] is None
code = "import os, sys\\nprint(os.path.exists('/proc/occlum'))\\nprint('bad', file=sys.stderr)"
out, err, error = cell("%%enclave\\n" + code)
assert (out, err, error) == ("True\\n", "bad\\n", None), (out, err, error)
assert cell("%%enclave tr a-z A-Z\\nwords")[0] == "WORDS\\n"
assert cell("%%enclave -o kept sh\\necho one; echo two >&2")[:2] == ("", "two\\n")
assert shell.user_ns["kept"] == "one\\n"
assert cell("%enclave echo $((6 * 7)) 'a  b' | tr a-z A-Z")[0] == "42 A  B\\n"
assert type(cell("%%enclave --nonsense\\n#")[2]).__name__ == "UsageError"
big = "%%enclave cat\\n" + "line of text\\n" * 100_000
assert cell(big)[0] == big.partition("\\n")[2]
error = cell("%%enclave sh\\nexit 3")[2]
assert type(error).__name__ == "CalledProcessError" and error.returncode == 3, error
assert cell("%%enclave --no-raise false\\n#")[2] is None
timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
timer.start()
begin = time.monotonic()
out, err, error = cell("%%enclave sh\\necho begun; sleep 60")
assert isinstance(error, KeyboardInterrupt), error
assert 0.5 < time.monotonic() - begin < 10
print("fine")
"""


def test_cells_run_in_an_enclave(tmp_path: Path) -> None:
    environment = os.environ | {"IPYTHONDIR": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", NOTEBOOK], capture_output=True, text=True, check=False, env=environment, cwd=tmp_path
    )
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["fine"]), done.stdout + done.stderr
