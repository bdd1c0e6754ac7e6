"""`Enclave`: a running enclave, and what can be done with it.

It lives in an owner process of its own (`_host`); this object is a client, so nothing of the enclave's is in this
process: no signal handler, no thread, no mapping. Invariants: an enclave that this process started ends with it,
whatever way it ends (the lease: a pipe whose other end the owner watches); a fork of this process has no part in the
lease.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import itertools
import os
import threading
import time
import warnings
import weakref
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from occlum._host import registry
from occlum._host.client import Connection, Job, Program, ask, start_owner
from occlum._host.protocol import VERSION
from occlum.errors import EnclaveError, EnclaveLost, OptionError

if TYPE_CHECKING:
    import subprocess
    import tempfile

    from occlum._host.launch import Given
    from occlum.events import Event, Process
    from occlum.fs import FileSystem

    F = TypeVar("F")

    class _Same(Generic[F]):
        """An attribute with the type of a function, overloads and all (`staticmethod` would lose them)."""

        def __init__(self, function: F) -> None: ...
        def __get__(self, instance: object, owner: type | None = None) -> F: ...


__all__ = ["Enclave", "default_enclave"]

# How long the programs of an enclave that is closed may take to end by themselves.
CLOSE_GRACE_S = 1.0

_counter = itertools.count(1)
_open: weakref.WeakSet[Enclave] = weakref.WeakSet()
_default_lock = threading.Lock()
_default: Enclave | None = None


def _outside(publish: Iterable[str], network: str) -> Given:
    """What reaches an enclave, and what it reaches. OptionError."""
    from occlum._host import launch

    if network not in launch.NETWORKS:
        raise OptionError(f"{network!r} is no network", f"give one of {launch.NETWORKS}")
    return launch.Given(network=network, publish=tuple(launch.Publish.parse(text) for text in publish))


class Enclave:
    """A running enclave. Close it, or use it in a `with` statement.

    Make one with `from_host`, `from_instance`, `from_oci` or `attach`.
    """

    if TYPE_CHECKING:
        # To the type checker the methods are subprocess's functions, which they are like.
        Popen = subprocess.Popen
        run = _Same(subprocess.run)
        call = _Same(subprocess.call)
        check_call = _Same(subprocess.check_call)
        check_output = _Same(subprocess.check_output)
        getoutput = _Same(subprocess.getoutput)
        getstatusoutput = _Same(subprocess.getstatusoutput)

    def __init__(self, name: str, lease: int | None = None) -> None:
        """Not for callers: `from_host` and `attach` do it."""
        self._entry = registry.entry(name)
        self._lease = lease
        self._owned_by = os.getpid() if lease is not None else None
        self._closed = False
        # Of one that was built for the occasion; a fork of this process leaves it alone.
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        # The default enclave is nobody's to close.
        self._quiet = False
        _open.add(self)

    @classmethod
    def from_host(
        cls,
        *,
        memory: str | int = "2G",
        cpus: int = 2,
        max_tasks: int | None = None,
        cfi: str | None = None,
        no_alias: bool = False,
        binds: Iterable[str] = (),
        publish: Iterable[str] = (),
        network: str = "outbound",
    ) -> Enclave:
        """Starts an enclave of this machine's programs.

        Args:
            memory: its memory, like "512M" or a number of bytes (measured).
            cpus: host threads that may run in it at once (measured).
            max_tasks: most processes and threads at once (measured).
            cfi: control-flow integrity: "default", "strict" or "shadow-stack" (measured).
            no_alias: shared memory as on hardware, where no page is in two places at once (measured).
            binds: directories shared with its programs, as `occlum try -v` takes them: "PATH", "HOST:GUEST", and ":ro".
            publish: ports of this machine that lead to ones inside, as `occlum try -p` takes them: "8080:80".
            network: what can be reached from inside: "none", "outbound" or "host".
        """
        # What only a start needs.
        from occlum._host import launch, units

        memory_bytes = units.parse_size(memory) if isinstance(memory, str) else memory
        options: dict[str, Any] = {"memory_bytes": memory_bytes, "cpus": cpus, "no_alias": no_alias}
        if max_tasks is not None:
            options["max_tasks"] = max_tasks
        if cfi is not None:
            options["cfi"] = cfi
        if not 1 <= cpus <= 64:
            raise OptionError(f"{cpus} is no number of CPUs", "give 1 to 64")
        if cfi not in (None, *launch.CFI_LEVELS):
            raise OptionError(f"{cfi!r} is no level of control-flow integrity", f"give one of {launch.CFI_LEVELS}")
        # For its errors.
        launch.EnclaveOptions(**options)
        shared = [launch.Bind.parse(bind)._asdict() for bind in binds]
        name = f"sdk-{os.getpid()}-{next(_counter)}"
        return cls(name, start_owner(name, options, shared, leased=True, given=_outside(publish, network)))

    @classmethod
    def from_instance(
        cls,
        path: str | os.PathLike[str],
        *,
        image_key: str | os.PathLike[str] | None = None,
        config_id: bytes = b"",
        config_svn: int = 0,
        publish: Iterable[str] = (),
        network: str = "outbound",
    ) -> Enclave:
        """Starts the enclave of an instance that `occlum build` has built; its configuration says all that is measured.

        Programs are those of its image, as far as `entry_points` lists them, with the configuration's environment: of
        `env`, and of this process's, only variables that `env.untrusted` names reach them.

        Args:
            path: the instance's directory.
            image_key: the file with the key of what `occlum build --image-key` has encrypted.
            config_id: CONFIGID, up to 64 bytes; needs key separation and sharing (`metadata.enable_kss`).
            config_svn: CONFIGSVN.
            publish: as of `from_host`.
            network: as of `from_host`.
        """
        # What only a start needs.
        from occlum.image import built

        if len(config_id) > 64 or not 0 <= config_svn < 1 << 16:
            raise OptionError("a CONFIGID has at most 64 bytes, and a CONFIGSVN 16 bits")
        key = None
        if image_key is not None:
            from pathlib import Path

            from occlum.keys import read_key

            key = read_key(Path(image_key))
        instance = built.require(os.fspath(path))
        built.load(instance)
        padded = config_id.ljust(64, b"\0") if config_id else b""
        given = _outside(publish, network)._replace(config_id=padded, config_svn=config_svn, image_key=key)
        name = f"sdk-{os.getpid()}-{next(_counter)}"
        return cls(name, start_owner(name, {}, leased=True, instance=instance, given=given))

    @classmethod
    def from_oci(cls, file: str | os.PathLike[str]) -> Enclave:
        """Builds an enclave of an OCI image and starts it: environment, user and working directory are the image's.

        The build is kept in a temporary directory until the enclave is closed. To keep it, or to change limits, make an
        instance: `occlum new --oci FILE`.

        Args:
            file: a docker-archive, or an OCI layout as a file or directory.
        """
        import tempfile
        from pathlib import Path

        from occlum.image import instance

        folder = tempfile.TemporaryDirectory(prefix="occlum-oci-")
        try:
            place = Path(folder.name) / "instance"
            place.mkdir()
            instance.create(place, settings={"oci": str(Path(file).absolute())})
            instance.build(place)
            enclave = cls.from_instance(place)
        except BaseException:
            folder.cleanup()
            raise
        enclave._folder = folder
        return enclave

    @classmethod
    def attach(cls, name: str) -> Enclave:
        """The enclave that `occlum start --name NAME` started. It goes on when this object is closed."""
        enclave = cls(name)
        enclave._quiet = True
        if not enclave._entry.is_alive():
            raise EnclaveError(
                f"no enclave named {name} is running", f"start it: `occlum start --name {name}`", "OC302"
            )
        return enclave

    # The functions of subprocess.

    if not TYPE_CHECKING:

        @functools.cached_property
        def Popen(self) -> type:
            """`subprocess.Popen` for this enclave."""
            from occlum.process import bound_to

            return bound_to(self)

        def __getattr__(self, name: str) -> Any:
            if name not in ("run", "call", "check_call", "check_output", "getoutput", "getstatusoutput"):
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            from occlum import process

            return functools.partial(getattr(process, name), popen=self.Popen)

    # The rest.

    @property
    def name(self) -> str:
        """Its name, for `occlum exec -n NAME` and its like."""
        return self._entry.name

    @property
    def closed(self) -> bool:
        """Has it been closed here?"""
        return self._closed

    @property
    def stats(self) -> dict[str, int]:
        """Counters of the enclave: memory in use, processes, translated bytes, and more."""
        text = str(ask(self._usable(), {"do": "query", "what": "stats"})["text"])
        pairs = (line.partition("=") for line in text.splitlines())
        return {name: int(value) for name, _, value in pairs}

    def processes(self) -> list[Process]:
        """The processes in it."""
        from occlum.events import Process

        text = str(ask(self._usable(), {"do": "query", "what": "processes"})["text"])
        return [Process.parse(line) for line in text.splitlines()]

    @contextlib.contextmanager
    def events(self) -> Iterator[Iterator[Event]]:
        """What happens in it from now on: starts and ends of processes, as an iterator that waits for the next one.

        `with enclave.events() as events: for event in events: ...`; the iterator ends with the enclave.
        """
        from occlum.events import parse

        connection = Connection(self._usable())
        try:
            connection.send({"v": VERSION, "do": "watch"})
            connection.receive()
            messages = iter(connection.receive, None)
            yield (
                event
                for message in itertools.takewhile(lambda message: message and message["event"] != "over", messages)
                if message is not None and (event := parse(message)) is not None
            )
        finally:
            connection.close()

    @functools.cached_property
    def fs(self) -> FileSystem:
        """The files that its programs see."""
        from occlum.fs import FileSystem

        return FileSystem(self)

    def _usable(self) -> registry.Entry:
        if self._closed:
            raise EnclaveError(f"the enclave {self.name} is closed", "start another", "OC304")
        return self._entry

    def _start(self, program: Program) -> Job:
        return Job(self._usable(), program)

    def close(self, grace: float = CLOSE_GRACE_S) -> None:
        """Ends the enclave: its programs get SIGTERM, and `grace` seconds. One that was attached to goes on."""
        if self._closed:
            return
        self._closed = True
        lease, self._lease = self._lease, None
        if lease is None or self._owned_by != os.getpid():
            return
        try:
            with contextlib.suppress(EnclaveError):
                ask(self._entry, {"do": "stop", "grace": grace})
        finally:
            os.close(lease)
        # Also of a killed one: it holds its lock until its memory is gone.
        self._await_end()
        if self._entry.path.exists() and not self._entry.is_alive():
            # What a lost one left.
            self._entry.remove()
        if self._folder is not None:
            self._folder.cleanup()

    def _await_end(self) -> None:
        """Waits for the owner's last steps, which take milliseconds."""
        deadline = time.monotonic() + CLOSE_GRACE_S
        while self._entry.is_alive() and time.monotonic() < deadline:
            time.sleep(0.001)

    def __enter__(self) -> Enclave:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True) and self._lease is not None:
            self._warn()
            os.close(self._lease)
            self._closed = True

    def _warn(self) -> None:
        if not self._quiet:
            warnings.warn(f"unclosed enclave {self!r}", ResourceWarning, source=self, stacklevel=3)

    def __repr__(self) -> str:
        return f"<occlum.Enclave {self.name}{' (closed)' if self._closed else ''}>"


def default_enclave() -> Enclave:
    """The enclave that the functions of the package use: started by the first call, ended with this process."""
    global _default
    with _default_lock:
        if _default is not None and (_default.closed or not _default._entry.is_alive()):
            with contextlib.suppress(EnclaveLost):
                _default.close()
            _default = None
        if _default is None:
            _default = Enclave.from_host()
            _default._quiet = True
        return _default


def _at_exit() -> None:
    """Enclaves end with the process anyway; here, those that were forgotten get named."""
    for enclave in list(_open):
        if not enclave.closed and enclave._lease is not None:
            enclave._warn()
            # No grace: the interpreter is leaving.
            enclave.close(grace=0.0)


def _after_fork() -> None:
    """A child process has no part in its parent's enclaves, except by their names."""
    global _default, _default_lock
    _default, _default_lock = None, threading.Lock()
    for enclave in list(_open):
        lease, enclave._lease = enclave._lease, None
        if lease is not None:
            os.close(lease)


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_after_fork)
