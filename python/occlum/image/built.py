"""An instance that was built, as `run`, `start` and `exec` see it: what `build` left in `build/enclave.json`.

Neighbours: `instance` (writes it), `occlum._host` (runs it). Nothing slow is imported here. Invariants: the file is
replaced in one step, as the last one of a build, and names the image by its root; so what is read here is of one build.
"""

from __future__ import annotations

import base64
import errno
import fcntl
import hashlib
import json
import os
import re
from dataclasses import dataclass

from occlum.errors import OcclumError

MARKER = ".occlum"
DESCRIPTION = "build/enclave.json"
FORMAT = 2
COUNTER, IMAGE_KEY = "counter", "image-key"
CONFIGURATIONS = ("Occlum.toml", "Occlum.json")


class InstanceError(OcclumError):
    """An instance is none, is not built, or is in use."""

    code = "OC701"


def find(directory: str | None = None) -> str | None:
    """The instance that a directory is; by default the working directory."""
    directory = os.path.abspath(directory or ".")
    return directory if os.path.isdir(os.path.join(directory, MARKER)) else None


def require(directory: str | None = None) -> str:
    """The same. InstanceError if it is none."""
    if (found := find(directory)) is None:
        here = os.path.abspath(directory or ".")
        raise InstanceError(f"{here} is no instance", "change to one, or make one: `occlum new PATH`")
    return found


def enclave_name(instance: str) -> str:
    """The name under which an instance runs: its directory's, and a part that tells it from others of that name."""
    base = re.sub(r"[^A-Za-z0-9_.-]", "-", os.path.basename(instance)).lstrip("_.-")[:40] or "instance"
    return f"{base}-{hashlib.sha256(os.fsencode(os.path.realpath(instance))).hexdigest()[:8]}"


def file_digest(path: str) -> str:
    """SHA-256 of a file, hexadecimal; empty if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except OSError:
        return ""


@dataclass(frozen=True)
class Built:
    """What a build made."""

    instance: str
    config: bytes
    sources: dict[str, str]
    mrenclave: str
    weaknesses: list[str]
    command: list[str]
    # Digests of what it was built from.
    configuration: str
    runtime: str
    # SIGSTRUCT.
    signature: bytes
    # Something of it is opened by the image key.
    needs_image_key: bool

    def to_config(self) -> bytes:
        """The measured configuration."""
        return self.config

    def sigstruct(self) -> bytes:
        """Its signature."""
        return self.signature

    def variables(self) -> tuple[str, ...]:
        """Names of the variables whose values the host may set."""
        from occlum.config import page

        return tuple(page.Config.decode(self.config).env_untrusted)

    def host_sources(self, image_key: bytes | None = None) -> dict[str, str]:
        """Where on this machine the mount table's sources are, the name of its counters, and the image key.

        The directory for what is written is made.
        """
        if self.needs_image_key and image_key is None:
            raise InstanceError(
                "what this instance holds is encrypted by an image key", "give the key: --image-key FILE", "OC705"
            )
        if image_key is not None and not self.needs_image_key:
            fix = "leave the key out, or build with `occlum build --image-key FILE`"
            raise InstanceError("nothing of this instance is encrypted by an image key", fix, "OC705")
        os.makedirs(os.path.join(self.instance, "run"), exist_ok=True)
        paths = {name: os.path.normpath(os.path.join(self.instance, path)) for name, path in self.sources.items()}
        paths[COUNTER] = self._counter()
        if image_key is not None:
            paths[IMAGE_KEY] = image_key.hex()
        return paths

    def _counter(self) -> str:
        """What tells the counters of this instance from those of others with the same measurement: drawn once, in
        `run/counter`, so that whoever removes all of `run` begins afresh. InstanceError.
        """
        path = os.path.join(self.instance, "run", COUNTER)
        try:
            with open(path, encoding="ascii", errors="replace") as file:
                name = file.read().strip()
        except FileNotFoundError:
            name = os.urandom(16).hex()
            part = f"{path}.new-{os.getpid()}"
            with open(part, "w", encoding="ascii") as file:
                file.write(name + "\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        if not re.fullmatch("[0-9a-f]{32}", name):
            raise InstanceError(
                f"{path} is damaged: it names the counters of the layers",
                "put it back, or begin afresh: `occlum build --force`",
                "OC903",
            )
        return name

    def is_stale(self) -> bool:
        """Was the configuration changed since?"""
        digests = [file_digest(os.path.join(self.instance, name)) for name in CONFIGURATIONS]
        return self.configuration not in digests

    def banner(self) -> str:
        """What weakens it, for the banner; empty if nothing does."""
        return f"this instance is weaker than it could be: {', '.join(self.weaknesses)}" if self.weaknesses else ""

    def check_runtime(self, image: bytes) -> None:
        """InstanceError if it was built for another enclave image than this one."""
        if hashlib.sha256(image).hexdigest() != self.runtime:
            raise InstanceError(
                "this instance was built by another version of occlum, so its measurement would be another one",
                "build it again: `occlum build`",
                "OC702",
            )


def load(instance: str) -> Built:
    """What was built. InstanceError."""
    path = os.path.join(instance, DESCRIPTION)
    try:
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
        if data["format"] != FORMAT:
            raise ValueError("another format")
        return Built(
            instance=instance,
            config=base64.b64decode(data["config"], validate=True),
            sources={str(name): str(source) for name, source in data["sources"].items()},
            mrenclave=str(data["mrenclave"]),
            weaknesses=[str(text) for text in data["weaknesses"]],
            command=[str(word) for word in data["command"]],
            configuration=str(data["configuration"]),
            runtime=str(data["runtime"]),
            signature=base64.b64decode(data["signature"], validate=True),
            needs_image_key=bool(data["needs_image_key"]),
        )
    except FileNotFoundError:
        raise InstanceError(f"{instance} is not built", "build it: `occlum build`") from None
    except OSError as error:
        raise InstanceError(f"{path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InstanceError(f"{path} is damaged ({error})", "build again: `occlum build`") from None


class Lock:
    """Keeps others from building, or running, one instance at once; the kernel lets go of it with its process."""

    def __init__(self, instance: str, what: str, busy: str) -> None:
        path = os.path.join(instance, MARKER, f"{what}.lock")
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES) and hasattr(self, "_descriptor"):
                os.close(self._descriptor)
                raise InstanceError(f"{instance} {busy}", "wait for it, or stop it", "OC703") from None
            raise InstanceError(f"{path}: {error.strerror}") from None

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def run_lock(instance: str) -> Lock:
    """Held while an enclave of the instance runs."""
    return Lock(instance, "run", "is running already (its files have one user at a time)")


def build_lock(instance: str) -> Lock:
    """Held while it is built."""
    return Lock(instance, "build", "is being built")
