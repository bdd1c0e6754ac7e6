"""Signs instances: a SIGSTRUCT from a key file, from an external command that has the key (an HSM), or by nobody in
particular: the development key.

Neighbours: `occlum.sgx.sigstruct` (what is signed), `instance` (asks for it while it builds), `built` (keeps it). Keys
are RSA-3072 with exponent 3, as SGX demands.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from occlum._host.image import read_image
from occlum.config import page
from occlum.errors import OcclumError
from occlum.image import built
from occlum.sgx import layout, measurement, sigstruct

_COMMAND_TIMEOUT_S = 300
_DEVELOPMENT_KEY = Path(sigstruct.__file__).with_name("development.pem")

# Makes the SIGSTRUCT of what it is told.
Signer = Callable[[sigstruct.Facts], bytes]


class SigningError(OcclumError):
    """A key, or a signature, is not what SGX demands."""

    code = "OC730"


def generate_key(path: Path) -> bytes:
    """Writes a new signing key to a file that only its owner can read; its MRSIGNER."""
    # cryptography refuses e=3 for new keys as too small in general; openssl makes what SGX demands.
    command = ["openssl", "genrsa", "-3", str(sigstruct.KEY_SIZE * 8)]
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SigningError(f"{path}: {error.strerror}", "name a new file") from None
    try:
        with open(descriptor, "wb") as file:
            file.write(subprocess.run(command, capture_output=True, check=True).stdout)
        return sigstruct.mrsigner(load_key(path).public_key().public_numbers().n)
    except BaseException as error:
        path.unlink()
        if isinstance(error, OSError | subprocess.SubprocessError):
            raise SigningError("openssl cannot make a key", "install openssl") from None
        raise


def load_key(path: Path) -> rsa.RSAPrivateKey:
    """A private key of the kind that SGX demands."""
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise SigningError(f"{path}: {error.strerror}") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise SigningError(f"{path} is no private key in PEM, without a password") from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise SigningError(f"{path} is no RSA key", "make one: `occlum gen-sign-key FILE`")
    _check(key.public_key(), path)
    return key


def load_public_key(path: Path) -> rsa.RSAPublicKey:
    """A public key of the kind that SGX demands, for an external command."""
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise SigningError(f"{path}: {error.strerror}") from None
    except (ValueError, UnsupportedAlgorithm):
        raise SigningError(f"{path} is no public key in PEM") from None
    if not isinstance(key, rsa.RSAPublicKey):
        raise SigningError(f"{path} is no RSA key")
    _check(key, path)
    return key


def _check(key: rsa.RSAPublicKey, path: Path) -> None:
    numbers = key.public_numbers()
    if key.key_size != sigstruct.KEY_SIZE * 8 or numbers.e != sigstruct.EXPONENT:
        found = f"{key.key_size} bits and exponent {numbers.e}"
        raise SigningError(f"{path} has {found}; SGX demands 3072 bits and exponent 3", "`occlum gen-sign-key FILE`")


def facts_of(config: page.Config, mrenclave: bytes) -> sigstruct.Facts:
    """What a SIGSTRUCT says about an enclave, but for the date."""
    return sigstruct.Facts(
        mrenclave=mrenclave,
        product_id=config.product_id,
        svn=config.svn,
        debug=bool(config.flags & page.DEBUG),
        kss=bool(config.flags & page.KSS),
        family_id=config.family_id,
        ext_product_id=config.ext_product_id,
    )


def development(facts: sigstruct.Facts) -> bytes:
    """Signs by the key that everybody has: the same bytes each time."""
    return sign(facts, load_key(_DEVELOPMENT_KEY))


def is_development(mrsigner: bytes) -> bool:
    """Is it the development key's?"""
    return mrsigner == sigstruct.mrsigner(load_key(_DEVELOPMENT_KEY).public_key().public_numbers().n)


def signer(key: Path | None, command: str | None, public: Path | None) -> Signer | None:
    """Signs as the options say; `None` if they say nothing. SigningError before anything is built."""
    if key is not None:
        private = load_key(key)
        return lambda facts: sign(_today(facts), private)
    if command is None:
        return None
    if public is None:
        raise SigningError("an external signing command needs the public key", "give it: --sign-cert FILE")
    known = load_public_key(public)
    return lambda facts: sign_by_command(_today(facts), command, known)


def _today(facts: sigstruct.Facts) -> sigstruct.Facts:
    return replace(facts, date=int(datetime.now(UTC).strftime("%Y%m%d")))


def sign(facts: sigstruct.Facts, key: rsa.RSAPrivateKey) -> bytes:
    """The SIGSTRUCT, by a key."""
    message = sigstruct.to_sign(sigstruct.unsigned(facts))
    signature = key.sign(message, padding.PKCS1v15(), hashes.SHA256())
    return sigstruct.signed(facts, key.public_key().public_numbers().n, int.from_bytes(signature, "big"))


def sign_by_command(facts: sigstruct.Facts, command: str, public: rsa.RSAPublicKey) -> bytes:
    """The SIGSTRUCT, by a shell command that reads what is to be signed and prints the signature (384 bytes)."""
    message = sigstruct.to_sign(sigstruct.unsigned(facts))
    try:
        done = subprocess.run(
            command, shell=True, input=message, stdout=subprocess.PIPE, timeout=_COMMAND_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise SigningError(f"the signing command took more than {_COMMAND_TIMEOUT_S} s") from None
    if done.returncode or len(done.stdout) != sigstruct.KEY_SIZE:
        what = f"ended with status {done.returncode} and printed {len(done.stdout)} bytes"
        raise SigningError(f"the signing command {what}", "it has to print a PKCS #1 v1.5 signature of 384 bytes")
    try:
        return sigstruct.signed(facts, public.public_numbers().n, int.from_bytes(done.stdout, "big"))
    except ValueError as error:
        raise SigningError(f"the signing command has signed something else: {error}") from None


def read_signature(what: built.Built) -> sigstruct.Parsed:
    """The signature of what was built. SigningError if it is damaged, or of something else."""
    try:
        parsed = sigstruct.verify(what.signature)
    except ValueError as error:
        raise SigningError(f"{built.DESCRIPTION}: {error}", "build and sign it again") from None
    if parsed.facts.mrenclave.hex() != what.mrenclave:
        raise SigningError("the signature is of another build", "build and sign it again")
    return parsed


def sgxs(what: built.Built) -> Iterator[bytes]:
    """The enclave as an SGXS stream: the very bytes whose SHA-256 is MRENCLAVE."""
    image = read_image()
    what.check_runtime(image)
    pages = layout.pages(image, what.config)
    return measurement.stream(layout.ENCLAVE_SIZE, layout.SSA_FRAME_PAGES, pages)
