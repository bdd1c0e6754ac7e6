"""`occlum doctor`: the checks on machines that are described, and the command on this one."""

from __future__ import annotations

import json
import os
import re
import resource
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from framework import OCCLUM, ROOT
from occlum._host import doctor
from occlum._host.doctor import STATES, Finding, Machine, examine, trial

SIZES = {resource.RLIMIT_AS: -1, resource.RLIMIT_DATA: -1, resource.RLIMIT_NOFILE: 20000, resource.RLIMIT_NPROC: 9999}
FEATURES = 1 << 0 | 1 << 5 | 1 << 8 | 1 << 29


class Described(Machine):
    """A good machine without SGX, but for what a test changes."""

    def __init__(self) -> None:
        self.files = {
            "/proc/meminfo": "MemTotal: 9000000 kB\nMemAvailable: 8000000 kB",
            "/proc/sys/vm/overcommit_memory": "0",
            "/proc/sys/vm/max_map_count": "65530",
            "/proc/self/cgroup": "0::/some/group",
            "/proc/self/status": "Name:\tx\nSeccomp:\t0",
        }
        self.hwcap2 = 2
        first = 1 << 1 | 1 << 9 | 1 << 19 | 1 << 25 | 1 << 28
        self.leaves = {(1, 0): (0, 0, first, 0), (7, 0): (0, FEATURES, 0, 0), (0xD, 1): (1 << 2, 0, 0, 0)}
        self.limits = dict(SIZES)
        self.release, self.devices = "6.1.0-9-amd64", dict[str, bool]()

    def text(self, path: str) -> str | None:
        return self.files.get(path)

    def data(self, path: str) -> bytes:
        assert path == "/proc/self/auxv"
        return struct.pack("<QQQQ", 26, self.hwcap2, 0, 0)

    def access(self, path: str) -> bool | None:
        return self.devices.get(path)

    def limit(self, number: int) -> tuple[int, int]:
        return self.limits[number], -1

    def cpuid(self, leaf: int, subleaf: int = 0) -> tuple[int, int, int, int]:
        return self.leaves.get((leaf, subleaf), (0, 0, 0, 0))

    def kernel(self) -> str:
        return self.release

    def architecture(self) -> str:
        return "x86_64"


def found(machine: Machine, name: str) -> Finding:
    """The finding of that name."""
    return next(finding for finding in examine(machine) if finding.name == name)


def test_a_good_machine_has_nothing_to_fix() -> None:
    assert [finding for finding in examine(Described()) if finding.state in ("warning", "bad") or finding.fix] == []


def test_kernels_and_features_that_are_missing() -> None:
    machine = Described()
    machine.release, machine.hwcap2 = "5.4.0-1", 0
    machine.leaves[7, 0] = (0, FEATURES & ~(1 << 29), 0, 0)
    assert found(machine, "kernel").state == "bad"
    assert "nofsgsbase" in found(machine, "FSGSBASE").fix
    assert (found(machine, "CPU features").state, found(machine, "CPU features").found) == ("bad", "lacks SHA-NI")
    machine.leaves[1, 0] = (0, 0, 1 << 9 | 1 << 19 | 1 << 28, 0)
    assert found(machine, "CPU features").found == "lacks AES-NI, PCLMULQDQ, SHA-NI"
    machine.leaves[7, 0] = (0, 0, 0, 0)
    assert found(machine, "FSGSBASE").found == "not in the CPU"


def test_the_checks_know_all_that_the_image_is_built_with() -> None:
    import build_enclave

    known = {feature.rust for feature in doctor.FEATURES}
    assert set(build_enclave.CPU_FEATURES) - {"crt-static"} <= known
    ciphers = (ROOT / "tools" / "rustc_enclave.py").read_text()
    assert set(re.findall(r"target-feature=\+(\w+)", ciphers)) <= known
    page = (ROOT / "docs" / "support.md").read_text()
    assert all(feature.name in page for feature in doctor.FEATURES)


def test_one_form_of_the_answer_is_asked_for() -> None:
    done = subprocess.run([OCCLUM, "doctor", "--json", "--report"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (125, "")
    assert "give one of them" in done.stderr


def test_sgx_hardware_is_described() -> None:
    machine = Described()
    machine.leaves[7, 0] = (0, FEATURES | 1 << 2, 1 << 30, 0)
    assert "firmware" in found(machine, "CPU").found
    machine.leaves[0x12, 0] = (3, 0, 0, 0)
    # Two sections: 64 MiB, and 4 GiB (whose size has its high bits in edx).
    machine.leaves[0x12, 2] = (1, 0, 64 << 20, 0)
    machine.leaves[0x12, 3] = (1, 0, 0, 1)
    machine.devices = {"/dev/sgx_enclave": True, "/dev/sgx_provision": False}
    assert found(machine, "CPU").found == "SGX1, SGX2; launch control open"
    assert found(machine, "protected memory (EPC)").found == "4160M"
    assert found(machine, "/dev/sgx_enclave").state == "ok"
    assert "ls -l" in found(machine, "/dev/sgx_provision").fix


@pytest.mark.parametrize(
    ("number", "value", "state", "name"),
    [
        (resource.RLIMIT_AS, 1 << 30, "bad", "address space (RLIMIT_AS)"),
        (resource.RLIMIT_NOFILE, 100, "warning", "open files (RLIMIT_NOFILE)"),
        (resource.RLIMIT_NPROC, 10, "warning", "processes and threads (RLIMIT_NPROC)"),
    ],
)
def test_limits_name_the_command_that_raises_them(number: int, value: int, state: str, name: str) -> None:
    machine = Described()
    machine.limits[number] = value
    assert (found(machine, name).state, found(machine, name).fix[:8]) == (state, "`ulimit ")


def test_memory_control_groups_and_filters() -> None:
    machine = Described()
    machine.files |= {
        "/proc/meminfo": "MemAvailable: 1000000 kB",
        "/proc/sys/vm/overcommit_memory": "2",
        "/proc/sys/vm/max_map_count": "1000",
        "/sys/fs/cgroup/some/group/memory.max": str(512 << 20),
        "/sys/fs/cgroup/cpu.max": "50000 100000",
        "/sys/fs/cgroup/pids.max": "20",
        "/proc/self/status": "Seccomp:\t2",
    }
    warned = {finding.name for finding in examine(machine) if finding.state == "warning"}
    assert warned == {
        "memory",
        "memory of the control group",
        "overcommit of memory",
        "mappings (vm.max_map_count)",
        "threads (pids.max)",
    }
    assert "-m 256M" in found(machine, "memory of the control group").fix
    assert found(machine, "CPU time").found == "0.50 CPUs"
    assert found(machine, "seccomp").state == "note"


def test_rubbish_in_the_files_is_no_crash() -> None:
    machine = Described()
    machine.files = dict.fromkeys(machine.files, "\0 rubbish: :\n:")
    machine.release = "rubbish"
    assert {finding.state for finding in examine(machine)} <= set(STATES)


def test_the_command_on_this_machine() -> None:
    done = subprocess.run([OCCLUM, "doctor", "--json"], capture_output=True, text=True, check=False)
    findings = [Finding(**entry) for entry in json.loads(done.stdout)]
    assert findings[-1].group == "trial"
    assert done.returncode == any(finding.state == "bad" for finding in findings) == 0
    text = subprocess.run([OCCLUM, "doctor", "--no-trial"], capture_output=True, text=True, check=True).stdout
    assert "Enclaves run here" in text
    assert "trial" not in text


def test_a_limit_is_found_and_the_trial_fails() -> None:
    limited = f"ulimit -v 20000000; exec {OCCLUM} doctor"
    done = subprocess.run(["bash", "-c", limited], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ulimit -v unlimited" in done.stdout
    assert "Enclaves will not run here: 2 to fix" in done.stdout


def test_the_report_names_nobody() -> None:
    environment = os.environ | {"OCCLUM_SECRET": "value", "HOME": "/home/somebody"}
    done = subprocess.run(
        [OCCLUM, "doctor", "--report", "--no-trial"], capture_output=True, text=True, check=True, env=environment
    )
    assert "MRENCLAVE" in done.stdout
    assert "OCCLUM_SECRET" in done.stdout
    for secret in ("value", "somebody", str(Path.cwd()), str(Path.home())):
        assert secret not in done.stdout


def test_a_trial_without_end_is_bad() -> None:
    finding = trial([sys.executable, "-c", "import time; time.sleep(60)"], timeout_s=0.2)
    assert (finding.state, finding.found) == ("bad", "no end after 0 s")
