"""`occlum export`: the enclave of an instance in the formats that SGX tools read."""

from __future__ import annotations

from pathlib import Path

import click

from occlum.image import built


@click.command("export", short_help="Write the enclave as .sgxs and .sig files.")
@click.argument("file", type=click.Path(path_type=Path))
def command(file: Path) -> None:
    """Write the enclave of the instance in the working directory to FILE.sgxs, and its signature to FILE.sig.

    Tools for SGX (Fortanix's sgxs-tools) read, measure and load them. The signature is left out if there is none.
    """
    from occlum.image import instance, signing

    what = built.load(built.require())
    name = file.with_suffix("") if file.suffix == ".sgxs" else file
    sgxs = name.with_name(f"{name.name}.sgxs")
    with sgxs.open("wb") as out:
        for part in signing.sgxs(what):
            out.write(part)
    click.echo(str(sgxs))
    if (Path(what.instance) / instance.SIGNATURE).exists():
        signing.read_signature(Path(what.instance))
        target = name.with_name(f"{name.name}.sig")
        target.write_bytes((Path(what.instance) / instance.SIGNATURE).read_bytes())
        click.echo(str(target))
