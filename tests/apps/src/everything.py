"""What a Python program may use: threads, subprocesses, multiprocessing, json, sqlite3, hashlib, temporary files.

Usage: everything.py PART [SEED]. Prints only what does not depend on the machine.
"""

import concurrent.futures
import ctypes
import decimal
import hashlib
import json
import math
import multiprocessing
import os
import queue
import random
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from pathlib import Path
from typing import Any


def square(n: int) -> int:
    return n * n


def hash_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def threads() -> None:
    work: queue.Queue[int | None] = queue.Queue()
    results: list[int] = []
    lock = threading.Lock()

    def worker() -> None:
        while (n := work.get()) is not None:
            with lock:
                results.append(n * n)

    pool = [threading.Thread(target=worker) for _ in range(6)]
    for t in pool:
        t.start()
    for n in range(500):
        work.put(n)
    for _ in pool:
        work.put(None)
    for t in pool:
        t.join()
    print(sum(results), len(results))
    with concurrent.futures.ThreadPoolExecutor(4) as executor:
        print(sum(executor.map(square, range(200))))


def children() -> None:
    done = subprocess.run(["sort", "-r"], input=b"a\nc\nb\n", capture_output=True, check=True)
    print(done.stdout)
    print(subprocess.run("exit 7", shell=True).returncode)
    print(subprocess.run(["sh", "-c", "kill -9 $$"]).returncode)
    print(subprocess.check_output([sys.executable, "-c", "import sys; print(sys.argv[1] * 2)", "twice"]))
    try:
        subprocess.run(["sleep", "10"], timeout=0.1)
    except subprocess.TimeoutExpired:
        print("timed out")
    a = subprocess.Popen(["seq", "100"], stdout=subprocess.PIPE)
    b = subprocess.Popen(["wc", "-l"], stdin=a.stdout, stdout=subprocess.PIPE)
    assert a.stdout is not None
    a.stdout.close()
    print(b.communicate()[0].split(), a.wait())


def multi(method: str) -> None:
    context: Any = multiprocessing.get_context(method)
    with context.Pool(3) as pool:
        print(pool.map(square, range(20)))
        print(pool.map(hash_of, ["a", "b", "c"])[2])
    pipe, other = context.Pipe()
    process = context.Process(target=other.send, args=({"key": [1, 2, 3]},))
    process.start()
    print(pipe.recv())
    process.join()
    print(process.exitcode)


def data() -> None:
    rng = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    table = [{"n": rng.randrange(1000), "f": rng.random(), "s": chr(rng.randrange(32, 2000))} for _ in range(300)]
    text = json.dumps(table, sort_keys=True)
    print(json.loads(text) == table, hash_of(text))
    with tempfile.TemporaryDirectory() as name:
        base = sqlite3.connect(Path(name) / "base.sqlite")
        base.execute("create table t (n integer, f real, s text)")
        base.executemany("insert into t values (:n, :f, :s)", table)
        base.execute("create index i on t (n)")
        base.commit()
        print(base.execute("select count(*), sum(n), max(s) from t where n > 300").fetchall())
        base.close()
        print(sorted(p.name for p in Path(name).iterdir()))
        blob = rng.randbytes(200000)
        Path(name, "blob").write_bytes(blob)
        print(zlib.decompress(zlib.compress(Path(name, "blob").read_bytes())) == blob)
        for algorithm in ("md5", "sha1", "sha256", "sha512", "blake2b", "sha3_256"):
            print(algorithm, hashlib.new(algorithm, blob).hexdigest()[:16])
    print(Path(name).exists())
    print(re.findall(r"(\w)\1", "aabbcdd"), math.factorial(50), decimal.Decimal(1) / 7)
    print([f"{f(x):.12g}" for f in (math.sin, math.exp, math.gamma) for x in (0.5, 3.25)])


def signals() -> None:
    seen: list[int] = []
    signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
    os.kill(os.getpid(), signal.SIGUSR1)
    signal.signal(signal.SIGALRM, lambda number, frame: seen.append(number))
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    time.sleep(0.1)
    print(seen)
    try:
        ctypes.string_at(0)
    except BaseException as e:  # natively a crash
        print(e)


def descriptors() -> None:
    r, w = os.pipe()
    if os.fork() == 0:
        os.write(w, b"from the child")
        os._exit(5)
    os.close(w)
    print(os.read(r, 100), os.waitstatus_to_exitcode(os.wait()[1]))
    with tempfile.TemporaryFile() as f:
        f.write(b"x" * 100000)
        f.seek(50000)
        print(len(f.read()))
    print(os.path.exists("/proc/self/stat"), os.isatty(0), (os.cpu_count() or 0) >= 1)
    libc = ctypes.CDLL(None)
    print(libc.abs(-5), libc.toupper(ord("a")))
    print(len(os.urandom(16)), os.umask(0o22))


def sockets() -> None:
    a, b = socket.socketpair()
    a.sendall(b"through a socket pair")
    print(b.recv(100))


PARTS = {
    "threads": threads,
    "children": children,
    "fork": lambda: multi("fork"),
    "spawn": lambda: multi("spawn"),
    "data": data,
    "signals": signals,
    "descriptors": descriptors,
    "sockets": sockets,
}

if __name__ == "__main__":
    PARTS[sys.argv[1]]()
