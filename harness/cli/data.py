"""`bench data`."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import options
from harness.cli.console import Rows, err, show_rows
from harness.cli.options import command, context_of, report_error
from harness.errors import BenchError, DataError
from harness.progress import silent

if TYPE_CHECKING:
    from harness.data.files import TextFile
    from harness.encoders.context import Context

data_app = typer.Typer(no_args_is_help=True, help="Check the data files, fetch them, or give names to texts.")


# The datasets of tasks that have not their dataset's own name.
_DATASET = {
    **dict.fromkeys(("STSBenchmark-dev", "STSBenchmark-finetune", "geometry-stsb"), "STSBenchmark"),
    **dict.fromkeys(("SICKRelatedness", "SICKRelatedness-dev", "SICKRelatedness-full"), "SICK"),
    **dict.fromkeys(("SICKRelatedness-finetune", "SICKEntailment"), "SICK"),
    "mini-geometry": "mini-sts",
}


@data_app.command()
@command
def check(
    suite: Annotated[str, typer.Option("--suite", "-s", help="Only what these suites need; absence is an error.")] = "",
    data_dir: options.DataDir = None,
    cache_dir: options.CacheDir = None,
    offline: options.Offline = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Check every data file: present, readable, complete, in order, which copy it is, and whether every task reads it.

    Without --suite, a dataset of which no file is there is named and is no error.
    """
    from harness.data.locate import BUNDLED, data_root
    from harness.tasks.suites import TASKS

    tasks = _tasks_of(suite)
    if all(TASKS[name].bundled for name in tasks):
        root = BUNDLED
    else:
        root = data_root(data_dir, cache_dir or options.default_cache_dir(), offline=offline, progress=not quiet)
    by_dataset: dict[str, list[str]] = {}
    for name in tasks:
        by_dataset.setdefault(dataset_of(name), []).append(name)
    present, absent = _present(root, by_dataset)
    if not present and not suite:
        raise DataError(f"{root}: none of the known files is there, expected downstream/STS/..., downstream/SICK/...")
    rows, problems = _checked(root, {name: by_dataset[name] for name in present}, full=json)
    if absent and suite:
        problems.append(
            f"{root}: no files of {', '.join(absent)}, expected those of --suite {suite}; get them with "
            "`bench data fetch`, or name another folder with --data-dir"
        )
    for problem in problems:
        report_error(DataError(problem))
    if absent and not suite and not quiet:
        err.print(f"{root}: no files of {', '.join(absent)}, so these were not checked", markup=False, soft_wrap=True)
    show_rows(rows, json=json)
    if problems:
        raise typer.Exit(2)


def _tasks_of(suite: str) -> list[str]:
    """Names of the suites' tasks, or of all; the bundled ones only where no other is asked for."""
    from harness.names import pick, split_names
    from harness.tasks.suites import SUITES, TASKS

    named = [task for name in split_names(suite, "--suite") for task in pick("suite", SUITES, name)] if suite else TASKS
    return [name for name in named if not TASKS[name].bundled] or list(named)


def dataset_of(task: str) -> str:
    """The manifest's name of the dataset that the task reads."""
    return _DATASET.get(task, task)


def _present(root: Path, names: Iterable[str]) -> tuple[list[str], list[str]]:
    """The datasets of which at least one file is there, and the others."""
    from harness.data.manifest import datasets

    there = {name: any((root / path).exists() for path in datasets()[name].files) for name in names}
    return [name for name in there if there[name]], [name for name in there if not there[name]]


def _checked(root: Path, tasks: Mapping[str, Sequence[str]], *, full: bool) -> tuple[Rows, list[str]]:
    """One row per readable file of the datasets, and what is wrong; their tasks are read as `bench run` reads them."""
    from harness.data.files import read_text_file
    from harness.data.manifest import datasets
    from harness.tasks.suites import TASKS

    rows: Rows = []
    problems: dict[str, None] = {}  # tasks share files, and one damage is one problem
    for name, readers in tasks.items():
        for path in datasets()[name].files:
            try:
                rows.append(_row(name, read_text_file(root, path), full=full))
            except BenchError as error:
                problems[str(error)] = None
        for reader in readers:
            try:
                TASKS[reader].prepare(root)
            except BenchError as error:
                problems[str(error)] = None
    return rows, list(problems)


def _row(dataset: str, file: "TextFile", *, full: bool) -> dict[str, object]:
    """For people the file's name and the first digits of its sha256, so that a row fits 80 columns in one line."""
    return {
        "dataset": dataset,
        "file": file.path if full else PurePosixPath(file.path).name,
        "lines": len(file.lines),
        "copy": file.copy,
        "sha256": file.sha256 if full else file.sha256[:12],
    }


@data_app.command()
@command
def fetch(
    what: Annotated[
        str, typer.Argument(help="A suite (all come in one archive), glove (2 GB), or the training texts nli or wiki.")
    ] = "sts",
    cache_dir: options.CacheDir = None,
    offline: options.Offline = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Download data; an interrupted download goes on.

    A suite's data are SentEval's as SimCSE packed them, from the hub; glove is the 840B archive from its authors.
    """
    from harness.data.fetch import TRAINING_FILES
    from harness.names import pick
    from harness.tasks.suites import SUITES

    fetchers = dict.fromkeys(SUITES, _fetch_suite) | {"glove": _fetch_glove}
    fetchers |= {name: partial(_fetch_training_file, name) for name in TRAINING_FILES}
    fetcher = pick("data set", fetchers, what)
    with context_of(cache_dir=cache_dir, device="cpu", offline=offline, quiet=quiet) as context:
        show_rows([fetcher(context)], json=json)


@data_app.command()
@command
def add(
    name: Annotated[str, typer.Argument(help="The name, for instance wikipedia-1m or nli-31k.")],
    file: Annotated[Path, typer.Argument(help="The file: one sentence a line, csv, tsv or JSON lines, plain or .gz.")],
    cache_dir: options.CacheDir = None,
    json: options.Json = False,
) -> None:
    """Let a name stand for a text file. Cards and results then have the name and a digest of the content, and no path.

    For example: bench data add wikipedia-1m wikipedia_sentences_1m.txt.gz
    """
    from harness.data.named_texts import add_text

    text = add_text(name, file, cache_dir or options.default_cache_dir())
    show_rows([{"name": name, "content": text.name, "use": f"data={name} or fit={name}"}], json=json)


@data_app.command("list")
@command
def list_(cache_dir: options.CacheDir = None, json: options.Json = False) -> None:
    """Show the texts that can be named for training and fitting."""
    from harness.data.named_texts import NAMED, added_texts

    added = added_texts(cache_dir or options.default_cache_dir())
    rows: Rows = [{"name": name, "what": what, "file": str(added.get(name, ""))} for name, what in NAMED.items()]
    rows += [{"name": name, "what": "added", "file": str(path)} for name, path in added.items() if name not in NAMED]
    show_rows(rows, json=json)


def _fetch_suite(context: "Context") -> dict[str, object]:
    from harness.data.fetch import fetch_senteval

    found = fetch_senteval(context.cache_dir, offline=context.offline, progress=context.progress is not silent)
    return {"folder": str(found.path), "from": found.repo, "revision": found.revision, "sha256": found.sha256}


def _fetch_training_file(name: str, context: "Context") -> dict[str, object]:
    from harness.data.fetch import fetch_training_file

    path = fetch_training_file(name, offline=context.offline, progress=context.progress is not silent)
    return {"file": str(path), "use": f"fit={name}"}


def _fetch_glove(context: "Context") -> dict[str, object]:
    from harness.data.glove import fetch_glove

    path = fetch_glove(context.cache_dir, offline=context.offline, progress=context.progress)
    return {"file": str(path), "use": "avg-glove"}
