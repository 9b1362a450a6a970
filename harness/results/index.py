"""The index of a results folder: one line per result, for people, grep and spreadsheets; reports never read it."""

import csv
import io
from collections.abc import Iterable, Sequence

from harness.results.record import Result

HEAD = ("encoder", "folder", "task", "protocol", "score", "seed", "commit")


def content(results: Iterable[Result]) -> str:
    """The index of results that know their files."""
    return _text(map(_line, results))


def with_result(before: str, result: Result) -> str | None:
    """An index with the line of a result added, in place of an earlier one; None if `before` is no index."""
    try:
        head, *lines = csv.reader(before.splitlines())
    except (ValueError, csv.Error):
        return None
    if tuple(head) != HEAD or any(len(line) != len(HEAD) for line in lines):
        return None
    new = _line(result)
    others = (line for line in map(tuple, lines) if line[1:4] != new[1:4])  # folder, task and protocol
    return _text([*others, new])


def _line(result: Result) -> tuple[str, ...]:
    assert result.file is not None
    score = repr(result.scores[result.metric])
    seed = "" if result.encoder.seed is None else str(result.encoder.seed)
    place = result.file.parent.name
    return (result.encoder.name, place, result.task, result.protocol, score, seed, result.run.commit or "")


def _text(lines: Iterable[Sequence[str]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(HEAD)
    writer.writerows(sorted(lines, key=lambda line: list(line)[1:4]))
    return stream.getvalue()
