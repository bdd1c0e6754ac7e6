"""From settings to a served enclave, in the owner process.

Neighbours: `__main__` (starts this), `client` (writes the settings), `server` (the loop), `registry` (the name).
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import time
from typing import Any

from occlum import _native
from occlum._host import registry
from occlum._host.image import read_image
from occlum._host.launch import NOTHING_GIVEN, Bind, EnclaveOptions, Given, Launch, Measured
from occlum._host.server import Owner
from occlum.config import page
from occlum.errors import EnclaveError, OcclumError, refused


def _say(ready: int, answer: dict[str, Any]) -> None:
    """Tells the starter, who may be gone."""
    with contextlib.suppress(OSError):
        os.write(ready, json.dumps(answer).encode() + b"\n")
    os.close(ready)


def _told(error: OcclumError) -> dict[str, Any]:
    return {"error": error.cause, "fix": error.fix, "code": error.code}


def _as_ours(error: OcclumError | _native.NativeError | OSError) -> OcclumError:
    if isinstance(error, OcclumError):
        return error
    return EnclaveError(refused(error)) if isinstance(error, OSError) else EnclaveError.from_native(error)


def _more_descriptors() -> None:
    """Every program in the enclave has some of this process."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _own_streams(log: str) -> None:
    """Standard streams of its own: nobody's terminal, the log."""
    null = os.open(os.devnull, os.O_RDWR)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    for descriptor, source in ((0, null), (1, output), (2, output)):
        os.dup2(source, descriptor)
    os.close(null)
    os.close(output)


def _measured(settings: dict[str, Any], given: Given) -> tuple[Measured, dict[str, str]]:
    """What is measured, and where the sources of its mount table are."""
    if settings.get("instance") is None:
        return EnclaveOptions(**settings["options"]), {}
    # Only here.
    from occlum.image import built

    what = built.load(settings["instance"])
    what.check_runtime(read_image())
    # Held as long as this process lives.
    globals()["_instance_lock"] = built.run_lock(what.instance)
    return what, what.host_sources(given.image_key)


def _await_boot(enclave: _native.Resident, entry: registry.Entry) -> None:
    """Returns when the enclave answers. EnclaveError with what it said if it ended instead."""
    # No client's query has this number.
    enclave.query(0, _native.QUERY_STATS)
    while (event := enclave.next_event()) is None:
        select.select([enclave], [], [])
    if event[0] == 0:
        said = enclave.join().message.strip() or entry.log_tail().rpartition("\n")[2].removeprefix("occlum: ")
        error = EnclaveError.from_native(said or "it ended without a word")
        code = "OC312" if error.code == EnclaveError.code else error.code
        raise EnclaveError(f"the enclave did not start: {error.cause}", f"see `occlum explain {code}`", code)


def run(settings: dict[str, Any]) -> int:
    """Serves the enclave that the settings describe; the owner's exit status."""
    ready, lease = int(settings["ready"]), settings["lease"]
    for descriptor in (ready, lease):
        if descriptor is not None:
            os.set_inheritable(descriptor, False)
    try:
        given = Given.from_json(settings["given"]) if settings["given"] else NOTHING_GIVEN
        measured, sources = _measured(settings, given)
        config = page.Config.decode(measured.to_config())
        binds = [Bind(**bind) for bind in settings["binds"]]
        facts: dict[str, Any] = {"pid": os.getpid(), "started": time.time()}
        facts |= {"memory": config.memory_bytes, "cpus": config.vcpus, "shared_memory": page.sharing(config)}
        if not config.flags & page.HOST_VIEW:
            facts["variables"] = list(config.env_untrusted)
        claim = registry.Claim(settings["name"], facts)
    except OcclumError as error:
        _say(ready, _told(error))
        return 1
    try:
        _own_streams(str(claim.entry.path / registry.LOG))
        _more_descriptors()
        launch = Launch(
            argv=[""],
            env={},
            cwd="/",
            binds=binds,
            resident=True,
            sources=sources,
            network=given.network,
            publish=given.publish,
        )
        identity = (measured.sigstruct(), given.config_id, given.config_svn)
        publish = [published.to_native() for published in launch.publish]
        enclave = _native.Resident(
            read_image(), measured.to_config(), launch.to_native(), publish=publish, identity=identity
        )
        _await_boot(enclave, claim.entry)
        listener = claim.listen()
    except (OcclumError, _native.NativeError, OSError) as error:
        _say(ready, _told(_as_ours(error)))
        claim.release()
        return 1
    owner = Owner(enclave, listener, lease)
    _say(ready, {"ready": True})
    owner.serve()
    listener.close()
    if not owner.lost:
        claim.release()
        return 0
    # The directory stays: its log says why.
    os.write(2, f"occlum: the enclave is lost: {owner.lost}\n".encode())
    os._exit(1)
