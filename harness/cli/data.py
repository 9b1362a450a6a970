"""`bench data`, `bench cache` and `bench doctor`: what is on this machine."""

from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Annotated

import typer

from harness.cli import completion, options
from harness.cli.console import Rows, notes, notice, print_json, show_rows, tell
from harness.cli.options import Computation, argument, command, default_cache_dir, lookup, names_in, option
from harness.errors import DataError, ResultError
from harness.names import pick
from harness.progress import silent

data_app = typer.Typer(no_args_is_help=True, help="Check the data files, fetch them, or give names to texts.")
cache_app = typer.Typer(no_args_is_help=True, help="Show what the cache folder holds, or empty it.")


@data_app.command()
@command
def check(
    suite: Annotated[
        str,
        option(
            *("--suite", "-s"),
            help="Only what these suites need; absence is an error.",
            choices=completion.SUITES,
            several=True,
        ),
    ] = "",
    data_dir: options.DataDir = None,
    cache_dir: options.CacheDir = None,
    offline: options.Offline = False,
    json: options.Json = False,
) -> None:
    """Check every data file: present, readable, complete, in order, which copy it is, and whether every task reads it.

    Without --suite, a dataset of which no file is there is named and is no error.
    """
    from harness.data.locate import BUNDLED, data_root
    from harness.tasks.inputs import check_data
    from harness.tasks.suites import TASKS, select

    tasks = select(names_in(suite, "--suite"), ()) if suite else list(TASKS.values())
    tasks = [task for task in tasks if not task.bundled] or tasks
    if all(task.bundled for task in tasks):
        root = BUNDLED
    else:
        root = data_root(data_dir, cache_dir or default_cache_dir(), offline=offline, progress=not notes.quiet)
    findings = check_data(root, tasks)
    absent = ", ".join(finding.dataset for finding in findings if finding.absent)
    if not suite and all(finding.absent for finding in findings):
        raise DataError(f"{root}: none of the known files is there, expected downstream/STS/..., downstream/SICK/...")
    problems = list(dict.fromkeys(finding.problem for finding in findings if finding.problem))
    if absent and suite:
        problems.append(
            f"{root}: no files of {absent}, expected those of --suite {suite}; get them with "
            "`bench data fetch`, or name another folder with --data-dir"
        )
    for problem in problems:
        notice(problem)
    if absent and not suite:
        tell(f"{root}: no files of {absent}, so these were not checked")
    rows: Rows = [  # for people a row fits 80 columns in one line
        {
            "dataset": one.dataset,
            "file": one.file if json else PurePosixPath(one.file).name,
            "lines": one.lines,
            "copy": one.copy,
            "sha256": one.sha256 if json else one.sha256[:12],
        }
        for one in findings
        if one.file
    ]
    show_rows(rows, json=json)
    if problems:
        raise typer.Exit(2)


@data_app.command()
@command
def fetch(
    what: Annotated[
        str,
        argument(
            help="A suite (all come in one archive), glove (2 GB), or the training texts nli or wiki.",
            choices=completion.data_sets,
        ),
    ] = "sts",
    cache_dir: options.CacheDir = None,
    offline: options.Offline = False,
    json: options.Json = False,
) -> None:
    """Download data; an interrupted download goes on.

    A suite's data are SentEval's as SimCSE packed them, from the hub; glove is the 840B archive from its authors.
    """
    from harness.data.download import TRAINING_FILES, fetch_glove, fetch_training_file
    from harness.data.locate import fetch_senteval
    from harness.tasks.suites import SUITES

    pick("data set", dict.fromkeys([*SUITES, "glove", *TRAINING_FILES]), what)
    row: dict[str, object]
    with Computation(cache_dir=cache_dir, device="cpu", offline=offline).context() as context:
        progress = context.progress is not silent
        if what == "glove":
            path = fetch_glove(context.cache_dir, offline=offline, progress=context.progress)
            row = {"file": str(path), "use": "avg-glove"}
        elif what in TRAINING_FILES:
            row = {"file": str(fetch_training_file(what, offline=offline, progress=progress)), "use": f"fit={what}"}
        else:
            found = fetch_senteval(context.cache_dir, offline=offline, progress=progress)
            row = {"folder": str(found.path), "from": found.repo, "revision": found.revision, "sha256": found.sha256}
    show_rows([row], json=json)


@data_app.command()
@lookup
def add(
    name: Annotated[str, argument(help="The name, for instance wikipedia-1m or nli-31k.")],
    file: Annotated[Path, argument(help="The file: one sentence a line, csv, tsv or JSON lines, plain or .gz.")],
    cache_dir: options.CacheDir = None,
    json: options.Json = False,
) -> None:
    """Let a name stand for a text file. Cards and results then have the name and a digest of the content, and no path.

    For example: bench data add wikipedia-1m wikipedia_sentences_1m.txt.gz
    """
    from harness.data.named_texts import add_text

    text = add_text(name, file, cache_dir or default_cache_dir())
    show_rows([{"name": name, "content": text.name, "use": f"data={name} or fit={name}"}], json=json)


@data_app.command("list")
@lookup
def list_(cache_dir: options.CacheDir = None, json: options.Json = False) -> None:
    """Show the texts that can be named for training and fitting."""
    from harness.data.named_texts import NAMED, given_names

    added = given_names(cache_dir or default_cache_dir())
    rows: Rows = [{"name": name, "what": what, "file": str(added.get(name, ""))} for name, what in NAMED.items()]
    rows += [{"name": name, "what": "added", "file": str(path)} for name, path in added.items() if name not in NAMED]
    show_rows(rows, json=json)


@cache_app.command()
@lookup
def info(cache_dir: options.CacheDir = None, json: options.Json = False) -> None:
    """Show what the cache folder holds, by kind, with the stored vectors of each encoder below."""
    from harness.encoders.store import stat
    from harness.storage import usage

    root = cache_dir or default_cache_dir()
    kinds: Rows = [
        {"kind": one.kind, "files": one.files, "MiB": round(one.bytes / 2**20, 1), "what": one.what}
        for one in usage(root)
    ]
    try:
        stored = stat(root / "embeddings")
    except ResultError as error:  # the kinds are shown all the same
        notice(str(error))
        stored = []
    encoders: Rows = [{"encoder": e.encoder, "sentences": e.rows, "MiB": round(e.bytes / 2**20, 1)} for e in stored]
    if json:
        print_json({"folder": str(root), "kinds": kinds, "encoders": encoders})
        return
    show_rows(kinds, empty=f"{root} holds nothing")
    if encoders:
        show_rows(encoders)


@cache_app.command()
@lookup
def clear(
    everything: Annotated[bool, option("--all", help="Delete trained models and downloads too.")] = False,
    cache_dir: options.CacheDir = None,
    json: options.Json = False,
) -> None:
    """Delete what can be made anew. Results are never touched, and names of texts are kept."""
    from harness import storage

    root = cache_dir or default_cache_dir()
    freed = storage.clear(root, everything=everything)
    show_rows([{"freed MiB": round(freed / 2**20, 1), "folder": str(root)}], json=json)


@lookup
def doctor(
    data_dir: options.DataDir = None,
    results_dir: options.ResultsDir = Path("results"),
    cache_dir: options.CacheDir = None,
    offline: options.Offline = False,
    json: options.Json = False,
) -> None:
    """Show what a run will find here: versions, device, threads, folders, data, and whether the hub can be reached.

    The exit code is 1 if something prevents a run.
    """
    from harness.doctor import examine

    facts = examine(cache_dir or default_cache_dir(), data_dir, results_dir, offline=offline)
    if json:
        print_json([asdict(fact) for fact in facts])
    else:
        show_rows([{"what": one.what, "found": f"{'PROBLEM: ' if one.problem else ''}{one.found}"} for one in facts])
    if any(fact.problem for fact in facts):
        raise typer.Exit(1)
