"""Asks psutil for everything and says what came back, in words that do not depend on the machine."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading

import psutil


def shape(value: object) -> str:
    """The type of an answer, and whether it is there."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return f"{type(value).__name__}({','.join(value._fields)})"
    return type(value).__name__


def ask(name: str, question: object, *arguments: object) -> object:
    try:
        answer = question(*arguments)  # type: ignore[operator]
    except Exception as error:
        print(f"{name}: {type(error).__name__}")
        return None
    print(f"{name}: {shape(answer)}")
    return answer


def check(what: str, holds: bool) -> None:
    print(f"{what}: {'so' if holds else 'NOT SO'}")


def system() -> None:
    memory = ask("virtual_memory", psutil.virtual_memory)
    check("memory adds up", 0 < memory.available <= memory.total and 0 < memory.used < memory.total)
    ask("swap_memory", psutil.swap_memory)
    ask("cpu_times", psutil.cpu_times)
    logical = psutil.cpu_count()
    check("as many CPUs as may be used", logical == len(os.sched_getaffinity(0)))
    check("as many cores at most", 0 < (psutil.cpu_count(logical=False) or 0) <= logical)
    check("times of each CPU", len(psutil.cpu_times(percpu=True)) == logical)
    ask("cpu_stats", psutil.cpu_stats)
    check("load", len(psutil.getloadavg()) == 3)
    check("partitions", len(psutil.disk_partitions(all=True)) > 0)
    ask("disk_usage", psutil.disk_usage, "/")
    ask("net_if_addrs", psutil.net_if_addrs)
    check("loopback", "lo" in psutil.net_if_addrs() and psutil.net_if_stats()["lo"].isup)
    check("counters of loopback", "lo" in psutil.net_io_counters(pernic=True))
    check("booted before now", 0 < psutil.boot_time() < psutil.Process().create_time() + 5)
    check("this process is listed", os.getpid() in psutil.pids())


def process() -> None:
    me = psutil.Process()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    for name in sorted(me.as_dict()):
        # What a kernel may be built without, and what is no question.
        if name not in ("cpu_num", "io_counters", "connections", "pid"):
            ask(name, getattr(me, name))
    check("child", [p.pid for p in me.children()] == [child.pid])
    check("parent", psutil.Process(child.pid).ppid() == os.getpid())
    check("threads", me.num_threads() == 2 and len(me.threads()) == 2)
    info = me.memory_info()
    check("resident at most mapped", 0 < info.rss <= info.vms)
    full = me.memory_full_info()
    check("unique at most resident", 0 < full.uss <= info.rss and full.pss <= info.rss)
    check("maps add up", sum(m.rss for m in me.memory_maps()) == full.pss or full.pss > 0)
    check("exe", os.path.samefile(me.exe(), sys.executable))
    check("cwd", me.cwd() == os.getcwd())
    check("command line", me.cmdline()[-1].endswith("views.py"))
    check("environment", me.environ().get("HOME") == os.environ["HOME"])
    with open(__file__) as file:
        check("open file", os.path.abspath(file.name) in [f.path for f in me.open_files()])
    before = me.cpu_times().user
    while me.cpu_times().user + me.cpu_times().system < before + 0.1:
        pass
    child.communicate(b"\n")
    stop.set()
    thread.join()


def connections() -> None:
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(server.getsockname())
    peer, _ = server.accept()
    found = {(c.status, c.laddr.port) for c in psutil.Process().net_connections(kind="tcp")}
    port = server.getsockname()[1]
    check("listener", ("LISTEN", port) in found)
    check("connection", ("ESTABLISHED", client.getsockname()[1]) in found and ("ESTABLISHED", port) in found)
    client.close()
    peer.close()


if __name__ == "__main__":
    system()
    process()
    connections()
