"""A numpy job in an enclave: the workers of an executor are Python processes inside.

    python examples/numpy_job.py [PYTHON]

PYTHON is the interpreter inside: of the same minor version as this one, with numpy and cloudpickle. On Debian:
apt install python3-numpy python3-cloudpickle, and /usr/bin/python3.
"""

from __future__ import annotations

import sys

import occlum


def largest_eigenvalue(size: int) -> float:
    """Of the Hilbert matrix of that size. This runs inside."""
    import numpy

    matrix = numpy.fromfunction(lambda i, j: 1.0 / (i + j + 1), (size, size))
    return float(numpy.linalg.eigvalsh(matrix)[-1])


def main() -> None:
    """Three sizes on two workers."""
    python = sys.argv[1] if len(sys.argv) > 1 else sys.executable
    sizes = (10, 20, 40)
    with (
        occlum.Enclave.from_host(memory="2G") as enclave,
        occlum.EnclaveExecutor(2, enclave=enclave, python=python) as executor,
    ):
        for size, value in zip(sizes, executor.map(largest_eigenvalue, sizes), strict=True):
            print(f"{size:3} {value:.4f}")


if __name__ == "__main__":
    main()
