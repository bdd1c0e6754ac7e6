"""Load averages: tasks that run or could, as /proc/loadavg and sysinfo show them."""

from __future__ import annotations

from framework import enclave

SCRIPT = """
import os, time
assert os.getloadavg()[0] < 0.2
end = time.monotonic() + 12
child = os.fork()
while time.monotonic() < end:
    pass
if child == 0:
    os._exit(0)
shown = open("/proc/loadavg").read().split()
print(*shown[:3], *os.getloadavg())
"""


def test_load_average() -> None:
    """Two busy tasks for two or three looks, five seconds apart: 2 * (1 - (1884 / 2048) ** looks)."""
    result = enclave(["python3", "-c", SCRIPT])
    assert result.returncode == 0, result.text
    one, five, fifteen, *asked = map(float, result.stdout.split())
    looks = [2 * (1 - (1884 / 2048) ** n) for n in (2, 3)]
    assert looks[0] - 0.02 < one < looks[1] + 0.02
    assert one > five > fifteen > 0
    assert [round(value, 2) for value in asked] == [one, five, fifteen]
