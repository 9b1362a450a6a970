"""A study of given results, such as those that a paper's tables lack, and its file."""

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from harness import files
from harness.encoders.context import Context
from harness.encoders.registry import resolve
from harness.errors import UsageError
from harness.names import pick
from harness.studies.study import ReportWanted, Scoring, Study

_MODE = re.compile(r"mode=(\w+)")


def study_of(title: str, wanted: Iterable[tuple[str, str, str]], context: Context, results_dir: Path) -> Study:
    """The study that measures these results and no others.

    Args:
        title: for people.
        wanted: encoder, task and protocol of each result.
        context: the settings that encoders are built with.
        results_dir: where the results are to be.

    Raises:
        UsageError: if nothing is wanted, or there is no such encoder, task or protocol.
    """
    tasks: dict[tuple[str, str], dict[str, str]] = {}  # protocols by task, for an encoder and a mode of its probes
    for encoder, task, protocol in wanted:
        mode = found[1] if (found := _MODE.search(protocol)) else "test"
        tasks.setdefault((str(resolve(encoder, context).spec), mode), {})[task] = protocol
    if not tasks:
        raise UsageError(f"{title}: there is no study of it, nothing is missing")
    models = [(spec, Scoring(tasks=tuple(own), mode=mode)) for (spec, mode), own in tasks.items()]
    for (_, scoring), own in zip(models, tasks.values(), strict=True):
        known = {f"{task.name} ({task.protocol})": task for task in scoring.chosen()}
        for task, protocol in own.items():
            pick("task", known, f"{task} ({protocol})")
    return Study(
        title=title,
        models=tuple(models),
        device=context.device,
        dtype=context.dtype,
        results_dir=results_dir,
        data_dir=context.data_dir,
        cache_dir=context.cache_dir,
        offline=context.offline,
        report=ReportWanted(),
        engines={},
    )


def write_study(path: Path, study: Study) -> None:
    """Write what a study measures, where its results are to be, and in which arithmetic; the rest is the machine's.

    Raises:
        WriteError: if the file cannot be written.
    """
    ((general, _),) = Counter(scoring for _, scoring in study.models).most_common(1)
    facts = {"title": study.title, "results_dir": str(study.results_dir), "dtype": study.dtype}
    blocks = [facts | _changed(general, Scoring())]
    blocks += [{"model": spec} | _changed(scoring, general) for spec, scoring in study.models]
    texts = [
        "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in one.items()) for one in blocks
    ]
    files.replace(path, "\n[[models]]\n".join(texts).encode())


def _changed(scoring: Scoring, base: Scoring) -> dict[str, object]:
    """The keys of a study file that make one of the other."""
    return {key: value for key, value in asdict(scoring).items() if value != getattr(base, key)}
