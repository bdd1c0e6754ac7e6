"""Instances of real programs: the original's demos with their steps (new, copy_bom, build, run), OCI images, packages."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from framework import OCCLUM, ROOT
from occlum.enclave import Enclave

EXAMPLES = ROOT / "examples" / "instances"
COPY_BOM = OCCLUM.with_name("copy_bom")
# Uses as many megabytes as it is told.
HOG = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int main(int argc, char **argv) {
    size_t size = strtoul(argv[1], 0, 0) << 20;
    volatile char *p = malloc(size);
    memset((char *)p, 1, size);
    printf("%zu\\n", size >> 20);
    return p[size / 2] != 1;
}
"""


def occlum(
    place: Path, *arguments: str, env: dict[str, str] | None = None, timeout: float = 240
) -> subprocess.CompletedProcess[str]:
    """Runs a command in an instance."""
    environment = os.environ | (env or {})
    command = [str(OCCLUM), *arguments]
    return subprocess.run(
        command, cwd=place, capture_output=True, text=True, check=False, timeout=timeout, env=environment
    )


def demo(tmp_path: Path, bom: str, files: Path = EXAMPLES) -> Path:
    """The steps that users of the original know; the instance."""
    shutil.copytree(EXAMPLES, tmp_path / "files", dirs_exist_ok=True)
    if files != EXAMPLES:
        shutil.copytree(files, tmp_path / "files", dirs_exist_ok=True)
    assert occlum(tmp_path, "new", "instance").returncode == 0
    place = tmp_path / "instance"
    command = [str(COPY_BOM), "-f", bom, "--root", str(place / "image")]
    done = subprocess.run(command, cwd=tmp_path / "files", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    config = place / "Occlum.toml"
    config.write_text(config.read_text().replace('["/bin"]', '["/bin", "/usr/bin"]'))
    built = occlum(place, "build")
    assert built.returncode == 0, built.stderr
    return place


@pytest.fixture
def hello(tmp_path: Path) -> Path:
    """The instance of hello.c."""
    (tmp_path / "built").mkdir()
    subprocess.run(["gcc", "-o", tmp_path / "built/hello", EXAMPLES / "hello.c"], check=True)
    return demo(tmp_path, "hello.yaml", tmp_path / "built")


def test_hello_and_what_the_configuration_allows(hello: Path) -> None:
    done = occlum(hello, "run", "/bin/hello", "a b", env={"EXAMPLE": "you", "OCCLUM": "no"})
    assert done.stdout == "Hello you from an enclave, 1 argument\na b\n"
    assert "debug enclave" in done.stderr
    assert occlum(hello, "run", "-q", "/lib64/ld-linux-x86-64.so.2").returncode == 126
    assert occlum(hello, "run", "-q", "/bin/nothing").returncode == 127
    # What the host may not set is told of.
    done = occlum(hello, "run", "-q", "-e", "EXAMPLE=you", "-e", "OTHER=1", "-e", "OCCLUM", "/bin/hello")
    assert done.stdout == "Hello you from an enclave, 0 arguments\n"
    ignored = "occlum: -e OTHER, OCCLUM has no effect: env.untrusted of the instance's configuration does not name it\n"
    assert done.stderr == ignored
    # An enclave that stays: the same programs, the same rules; and only one enclave at a time.
    assert occlum(hello, "start", "-q").returncode == 0
    try:
        assert occlum(hello, "exec", "/bin/hello").stdout == "Hello world from an enclave, 0 arguments\n"
        assert occlum(hello, "exec", "/lib64/ld-linux-x86-64.so.2").returncode == 126
        assert occlum(hello, "exec", "-e", "EXAMPLE=you", "/bin/hello").stderr == ""
        assert occlum(hello, "exec", "-e", "OTHER=1", "-e", "OCCLUM", "/bin/hello").stderr == ignored
        assert "OC703" in occlum(hello, "run", "-q", "/bin/hello").stderr
        assert "MRENCLAVE" in occlum(hello, "status").stdout
        assert "--memory" in occlum(hello, "start", "-m", "1G").stderr
    finally:
        assert occlum(hello, "stop").returncode == 0


def test_a_key_for_what_is_not_encrypted_is_refused(hello: Path, tmp_path: Path) -> None:
    key = str(tmp_path / "key")
    assert occlum(tmp_path, "gen-image-key", key).returncode == 0
    for words in (["run", "-q", "--image-key", key, "/bin/hello"], ["start", "-q", "--image-key", key]):
        done = occlum(hello, *words)
        assert (done.returncode, done.stdout) == (125, "")
        assert "nothing of this instance is encrypted by an image key; leave the key out" in done.stderr
        assert done.stderr.endswith("[OC705]\n")


def test_a_changed_image_is_refused_and_the_file_named(hello: Path) -> None:
    image = next((hello / "build").glob("image-*"))
    marker = b"Hello %s from an enclave"
    data = bytearray(image.read_bytes())
    assert data.count(marker) == 1
    data[data.index(marker)] ^= 1
    image.write_bytes(bytes(data))
    done = occlum(hello, "run", "-q", "/bin/hello")
    assert done.returncode != 0
    assert "Hello" not in done.stdout
    assert "/bin/hello: the image is damaged there, or was changed" in done.stderr
    # Another image altogether: not one program runs.
    for at in (0, 4096):
        data[at : at + 4096] = bytes(4096)
    image.write_bytes(bytes(data))
    done = occlum(hello, "run", "-q", "/bin/hello")
    assert (done.returncode, "not the one that was built" in done.stderr) == (125, True)
    assert done.stderr.endswith(" [OC312]\n")
    done = occlum(hello, "start", "-q")
    assert (done.returncode, done.stderr.count("OC312")) == (125, 2)
    assert done.stderr.endswith("; see `occlum explain OC312` [OC312]\n")


def test_a_release_enclave_offers_no_trace(hello: Path) -> None:
    config = hello / "Occlum.toml"
    config.write_text(config.read_text().replace("debuggable = true ", "debuggable = false "))
    key = hello.parent / "key.pem"
    assert occlum(hello, "gen-sign-key", str(key)).returncode == 0
    for sign in ((), ("--sign-key", str(key))):
        assert occlum(hello, "build", "-q", *sign).returncode == 0
        done = occlum(hello, "run", "--strace", "/bin/hello")
        assert done.stdout == "Hello world from an enclave, 0 arguments\n"
        assert "write(" not in done.stderr
        assert ("weaker" in done.stderr) != bool(sign)


def test_a_package_runs_elsewhere_with_the_same_measurement(hello: Path, tmp_path: Path) -> None:
    assert occlum(hello, "package", "--debug", str(tmp_path / "p.tar.gz")).returncode == 0
    (tmp_path / "there").mkdir()
    subprocess.run(["tar", "-xzf", tmp_path / "p.tar.gz"], cwd=tmp_path / "there", check=True)
    place = tmp_path / "there/instance"
    assert occlum(place, "print", "mrenclave").stdout == occlum(hello, "print", "mrenclave").stdout
    assert occlum(place, "run", "-q", "/bin/hello").stdout == "Hello world from an enclave, 0 arguments\n"


def test_run_imports_nothing_slow(hello: Path) -> None:
    script = "import sys, occlum.cli; sys.argv = ['occlum', 'run', '-q', '/bin/hello'];"
    script += "occlum.cli.main(); print(*sys.modules)"
    done = subprocess.run(
        [OCCLUM.with_name("python"), "-c", script], cwd=hello, capture_output=True, text=True, check=True
    )
    assert {"rich", "pydantic", "cryptography", "yaml", "asyncio"}.isdisjoint(done.stdout.split())
    assert "occlum.image.built" in done.stdout


def test_bash(tmp_path: Path) -> None:
    place = demo(tmp_path, "bash.yaml")
    done = occlum(place, "run", "-q", "/bin/bash", "/root/pipes.sh")
    assert done.stdout == "numbers: 1000\none\ntwo\nthree\n", done.stderr
    assert occlum(place, "run", "-q", "/bin/bash", "-c", "exit 200").returncode == 200
    assert occlum(place, "run", "-q", "/bin/bash", "-c", "kill -9 $$").returncode == 137


def test_the_originals_layers_keep_what_was_written(tmp_path: Path) -> None:
    assert occlum(tmp_path, "new", "--json", "instance").returncode == 0
    place = tmp_path / "instance"
    shutil.copy("/bin/busybox", place / "image/bin/busybox")
    data = json.loads((place / "Occlum.json").read_text())
    # As in the original's template.
    data["mount"][0]["options"]["layers"][1] = {"target": "/", "type": "sefs", "source": "./run/mount/__ROOT"}
    (place / "Occlum.json").write_text(json.dumps(data))
    assert occlum(place, "build", "-q").returncode == 0
    script = "cat /root/notes 2>/dev/null; echo more >> /root/notes"
    outputs = [occlum(place, "run", "-q", "/bin/busybox", "sh", "-c", script) for _ in range(3)]
    assert [done.stdout for done in outputs] == ["", "more\n", "more\nmore\n"], outputs


SHELL = ("/bin/busybox", "sh", "-c")


def with_layer(tmp_path: Path, options: str) -> Path:
    """An instance with busybox whose writable layer has these options."""
    assert occlum(tmp_path, "new", "instance").returncode == 0
    place = tmp_path / "instance"
    shutil.copy("/bin/busybox", place / "image/bin/busybox")
    text = (place / "Occlum.toml").read_text()
    layer = f'{{ target = "/", type = "sefs", options = {{ disk_size = "64MB", {options} }} }}'
    (place / "Occlum.toml").write_text(text.replace('{ target = "/", type = "ramfs" }', layer))
    return place


def says(place: Path, script: str, *options: str) -> str:
    """What a script prints in an instance; it has to succeed."""
    done = occlum(place, "run", "-q", *options, *SHELL, script)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_signed_upgrade_keeps_what_was_written(tmp_path: Path) -> None:
    place, key = with_layer(tmp_path, 'autokey_policy = "mrsigner"'), str(tmp_path / "key.pem")
    assert occlum(tmp_path, "gen-sign-key", key).returncode == 0
    for version in (1, 2):
        config = place / "Occlum.toml"
        config.write_text(config.read_text().replace(f"version_number = {version - 1}", f"version_number = {version}"))
        (place / "image/etc/version").write_text(f"{version}\n")
        done = occlum(place, "build", "--sign-key", key)
        assert (done.returncode, "sealed to the build before" in done.stderr) == (0, False)
        assert says(place, "cat /etc/version >> /root/log; cat /root/log") == "1\n2\n"[: 2 * version]
        # Another enclave, with keys of its own: the layer is not touched.
        assert occlum(place, "run", "-q", "--auto-size", *SHELL, "test ! -e /root/log").returncode == 0
        if version == 1:
            shutil.copytree(place, tmp_path / "first")
    # The version before, with the layer of the one after; and a build that somebody else has signed.
    shutil.copytree(place / "run", tmp_path / "first/run", dirs_exist_ok=True)
    assert "wrong key" in occlum(tmp_path / "first", "run", "-q", *SHELL, "true").stderr
    assert occlum(place, "build").returncode == 0
    done = occlum(place, "run", "-q", *SHELL, "cat /root/log")
    assert (done.returncode, done.stdout) == (125, "")


def test_what_the_image_key_opens_outlives_builds(tmp_path: Path) -> None:
    place, key = with_layer(tmp_path, 'key = "image"'), str(tmp_path / "image.key")
    assert occlum(tmp_path, "gen-image-key", key).returncode == 0
    given = ("--image-key", key)
    for count in (1, 2):
        (place / "image/etc/count").write_text(f"{count}\n")
        assert occlum(place, "build", "-q", *given).returncode == 0
        assert says(place, "cat /etc/count >> /root/log; cat /root/log", *given) == "1\n2\n"[: 2 * count]
    assert occlum(place, "fs", "cat", *given, "run/root.layer", "/root/log").stdout == "1\n2\n"
    assert "OC705" in occlum(place, "start", "-q").stderr
    assert occlum(tmp_path, "gen-image-key", str(tmp_path / "other.key")).returncode == 0
    done = occlum(place, "start", "-q", "--image-key", str(tmp_path / "other.key"))
    assert ("OC312" in done.stderr, "wrong key" in done.stderr) == (True, True)
    with Enclave.from_instance(place, image_key=key) as enclave:
        assert enclave.check_output([*SHELL, "cat /root/log"], text=True) == "1\n2\n"


def test_a_config_id_of_the_command_line_counts(tmp_path: Path) -> None:
    place = with_layer(tmp_path, 'autokey_policy = ["mrenclave", "configid"]')
    assert "enable_kss" in occlum(place, "build").stderr
    config = place / "Occlum.toml"
    config.write_text(config.read_text().replace("[metadata]", "[metadata]\nenable_kss = true"))
    assert occlum(place, "build", "-q").returncode == 0
    assert says(place, "echo a > /root/f", "--config-id", "YQ==", "--config-svn", "3") == ""
    assert "store" in occlum(place, "run", "-q", "--config-id", "Yg==", *SHELL, "cat /root/f").stderr
    assert says(place, "cat /root/f", "--config-id", "YQ==") == "a\n"
    assert "OC101" in occlum(place, "run", "-q", "--config-id", "Y" * 100, *SHELL, "true").stderr


def test_memory_that_is_nearly_enough_ends_a_process(tmp_path: Path) -> None:
    """Where programs leave no room for the pages of their files, the largest ends; the others do not wait for ever."""
    place = demo(tmp_path, "bash.yaml")
    config = place / "Occlum.toml"
    large = 'x=$(busybox head -c 60000000 /dev/zero | busybox tr "\\0" a)'
    for size in (32, 40, 48):
        config.write_text(re.sub(r'(user_space_size = )"\d+MB"', rf'\1"{size}MB"', config.read_text()))
        assert occlum(place, "build", "-q").returncode == 0
        done = occlum(place, "run", "-q", "/bin/bash", "-c", f"( {large}; : ); echo $?, alive", timeout=60)
        assert (done.returncode, done.stdout) == (0, "137, alive\n"), done.stderr
        assert "out of enclave memory" in done.stderr


def test_limits_that_are_hit_are_named(tmp_path: Path) -> None:
    place = demo(tmp_path, "bash.yaml")
    (tmp_path / "hog.c").write_text(HOG)
    subprocess.run(["gcc", "-static", "-o", place / "image/bin/hog", tmp_path / "hog.c"], check=True)
    config = place / "Occlum.toml"
    text = config.read_text().replace('"300MB"', '"40MB"').replace("max_num_of_threads = 64", "max_num_of_threads = 6")
    config.write_text(text)
    assert occlum(place, "build", "-q").returncode == 0
    many = "for i in 1 2 3 4 5 6 7 8; do /bin/busybox sleep 5 & done; wait"
    done = occlum(place, "run", "-q", "/bin/bash", "-c", many)
    assert "raise resource_limits.max_num_of_threads (try 12)" in done.stderr
    done = occlum(place, "run", "-q", "/bin/hog", "100")
    assert done.returncode == 137
    assert "raise resource_limits.user_space_size (try 144MB)" in done.stderr
    # With what --auto-size writes it fits.
    assert occlum(place, "run", "-q", "--auto-size", "/bin/hog", "100").stdout == "100\n"
    assert occlum(place, "build", "-q").returncode == 0
    assert occlum(place, "run", "-q", "/bin/hog", "100").stdout == "100\n"


def test_python(tmp_path: Path) -> None:
    place = demo(tmp_path, "python.yaml")
    program = "import json, os, subprocess, sys; print(json.dumps([6 * 7, os.getpid() > 0, sys.prefix]))"
    done = occlum(place, "run", "-q", "/usr/bin/python3", "-c", program)
    assert done.stdout == '[42, true, "/usr"]\n', done.stderr


def test_sqlite(tmp_path: Path) -> None:
    place = demo(tmp_path, "sqlite.yaml")
    sql = "create table t(a, b); insert into t values (1, 'x'), (2, 'y'); select sum(a), group_concat(b) from t;"
    done = occlum(place, "run", "-q", "/usr/bin/sqlite3", "/tmp/db", sql)
    assert done.stdout == "3|x,y\n", done.stderr


def free_port() -> int:
    """A port of this machine that nobody has now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def serving(place: Path, port: int, inside: int, *words: str) -> Iterator[None]:
    """A server in an enclave, until it accepts connections and for the time of the block."""
    command = [str(OCCLUM), "run", "-q", "-p", f"127.0.0.1:{port}:{inside}", "--", *words]
    with subprocess.Popen(command, cwd=place, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 120
            while process.poll() is None and time.monotonic() < deadline:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    time.sleep(0.1)
            assert process.poll() is None, "the server has ended"
            yield
        finally:
            process.terminate()
            process.wait(60)


def test_redis(tmp_path: Path) -> None:
    place, port = demo(tmp_path, "redis.yaml"), free_port()
    server = ["/usr/bin/redis-server", "--port", "6379", "--save", "", "--protected-mode", "no"]
    with serving(place, port, 6379, *server):
        for arguments, answer in ((["set", "k", "v"], "OK"), (["get", "k"], "v"), (["incr", "n"], "1")):
            command = ["redis-cli", "-p", str(port), *arguments]
            assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == answer


def test_https_server(tmp_path: Path) -> None:
    files = tmp_path / "made"
    files.mkdir()
    (files / "index.html").write_text("served from an enclave\n")
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2"]
    request += ["-keyout", str(files / "key.pem"), "-out", str(files / "certificate.pem")]
    subprocess.run(request, check=True, capture_output=True)
    place, port = demo(tmp_path, "https.yaml", files), free_port()
    config = place / "Occlum.toml"
    config.write_text('workdir = "/srv"\n' + config.read_text())
    assert occlum(place, "build", "-q").returncode == 0
    server = ["/usr/bin/openssl", "s_server", "-accept", "8443", "-WWW", "-key", "key.pem", "-cert", "certificate.pem"]
    with serving(place, port, 8443, *server):
        command = ["curl", "-s", "--cacert", str(files / "certificate.pem"), f"https://localhost:{port}/index.html"]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "served from an enclave\n"


INCLUDED = {
    "python3": (
        "python3",
        "-c",
        "import ctypes, decimal, json, sqlite3, ssl; print(json.dumps({'a': 1}))",
        '{"a": 1}\n',
    ),
    "perl": (
        "perl",
        "-MEncode",
        "-MPOSIX",
        "-MList::Util=sum",
        "-e",
        'print sum(1, 2), length encode("UTF-8", "\\x{e4}")',
        "32",
    ),
    "ruby": (
        "ruby",
        "-rjson",
        "-rset",
        "-rdigest",
        "-e",
        "puts [1, Digest::SHA256.hexdigest('')[0, 4]].to_json",
        '[1,"e3b0"]\n',
    ),
    "node": (
        "node",
        "-p",
        "[1, require('crypto').createHash('sha256').update('').digest('hex').slice(0, 4)]",
        "[ 1, 'e3b0' ]\n",
    ),
}


@pytest.mark.parametrize("language", INCLUDED)
def test_included_languages_bring_their_modules(language: str, tmp_path: Path) -> None:
    assert occlum(tmp_path, "new", "app", "--include", f"/usr/bin/{language}").returncode == 0
    done = occlum(tmp_path / "app", "build", "-q")
    assert done.returncode == 0, done.stderr
    *command, printed = INCLUDED[language]
    done = occlum(tmp_path / "app", "run", "-q", "--", *command)
    assert (done.stdout, done.returncode) == (printed, 0), done.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_debian_packages_become_an_image_once(tmp_path: Path) -> None:
    assert occlum(tmp_path, "new", "app", "--debian", "lua5.4").returncode == 0
    place = tmp_path / "app"
    with (place / "Occlum.toml").open("a") as file:
        file.write('include = ["/bin/busybox"]\n')
    first = occlum(place, "build", "--json", timeout=800)
    assert first.returncode == 0, first.stderr
    assert occlum(place, "run", "-q", "lua5.4", "-e", "print(6 * 7)").stdout == "42\n"
    assert occlum(place, "run", "-q", "sh", "-c", "exit $(dpkg-query -W | grep -c lua5.4)").returncode == 1
    # Every package with its version, in the bill and in the lock file; programs of this machine, too.
    lua = subprocess.run(
        [str(OCCLUM), "run", "-q", "dpkg-query", "-W", "lua5.4"], cwd=place, capture_output=True, text=True, check=True
    ).stdout.split()
    busybox = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package} ${Version}", "busybox-static"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split()
    bill = json.loads((place / "build/sbom.json").read_text())["components"]
    versions = [[item["name"], item["version"]] for item in bill if "version" in item]
    locked = [
        pair
        for source in json.loads((place / "Occlum.lock").read_text())["inputs"]
        for pair in source.get("packages", ())
    ]
    for pair in filter(None, (lua, busybox)):
        assert (pair in versions, pair in locked) == (True, True), pair
    # The second time nothing is fetched, and nothing changes.
    began = time.monotonic()
    second = occlum(place, "build", "--locked", "--json", env={"PATH": f"{OCCLUM.parent}"})
    assert second.returncode == 0, second.stderr
    assert json.loads(second.stdout)["mrenclave"] == json.loads(first.stdout)["mrenclave"]
    assert time.monotonic() - began < 30
    # Elsewhere, what the lock file says is built again; what the mirror does not have is named.
    assert occlum(tmp_path, "new", "copy").returncode == 0
    copy = tmp_path / "copy"
    for name in ("Occlum.toml", "Occlum.lock"):
        shutil.copy(place / name, copy / name)
    third = occlum(copy, "build", "--locked", "--json", timeout=800)
    assert third.returncode == 0, third.stderr
    assert json.loads(third.stdout)["mrenclave"] == json.loads(first.stdout)["mrenclave"]
    lock = (copy / "Occlum.lock").read_text()
    (copy / "Occlum.lock").write_text(lock.replace(json.dumps(lua[1]), '"0.1-2"'))
    other = occlum(copy, "build", timeout=800)
    assert (other.returncode, "OC725" in other.stderr) == (125, True), other.stderr
    assert f"lua5.4 {lua[1]} instead of 0.1-2" in other.stderr


@pytest.fixture(scope="module")
def debian_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OCI layout with one layer: Debian's dash and what it needs, from packages."""
    place = tmp_path_factory.mktemp("oci")
    layer = place / "layer.tar"
    command = [
        "mmdebstrap",
        "--quiet",
        "--variant=extract",
        "--include=dash,coreutils",
        "--format=tar",
        "bookworm",
        layer,
    ]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    settings: dict[str, object] = {
        "Entrypoint": ["sh", "-c", 'echo "$0 $GREETING $PWD"; id -u; exec cat /etc/debian_version || true'],
        "Cmd": ["first"],
        "Env": ["PATH=/usr/bin:/bin", "GREETING=hi"],
        "User": "65534",
        "WorkingDir": "/usr",
    }
    return layout(place / "image", layer.read_bytes(), settings)


def layout(place: Path, layer: bytes, settings: dict[str, object]) -> Path:
    """An OCI layout."""
    blobs = place / "blobs/sha256"
    blobs.mkdir(parents=True)

    def blob(data: bytes) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"digest": f"sha256:{digest}", "size": len(data)}

    rootfs = {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]}
    config = blob(json.dumps({"architecture": "amd64", "config": settings, "rootfs": rootfs}).encode())
    manifest = blob(json.dumps({"config": config, "layers": [blob(gzip.compress(layer, 1, mtime=0))]}).encode())
    (place / "index.json").write_text(json.dumps({"manifests": [manifest]}))
    return place


@pytest.mark.timeout(900)
def test_a_debian_image_runs_with_its_entry_point(debian_image: Path, tmp_path: Path) -> None:
    measurements = []
    for name in ("one", "another/place"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        assert occlum(tmp_path, "new", name, "--oci", str(debian_image)).returncode == 0
        done = occlum(tmp_path / name, "build", "--json")
        assert done.returncode == 0, done.stderr
        measurements.append(json.loads(done.stdout)["mrenclave"])
    assert len(set(measurements)) == 1
    done = occlum(tmp_path / "one", "run", "-q")
    assert done.stdout.splitlines()[:2] == ["first hi /usr", "65534"], (done.stdout, done.stderr)
    bill = json.loads((tmp_path / "one/build/sbom.json").read_text())
    # Unpacked without dpkg's database: the layer says nothing of packages. The files are those of image/.
    assert {item["name"] for item in bill["components"] if item["type"] != "file"} == set()
