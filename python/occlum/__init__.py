"""Occlum: a multi-process library OS for Intel SGX (simulated on this machine).

Public modules: `errors`, `sgx` (an executable specification of the SGX parts that Occlum uses). The command line is in
`cli`, which nothing imports; `_host` prepares and starts enclaves through the extension `_native`.
"""

from __future__ import annotations

__all__ = ["__version__"]


def __getattr__(name: str) -> str:
    # Lazily: reading the metadata costs more than the rest of the package.
    if name == "__version__":
        from importlib.metadata import version

        return version("occlum")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
