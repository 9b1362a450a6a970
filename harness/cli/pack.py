"""`bench pack` and `bench unpack`."""

from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from harness.cli import options
from harness.cli.console import err, print_json
from harness.cli.options import command


@command
def pack(
    file: Annotated[Path, typer.Argument(help="A study file.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The tar file to write.")] = Path("study.tar"),
    data_dir: options.DataDir = None,
    cache_dir: options.CacheDir = None,
    offline: options.Offline = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Pack all that a study reads into one file: data, weights, tokenizers, texts, trained models, and their digests.

    What is missing here is downloaded first. The licences of data and weights are yours to keep.

    For example: bench pack study.toml --output study.tar
    """
    from harness.studies.bundle import pack as write
    from harness.studies.study import load_study

    study = load_study(file, cache_dir or options.default_cache_dir())
    study = replace(
        study,
        data_dir=data_dir or study.data_dir,
        cache_dir=cache_dir or study.cache_dir,
        device="cpu",
        offline=offline,
    )
    names = write(file, study, output)
    if json:
        print_json({"file": str(output), "members": names})
    elif not quiet:
        size = output.stat().st_size / 2**20
        err.print(f"{output}: {len(names)} files, {size:,.1f} MiB", markup=False, soft_wrap=True)


@command
def unpack(
    archive: Annotated[Path, typer.Argument(help="A file of `bench pack`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="New folder.")] = Path("study"),
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Unpack a study's file, verify every digest, and say how the study is run without a network.

    For example: bench unpack study.tar --output study
    """
    from harness.studies.bundle import unpack_bundle

    folder = unpack_bundle(archive, output)
    data = " --data-dir data" if (folder / "data").is_dir() else ""
    run = f"cd {quote(str(folder))} && HF_HUB_CACHE=$PWD/hub bench study study.toml --offline --cache-dir cache{data}"
    if json:
        print_json({"folder": str(folder), "command": run})
    elif not quiet:
        err.print(f"{folder}: every file is as it was packed; run it with\n    {run}", markup=False, soft_wrap=True)
