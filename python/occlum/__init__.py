"""Occlum: a multi-process library OS for Intel SGX (simulated on this machine).

    import occlum

    occlum.run(["python3", "-c", "print(6*7)"], capture_output=True, text=True, check=True)

    with occlum.Enclave.from_host(memory="512M") as enclave:
        proc = enclave.Popen(["sort"], stdin=occlum.PIPE, stdout=occlum.PIPE, text=True)

The functions are those of `subprocess`, with its names, signatures and meaning; they run programs of this machine in an
enclave: the default one of this process, which the first call starts, or, as methods, the one that an `Enclave` stands
for. Further modules: `aio` (asyncio), `events`, `executor`, `errors`, `sgx` (an executable specification of the SGX
parts that Occlum uses). Importing this package imports nothing else until something of it is used. The command line is
in `cli`, which nothing imports; `_host` prepares and starts enclaves through the extension `_native`.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    # To the type checker the functions are subprocess's own, with its overloads: they have the same signatures.
    from subprocess import (
        DEVNULL,
        PIPE,
        STDOUT,
        CompletedProcess,
        Popen,
        call,
        check_call,
        check_output,
        getoutput,
        getstatusoutput,
        run,
    )
    from typing import Any

    import occlum.aio as aio
    from occlum.enclave import Enclave, default_enclave
    from occlum.errors import (
        CalledProcessError,
        EnclaveError,
        EnclaveLost,
        OcclumError,
        SubprocessError,
        TimeoutExpired,
        Unsupported,
    )
    from occlum.executor import EnclaveExecutor

    __version__: str

__all__ = [
    "PIPE",
    "STDOUT",
    "DEVNULL",
    "run",
    "Popen",
    "call",
    "check_call",
    "check_output",
    "getoutput",
    "getstatusoutput",
    "CompletedProcess",
    "CalledProcessError",
    "TimeoutExpired",
    "SubprocessError",
    "Enclave",
    "default_enclave",
    "EnclaveExecutor",
    "aio",
    "OcclumError",
    "EnclaveError",
    "EnclaveLost",
    "Unsupported",
    "__version__",
]

# Name -> the module that has it.
_PLACES = {
    **dict.fromkeys(("PIPE", "STDOUT", "DEVNULL"), "subprocess"),
    **dict.fromkeys(("run", "Popen", "call", "check_call", "check_output", "CompletedProcess"), "occlum.process"),
    **dict.fromkeys(("getoutput", "getstatusoutput"), "occlum.process"),
    **dict.fromkeys(("Enclave", "default_enclave"), "occlum.enclave"),
    **dict.fromkeys(("OcclumError", "EnclaveError", "EnclaveLost", "Unsupported"), "occlum.errors"),
    **dict.fromkeys(("CalledProcessError", "TimeoutExpired", "SubprocessError"), "occlum.errors"),
    "EnclaveExecutor": "occlum.executor",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        # Reading the metadata costs more than the rest of the package.
        from importlib.metadata import version

        return version("occlum")
    if name == "aio":
        place, found = "occlum.aio", None
    elif name in _PLACES:
        place, found = _PLACES[name], name
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    __import__(place)
    module = sys.modules[place]
    value = module if found is None else getattr(module, found)
    globals()[name] = value
    return value


def load_ipython_extension(shell: Any) -> None:
    """For `%load_ext occlum`."""
    from occlum.ipython import load

    load(shell)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
