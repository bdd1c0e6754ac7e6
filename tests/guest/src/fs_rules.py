# ruff: noqa: B023
"""The rules of POSIX and Linux for names, attributes and rights of files, one line for each case (pjdfstest's scope).

fs_rules.py DIRECTORY [SEED]. Every call is made with every kind of file and path that has a rule of its own; what it returns, and
what then can be seen of the files, is printed. Times are printed as what changed. The tests compare with another system.
"""

import ctypes
import errno
import itertools
import os
import random
import shutil
import stat
import sys
import time

LIBC = ctypes.CDLL(None, use_errno=True)
KINDS = ("file", "dir", "fifo", "block", "char", "socket", "link")
NOBODY, OTHER, THIRD = 65534, 65533, 65532
LONG = "x" * 255
LONG_AGO = 10**18


def make(kind, path, mode=0o644, owner=None):
    """A file of a kind."""
    if kind == "file":
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_EXCL, mode))
    elif kind == "dir":
        os.mkdir(path, mode)
    elif kind == "fifo":
        os.mkfifo(path, mode)
    elif kind == "block":
        os.mknod(path, stat.S_IFBLK | mode, os.makedev(1, 2))
    elif kind == "char":
        os.mknod(path, stat.S_IFCHR | mode, os.makedev(1, 2))
    elif kind == "socket":
        os.mknod(path, stat.S_IFSOCK | mode)
    else:
        os.symlink("test", path)
    if owner is not None:
        os.chown(path, *owner, follow_symlinks=False)
    if kind not in ("link", "socket", "fifo", "block", "char", "file", "dir"):
        raise ValueError(kind)


class User:
    """Acts as a user with groups."""

    def __init__(self, uid, gid=None, groups=()):
        self.uid, self.gid, self.groups = uid, uid if gid is None else gid, list(groups)

    def __enter__(self):
        os.setgroups(self.groups)
        os.setegid(self.gid)
        os.seteuid(self.uid)

    def __exit__(self, *_):
        os.seteuid(0)
        os.setegid(0)
        os.setgroups([])


ROOT = User(0)


def look(path):
    """What is there."""
    try:
        s = os.lstat(path)
    except OSError as e:
        return errno.errorcode[e.errno]
    size = s.st_size if not stat.S_ISDIR(s.st_mode) else "-"
    return f"{stat.filemode(s.st_mode)} {s.st_uid}:{s.st_gid} {s.st_nlink} {size}"


def times(path):
    """The three times, or nothing."""
    try:
        s = os.lstat(path)
    except OSError:
        return None
    return s.st_atime_ns, s.st_mtime_ns, s.st_ctime_ns


class Cases:
    """Runs cases in fresh directories and prints them."""

    def __init__(self, top):
        self.top, self.number, self.section = top, 0, ""

    def fresh(self, mode=0o755):
        """An empty directory, which becomes the current one."""
        os.chdir(self.top)
        shutil.rmtree("d", ignore_errors=True)
        os.mkdir("d", 0o755)
        os.chmod("d", mode)
        os.chdir("d")

    def case(self, label, call, *watch, user=ROOT, clock=(), accessed=False):
        """One call: result, the files that it concerns, and which of their times have changed."""
        for p in clock:
            try:
                os.utime(p, ns=(LONG_AGO, LONG_AGO), follow_symlinks=False)
            except OSError:
                pass
        before = {p: times(p) for p in clock}
        if clock:
            wait_for_clock()
        try:
            with user:
                result = call()
            text = "ok" if result is None else f"ok {result}"
        except OSError as e:
            text = errno.errorcode.get(e.errno, e.errno)
        changed = []
        for p in clock:
            after = times(p)
            if before[p] and after:
                # Reading may change the time of access or not: that is a choice of the mount.
                names = "amc" if accessed else "-mc"
                changed.append(
                    f"{p}:" + "".join(n if a != b else "-" for n, a, b in zip(names, before[p], after, strict=True))
                )
        seen = "; ".join(f"{p}={look(p)}" for p in watch)
        print(f"{self.section} {label}: {text} {seen} {' '.join(changed)}".rstrip())


def wait_for_clock():
    """Until times of files have moved on."""
    time.sleep(0.006)


C = None

# Each call with a path, as the rules for paths apply to it.
CALLS = {
    "chmod": lambda p: os.chmod(p, 0o600),
    "chown": lambda p: os.chown(p, 1, 1),
    "lchown": lambda p: os.chown(p, 1, 1, follow_symlinks=False),
    "link from": lambda p: os.link(p, "other"),
    "link to": lambda p: os.link("there", p),
    "mkdir": lambda p: os.mkdir(p, 0o755),
    "mkfifo": lambda p: os.mkfifo(p, 0o644),
    "mknod": lambda p: os.mknod(p, stat.S_IFREG | 0o644),
    "open": lambda p: os.close(os.open(p, os.O_RDONLY)),
    "open new": lambda p: os.close(os.open(p, os.O_CREAT | os.O_WRONLY, 0o644)),
    "open dir": lambda p: os.close(os.open(p, os.O_RDONLY | os.O_DIRECTORY)),
    "open excl": lambda p: os.close(os.open(p, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644)),
    "open nofollow": lambda p: os.close(os.open(p, os.O_RDONLY | os.O_NOFOLLOW)),
    "rename from": lambda p: os.rename(p, "other"),
    "rename to": lambda p: os.rename("there", p),
    "rmdir": os.rmdir,
    "symlink": lambda p: os.symlink("text", p),
    "readlink": os.readlink,
    "truncate": lambda p: os.truncate(p, 3),
    "unlink": os.unlink,
    "utimensat": lambda p: os.utime(p, ns=(5, 6)),
    "lutimensat": lambda p: os.utime(p, ns=(5, 6), follow_symlinks=False),
    "stat": lambda p: look_size(os.stat(p)),
    "access": lambda p: os.access(p, os.W_OK),
    "listdir": lambda p: sorted(os.listdir(p)),
    "chdir": lambda p: change_dir(p),
    "statvfs": lambda p: os.statvfs(p).f_namemax,
}


def look_size(s):
    return f"{stat.filemode(s.st_mode)} {s.st_nlink}"


def change_dir(path):
    here = os.open(".", os.O_RDONLY)
    try:
        os.chdir(path)
    finally:
        os.fchdir(here)
        os.close(here)


def paths():
    """Rules for paths, with every call."""
    long_path = "./" * 2047 + "f"
    given = {
        "empty": "", "missing": "no", "missing in the middle": "no/f", "a file in the middle": "file/f", "dot": ".",
        "dot dot": "..", "slash behind a file": "file/", "slash behind a directory": "dir/", "dir/.": "dir/.",
        "dir/..": "dir/..", "slash behind nothing": "no/", "255 bytes": LONG, "256 bytes": LONG + "x",
        "256 bytes in the middle": LONG + "x/f", "4095 bytes": long_path, "4096 bytes": "/" + long_path,
        "a loop": "loop", "a loop in the middle": "loop/f", "a dangling link": "dangling", "link to a file": "tofile",
        "link to a directory": "todir", "through a link": "todir/in", "slash behind a link": "todir/",
        "slash behind a link to a file": "tofile/", "forty links": "c39", "forty-one links": "c40", "NUL": "a\0b",
        "full directory": "dir", "file": "file", "fifo in the middle": "fifo/f", "double slash": ".//file",
    }  # fmt: skip
    for (name, call), (what, path) in itertools.product(CALLS.items(), given.items()):
        if what == "NUL" or (name.startswith("open") and "fifo" in what):
            continue
        C.fresh()
        C.section = f"paths: {name}"
        for f in ("file", "there"):
            make("file", f)
        make("dir", "dir", 0o755)
        make("file", "dir/in")
        make("fifo", "fifo")
        for text, link in (
            ("loop", "loop"),
            ("nowhere", "dangling"),
            ("file", "tofile"),
            ("dir", "todir"),
            ("file", "c0"),
        ):
            os.symlink(text, link)
        if "links" in what:
            for i in range(1, 42):
                os.symlink(f"c{i - 1}", f"c{i}")
        C.case(what, lambda: call(path), "file", "dir", "there", "other", "tofile", "dangling")


def kinds():
    """Every call on every kind of file, with the times of it and of its directory."""
    for (name, call), kind in itertools.product(CALLS.items(), KINDS):
        if name.startswith("open") and kind in ("fifo", "block", "char"):
            continue
        C.fresh()
        C.section = f"kinds: {name}"
        make("file", "there")
        make("file", "test")
        make(kind, "f")
        C.case(kind, lambda: call("f"), "f", "other", "test", "there", clock=("f", ".", "test", "there", "other"))


def rights():
    """Every call by users with and without rights, in directories of different modes."""
    users = {"owner": User(NOBODY), "group": User(OTHER, OTHER, [NOBODY]), "other": User(OTHER), "root": ROOT}
    names = [n for n in CALLS if n not in ("statvfs", "readlink")]
    for name, mode, (who, user) in itertools.product(
        names, (0o755, 0o700, 0o300, 0o500, 0o600, 0o070, 0o007, 0o1777), users.items()
    ):
        call = CALLS[name]
        C.fresh()
        C.section = f"rights: {name}"
        os.mkdir("top")
        os.chmod("top", mode)
        for f in ("top/f", "there"):
            make("file", f, 0o640, (NOBODY, NOBODY))
        os.chmod(".", 0o777)
        os.chown("top", NOBODY, NOBODY)
        target = (
            "top/new"
            if name in ("mkdir", "mkfifo", "mknod", "symlink", "open new", "open excl", "link to")
            else "top/f"
        )
        C.case(f"{mode:o} by {who}", lambda: call(target), "top/f", "top/new", "other", "there", user=user)


def opening():
    """Modes of a file against ways to open it."""
    flags = {
        "r": os.O_RDONLY,
        "w": os.O_WRONLY,
        "rw": os.O_RDWR,
        "trunc": os.O_RDONLY | os.O_TRUNC,
        "append": os.O_WRONLY | os.O_APPEND,
    }
    users = {
        "owner": User(NOBODY),
        "group": User(OTHER, NOBODY),
        "member": User(OTHER, OTHER, [THIRD, NOBODY]),
        "other": User(OTHER),
    }
    for bits, (flag, value), (who, user) in itertools.product(range(8), flags.items(), users.items()):
        for shift in (0, 3, 6):
            C.fresh()
            C.section = "open"
            make("file", "f", 0o666, (NOBODY, NOBODY))
            os.chmod("f", bits << shift)
            C.case(f"{bits << shift:03o} {flag} by {who}", lambda: os.close(os.open("f", value)), user=user)
    ways = {
        "r": os.O_RDONLY, "w": os.O_WRONLY, "rw": os.O_RDWR, "creat": os.O_RDONLY | os.O_CREAT, "wcreat": os.O_WRONLY | os.O_CREAT,
        "excl": os.O_WRONLY | os.O_CREAT | os.O_EXCL, "trunc": os.O_WRONLY | os.O_TRUNC, "dir": os.O_RDONLY | os.O_DIRECTORY,
        "dircreat": os.O_RDONLY | os.O_DIRECTORY | os.O_CREAT, "nofollow": os.O_RDONLY | os.O_NOFOLLOW, "path": os.O_PATH,
        "pathnofollow": os.O_PATH | os.O_NOFOLLOW, "tmpfile": os.O_RDWR | os.O_TMPFILE, "noatime": os.O_RDONLY | os.O_NOATIME,
    }  # fmt: skip
    for kind, (way, value) in itertools.product((*KINDS, "dangling"), ways.items()):
        C.fresh()
        C.section = f"open {kind}"
        make("file", "test") if kind == "link" else None
        make("link" if kind == "dangling" else kind, "f")
        if kind in ("block", "char"):
            continue
        C.case(way, lambda: os.close(os.open("f", value | os.O_NONBLOCK, 0o604)), "f", "test")
    for mask, mode in itertools.product((0, 0o022, 0o077, 0o777), (0, 0o777, 0o1777, 0o4755, 0o2755, 0o644)):
        C.fresh()
        C.section = f"mode {mode:o} with umask {mask:o}"
        old = os.umask(mask)
        C.case("open", lambda: os.close(os.open("f", os.O_CREAT | os.O_WRONLY, mode)), "f")
        C.case("mkdir", lambda: os.mkdir("d", mode), "d")
        C.case("mkfifo", lambda: os.mkfifo("p", mode), "p")
        C.case("mknod", lambda: os.mknod("n", stat.S_IFREG | mode), "n")
        os.umask(old)
    for mode, (who, user) in itertools.product(
        (0o777, 0o2777, 0o1777, 0o3777), (("root", ROOT), ("nobody", User(NOBODY)))
    ):
        C.fresh()
        C.section = f"new in {mode:o} by {who}"
        os.mkdir("t")
        os.chown("t", OTHER, THIRD)
        os.chmod("t", mode)
        for kind in KINDS:
            if who == "root" or kind not in ("block", "char"):
                C.case(kind, lambda: make(kind, f"t/{kind}", 0o2775), f"t/{kind}", "t", user=user)


def owners():
    """Who may change modes and owners, and what goes with it."""
    users = {"root": ROOT, "owner": User(NOBODY, NOBODY, [THIRD]), "stranger": User(OTHER, OTHER, [THIRD])}
    for (who, user), kind, mode in itertools.product(
        users.items(), ("file", "dir", "fifo", "link"), (0o755, 0o6755, 0o2644, 0o6711, 0o1777)
    ):
        for uid, gid in (
            (-1, -1),
            (NOBODY, -1),
            (OTHER, -1),
            (-1, NOBODY),
            (-1, THIRD),
            (-1, OTHER),
            (NOBODY, THIRD),
            (0, 0),
        ):
            C.fresh()
            C.section = f"chown {kind} {mode:o}"
            make(kind, "f", 0o777, (NOBODY, NOBODY))
            if kind != "link":
                os.chmod("f", mode)
            C.case(f"{uid}:{gid} by {who}", lambda: os.chown("f", uid, gid, follow_symlinks=False), "f", user=user)
    for (who, user), kind, mode in itertools.product(
        users.items(), ("file", "dir"), (0, 0o777, 0o1755, 0o2755, 0o4755, 0o7777)
    ):
        for gid in (NOBODY, THIRD, OTHER):
            C.fresh()
            C.section = f"chmod {kind}"
            make(kind, "f", 0o644, (NOBODY, gid))
            C.case(f"{mode:o} by {who}, group {gid}", lambda: os.chmod("f", mode), "f", user=user)
    for what, (who, user) in itertools.product(("write", "truncate", "ftruncate", "fallocate"), users.items()):
        for mode in (0o6777, 0o2767, 0o4777):
            C.fresh()
            C.section = f"{what} by {who}"
            make("file", "f", 0o777, (NOBODY, NOBODY))
            os.chmod("f", mode)
            C.case(f"{mode:o}", lambda: change_content(what), "f", user=user)


def change_content(what):
    if what == "truncate":
        return os.truncate("f", 5)
    f = os.open("f", os.O_RDWR)
    try:
        if what == "write":
            return os.write(f, b"x")
        return os.ftruncate(f, 7) if what == "ftruncate" else os.posix_fallocate(f, 0, 9)
    finally:
        os.close(f)


def renaming():
    """Every kind onto every kind, sticky directories, directories below themselves."""
    for old, new in itertools.product(KINDS, (*KINDS, "full", "nothing", "same")):
        C.fresh()
        C.section = f"rename {old}"
        os.mkdir("a")
        os.mkdir("b")
        make(old, "a/f")
        if new == "same":
            if old == "dir":
                continue
            os.link("a/f", "b/g", follow_symlinks=False)
        elif new == "full":
            os.mkdir("b/g")
            make("file", "b/g/x")
        elif new != "nothing":
            make(new, "b/g")
        C.case(f"over {new}", lambda: os.rename("a/f", "b/g"), "a/f", "b/g", "a", "b", clock=("a", "b", "b/g"))
    sticky = itertools.product((0o777, 0o1777), (NOBODY, OTHER), (NOBODY, OTHER, None), (NOBODY, OTHER))
    for mode, top, target, owner in sticky:
        for kind, (who, user) in itertools.product(("file", "dir"), (("nobody", User(NOBODY)), ("root", ROOT))):
            C.fresh()
            C.section = f"in {mode:o} of {top}"
            for d in ("t", "s"):
                os.mkdir(d)
                os.chmod(d, mode if d == "t" else 0o777)
                os.chown(d, top, top)
            for place in ("s/f", "t/out", "t/gone"):
                make(kind, place, 0o755, (owner, owner))
            if target is not None:
                make(kind, "t/g", 0o755, (target, target))
            label = f"{kind} of {owner} over {target} by {who}"
            C.case(f"rename {label}", lambda: os.rename("s/f", "t/g"), "s/f", "t/g", user=user)
            C.case(f"out {label}", lambda: os.rename("t/out", "s/out"), "t/out", "s/out", user=user)
            C.case(f"remove {label}", lambda: (os.rmdir if kind == "dir" else os.unlink)("t/gone"), "t/gone", user=user)
    for old, new in (("a", "a/b"), ("a", "a/b/c"), ("a/b", "a"), ("a", "a"), ("a/b", "a/b"), (".", "x"), ("a/.", "x"), ("a/..", "x"), ("x", "."), ("a", "b/.."), ("a", "/"), ("/", "a"), ("f", "f/"), ("f", "n/"), ("a", "n/"), ("a/", "n"), ("f/", "n"), ("l", "n/"), ("l/", "n")):  # fmt: skip
        C.fresh()
        C.section = "rename"
        os.makedirs("a/b")
        os.mkdir("b")
        make("file", "f")
        os.symlink("a", "l")
        C.case(f"{old} to {new}", lambda: os.rename(old, new), "a", "a/b", "n", "f", "l")
    for flags, old, new in itertools.product((1, 2, 4, 3, 5, 6, 8), ("f", "d", "no"), ("g", "e", "new", "f")):
        C.fresh()
        C.section = f"renameat2 flags {flags}"
        make("file", "f", 0o600)
        make("file", "g", 0o640)
        os.mkdir("d", 0o700)
        os.makedirs("e/x")
        C.case(f"{old} to {new}", lambda: rename2(old, new, flags), "f", "g", "d", "e", "new")


def checked(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "")


def rename2(old, new, flags):
    checked(LIBC.renameat2(-100, os.fsencode(old), -100, os.fsencode(new), flags))


def removing():
    """Links, names that are gone but open, directories that are not empty."""
    for kind in KINDS:
        C.fresh()
        C.section = f"links {kind}"
        make(kind, "f")
        C.case("link", lambda: os.link("f", "g", follow_symlinks=False), "f", "g", clock=("f", "."))
        C.case("again", lambda: os.link("f", "g", follow_symlinks=False), "f", "g")
        C.case("unlink", lambda: os.unlink("f"), "f", "g", clock=("g", "."))
        for other in KINDS:
            make(other, other)
            C.case(f"link over {other}", lambda: os.link("g", other, follow_symlinks=False), "g", other)
            C.case(f"symlink over {other}", lambda: os.symlink("t", other), other)
            C.case(f"mkdir over {other}", lambda: os.mkdir(other), other)
            C.case(f"mkfifo over {other}", lambda: os.mkfifo(other), other)
            C.case(f"mknod over {other}", lambda: os.mknod(other), other)
    C.fresh()
    C.section = "open and gone"
    make("file", "f")
    f = os.open("f", os.O_RDWR)
    os.write(f, b"content")
    C.case("unlink", lambda: os.unlink("f"), "f")
    C.case("fstat", lambda: (os.fstat(f).st_nlink, os.fstat(f).st_size))
    C.case("write", lambda: os.pwrite(f, b"more", 4))
    C.case("read", lambda: os.pread(f, 100, 0))
    C.case("fchmod", lambda: os.fchmod(f, 0o700))
    C.case("link by /proc", lambda: os.link(f"/proc/self/fd/{f}", "back", follow_symlinks=True), "back")
    os.close(f)
    os.makedirs("x/y")
    here = os.open("x/y", os.O_RDONLY)
    os.rmdir("x/y")
    C.case("list a removed directory", lambda: os.listdir(here))
    C.case("nlink of a removed directory", lambda: os.fstat(here).st_nlink)
    C.case("make in a removed directory", lambda: os.close(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=here)))
    C.case("mkdir in a removed directory", lambda: os.mkdir("f", dir_fd=here))
    C.case("link to a removed directory", lambda: os.link(here, "z") if False else os.symlink("t", "f", dir_fd=here))
    os.close(here)
    for depth, names in ((1, ()), (1, ("f",)), (2, ()), (1, ("a", "b"))):
        C.fresh()
        C.section = "rmdir"
        os.makedirs("/".join(["d"] * depth))
        for n in names:
            make("file", f"d/{n}")
        C.case(f"{depth} {names}", lambda: os.rmdir("d"), "d", ".", clock=(".",))
    C.case("of the root", lambda: os.rmdir("/"))


def lengths():
    """truncate, ftruncate, fallocate, and what they do to times and modes."""
    sizes = (0, 1, 4095, 4096, 4097, 1 << 20, (1 << 31) + 5)
    for old, new in itertools.product(sizes[:6], sizes):
        for how in ("truncate", "ftruncate"):
            C.fresh()
            C.section = f"{how} {old}"
            make("file", "f")
            os.truncate("f", old)
            C.case(f"to {new}", lambda: resize(how, new), "f", clock=("f",))
    for bad in (-1, -(1 << 62), (1 << 63) - 1, 1 << 62):
        C.fresh()
        C.section = "truncate"
        make("file", "f")
        # How long a file may be is the file system's own affair.
        if bad < 0:
            C.case(f"to {bad}", lambda: os.truncate("f", bad), "f")
    for flags, name in ((os.O_RDONLY, "r"), (os.O_RDWR, "rw"), (os.O_PATH, "path")):
        C.fresh()
        C.section = f"opened {name}"
        make("file", "f")
        f = os.open("f", flags)
        C.case("ftruncate", lambda: os.ftruncate(f, 10), "f")
        C.case("fallocate", lambda: os.posix_fallocate(f, 0, 20), "f")
        C.case("fchmod", lambda: os.fchmod(f, 0o600), "f")
        C.case("fchown", lambda: os.fchown(f, 1, 1), "f")
        C.case("futimens", lambda: os.utime(f, ns=(1, 2)), "f")
        C.case("read", lambda: os.read(f, 1))
        C.case("write", lambda: os.write(f, b"x"))
        os.close(f)
    for off, size in ((0, 1), (0, 5000), (10, 10), (4096, 4096), (100, 0), (-1, 10), (10, -1), (0, 1 << 20)):
        C.fresh()
        C.section = "posix_fallocate"
        make("file", "f")
        os.truncate("f", 50)
        f = os.open("f", os.O_RDWR)
        C.case(f"{off} {size}", lambda: os.posix_fallocate(f, off, size), "f", clock=("f",))
        os.close(f)


def resize(how, size):
    if how == "truncate":
        return os.truncate("f", size)
    f = os.open("f", os.O_RDWR)
    try:
        return os.ftruncate(f, size)
    finally:
        os.close(f)


def clocks():
    """utimensat: values, who may, what is left alone."""
    users = {"root": ROOT, "owner": User(NOBODY), "writer": User(OTHER, OTHER, [THIRD]), "stranger": User(12345)}
    now, omit = (1 << 30) - 1, (1 << 30) - 2
    pairs = {
        "now": None,
        "now now": (now, now),
        "now omit": (now, omit),
        "omit now": (omit, now),
        "omit omit": (omit, omit),
        "set": (7, 8),
        "set omit": (7, omit),
    }
    for (who, user), (what, pair), mode in itertools.product(
        users.items(), pairs.items(), (0o664, 0o644, 0o444, 0o666)
    ):
        C.fresh()
        C.section = f"utimensat {mode:o}"
        make("file", "f", 0o666, (NOBODY, THIRD))
        os.chmod("f", mode)
        C.case(f"{what} by {who}", lambda: set_times("f", pair), "f", user=user, clock=("f",))
    for seconds, ns in ((0, 0), (0, 999_999_999), (1, 1), (-1, 5), (1 << 31, 7), ((1 << 32) + 9, 8), (-(1 << 31), 0)):
        C.fresh()
        C.section = "utimensat"
        make("file", "f")
        os.symlink("f", "l")
        C.case(f"{seconds}.{ns}", lambda: os.utime("f", ns=(seconds * 10**9 + ns, seconds * 10**9 + ns)), "f")
        C.case("then", lambda: times("f")[:2])
        C.case("of the link", lambda: os.utime("l", ns=(5, 6), follow_symlinks=False) or times("l")[:2])
        C.case("of the file still", lambda: times("f")[:2])
    for ns in (1_000_000_000, -1, 1 << 31):
        C.case(f"nanoseconds {ns}", lambda: set_times("f", (ns, 0)), "f")


class Timespec(ctypes.Structure):
    _fields_ = (("s", ctypes.c_long), ("ns", ctypes.c_long))


def set_times(path, pair):
    two = (Timespec * 2)(*[Timespec(3, n) for n in pair]) if pair else None
    checked(LIBC.utimensat(-100, os.fsencode(path), two, 0))


def texts():
    """Symbolic links of every length, names of every byte."""
    for length in (0, 1, 59, 60, 61, 255, 256, 1023, 1024, 1025, 4000, 4095, 4096):
        C.fresh()
        C.section = "symlink"
        C.case(f"{length} bytes", lambda: os.symlink("x" * length, "l"), "l")
        C.case("read", lambda: len(os.readlink("l")))
    for byte in range(1, 256):
        C.fresh()
        C.section = "name"
        name = b"a" + bytes([byte]) + b"b"
        C.case(str(byte), lambda: os.mkdir(name) or os.listdir(b"."))
    for length in (1, 100, 254, 255, 256, 1000):
        C.fresh()
        C.section = "length"
        C.case(
            str(length), lambda: os.close(os.open("y" * length, os.O_CREAT | os.O_WRONLY)) or len(os.listdir(".")[0])
        )


def walks(seed):
    """Long random mixtures of all calls by changing users."""
    rng = random.Random(seed)
    users = (ROOT, User(NOBODY), User(OTHER, OTHER, [NOBODY]), User(THIRD, NOBODY))
    names = ["a", "b", "c", "a/x", "b/x", "c/y", "a/x/z", "b/x/y"]
    C.fresh(0o1777)
    C.section = "walk"
    for number in range(3000):
        p, q, user = rng.choice(names), rng.choice(names), rng.choice(users)
        what, call = rng.choice([
            ("mkdir", lambda: os.mkdir(p, rng_mode)), ("create", lambda: os.close(os.open(p, os.O_CREAT | os.O_WRONLY, rng_mode))),
            ("rmdir", lambda: os.rmdir(p)), ("unlink", lambda: os.unlink(p)), ("rename", lambda: os.rename(p, q)),
            ("link", lambda: os.link(p, q)), ("symlink", lambda: os.symlink(q.split("/")[0], p)), ("chmod", lambda: os.chmod(p, rng_mode)),
            ("chown", lambda: os.chown(p, rng_owner, rng_owner)), ("truncate", lambda: os.truncate(p, rng_mode)),
            ("exchange", lambda: rename2(p, q, 2)), ("list", lambda: sorted(os.listdir(p))), ("mkfifo", lambda: os.mkfifo(p, rng_mode)),
        ])  # fmt: skip
        rng_mode = rng.choice((0o777, 0o755, 0o700, 0o1777, 0o2775, 0o644, 0o4711))
        rng_owner = rng.choice((0, NOBODY, OTHER, -1))
        # A FIFO that is opened for writing would wait for a reader.
        if what == "create" and os.path.exists(p) and stat.S_ISFIFO(os.stat(p).st_mode):
            continue
        C.case(f"{number} {what} {p} {q} by {user.uid}", call, p, q, os.path.dirname(p) or ".", user=user)


def main():
    global C
    C = Cases(sys.argv[1])
    os.umask(0)
    for section in (paths, kinds, rights, opening, owners, renaming, removing, lengths, clocks, texts):
        section()
    walks(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    os.chdir(C.top)
    shutil.rmtree("d", ignore_errors=True)


main()
