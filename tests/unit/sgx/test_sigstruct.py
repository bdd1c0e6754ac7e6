"""SIGSTRUCT: a key of the right kind signs, the structure holds, and every changed bit is noticed."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from occlum.image import signing
from occlum.sgx import sigstruct

FACTS = sigstruct.Facts(
    bytes(range(32)), product_id=9, svn=3, debug=True, family_id=b"\5" * 16, kss=True, date=20260203
)


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A signing key."""
    path = tmp_path_factory.mktemp("keys") / "key.pem"
    signing.generate_key(path)
    return path


def test_what_is_signed_is_read_back(key: Path) -> None:
    data = sigstruct.verify(signing.sign(FACTS, signing.load_key(key)))
    assert data.facts == FACTS
    assert data.mrsigner == sigstruct.mrsigner(signing.load_key(key).public_key().public_numbers().n)
    assert key.stat().st_mode & 0o777 == 0o600


def test_fields_are_where_the_manual_has_them(key: Path) -> None:
    data = signing.sign(FACTS, signing.load_key(key))
    assert data[:16].hex() == "06000000e10000000000010000000000"
    assert data[20:24].hex() == "03022620"
    assert data[24:40].hex() == "01010000600000006000000001000000"
    assert data[960:992] == FACTS.mrenclave
    assert data[1024:1028].hex() == "09000300"
    # ATTRIBUTES: debug, 64-bit, KSS; XFRM: x87, SSE, AVX.
    assert data[928:944].hex() == "8600000000000000" + "0700000000000000"


def test_q1_and_q2_are_what_einit_computes_with(key: Path) -> None:
    data = signing.sign(FACTS, signing.load_key(key))
    modulus, signature, q1, q2 = (int.from_bytes(data[at : at + 384], "little") for at in (128, 516, 1040, 1424))
    first = signature * signature - q1 * modulus
    assert 0 <= first < modulus
    second = signature * first - q2 * modulus
    assert second == pow(signature, 3, modulus)


def test_every_changed_byte_is_noticed(key: Path, rng: random.Random) -> None:
    data = signing.sign(FACTS, signing.load_key(key))
    # VENDOR and SWDEFINED are the author's to choose, but signed as well.
    for at in [*range(0, 128, 7), *range(900, 1040, 3), *rng.sample(range(len(data)), 60)]:
        changed = bytearray(data)
        changed[at] ^= 1 << rng.randrange(8)
        with pytest.raises(ValueError, match="SIGSTRUCT"):
            sigstruct.verify(bytes(changed))
    with pytest.raises(ValueError, match="no SIGSTRUCT"):
        sigstruct.verify(data[:-1])


def test_an_external_command_signs_the_same(key: Path, tmp_path: Path) -> None:
    public = tmp_path / "key.pub"
    subprocess.run(["openssl", "rsa", "-in", key, "-pubout", "-out", public], check=True, capture_output=True)
    data = signing.sign_by_command(FACTS, f"openssl dgst -sha256 -sign {key}", signing.load_public_key(public))
    assert data == signing.sign(FACTS, signing.load_key(key))
    for command in ("false", "echo no", "head -c 384 /dev/zero", "exit 3"):
        with pytest.raises(signing.SigningError):
            signing.sign_by_command(FACTS, command, signing.load_public_key(public))


@pytest.mark.parametrize(
    "arguments",
    [["genrsa", "2048"], ["genrsa", "3072"], ["ecparam", "-genkey", "-name", "prime256v1"]],
)
def test_keys_of_another_kind_are_refused(tmp_path: Path, arguments: list[str]) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(subprocess.run(["openssl", *arguments], check=True, capture_output=True).stdout)
    with pytest.raises(signing.SigningError):
        signing.load_key(path)
    path.write_text("-----BEGIN RSA PRIVATE KEY-----\nnonsense\n-----END RSA PRIVATE KEY-----\n")
    with pytest.raises(signing.SigningError):
        signing.load_key(path)
