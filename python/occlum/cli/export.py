"""`occlum export`: the enclave of an instance in the formats that SGX tools read."""

from __future__ import annotations

from pathlib import Path

import click

from occlum.image import built


@click.command("export", short_help="Write the enclave as .sgxs and .sig files.")
@click.argument("file", type=click.Path(path_type=Path))
def command(file: Path) -> None:
    """Write the enclave of the instance in the working directory to FILE.sgxs, and its signature to FILE.sig.

    Tools for SGX (Fortanix's sgxs-tools) read, measure and load them.
    """
    from occlum.image import signing

    what = built.load(built.require())
    signing.read_signature(what)
    name = file.with_suffix("") if file.suffix == ".sgxs" else file
    sgxs, sig = (name.with_name(f"{name.name}.{suffix}") for suffix in ("sgxs", "sig"))
    with sgxs.open("wb") as out:
        for part in signing.sgxs(what):
            out.write(part)
    sig.write_bytes(what.signature)
    click.echo(f"{sgxs}\n{sig}")
