"""Results in the layout of mteb's public results repository: ours written there, and others' read as published rows.

    results/<organisation>__<model>/<revision>/<Task>.json, and model_meta.json beside them

Files are read without mteb, in the three shapes that they have had: today's; that of mteb 1.11 and later, without a
version in each entry; and the one before, `{"test": {"cos_sim": {"spearman": ...}}}`. They are written by mteb's own
classes. mteb takes one correlation over all pairs of a task, so of our scores `all` alone can be written.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import Any

from harness import files
from harness.encoders.jsonfiles import read_object
from harness.errors import UsageError
from harness.names import EncoderCard, Spec, value_text
from harness.reports.match import Match
from harness.reports.numbers import Imported, Published, checked
from harness.reports.published import candidates
from harness.results.record import Result

# mteb's task and split -> our task. mteb's SICK-R is all of SICK.
TASKS: Mapping[str, Mapping[str, str]] = {
    **{year: {"test": year} for year in ("STS12", "STS13", "STS14", "STS15", "STS16")},
    "STSBenchmark": {"validation": "STSBenchmark-dev", "test": "STSBenchmark"},
    "STSBenchmark.v2": {"validation": "STSBenchmark.v2-dev", "test": "STSBenchmark.v2"},
    "SICK-R": {"test": "SICKRelatedness-full"},
}
SENTEVAL_COPY = "SentEval copy"  # what results say of their data in place of a commit on the hub

_OURS = {ours: (task, split) for task, splits in TASKS.items() for split, ours in splits.items()}
_METRICS = ("spearman", "pearson")
_VERSION = re.compile(r"[012]\.\d+\.\d+[\w.]*(-[012]\.\d+\.\d+[\w.]*)?")  # or a range of two
_OLD = "before 1.11"  # the version of files that name none, in the shape that later versions do not write
_COMMIT = 40  # digits of a commit
_ORGANISATION = "simcse-bench"  # mteb's names have one
_PARAMETER = "bench"  # of model_meta.json's loader_kwargs: our own name of the encoder


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
        return Imported(tuple(_numbers(place, model)), ())
    found = sorted(path for path in place.rglob("*.json") if path.name != "model_meta.json")
    known = [path for path in found if path.stem in TASKS]
    if not known:
        raise UsageError(f"{place}: none of its {len(found)} JSON files is a task of ours, expected {', '.join(TASKS)}")
    numbers = tuple(number for path in known for number in _numbers(path, model))
    return Imported(numbers, tuple(path.stem for path in found if path not in known))


def _numbers(path: Path, model: str) -> Iterable[Published]:
    document = read_object(path)
    task, made_by, scores = _scores(path, document)
    row = _row(path, model, made_by, str(document.get("dataset_revision", "")))
    for split, entry in scores.items():
        if split not in TASKS[task]:
            raise UsageError(
                f"{path}: split {split!r} of {task}, expected {' or '.join(TASKS[task])}; numbers of "
                "splits do not compare"
            )
        for metric in _METRICS:
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
        ours = str(_object(beside, meta, "loader_kwargs").get(_PARAMETER, ""))
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
    for row in candidates("spearman", "all", "test"):
        if any(spec.name == f"hf:{name}" and row.paper == "mteb" for spec in Match.parse(row.spec).specs):
            return row.spec
    return f"hf:{name} | mteb:{name}"


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written, and the names of tasks that mteb does not have."""

    files: tuple[Path, ...]
    others: tuple[str, ...]


def write_mteb(results: Sequence[Result], folder: Path) -> Exported:
    """Write results as mteb's own command does, so that `ResultCache(folder).load_results()` reads them.

    Data are named "SentEval copy" with the sha256 of the file read; of several files, with that of their lines
    `<sha256>  <path>` in the order of paths.

    Raises:
        UsageError: if mteb is not installed, no result is of one of its tasks, or two encoders would be one model.
        WriteError: if the disk refuses.
    """
    own = [result for result in results if result.task in _OURS and result.protocol == "sts"]
    if not own:
        raise UsageError(f"none of the {len(results)} results is of a task of mteb, expected {', '.join(_OURS)}")
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in own:
        groups.setdefault((result.encoder.name, _OURS[result.task][0]), []).append(result)
    cards = {result.encoder.name: result.encoder for result in own}
    metas = {name: model_meta(card) for name, card in cards.items()}
    cache = open_mteb().ResultCache(folder)
    places: dict[Path, str] = {}
    for name, task in groups:
        place = cache.get_task_result_path(task, metas[name])
        if place in places:
            raise UsageError(
                f"{name} and {places[place]} would both be {place.relative_to(folder)}; export one of them with "
                "--models"
            )
        places[place] = name
    with files.writing(folder):
        for (name, _), found in groups.items():
            cache.save_to_cache(_task_result(found), metas[name])
    return Exported(tuple(places), tuple(sorted({result.task for result in results} - {r.task for r in own})))


def _task_result(results: Sequence[Result]) -> Any:
    """The splits of one task as mteb's record of it."""
    first = results[0]
    scores = {_OURS[result.task][1]: [_entry(result)] for result in results}
    return open_mteb().TaskResult(
        dataset_revision=f"{SENTEVAL_COPY}, sha256 {data_digest(first.data)}",
        task_name=_OURS[first.task][0],
        mteb_version=version("mteb"),
        scores=scores,
        evaluation_time=sum(result.run.seconds for result in results),
        date=datetime.fromisoformat(first.run.started),
    )


def _entry(result: Result) -> dict[str, Any]:
    split = result.metric.rpartition("/")[2]
    found = {metric: result.scores[f"{metric}/all/{split}"] for metric in _METRICS}
    return {
        **found,
        **{f"cosine_{metric}": value for metric, value in found.items()},
        "main_score": found["spearman"],
        "hf_subset": "default",
        "languages": ["eng-Latn"],
    }


def data_digest(data: Mapping[str, str]) -> str:
    """The sha256 of a task's one data file, or of the lines `<sha256>  <path>` of several."""
    if len(data) == 1:
        return next(iter(data.values()))
    lines = "".join(f"{digest}  {path}\n" for path, digest in sorted(data.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def model_meta(card: EncoderCard) -> Any:
    """The encoder as mteb's `ModelMeta`; parameters at their defaults are left out, because others hide a result."""
    spec = Spec.parse(card.name)
    prefix, _, place = spec.name.rpartition(":")
    released = card.backbone if card.method == spec.name and "backbone" not in card.parameters else None
    name = place if prefix in ("hf", "mteb") else released or spec.name
    if name.count("/") != 1:
        name = f"{_ORGANISATION}/{name.replace('/', '-')}"
    return open_mteb().models.ModelMeta.create_empty(
        overwrites={
            "name": re.sub(r"[^\w./-]+", "-", name),
            "revision": card.revision or f"sha256-{(card.weights_sha256 or card.identity)[:12]}",
            "embed_dim": card.dim,
            "max_tokens": card.max_tokens,
            "similarity_fn_name": open_mteb().models.model_meta.ScoringFunction.COSINE,
            "framework": ["PyTorch" if card.weights_sha256 else "NumPy"],
            "languages": ["eng-Latn"],
            "loader_kwargs": {_PARAMETER: card.name},
            "experiment_kwargs": {key: value_text(value) for key, value in spec.given.items()} or None,
        }
    )


def open_mteb() -> Any:
    try:
        import mteb
    except ImportError as error:
        raise UsageError("mteb is not installed; install it with: pip install 'simcse-bench[mteb]'") from error
    return mteb
