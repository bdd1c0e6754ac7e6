#!/usr/bin/env python3
"""Compiles one crate of the enclave image: what cargo calls in place of rustc (build_enclave.py says so).

Cargo has one set of flags for all crates, but the ciphers of stores get AVX and nothing else does: the upper vector
halves are programs' while the LibOS runs, unless it has saved them (`occlum_rt::ocall::save_vectors`). The crates that
the ciphers are put together from, and the one where that is done, must agree on it, or nothing is inlined. They are
told that this is SGX, where `cpufeatures` does not ask with CPUID: what was not named is not there.
"""

from __future__ import annotations

import os
import sys

WITH_AVX = {
    "aes", "aes_gcm", "aead", "cipher", "ctr", "ghash", "inout", "polyval", "universal_hash", "occlum_sealed_disk",
}  # fmt: skip


def main() -> None:
    """Becomes rustc."""
    command = sys.argv[1:]
    name = command[command.index("--crate-name") + 1] if "--crate-name" in command else ""
    if name in WITH_AVX:
        command += ["-Ctarget-feature=+avx", '--cfg=target_env="sgx"', "-Aexplicit_builtin_cfgs_in_flags"]
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
