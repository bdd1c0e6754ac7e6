#!/usr/bin/env python3
"""Real programs on a sealed store: what a crash of the machine, or a killed enclave, leaves of their data.

    tools/sealed_programs.py crashes --points 20000     write streams of sqlite, redis and git, cut everywhere
    tools/sealed_programs.py kills --times 500          SIGKILL to the enclave's process, at a random moment
    tools/sealed_programs.py faults --times 300         reads, writes and flushes of the host fail, one or a few times
    tools/sealed_programs.py fsx --operations 10000000  random operations on one file, on every kind of mount
    tools/sealed_programs.py rules                      names, attributes and rights, compared with this machine

The program runs in an enclave on a mounted store and says what it was promised (a commit that returned). For `crashes`
`store_recorder.c` notes all writes and flushes of the store between these promises; of what was not flushed some is
then lost, some torn (by sectors of 512 bytes), all in any order. Each time the store has to mount and to be sound, the
program's own checks have to pass, and every promise made before has to be kept. Neighbours: `sealed_campaign.py` (runs
this for a record), `common/sealed-fs/tests/model.rs` (the same for random operations).
"""

from __future__ import annotations

import argparse
import errno
import hashlib
import io
import itertools
import os
import random
import re
import secrets
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "python"))

from occlum import _native  # noqa: E402
from occlum._host.image import read_image  # noqa: E402
from occlum.config import page  # noqa: E402
from occlum.errors import StoreError  # noqa: E402
from occlum.image import signing  # noqa: E402
from occlum.keys import generate_key, read_key  # noqa: E402
from occlum.sealed import BLOCK, Store  # noqa: E402

OCCLUM = ROOT / ".venv" / "bin" / "occlum"
SECTOR = 512
STORE_BYTES = 24 << 20
# Where the enclave shows the store.
MOUNT = "/tmp/store"

SQLITE = f"""
import hashlib, os, random, sqlite3, sys
rounds, mode, seed = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
db = sqlite3.connect("{MOUNT}/db", isolation_level=None)
db.execute("pragma journal_mode=" + mode); db.execute("pragma synchronous=extra"); db.execute("pragma cache_size=10")
db.execute("create table if not exists chain (n integer primary key, digest text, filling blob)")
db.execute("create table if not exists accounts (id integer primary key, amount integer)")
if not db.execute("select count(*) from accounts").fetchone()[0]:
    db.execute("begin")
    db.executemany("insert into accounts values (?, 100)", [(i,) for i in range(50)])
    db.execute("commit")
n, digest = db.execute("select n, digest from chain order by n desc limit 1").fetchone() or (0, "")
rng = random.Random(seed)
for n in range(n + 1, n + 1 + rounds):
    digest = hashlib.sha256(f"{{digest}}{{n}}".encode()).hexdigest()
    db.execute("begin")
    db.execute("insert into chain values (?, ?, ?)", (n, digest, rng.randbytes(rng.choice((10, 300, 9000)))))
    a, b, amount = rng.randrange(50), rng.randrange(50), rng.randrange(30)
    db.execute("update accounts set amount = amount - ? where id = ?", (amount, a))
    db.execute("update accounts set amount = amount + ? where id = ?", (amount, b))
    if rng.random() < 0.1:
        db.execute("update chain set filling = x'' where n < ?", (n - 20,))
    db.execute("commit")
    print(n, flush=True)
"""

REDIS = f"""
cd {MOUNT}
redis-server --dir {MOUNT} --port 0 --unixsocket /tmp/s --appendonly yes --appendfsync always --save '' \
  --daemonize no --loglevel warning --no-appendfsync-on-rewrite no > /dev/null &
until redis-cli -s /tmp/s ping > /dev/null 2>&1; do sleep 0.05; done
i=0
while [ $i -lt $1 ]; do echo "incr n"; [ $((i % 7)) = 0 ] && echo "set filling:$i $(printf %0300d $i)"
  [ $((i % 90)) = 89 ] && echo bgrewriteaof; i=$((i+1)); done | redis-cli -s /tmp/s | grep --line-buffered '^[0-9]*$'
redis-cli -s /tmp/s shutdown nosave
"""

# git makes the name of a commit durable (`core.fsync`), but not that it is in place: hence the sync.
GIT = f"""
cd {MOUNT}
export HOME=/tmp GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
[ -d .git ] || {{ git init -q .; git config core.fsync all; git config core.fsyncMethod fsync; git config gc.auto 0; }}
rm -f .git/index.lock .git/HEAD.lock .git/refs/heads/*.lock
n=$(git rev-list --count HEAD 2>/dev/null || echo 0)
end=$((n + $1))
while [ $n -lt $end ]; do
  n=$((n+1)); mkdir -p d$((n % 5)); echo $n > n; seq $n $((n + 200 * (n % 3))) > d$((n % 5))/f$((n % 7))
  git add -A && git commit -q -m "commit $n" && sync .git || exit 1
  echo $n
  [ $((n % 12)) = 0 ] && git repack -q -a -d
done
exit 0
"""


# Goes on after errors, and says what became durable; the last words are the files that were given up. Large files and
# many small ones, so that write-back, the tree and the journal each meet the fault.
PATIENT = f"""
cd {MOUNT}
i=0
while [ $i -lt $1 ]; do
  i=$((i+1)); d=d$((i % 9))
  if {{ mkdir -p $d && head -c $((i % 7 * 40000 + 9)) /dev/zero > $d/f$i && echo $i >> $d/f$i &&
    sync $d/f$i; }} 2>> /tmp/errors; then echo $i; fi
  cat old/$i > /tmp/old 2>> /tmp/errors && {{ head -c 30000 /dev/zero | cmp -s - /tmp/old || echo "wrong content"; }}
  [ $i = 5 ] && : > $2/armed
done
grep -o 'No space left on device\\|Input/output error' /tmp/errors | sort | uniq -c
"""


class Violation(AssertionError):
    """A promise that was not kept."""


def require(holds: bool, what: str) -> None:
    """Ends the run if something does not hold."""
    if not holds:
        raise Violation(what)


def check_sqlite(folder: Path) -> int:
    """The number of the last transaction; all of them must be whole."""
    if not (folder / "db").exists():
        return 0
    with closing(sqlite3.connect(folder / "db")) as db:
        require(db.execute("pragma integrity_check").fetchall() == [("ok",)], "sqlite: the database is not sound")
        try:
            rows = db.execute("select n, digest from chain order by n").fetchall()
            total = db.execute("select sum(amount), count(*) from accounts").fetchone()
        except sqlite3.OperationalError as error:
            require("no such table" in str(error), f"sqlite: {error}")
            return 0
    digest = ""
    for n, found in rows:
        digest = hashlib.sha256(f"{digest}{n}".encode()).hexdigest()
        require(digest == found, f"sqlite: row {n} does not follow the one before it")
    require([n for n, _ in rows] == list(range(1, len(rows) + 1)), "sqlite: rows are missing")
    require(total in ((5000, 50), (None, 0)), f"sqlite: half a transfer: {total}")
    return len(rows)


def _commands(content: bytes) -> Iterator[list[bytes]]:
    """The commands of an append-only file; the last may be cut off, as redis allows."""
    at = 0
    while at < len(content):
        head = re.match(rb"\*(\d+)\r\n", content[at:])
        if not head:
            rest = content[at:]
            require(re.fullmatch(rb"\*?\d*\r?", rest) is not None, f"redis: garbage in the file: {rest[:20]!r}")
            return
        at += head.end()
        words = []
        for _ in range(int(head[1])):
            size = re.match(rb"\$(\d+)\r\n", content[at:])
            if not size or len(content) < at + size.end() + int(size[1]) + 2:
                return
            start = at + size.end()
            words.append(content[start : start + int(size[1])])
            at = start + int(size[1]) + 2
        yield words


def check_redis(folder: Path) -> int:
    """How often the counter was counted up, as redis itself reads its files."""
    base = folder / "appendonlydir"
    manifest = base / "appendonly.aof.manifest"
    if not manifest.exists():
        return 0
    names = re.findall(r"file (\S+) seq \d+ type (\w)", manifest.read_text())
    count = 0
    for name, kind in names:
        if kind == "h":
            continue
        content = (base / name).read_bytes() if (base / name).exists() else None
        require(content is not None or kind == "i", f"redis: {name} of the manifest is missing")
        content = content or b""
        if content.startswith(b"REDIS"):
            count = _loaded(folder, base / name)
            continue
        for words in _commands(content):
            match [w.lower() for w in words[:2]]:
                case [b"incr", b"n"]:
                    count += 1
                case [b"set", b"n"]:
                    count = int(words[2])
                case [b"select" | b"set" | b"pexpireat", *_]:
                    pass
                case other:
                    require(False, f"redis: a command that nobody gave: {other}")
    return count


def _loaded(folder: Path, dump: Path) -> int:
    """The counter in a dump: the string `n` in redis' own format, an integer of 8, 16 or 32 bits or text."""
    content = dump.read_bytes()
    require(content[-9:-8] == b"\xff", f"redis: the dump {dump.name} ends early")
    found = re.search(rb"\x00\x01n([\xc0-\xc2]|[\x01-\x0b])", content)
    if not found:
        require(len(content) < 400, f"redis: {folder} has a dump without the counter")
        return 0
    kind, at = found[1][0], found.end()
    if kind < 0xC0:
        return int(content[at : at + kind])
    size = 1 << (kind - 0xC0)
    return int.from_bytes(content[at : at + size], "little", signed=True)


def check_git(folder: Path) -> int:
    """How many commits there are; git itself must find all that belongs to them."""
    if not (folder / ".git" / "HEAD").exists():
        return 0
    env = dict(os.environ, GIT_CONFIG_GLOBAL="/dev/null", GIT_CONFIG_SYSTEM="/dev/null", GIT_OPTIONAL_LOCKS="0")

    def git(*words: str) -> subprocess.CompletedProcess[str]:
        command = ["git", "-c", "safe.directory=*", *words]
        return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)

    log = git("log", "--format=%s")
    if log.returncode:
        refs = (folder / ".git" / "refs" / "heads").glob("*")
        require(not [r for r in refs if r.suffix != ".lock"], f"git: {log.stderr}")
        return 0
    done = git("fsck", "--full", "--strict", "--connectivity-only")
    require(done.returncode == 0, f"git fsck: {done.stdout}{done.stderr}")
    subjects = log.stdout.split("\n")[:-1]
    require(subjects == [f"commit {n}" for n in range(len(subjects), 0, -1)], "git: commits are missing")
    return len(subjects)


@dataclass(frozen=True)
class Program:
    """A program that makes promises: how to start it, and how to count those that are kept."""

    name: str
    argv: Callable[[int, int], list[str]]
    check: Callable[[Path], int]
    # Promises of one run of `crashes`.
    rounds: int


def _python(mode: str) -> Callable[[int, int], list[str]]:
    return lambda rounds, seed: ["python3", "-c", SQLITE, str(rounds), mode, str(seed)]


def _shell(script: str) -> Callable[[int, int], list[str]]:
    return lambda rounds, _: ["bash", "-c", script, "sh", str(rounds)]


PROGRAMS = (
    Program("sqlite, WAL", _python("wal"), check_sqlite, 250),
    Program("sqlite, rollback journal", _python("delete"), check_sqlite, 150),
    Program("redis, append-only file", _shell(REDIS), check_redis, 300),
    Program("git", _shell(GIT), check_git, 25),
)


@dataclass
class Bench:
    """A folder in memory with a store, its key, and where its content is unpacked."""

    folder: Path
    key: Path = field(init=False)
    store: Path = field(init=False)

    def __post_init__(self) -> None:
        self.key, self.store = self.folder / "key", self.folder / "store"
        generate_key(self.key)
        with Store.create(self.store, STORE_BYTES, read_key(self.key)) as new:
            new.set_mode("/", 0o1777)

    def command(self, argv: list[str]) -> list[str]:
        """The program in an enclave, with the store."""
        options = ["--quiet", "-m", "768M", "--sealed", f"{self.store}:{MOUNT}", "--image-key", str(self.key)]
        return [str(OCCLUM), "try", *options, "--", *argv]

    def promises_kept(self, store: Path, program: Program, *, read_only: bool) -> int:
        """Mounts, checks the store and what the program has in it."""
        with Store(store, read_key(self.key), read_only=read_only) as opened:
            findings = opened.check().findings
            require(findings == [], f"the store: {findings[:3]}")
            tree = self.folder / "tree"
            shutil.rmtree(tree, ignore_errors=True)
            opened.copy_out("/", tree)
        return program.check(tree)


def recorder(folder: Path) -> Path:
    """Compiles the recorder."""
    library = folder / "recorder.so"
    source = ROOT / "tools" / "store_recorder.c"
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


@dataclass(frozen=True)
class Step:
    """A write, a flush, or words that the program said."""

    kind: str
    at: int
    data: bytes


def read_log(path: Path) -> list[Step]:
    """What the recorder noted."""
    content, at, steps = path.read_bytes(), 0, []
    while at < len(content):
        kind, where, length = struct.unpack_from("<cQI", content, at)
        at += 13
        steps.append(Step(kind.decode(), where, content[at : at + length]))
        at += length
    return steps


def record(bench: Bench, program: Program, seed: int) -> tuple[bytes, list[Step]]:
    """The store before, and what happened to it."""
    before = bench.store.read_bytes()
    log = bench.folder / "log"
    log.unlink(missing_ok=True)
    env = dict(os.environ, LD_PRELOAD=str(recorder(bench.folder)), STORE_FILE=str(bench.store), STORE_LOG=str(log))
    command = bench.command(program.argv(program.rounds, seed))
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=900, check=False)
    require(done.returncode == 0, f"{program.name} ended with {done.returncode}: {done.stderr[-2000:]}")
    return before, read_log(log)


def promised(text: bytes) -> int:
    """The last promise among the words said so far; a line without end is none."""
    lines = text.split(b"\n")[:-1]
    numbers = [int(line) for line in lines if line.isdigit()]
    return numbers[-1] if numbers else 0


class Disk:
    """The file that a crash left, made again and again with few writes."""

    def __init__(self, path: Path, before: bytes) -> None:
        self.path, self.durable = path, bytearray(before)
        self.path.write_bytes(before)
        self.file = os.open(path, os.O_RDWR)
        self.touched: set[int] = set()
        self.volatile: list[tuple[int, bytes]] = []

    def flush(self) -> None:
        """Everything written is durable."""
        for at, data in self.volatile:
            self.durable[at : at + len(data)] = data
            self._put(at, self.durable[at : at + len(data)])
        self.volatile.clear()

    def _put(self, at: int, data: bytes | bytearray) -> None:
        os.pwrite(self.file, data, at)
        self.touched.update(range(at // BLOCK, (at + len(data) - 1) // BLOCK + 1))

    def restore(self) -> None:
        """The durable state again."""
        for block in self.touched:
            os.pwrite(self.file, self.durable[block * BLOCK : (block + 1) * BLOCK], block * BLOCK)
        self.touched.clear()

    def whole(self) -> None:
        """Everything written arrived."""
        self.restore()
        for at, data in self.volatile:
            self._put(at, data)

    def torn(self, rng: random.Random) -> None:
        """Some blocks are lost, some torn, all in any order."""
        self.restore()
        pieces: list[tuple[int, bytes]] = []
        keep = rng.random()
        for at, data in self.volatile:
            for start in range(0, len(data), BLOCK):
                block = data[start : start + BLOCK]
                luck = rng.random()
                if luck < keep:
                    pieces.append((at + start, block))
                elif luck < keep + (1 - keep) / 2:
                    sectors = range(0, len(block), SECTOR)
                    pieces += [(at + start + s, block[s : s + SECTOR]) for s in sectors if rng.random() < 0.5]
        rng.shuffle(pieces)
        for at, data in pieces:
            self._put(at, data)

    def copy(self, path: Path) -> Path:
        """A copy that may be written."""
        shutil.copyfile(self.path, path)
        return path


def crash(bench: Bench, program: Program, points: int, rng: random.Random) -> int:
    """Runs the program once and cuts its stream at every step; returns how many crash points were tried."""
    seed = rng.getrandbits(32)
    before, steps = record(bench, program, seed)
    disk, said, done = Disk(bench.folder / "crashed", before), b"", 0
    each = max(2, points // sum(s.kind == "W" for s in steps))
    for number, step in enumerate(steps):
        if step.kind == "A":
            said += step.data
            continue
        if step.kind == "F":
            disk.flush()
            continue
        disk.volatile.append((step.at, step.data))
        for i in range(each):
            if done >= points:
                return done
            disk.whole() if i == 0 else disk.torn(rng)
            read_only = rng.random() < 0.75
            store = disk.path if read_only else disk.copy(bench.folder / "mounted")
            where = f"{program.name}, seed {seed}, step {number} of {len(steps)}, crash {i}"
            try:
                kept = bench.promises_kept(store, program, read_only=read_only)
                require(kept >= promised(said), f"{kept} of {promised(said)} promises are kept")
            except (Violation, StoreError, sqlite3.DatabaseError) as error:
                failed = bench.folder.parent / f"violation-{number}"
                shutil.copyfile(store, failed)
                raise Violation(f"{where}: {error}; the store: {failed}, its key: {bench.key}") from error
            done += 1
    return done


def crashes(folder: Path, points: int, rng: random.Random) -> None:
    """All programs."""
    share = -(-points // len(PROGRAMS))
    for program in PROGRAMS:
        done = 0
        while done < share:
            bench = Bench(Path(tempfile.mkdtemp(dir=folder)))
            done += crash(bench, program, share - done, rng)
            shutil.rmtree(bench.folder)
        print(f"{program.name.replace(',', '')}: {done} crash points", flush=True)


def kills(folder: Path, times: int, rng: random.Random) -> None:
    """SIGKILL under load: each round goes on where the last was killed."""
    benches = [Bench(Path(tempfile.mkdtemp(dir=folder))) for _ in PROGRAMS]
    kept_before, kept_all = [0] * len(PROGRAMS), Counter[str]()
    for number in range(times):
        which = number % len(PROGRAMS)
        bench, program = benches[which], PROGRAMS[which]
        command = bench.command(program.argv(100_000, rng.getrandbits(32)))
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            assert process.stdout is not None
            first = process.stdout.readline()
            time.sleep(rng.random() ** 2)
            process.send_signal(signal.SIGKILL)
            said = first + process.stdout.read()
        require(first != b"", f"{program.name}: it did not start in round {number}")
        kept = bench.promises_kept(bench.store, program, read_only=False)
        last = max(promised(said), kept_before[which])
        require(kept >= last, f"{program.name}, kill {number}: {kept} of {last} promises are kept")
        kept_all[program.name] += kept - kept_before[which]
        kept_before[which] = kept
        if kept > 3000 or bench.store.stat().st_size == 0 or _full(bench):
            benches[which], kept_before[which] = Bench(Path(tempfile.mkdtemp(dir=folder))), 0
            shutil.rmtree(bench.folder)
    for name, count in kept_all.items():
        print(f"{name.replace(',', '')}: {count} commits kept", flush=True)
    print(f"kills: {times}")


def _full(bench: Bench) -> bool:
    with Store(bench.store, read_key(bench.key), read_only=True) as store:
        figures = store.figures()
    return figures.free * 3 < figures.blocks


def faults(folder: Path, times: int, rng: random.Random) -> None:
    """Calls of the host that fail: the program learns of it, what was promised stays, and it goes on afterwards."""
    library, seen = recorder(folder), Counter[str]()
    for number in range(times):
        bench = Bench(Path(tempfile.mkdtemp(dir="/var/tmp")))
        with Store(bench.store, read_key(bench.key)) as store:
            store.mkdir("/old")
            for i in range(1, 41):
                store.write_from(f"/old/{i}", io.BytesIO(bytes(30000)))
        call = ("pwrite", "fsync", "pread")[number % 3]
        error = rng.choice((errno.EIO, errno.ENOSPC, errno.EDQUOT, 0) if call == "pwrite" else (errno.EIO,))
        first, count = 1 + rng.randrange(50 if call == "pwrite" else 30), rng.choice((1, 1, 2, 5, 1000))
        fault = f"{call}:{first}:{count}:{error}"
        env = dict(os.environ, LD_PRELOAD=str(library), STORE_FILE=str(bench.store), STORE_FAULT=fault)
        env["STORE_ARMED"] = str(bench.folder / "armed")
        command = bench.command(["bash", "-c", PATIENT, "sh", "40", str(bench.folder)])
        # The folder is shared, so that the program can say when it is ready; little memory, so that it reads again.
        command[2:2] = ["-v", str(bench.folder)]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
        require("panic" not in done.stderr, f"{fault}: {done.stderr}")
        require(done.returncode in (0, 1), f"{fault}: status {done.returncode}: {done.stderr}")
        *words, _ = f"{done.stdout}\n".split("\n")
        kept = [int(w) for w in words if w.isdigit()]
        told = [w for w in words if w and not w.isdigit()]
        # A write that failed is tried again, so a fault that passes is no more than a delay, or one error.
        if call == "pwrite" and count <= 5 and error:
            require(40 in kept, f"{fault}: it did not go on: {kept} {told} {done.stderr}")
        require("wrong content" not in told, f"{fault}: wrong content")
        # A read that fails once is tried again without reading ahead.
        if call == "fsync" or (call == "pread" and count > 1):
            require("Input/output error" in "".join(told), f"{fault}: it was hidden: {kept} {told}")
        with Store(bench.store, read_key(bench.key)) as store:
            require(store.check().findings == [], f"{fault}: the store is not sound")
            for i in kept:
                content = store.read_bytes(f"/d{i % 9}/f{i}")
                require(content == bytes(i % 7 * 40000 + 9) + f"{i}\n".encode(), f"{fault}: file {i} is not as it was")
        seen[f"{call} {errno.errorcode.get(error, 'short')}"] += 1
        seen["told"] += bool(told)
        shutil.rmtree(bench.folder)
    print("; ".join(f"{name}: {n}" for name, n in sorted(seen.items())))
    print(f"faults: {times}")


# A place on each kind of mount, in the enclave that `_instance` describes.
KINDS = {"sealed": "/sealed", "overlay": "/data", "tmpfs": "/tmp", "hostfs": "/host"}


def _instance(folder: Path) -> tuple[page.Config, list[tuple[bytes, bytes]]]:
    """An enclave that mounts everything: an image below a sealed layer, a sealed store, a host's directory, tmpfs."""
    tree = folder / "tree"
    for name in ("dev", "proc", "tmp", "sealed", "host", "data", "usr", "programs"):
        (tree / name).mkdir(parents=True)
    for name in ("bin", "lib", "lib64"):
        (tree / name).symlink_to(f"usr/{name}")
    (tree / "data" / "file").write_bytes(b"from the image" * 1000)
    with Store.create(folder / "image", STORE_BYTES, None) as store:
        store.copy_in(tree, "/")
        store.sync()
        root = store.figures().root
    (folder / "host").mkdir()
    size = f"size={STORE_BYTES}"
    mounts = [
        page.Mount("/", page.SEALED_IMAGE, page.READ_ONLY, "image", root=root.ljust(page.ROOT_SIZE, b"\0")),
        page.Mount("/", page.SEALED_LAYER, 0, "layer", size),
        page.Mount("/sealed", page.SEALED_LAYER, 0, "sealed", size),
        page.Mount("/host", page.HOSTFS, 0, "host"),
        page.Mount("/usr", page.HOSTFS, page.READ_ONLY, "usr"),
        page.Mount("/programs", page.HOSTFS, page.READ_ONLY, "programs"),
        page.Mount("/dev", page.DEVFS),
        page.Mount("/proc", page.PROCFS),
        page.Mount("/tmp", page.RAMFS),
    ]
    # A small enclave: pages of files have to give way to each other.
    config = page.Config(256 << 20, 1, 16, 256, flags=page.DEBUG, cwd="/", entry_points=["/"], mounts=mounts)
    sources = {name: os.fsencode(folder / name) for name in ("image", "layer", "sealed", "host")}
    sources |= {"usr": b"/usr", "programs": os.fsencode(folder.parent), "counter": b"one"}
    return config, [(name.encode(), source) for name, source in sources.items()]


def inside(folder: Path, argv: list[str]) -> str:
    """Runs a program of `folder`'s parent, or of /usr, in the enclave of `_instance`; returns what it says."""
    folder.mkdir()
    config, sources = _instance(folder)
    arguments = [a.encode() for a in argv]
    parameters = _native.LaunchParams(
        program=arguments[0], argv=arguments, envp=[b"PATH=/bin", b"LC_ALL=C.UTF-8"], cwd=b"/", binds=[],
        sources=sources, hostname=b"host", uid=0, gid=0, flags=0,
    )  # fmt: skip
    said, mine = folder / "said", os.dup(1)
    with said.open("wb") as file:
        sys.stdout.flush()
        os.dup2(file.fileno(), 1)
    try:
        image, measured = read_image(), config.encode()
        signature = signing.development(signing.facts_of(config, _native.measure(image, measured)))
        identity = (signature, b"", 0)
        outcome = _native.run(image, measured, parameters, timeout_s=6 * 3600, identity=identity)
    finally:
        os.dup2(mine, 1)
        os.close(mine)
    text = said.read_text(errors="surrogateescape")
    ended = (outcome.kind, outcome.value)
    require(ended == ("exited", 0), f"{argv}: {ended} {outcome.message} {text[-2000:]}")
    return text


def fsx(folder: Path, operations: int, rng: random.Random) -> None:
    """`tests/guest/src/fsx.c` on every kind of mount."""
    source = ROOT / "tests" / "guest" / "src" / "fsx.c"
    subprocess.run(["gcc", "-O2", "-static", "-o", folder / "fsx", source], check=True)
    os.environ["OCCLUM_FUSE_KEY"] = str(folder / "fuse.key")
    for kind, place in KINDS.items():
        seed, start = rng.getrandbits(32), time.monotonic()
        text = inside(folder / kind, ["/programs/fsx", f"{place}/file", str(operations), str(seed)])
        unsupported = re.findall("not supported: (.*)", text)
        without = f", without {' '.join(unsupported)}" if unsupported else ""
        print(f"{kind}: {operations} operations in {time.monotonic() - start:.0f} s, seed {seed}{without}", flush=True)


# What is not compared on a kind of mount, by the begin of lines, and why.
OTHERWISE: dict[str, tuple[tuple[str, str], ...]] = {
    "sealed": (),
    "overlay": (
        ("paths: stat dot dot", "a directory that several layers show has one link"),
        ("paths: listdir dot dot", "the image has a file there"),
        ("renameat2 flags 4", "whiteouts are the overlay's own"),
        ("renameat2 flags 5", "whiteouts are the overlay's own"),
    ),
    "tmpfs": (("posix_fallocate", "within the file it changes no times"),),
}
# Differences that are printed.
SHOWN = 40


def rules(folder: Path, rng: random.Random) -> None:
    """`tests/guest/src/fs_rules.py` on the mounts that keep their own files, compared with this machine's /var/tmp.

    A host's directory has no FIFOs, sockets and devices, and its rights are those of the host's user.
    """
    seed = str(rng.getrandbits(32))
    shutil.copy(ROOT / "tests" / "guest" / "src" / "fs_rules.py", folder)
    os.environ["OCCLUM_FUSE_KEY"] = str(folder / "fuse.key")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as native:
        command = ["/usr/bin/python3", str(folder / "fs_rules.py"), native, seed]
        done = subprocess.run(command, capture_output=True, text=True, errors="surrogateescape", check=True)
    expected, bad = done.stdout.splitlines(), 0
    for kind in OTHERWISE:
        place = KINDS[kind]
        found = inside(folder / kind, ["/usr/bin/python3", "/programs/fs_rules.py", place, seed]).splitlines()
        differ = [(a, b) for a, b in itertools.zip_longest(expected, found, fillvalue="") if a != b]
        reasons = tuple(begin for begin, _ in OTHERWISE[kind])
        open_ones = [(a, b) for a, b in differ if not a.startswith(reasons)]
        for a, b in open_ones[:SHOWN]:
            print(f"{kind}:\n  here:   {a}\n  inside: {b}")
        known = len(differ) - len(open_ones)
        print(f"{kind}: {len(expected)} cases, {len(open_ones)} differ, {known} as stated", flush=True)
        bad += len(open_ones)
    require(bad == 0, f"seed {seed}: {bad} cases differ")


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("crashes", "kills", "faults", "fsx", "rules"))
    parser.add_argument("--points", type=int, default=20_000)
    parser.add_argument("--times", type=int, default=500)
    parser.add_argument("--operations", type=int, default=10_000_000)
    parser.add_argument("--seed", type=int, default=int(os.environ.get("OCCLUM_TEST_SEED", secrets.randbits(48))))
    options = parser.parse_args()
    print(f"OCCLUM_TEST_SEED={options.seed}", flush=True)
    rng = random.Random(options.seed)
    folder = Path(tempfile.mkdtemp(dir="/dev/shm", prefix="sealed-"))
    if options.what == "crashes":
        crashes(folder, options.points, rng)
    elif options.what == "kills":
        kills(folder, options.times, rng)
    elif options.what == "faults":
        faults(folder, options.times, rng)
    elif options.what == "fsx":
        fsx(folder, options.operations, rng)
    else:
        rules(folder, rng)
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
