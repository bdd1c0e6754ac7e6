"""Configuration files: the original's Occlum.json, Occlum.toml, and what is refused, with what is said."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from occlum.config import files, models, page
from occlum.config.compile import compile_config

# Facts of the original's schema, with its template's values.
ORIGINAL: dict[str, Any] = {
    "resource_limits": {
        "kernel_space_heap_size": "32MB",
        "kernel_space_stack_size": "1MB",
        "user_space_size": "300MB",
        "max_num_of_threads": 32,
    },
    "process": {"default_stack_size": "4MB", "default_heap_size": "32MB", "default_mmap_size": "100MB"},
    "entry_points": ["/bin"],
    "env": {"default": ["OCCLUM=yes"], "untrusted": ["EXAMPLE"]},
    "metadata": {
        "product_id": 7,
        "version_number": 2,
        "debuggable": False,
        "enable_kss": True,
        "family_id": {"high": "0x1", "low": "0xabcdef"},
        "ext_prod_id": {"high": "0x0", "low": "0x0"},
    },
    "feature": {"amx": 0, "pkru": 2, "io_uring": 0, "enable_edmm": False, "enable_posix_shm": False},
    "mount": [
        {
            "target": "/",
            "type": "unionfs",
            "options": {
                "layers": [
                    {"target": "/", "type": "sefs", "source": "./build/mount/__ROOT", "options": {"MAC": ""}},
                    {"target": "/", "type": "sefs", "source": "./run/mount/__ROOT"},
                ]
            },
        },
        {"target": "/host", "type": "hostfs", "source": "."},
        {"target": "/proc", "type": "procfs"},
        {"target": "/dev", "type": "devfs"},
    ],
}
ROOT = bytes(range(28))


def write(directory: Path, data: Any, name: str = files.JSON) -> Path:
    """A configuration file with this content."""
    path = directory / name
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return path


def test_the_originals_file_means_what_it_means_there(tmp_path: Path) -> None:
    config, sources = compile_config(files.read(write(tmp_path, ORIGINAL)), ROOT)
    assert config.memory_bytes == 332 << 20
    assert (config.max_tasks, config.stack_bytes, config.data_bytes) == (32, 4 << 20, 32 << 20)
    assert (config.product_id, config.svn) == (7, 2)
    assert config.flags == page.DISABLE_LOG | page.KSS
    assert config.family_id == (1 << 64 | 0xABCDEF).to_bytes(16, "little")
    assert config.entry_points == ("/bin",)
    kinds = [(mount.target, page.KIND_NAMES[mount.kind]) for mount in config.mounts]
    assert kinds[:2] == [("/", "sealed-image"), ("/", "sealed-layer")]
    assert set(kinds[2:]) == {("/host", "hostfs"), ("/proc", "procfs"), ("/dev", "devfs"), ("/sys", "sysfs")}
    assert config.mounts[0].root == ROOT + bytes(4)
    assert sources["host/host"] == "."


def test_migration_means_the_same(tmp_path: Path) -> None:
    config = files.read(write(tmp_path, ORIGINAL))
    assert files.read(write(tmp_path, files.to_toml(config), files.TOML)) == config
    assert files.notes(config) == ["feature.pkru has no effect", "process.default_mmap_size has no effect"]
    assert files.weaknesses(config) == ["/host is the host's (hostfs)"]


def test_the_template_is_good_and_compiles() -> None:
    template = Path(files.__file__).parent / "template.toml"
    assert files.problems(template) == []
    config, _ = compile_config(files.read(template), ROOT)
    assert page.Config.decode(config.encode()) == config


def changed(place: str, value: Any) -> dict[str, Any]:
    """The original's file with one value replaced."""
    data = json.loads(json.dumps(ORIGINAL))
    *parents, last = place.split(".")
    here = data
    for parent in parents:
        here = here[int(parent)] if isinstance(here, list) else here[parent]
    if isinstance(here, list):
        here[int(last)] = value
    else:
        here[last] = value
    return dict(data)


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("resource_limits.user_space_siz", "3GB", "did you mean user_space_size"),
        ("resource_limits.user_space_size", "300 potatoes", "is not a size"),
        ("resource_limits.user_space_size", "1TB", "64MB to 1TB"),
        ("resource_limits.user_space_size", -5, "greater than or equal"),
        ("resource_limits.max_num_of_threads", 1, "greater than or equal"),
        ("process.default_stack_size", "1KB", "greater than or equal"),
        ("entry_points", ["bin"], "not an absolute path"),
        ("entry_points", ["/bin/../etc"], "not an absolute path"),
        ("entry_points", [], "nothing can be run"),
        ("env.default", ["NOVALUE"], "not NAME=VALUE"),
        ("env.untrusted", ["A=B"], "cannot name a variable"),
        ("metadata.product_id", 1 << 16, "less than"),
        ("metadata.enable_kss", False, "need enable_kss"),
        ("metadata.family_id.high", "zz", "hexadecimal"),
        ("mount.1.options", {"autokey_policy": "mrsinger"}, "no key policy"),
        ("mount.1.options", {"autokey_policy": 4}, "others could have the key"),
        ("mount.1.options", {"autokey_policy": 64 | 1}, "others could have the key"),
        ("mount.1.options", {"autokey_policy": ["configid"]}, "others could have the key"),
        ("mount.1.options", {"key": "mine"}, "image"),
        ("mount.1.type", "nfs", "mount.1.type"),
        ("mount.1.target", "host", "not an absolute path"),
        ("mont", [], "did you mean mount"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, place: str, value: Any, said: str) -> None:
    path = write(tmp_path, changed(place, value))
    assert any(said in line for line in files.problems(path)), files.problems(path)
    with pytest.raises(files.ConfigurationError, match=r"Occlum\.json"):
        files.read(path)


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("mount", ORIGINAL["mount"][1:], "nothing is mounted at /"),
        ("mount", [*ORIGINAL["mount"], ORIGINAL["mount"][1]], "mounted twice"),
        ("mount.0.options.layers", ORIGINAL["mount"][0]["options"]["layers"][:1], "two plain layers"),
        ("mount.0.options.layers.0.options", {}, "only the last layer"),
        ("mount.0", {"target": "/", "type": "ramfs"}, "one layer has to be the image"),
    ],
)
def test_mounts_that_make_no_sense_are_refused(tmp_path: Path, place: str, value: Any, said: str) -> None:
    with pytest.raises(files.ConfigurationError, match=said):
        compile_config(files.read(write(tmp_path, changed(place, value))), ROOT)


@pytest.mark.parametrize("text", ["", "[", "{}x", "[1]", '"x"', "[" * 5000, '{"mount": 5}', "\0", "nan"])
def test_text_that_is_no_configuration_is_an_error(tmp_path: Path, text: str) -> None:
    for name in (files.TOML, files.JSON):
        if text == "" and name == files.TOML:
            continue
        with pytest.raises(files.ConfigurationError):
            files.read(write(tmp_path, text, name))


def test_a_cut_off_file_is_an_error_or_complete(tmp_path: Path, rng: random.Random) -> None:
    text = json.dumps(ORIGINAL)
    for _ in range(30):
        with pytest.raises(files.ConfigurationError):
            files.read(write(tmp_path, text[: rng.randrange(len(text))]))


def test_two_files_or_none_are_errors(tmp_path: Path) -> None:
    with pytest.raises(files.ConfigurationError, match="no Occlum"):
        files.find(tmp_path)
    write(tmp_path, ORIGINAL)
    (tmp_path / files.TOML).touch()
    with pytest.raises(files.ConfigurationError, match="both"):
        files.find(tmp_path)


@given(st.integers(min_value=0, max_value=1 << 50))
@settings(max_examples=200, deadline=None)
def test_sizes_survive(size: int) -> None:
    assert models.parse_size(models.format_size(size)) == size


_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)


@given(default=st.lists(_TEXT.map(lambda text: f"V={text}"), max_size=3), command=st.lists(_TEXT, max_size=3))
@settings(max_examples=100, deadline=None)
def test_any_text_survives_toml(default: list[str], command: list[str]) -> None:
    import tomllib

    config = models.Config(env=models.Env(default=tuple(default)), command=tuple(command))
    assert models.Config.model_validate(tomllib.loads(files.to_toml(config))) == config


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("metadata", "debuggable"), "yes", "valid boolean"),
        (("metadata", "debuggable"), 1, "valid boolean"),
        (("feature", "enable_edmm"), "false", "valid boolean"),
        (("resource_limits", "max_num_of_threads"), "32", "valid integer"),
        (("resource_limits", "max_num_of_threads"), 32.0, "valid integer"),
        (("resource_limits", "num_of_cpus"), True, "valid integer"),
        (("user", "uid"), "0", "valid integer"),
        (("mount", 0, "options", "layers", 0, "options", "MAC"), "x", "write MAC"),
    ],
)
def test_values_of_another_type_are_refused(tmp_path: Path, place: tuple[Any, ...], value: Any, said: str) -> None:
    data: Any = json.loads(json.dumps(ORIGINAL | {"user": {}}))
    inner = data
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    (problem,) = files.problems(write(tmp_path, data))
    assert problem.startswith(f"{'.'.join(map(str, place))}: ")
    assert said in problem


def test_every_key_is_described() -> None:
    from occlum.cli import config

    lines = config._describe(models.Config)
    assert len(lines) > 50
    assert not [line for line in lines if line.partition(": ")[2].strip() in ("", "None") or ": None  [" in line]
    assert any(line.startswith("user.uid: user id") for line in lines)


@pytest.mark.parametrize(
    ("keys", "verdict"), [({"x": 1}, "1 problem"), ({"x": 1, "y": 2}, "2 problems"), ({}, "no problems")]
)
def test_problems_are_counted(
    tmp_path: Path, keys: dict[str, int], verdict: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from occlum import cli

    path = write(tmp_path, keys)
    with pytest.raises(SystemExit):
        cli.main(["config", "check", str(path)])
    assert capsys.readouterr().out.splitlines()[-1] == f"{files.JSON}: {verdict}"


@pytest.mark.parametrize("name", [files.TOML, files.JSON])
def test_what_is_no_text_is_told(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"\x00\xff")
    with pytest.raises(files.ConfigurationError, match=f"{name} is no text"):
        files.read(path)
