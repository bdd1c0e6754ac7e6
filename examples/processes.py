"""Runs programs in parallel in one enclave, and watches what happens in it.

python examples/processes.py
"""

from __future__ import annotations

import threading

import occlum
from occlum.events import ProcessEnded


def watch(enclave: occlum.Enclave, ready: threading.Event) -> None:
    """Prints the ends of processes until the enclave ends."""
    with enclave.events() as events:
        ready.set()
        for event in events:
            if isinstance(event, ProcessEnded):
                print(f"process {event.pid} ended with {event.returncode}")


def main() -> None:
    """Ten shells at once, each with its own exit status."""
    with occlum.Enclave.from_host(memory="1G") as enclave:
        ready = threading.Event()
        watcher = threading.Thread(target=watch, args=(enclave, ready))
        watcher.start()
        ready.wait()
        shells = [enclave.Popen(["sh", "-c", f"sleep 0.{number}; exit {number}"]) for number in range(10)]
        assert [shell.wait() for shell in shells] == list(range(10))
        print(f"{enclave.stats['system_calls']} system calls")
    watcher.join()


if __name__ == "__main__":
    main()
