"""CPython's own tests of subprocess, run with the import changed.

They come with the interpreter or with Debian's libpython3.11-testsuite. What does not pass is listed here by name, with
the reason, and docs/sdk.md has the same list.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from framework import ROOT

# What fails, and why.
PREEXEC = "preexec_fn is refused"
HOST_PID = "uses os.kill or os.waitpid with the pid, which is one inside the enclave"
INTERNALS = "replaces or inspects internals of subprocess's Popen"
FAILS = {
    "test_close_fds_after_preexec": PREEXEC,
    "test_exception_errpipe_bad_data": INTERNALS,
    "test_exception_errpipe_normal": INTERNALS,
    "test_preexec": PREEXEC,
    "test_preexec_errpipe_does_not_double_close_pipes": PREEXEC,
    "test_preexec_exception": PREEXEC,
    "test_preexec_fork_failure": PREEXEC,
    "test_preexec_gc_module_failure": PREEXEC,
    "test_surrogates_error_message": PREEXEC,
    "test_leak_fast_process_del_killed": HOST_PID,
    "test_send_signal_race": HOST_PID,
    "test_stopped": HOST_PID,
    "test__all__": INTERNALS,
    "test__use_vfork": INTERNALS,
    "test_call_keyboardinterrupt_no_kill": INTERNALS,
    "test_context_manager_keyboardinterrupt_no_kill": INTERNALS,
    "test_run_keyboardinterrupt_no_kill": INTERNALS,
    "test_umask": "looks on the host for a file that the program made in the enclave",
}
SHARE = 0.85

RUNNER = """
import sys, types, os, unittest, subprocess as original
import occlum

class Both(types.ModuleType):
    # The tests also use what subprocess does not document.
    def __getattr__(self, name):
        return getattr(occlum, name) if hasattr(occlum, name) else getattr(original, name)

class Safe(types.ModuleType):
    # A pid inside is somebody else's out here.
    def __getattr__(self, name):
        return getattr(os, name)
    def kill(self, pid, number):
        if pid != os.getpid():
            raise PermissionError("os.kill with a pid of the enclave")
        os.kill(pid, number)
    def killpg(self, *_):
        raise PermissionError("os.killpg")

sys.modules["subprocess_inside"] = Both("subprocess_inside")
text = open(sys.argv[1]).read()
assert text.count("\\nimport subprocess\\n") == 1
text = text.replace("\\nimport subprocess\\n", "\\nimport subprocess_inside as subprocess\\n")
module = types.ModuleType("inside")
module.__file__ = sys.argv[1]
sys.modules["inside"] = module
exec(compile(text, sys.argv[1], "exec"), module.__dict__)
module.os = Safe("os")
unittest.TextTestRunner(verbosity=2).run(unittest.TestLoader().loadTestsFromModule(module))
"""


def source() -> Path:
    """CPython's test_subprocess.py."""
    major, minor = sys.version_info[:2]
    libraries = [Path(subprocess.__file__).parent, Path(f"/usr/lib/python{major}.{minor}")]
    for library in libraries:
        if (found := library / "test" / "test_subprocess.py").exists():
            return found
    pytest.fail(f"no test_subprocess.py; install libpython{major}.{minor}-testsuite")


@pytest.mark.timeout(600)
def test_cpythons_tests_pass_but_for_those_listed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", RUNNER, str(source())]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=500, check=False)
    failed = set(re.findall(r"^(?:ERROR|FAIL): (\w+)", done.stderr, re.MULTILINE))
    found = re.search(r"^Ran (\d+) tests", done.stderr, re.MULTILINE)
    summary = re.search(r"skipped=(\d+)", done.stderr)
    assert found, done.stderr[-3000:]
    ran = int(found[1]) - (int(summary[1]) if summary else 0)
    bad = len(re.findall(r"^(?:ERROR|FAIL): ", done.stderr, re.MULTILINE))
    assert ran > 250
    assert failed <= set(FAILS), done.stderr[-5000:]
    print(f"{ran - bad} of {ran} pass")
    assert (ran - bad) / ran >= SHARE


def test_the_list_is_the_documents() -> None:
    text = (ROOT / "docs" / "sdk.md").read_text()
    assert set(re.findall(r"^\| `(test\w+)` \|", text, re.MULTILINE)) == set(FAILS)
