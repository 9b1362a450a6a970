"""`bench cache`."""

from typing import Annotated

import typer

from harness.cli import options
from harness.cli.console import Rows, show_rows
from harness.cli.options import command, report_error
from harness.errors import ResultError

cache_app = typer.Typer(no_args_is_help=True, help="Show what the cache folder holds, or empty it.")


@cache_app.command()
@command
def info(cache_dir: options.CacheDir = None, json: options.Json = False) -> None:
    """Show what the cache folder holds, by kind, with the stored vectors of each encoder below."""
    from harness.encoders.store import stat
    from harness.storage import usage

    root = cache_dir or options.default_cache_dir()
    kinds: Rows = [
        {"kind": one.kind, "files": one.files, "MiB": round(one.bytes / 2**20, 1), "what": one.what}
        for one in usage(root)
    ]
    try:
        stored = stat(root / "embeddings")
    except ResultError as error:  # the kinds are shown all the same
        report_error(error)
        stored = []
    encoders: Rows = [{"encoder": e.encoder, "sentences": e.rows, "MiB": round(e.bytes / 2**20, 1)} for e in stored]
    if json:
        from harness.cli.console import print_json

        print_json({"folder": str(root), "kinds": kinds, "encoders": encoders})
        return
    show_rows(kinds, empty=f"{root} holds nothing")
    if encoders:
        show_rows(encoders)


@cache_app.command()
@command
def clear(
    everything: Annotated[bool, typer.Option("--all", help="Delete trained models and downloads too.")] = False,
    cache_dir: options.CacheDir = None,
    json: options.Json = False,
) -> None:
    """Delete what can be made anew. Results are never touched, and names of texts are kept."""
    from harness.storage import clear as empty

    root = cache_dir or options.default_cache_dir()
    freed = empty(root, everything=everything)
    show_rows([{"freed MiB": round(freed / 2**20, 1), "folder": str(root)}], json=json)
