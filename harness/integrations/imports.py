"""Numbers that other programs wrote, read as published rows: mteb's result files, and the tables of SimCSE's script.

mteb's public results repository has a file for each task, and each model's metadata beside them:

    results/<organisation>__<model>/<revision>/<Task>.json, and model_meta.json beside it

Its files are read without mteb, in the three shapes that they have had: today's; that of mteb 1.11 and later, without a
version in each entry; and the one before, `{"test": {"cos_sim": {"spearman": ...}}}`.

SimCSE's `evaluation.py` prints a table:

    ------ test ------
    +-------+-------+-------+-------+-------+--------------+-----------------+-------+
    | STS12 | STS13 | STS14 | STS15 | STS16 | STSBenchmark | SICKRelatedness |  Avg. |
    +-------+-------+-------+-------+-------+--------------+-----------------+-------+
    | 75.30 | 84.67 | 80.19 | 85.40 | 80.82 |    84.25     |      80.39      | 81.57 |
    +-------+-------+-------+-------+-------+--------------+-----------------+-------+

It prints 0.00 for a task that was not run, and then its average is none. In the modes dev and fasttest its classifiers
have other settings than the paper's, so their accuracies are left out.

Source: https://github.com/princeton-nlp/SimCSE/blob/49fa580/evaluation.py
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from harness.encoders.modelfiles import read_object
from harness.errors import UsageError
from harness.names import STS, Spec, value_text
from harness.reports.layouts import SPEARMAN
from harness.reports.match import Match
from harness.reports.published import AVERAGE, Imported, Published, candidates, checked

# mteb's task and split -> our task. mteb's SICK-R is all of SICK.
TASKS: Mapping[str, Mapping[str, str]] = {
    **{year: {"test": year} for year in ("STS12", "STS13", "STS14", "STS15", "STS16")},
    "STSBenchmark": {"validation": "STSBenchmark-dev", "test": "STSBenchmark"},
    "STSBenchmark.v2": {"validation": "STSBenchmark.v2-dev", "test": "STSBenchmark.v2"},
    "SICK-R": {"test": "SICKRelatedness-full"},
}
SENTEVAL_COPY = "SentEval copy"  # what results say of their data in place of a commit on the hub

METRICS = ("spearman", "pearson")
_VERSION = re.compile(r"[012]\.\d+\.\d+[\w.]*(-[012]\.\d+\.\d+[\w.]*)?")  # or a range of two
_OLD = "before 1.11"  # the version of files that name none, in the shape that later versions do not write
_COMMIT = 40  # digits of a commit
_MODE = re.compile(r"-+ (dev|test|fasttest) -+")  # the line above the tables of evaluation.py
_NOT_RUN = "0.00"
OUR_NAME = "bench"  # the key in model_meta.json's loader_kwargs: our own name of the encoder


def read_mteb(place: Path, model: str = "") -> Imported:
    """Published rows from a result file of mteb, or from all of them in a folder and its subfolders.

    Args:
        place: file or folder.
        model: name of the model, for files that do not lie in mteb's layout.

    Raises:
        UsageError: if a file is damaged, of an unknown version, task or split, or holds a number out of range; or if
            nothing is there. In a folder, files of other tasks are left out.
    """
    if not place.exists():
        raise UsageError(f"{place}: nothing is there")
    if not place.is_dir():
        return Imported(tuple(_mteb_numbers(place, model)), ())
    found = sorted(path for path in place.rglob("*.json") if path.name != "model_meta.json")
    known = [path for path in found if path.stem in TASKS]
    if not known:
        raise UsageError(f"{place}: none of its {len(found)} JSON files is a task of ours, expected {', '.join(TASKS)}")
    numbers = tuple(number for path in known for number in _mteb_numbers(path, model))
    return Imported(numbers, tuple(path.stem for path in found if path not in known))


def _mteb_numbers(path: Path, model: str) -> Iterable[Published]:
    document = read_object(path)
    task, made_by, scores = _scores(path, document)
    row = _row(path, model, made_by, str(document.get("dataset_revision", "")))
    for split, entry in scores.items():
        if split not in TASKS[task]:
            raise UsageError(
                f"{path}: split {split!r} of {task}, expected {' or '.join(TASKS[task])}; numbers of "
                "splits do not compare"
            )
        for metric in METRICS:
            value = _percent(path, split, metric, entry)
            yield checked(replace(row, task=TASKS[task][split], metric=metric, value=value), str(path))


def _scores(path: Path, document: Mapping[str, Any]) -> tuple[str, str, dict[str, Mapping[str, Any]]]:
    """Task, mteb's version, and split -> the entry of its one subset, in any of the three shapes."""
    task = document.get("task_name", document.get("mteb_dataset_name"))
    if not isinstance(task, str) or task not in TASKS:
        raise UsageError(f"{path}: task {task!r} is none of ours, expected {', '.join(TASKS)}")
    old = "mteb_dataset_name" in document
    made_by = document.get("mteb_version", _OLD if old else None)
    if made_by != _OLD and not _VERSION.fullmatch(str(made_by)):
        raise UsageError(f"{path}: mteb_version {made_by!r}, expected 0, 1 or 2 and so on; its layout is not known")
    splits = {key: each for key, each in document.items() if isinstance(each, dict)} if old else document.get("scores")
    if not isinstance(splits, dict) or not splits:
        raise UsageError(f"{path}: no scores, expected some for each split; download the file again")
    if old:
        return task, str(made_by), splits
    return task, str(made_by), {split: _one_subset(path, split, entries) for split, entries in splits.items()}


def _one_subset(path: Path, split: str, entries: Any) -> Mapping[str, Any]:
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries) or not entries:
        raise UsageError(f"{path}: scores of split {split!r} are no list of entries; download the file again")
    subsets = [entry.get("hf_subset") for entry in entries]
    if subsets != ["default"]:
        problem = "is there twice" if len(set(map(str, subsets))) < len(subsets) else "is not known"
        raise UsageError(f"{path}: subset {subsets[-1]!r} of split {split!r} {problem}, expected 'default' once")
    entry: Mapping[str, Any] = entries[0]
    return entry


def _percent(path: Path, split: str, metric: str, entry: Mapping[str, Any]) -> float:
    """The correlation of cosines, times 100 with all its digits."""
    old = entry.get("cos_sim")
    value = old.get(metric) if isinstance(old, dict) else entry.get(f"cosine_{metric}")
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1 <= value <= 1:
        raise UsageError(f"{path}: cosine_{metric} of split {split!r} is {value!r}, expected a number from -1 to 1")
    return float(Decimal(repr(value)) * 100)


def _row(path: Path, model: str, made_by: str, data: str) -> Published:
    """What a file's numbers have in common: the model, its revision and settings, and who measured it on what."""
    name, revision, settings, ours = _model(path, model)
    short = revision[:12] if len(revision) == _COMMIT else revision or "no revision"
    return Published(
        paper="mteb",
        model=Spec.parse(ours).name if ours else name,
        variant=", ".join(f"{key}={value_text(value)}" for key, value in settings.items()),
        task="",
        metric="",
        aggregation="all",
        split="",
        value=0,
        origin=f"{name} at {short}, MTEB {made_by}",
        spec=ours or ("" if settings else _specs(name)),
        note=SENTEVAL_COPY if data.startswith(SENTEVAL_COPY) else "",
    )


def _model(path: Path, given: str) -> tuple[str, str, Mapping[str, Any], str]:
    """Name, revision, settings that are not at their defaults, and our own name of a file's model."""
    beside = path.parent / "model_meta.json"
    if beside.is_file():
        meta = read_object(beside)
        name, revision = given or str(meta.get("name") or ""), str(meta.get("revision") or "")
        ours = str(_object(beside, meta, "loader_kwargs").get(OUR_NAME, ""))
        settings = _object(beside, meta, "experiment_kwargs")
    else:
        organisation, between, rest = path.resolve().parent.parent.name.partition("__")
        name, revision = given or f"{organisation}/{rest}" * bool(between), path.resolve().parent.name * bool(between)
        settings, ours = {}, ""
    if not name:
        raise UsageError(
            f"{path}: no model_meta.json beside it and no folder ORGANISATION__MODEL/REVISION above it, so its model "
            "is not known; name it with --model"
        )
    return name, revision, settings, ours


def _object(path: Path, meta: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """An object of settings, empty where it is missing or null."""
    found = meta.get(key) or {}
    if not isinstance(found, dict):
        raise UsageError(f"{path}: {key} is {found!r}, expected an object of settings; download the file again")
    return found


def _specs(name: str) -> str:
    """Every encoder here that is a model of the hub, as published rows name it."""
    for row in candidates(SPEARMAN):
        if any(spec.name == f"hf:{name}" and row.paper == "mteb" for spec in Match.parse(row.spec).specs):
            return row.spec
    return f"hf:{name} | mteb:{name}"


def read_simcse(path: Path, model: str) -> Imported:
    """Published rows from the output of `evaluation.py`; other lines around its tables are passed over.

    Args:
        path: the output.
        model: the encoder that was evaluated, as a specification where it is one of ours.

    Raises:
        UsageError: if there is no such table, or a number is none or out of range.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}), expected evaluation.py's output") from error
    start = next((number for number, line in enumerate(lines) if _MODE.fullmatch(line)), None)
    if start is None:
        raise UsageError(f"{path}: no line '------ test ------', expected the output of SimCSE's evaluation.py")
    mode = _MODE.fullmatch(lines[start])[1]  # type: ignore[index]
    numbers: list[Published] = []
    others: list[str] = []
    for table in _tables(path, lines[start:]):
        correlations = bool(set(table) & set(STS))
        run = {task: text for task, text in table.items() if text != _NOT_RUN}
        if len(run) < len(table):
            run.pop("Avg.", None)
        if not correlations and mode != "test":
            others += [f"{task} ({mode})" for task in run]
            continue
        numbers += [
            _simcse_number(path, model, task, text, mode, correlations=correlations) for task, text in run.items()
        ]
    if not numbers:
        raise UsageError(f"{path}: no number of mode {mode} that compares, expected correlations or accuracies of test")
    return Imported(tuple(numbers), tuple(others))


def _tables(path: Path, lines: list[str]) -> Iterator[Mapping[str, str]]:
    """Head -> number, of every table: a line of heads, and a line of numbers below it."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    for start in range(0, len(rows), 2):
        pair = rows[start : start + 2]
        if len(pair) < 2 or len(pair[0]) != len(pair[1]):
            raise UsageError(f"{path}: a table ends in the middle, expected a line of numbers below {pair[0]}")
        if len(set(pair[0])) < len(pair[0]):
            raise UsageError(f"{path}: a task is twice in the head {pair[0]}, expected each once")
        yield dict(zip(*pair, strict=True))


def _simcse_number(path: Path, model: str, task: str, text: str, mode: str, *, correlations: bool) -> Published:
    try:
        value = float(text)
    except ValueError:
        raise UsageError(f"{path}: {text!r} on {task} is no number, expected percent") from None
    average = task == "Avg."
    number = Published(
        paper="evaluation.py",
        model=model,
        task=AVERAGE if average else f"{task}-dev" if mode == "dev" else task,
        metric="spearman" if correlations else "accuracy",
        aggregation="all" if correlations else "",
        split="test" if average else "",
        value=value,
        origin=f"SimCSE's evaluation.py, {path.name}",
        spec=model,
    )
    return checked(number, str(path))
