"""`subprocess`'s functions for programs in an enclave.

`Popen` is a subclass of subprocess's: that one makes the pipes, wraps them, and has the logic of `communicate`; here is
how a program is started, waited for and signalled, through the enclave's owner process (`_host.client`). The functions
take what subprocess's take. Each exists as a method of `Enclave` too; here they use the default enclave.

Neighbours: `enclave` (binds them to an enclave), `errors`. What differs from subprocess is listed in docs/sdk.md.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from occlum._host.client import FOREGROUND, Job, Program, StartFailed
from occlum.errors import CalledProcessError, EnclaveLost, TimeoutExpired, Unsupported

if TYPE_CHECKING:
    from occlum.enclave import Enclave

    _Base = subprocess.Popen[Any]
else:
    _Base = subprocess.Popen

__all__ = ["CompletedProcess", "Popen", "call", "check_call", "check_output", "getoutput", "getstatusoutput", "run"]

# What `restore_signals` of subprocess restores.
_RESTORED = 1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGXFSZ - 1)
# How long Ctrl-C waits for a program that may be about to end by itself.
_SIGINT_WAIT_S = 0.05


def _own_status() -> tuple[int, int]:
    """umask and ignored signals of this process: what a child would inherit. (Asking for the umask would change it.)"""
    descriptor = os.open("/proc/self/status", os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = os.read(descriptor, 1 << 14)
    finally:
        os.close(descriptor)

    def number(name: bytes, base: int) -> int:
        _, _, rest = text.partition(name)
        return int(rest.split(None, 1)[0], base)

    return number(b"Umask:", 8), number(b"SigIgn:", 16)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _inheritable() -> list[int]:
    """What a child would inherit with `close_fds=False`."""
    numbers = [int(entry.name) for entry in os.scandir("/proc/self/fd")]
    return [number for number in numbers if number > 2 and _is_open(number) and os.get_inheritable(number)]


def _text(word: Any) -> str:
    text = os.fsdecode(word)
    if "\0" in text:
        raise ValueError("embedded null byte")
    return text


def _environment(env: Mapping[Any, Any] | None) -> dict[str, str]:
    if env is None:
        return dict(os.environ)
    texts = {_text(key): _text(value) for key, value in env.items()}
    if any("=" in key for key in texts):
        raise ValueError("illegal environment variable name")
    return texts


def _words(args: Any, shell: bool, executable: Any) -> tuple[list[str], str]:
    """argv, and the program that `args` or `executable` names."""
    if isinstance(args, str | bytes):
        words: list[Any] = [args]
    elif isinstance(args, os.PathLike):
        if shell:
            raise TypeError("path-like args is not allowed when shell is true")
        words = [args]
    else:
        words = list(args)
    if shell:
        words = ["/bin/sh", "-c", *words]
        if executable:
            words[0] = executable
    if not words and executable is None:
        raise IndexError("args names no program")
    return [_text(word) for word in words], _text(words[0] if executable is None else executable)


class Popen(_Base):
    """A program in an enclave: see `subprocess.Popen`."""

    # The enclave that it runs in; `None`: the default one.
    _enclave: Enclave | None = None
    _job: Job | None = None

    if TYPE_CHECKING:
        # Of the base class, which does not declare them.
        _waitpid_lock: threading.Lock
        _sigint_wait_secs: float
        _child_created: bool

        def _close_pipe_fds(self, *descriptors: int) -> None: ...

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sigint_wait_secs = _SIGINT_WAIT_S

    def _execute_child(
        self,
        args: Any,
        executable: Any,
        preexec_fn: Callable[[], Any] | None,
        close_fds: bool,
        pass_fds: Collection[int],
        cwd: Any,
        env: Mapping[Any, Any] | None,
        startupinfo: Any,
        creationflags: int,
        shell: bool,
        p2cread: int,
        p2cwrite: int,
        c2pread: int,
        c2pwrite: int,
        errread: int,
        errwrite: int,
        restore_signals: bool,
        gid: int | None,
        gids: list[int] | None,
        uid: int | None,
        umask: int,
        start_new_session: bool,
        process_group: int,
    ) -> None:
        """Called by the constructor of subprocess's when pipes and files are there."""
        del startupinfo, creationflags
        if preexec_fn is not None:
            why = "the program starts inside an enclave, where this process's functions are not"
            raise Unsupported(f"preexec_fn is not supported: {why}", "do it in the program, or in sh -c")
        if process_group not in (-1, 0):
            raise Unsupported("a program in an enclave leads a group of its own", "leave process_group at 0")
        if (uid is not None or gid is not None or gids is not None) and os.geteuid() != 0:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        if any(number is not None and number >= 1 << 32 for number in (uid, gid)):
            raise OverflowError("a user or group id has 32 bits")
        if any(number >= 1 << 32 for number in gids or ()):
            raise ValueError("invalid extra_groups")
        words, program = _words(args, shell, executable)
        sys.audit("subprocess.Popen", executable or program, words, cwd, env)
        files = {n: p if p != -1 else n for n, p in enumerate((p2cread, c2pwrite, errwrite))}
        files = {n: p for n, p in files.items() if p != n or _is_open(n)}
        files |= {n: n for n in (sorted(map(int, pass_fds)) if close_fds else _inheritable()) if n not in files}
        own_umask, ignored = _own_status()
        wanted = Program(
            argv=words,
            program=program,
            env=_environment(env),
            cwd=self._directory(cwd),
            files=files,
            umask=own_umask if umask < 0 else umask,
            ignored=ignored & ~_RESTORED if restore_signals else ignored,
            uid=uid,
            gid=gid,
            groups=gids or (),
            no_terminal=start_new_session,
        )
        try:
            self._start(wanted, cwd, program)
        finally:
            self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)

    @staticmethod
    def _directory(cwd: Any) -> str:
        if cwd is not None:
            # Not normalised: `a/..` depends on what `a` is.
            return os.path.join(os.getcwd(), _text(cwd))  # noqa: PTH109, PTH118
        try:
            return os.getcwd()  # noqa: PTH109
        except FileNotFoundError:
            return "/"

    def _start(self, wanted: Program, cwd: Any, program: str) -> None:
        from occlum.enclave import default_enclave

        enclave = self._enclave or default_enclave()
        try:
            self._job = enclave._start(wanted)
        except StartFailed as error:
            if error.is_cwd and cwd is None:
                # Ours exists, but not for the enclave: subprocess never fails over a directory nobody asked for.
                wanted.cwd = "/"
                self._start(wanted, "/", program)
                return
            subject = cwd if error.is_cwd else program
            raise OSError(error.errno, os.strerror(error.errno), subject) from None
        self.pid = self._job.pid
        self._child_created = True

    def fileno(self) -> int:
        """A descriptor that becomes readable when the program ends: for selectors and event loops."""
        if self._job is None or self._job.status is not None:
            raise ValueError("the program has ended")
        return self._job.fileno()

    def _took(self, timeout: float | None) -> bool:
        """Waits at most so long; true if there is a return code. The lock is held."""
        assert self._job is not None
        if self._job.closed:
            # In a fork of the process that started it: nobody's child here, as waitpid says then.
            self.returncode = 0
            return True
        try:
            status = self._job.wait(timeout)
        except EnclaveLost:
            self.returncode = -signal.SIGKILL
            self._job.close()
            raise
        if status is not None:
            self.returncode = os.waitstatus_to_exitcode(status)
        return status is not None

    def _internal_poll(self, _deadstate: int | None = None, **_: Any) -> int | None:
        """Has it ended? Also called when the object is collected: nothing may be raised then."""
        if self.returncode is None and self._waitpid_lock.acquire(False):
            try:
                if self.returncode is None:
                    self._took(0)
            except EnclaveLost:
                if _deadstate is None:
                    raise
                self.returncode = _deadstate
            finally:
                self._waitpid_lock.release()
        return self.returncode

    def _wait(self, timeout: float | None) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        if self.returncode is None:
            # Another thread may wait already: then for that one.
            if not self._waitpid_lock.acquire(timeout=-1 if timeout is None else max(0.0, timeout)):
                raise TimeoutExpired(self.args, timeout or 0.0)
            try:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                if self.returncode is None and not self._took(left):
                    raise TimeoutExpired(self.args, timeout or 0.0)
            except KeyboardInterrupt:
                self._pass_interrupt_on()
                raise
            finally:
                self._waitpid_lock.release()
        assert self.returncode is not None
        return self.returncode

    def _pass_interrupt_on(self) -> None:
        """Ctrl-C at the terminal that the program was given is for it as well: the host's kernel does not know it."""
        if self.stdin is None and self._job is not None and _is_open(0) and os.isatty(0):
            self._job.signal(signal.SIGINT, FOREGROUND)

    def _communicate(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super()._communicate(*args, **kwargs)  # type: ignore[misc]
        except KeyboardInterrupt:
            self._pass_interrupt_on()
            raise

    def _check_timeout(self, *args: Any, **kwargs: Any) -> None:
        try:
            super()._check_timeout(*args, **kwargs)  # type: ignore[misc]
        except subprocess.TimeoutExpired as error:
            raise TimeoutExpired(error.cmd, error.timeout, error.output, error.stderr) from None

    def send_signal(self, sig: int) -> None:
        """Sends a signal, unless the program has ended."""
        number = int(sig)
        if self.poll() is not None:
            return
        if not 0 <= number <= 64:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        if number == 0 or self._job is None:
            return
        # A thread that waits for the program takes the answer; it is only sent then.
        alone = self._waitpid_lock.acquire(False)
        try:
            self._job.signal(number, wait=alone)
        finally:
            if alone:
                self._waitpid_lock.release()


class CompletedProcess(subprocess.CompletedProcess[Any]):
    """A program that has ended: see `subprocess.CompletedProcess`."""

    def check_returncode(self) -> None:
        """CalledProcessError if it did not succeed."""
        if self.returncode:
            raise CalledProcessError(self.returncode, self.args, self.stdout, self.stderr)


def run(
    *popenargs: Any,
    input: Any = None,
    capture_output: bool = False,
    timeout: float | None = None,
    check: bool = False,
    popen: type[Popen] = Popen,
    **kwargs: Any,
) -> CompletedProcess:
    """Runs a program to its end: see `subprocess.run`."""
    if input is not None:
        if kwargs.get("stdin") is not None:
            raise ValueError("stdin and input arguments may not both be used.")
        kwargs["stdin"] = subprocess.PIPE
    if capture_output:
        if kwargs.get("stdout") is not None or kwargs.get("stderr") is not None:
            raise ValueError("stdout and stderr arguments may not be used with capture_output.")
        kwargs["stdout"] = kwargs["stderr"] = subprocess.PIPE
    with popen(*popenargs, **kwargs) as process:
        try:
            stdout, stderr = process.communicate(input, timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        except BaseException:
            # Also Ctrl-C: communicate has waited for it as long as is polite.
            process.kill()
            raise
        status = process.poll()
    assert status is not None
    done = CompletedProcess(process.args, status, stdout, stderr)
    if check:
        done.check_returncode()
    return done


def call(*popenargs: Any, timeout: float | None = None, popen: type[Popen] = Popen, **kwargs: Any) -> int:
    """Runs a program; its return code: see `subprocess.call`."""
    with popen(*popenargs, **kwargs) as process:
        try:
            return process.wait(timeout=timeout)
        except BaseException:
            process.kill()
            raise


def check_call(*popenargs: Any, **kwargs: Any) -> int:
    """Runs a program that must succeed: see `subprocess.check_call`."""
    status = call(*popenargs, **kwargs)
    if status:
        raise CalledProcessError(status, kwargs.get("args") or popenargs[0])
    return 0


def check_output(*popenargs: Any, timeout: float | None = None, **kwargs: Any) -> Any:
    """The output of a program that must succeed: see `subprocess.check_output`."""
    for name in ("stdout", "check"):
        if name in kwargs:
            raise ValueError(f"{name} argument not allowed, it will be overridden.")
    if "input" in kwargs and kwargs["input"] is None:
        # As subprocess has it: no input is an empty one.
        is_text = any(kwargs.get(name) for name in ("universal_newlines", "text", "encoding", "errors"))
        kwargs["input"] = "" if is_text else b""
    return run(*popenargs, stdout=subprocess.PIPE, timeout=timeout, check=True, **kwargs).stdout


def getstatusoutput(
    cmd: Any, *, encoding: str | None = None, errors: str | None = None, **kwargs: Any
) -> tuple[int, str]:
    """Return code and output of a shell command: see `subprocess.getstatusoutput`."""
    try:
        data = check_output(
            cmd, shell=True, text=True, stderr=subprocess.STDOUT, encoding=encoding, errors=errors, **kwargs
        )
        status = 0
    except subprocess.CalledProcessError as error:
        data, status = error.output, error.returncode
    return status, data.removesuffix("\n")


def getoutput(cmd: Any, *, encoding: str | None = None, errors: str | None = None, **kwargs: Any) -> str:
    """Output of a shell command: see `subprocess.getoutput`."""
    return getstatusoutput(cmd, encoding=encoding, errors=errors, **kwargs)[1]


def bound_to(enclave: Enclave) -> type[Popen]:
    """`Popen` of that enclave."""
    return type("Popen", (Popen,), {"_enclave": enclave, "__module__": __name__, "__doc__": Popen.__doc__})
