"""Where the numbers of a report are from: encoders, machines, package versions, data files."""

from collections import Counter
from collections.abc import Iterable, Sequence

from harness.reports.render import grid
from harness.results.record import Card, Result, Run


def markdown(results: Sequence[Result], problems: Sequence[str], no_table: Sequence[str]) -> str:
    """The closing sections of a report.

    Args:
        results: those in the tables.
        problems: one sentence per result file that was left out.
        no_table: tasks measured but in no table.
    """
    sections = [f"## Encoders\n\n{_encoders(results)}", f"## Provenance\n\n{_runs(results)}\n\n{_packages(results)}"]
    sections.append(f"## Data\n\n{_data(results)}")
    if no_table:
        sections.append("## Measured, but in no table\n\n" + _bullets(no_table))
    if problems:
        sections.append(f"## Left out\n\nResult files not used: {len(problems)}.\n\n" + _bullets(problems))
    return "\n\n".join(sections) + "\n"


def _encoders(results: Sequence[Result]) -> str:
    cards: dict[str, tuple[Card, int, float]] = {}
    for result in sorted(results, key=lambda r: r.encoder.name):
        key = repr(result.encoder)
        _, cells, seconds = cards.get(key, (None, 0, 0.0))
        cards[key] = (result.encoder, cells + 1, seconds + result.run.seconds)
    header = (
        "Encoder",
        "Backbone",
        "Revision",
        "Weights",
        "Pooling",
        "Type",
        "Dim.",
        "Max. tokens",
        "Results",
        "Seconds",
    )
    body = [
        (
            f"`{card.name}`",
            card.backbone or "-",
            (card.revision or "-")[:12],
            (card.weights_sha256 or "-")[:12],
            card.pooling or "-",
            card.dtype,
            str(card.dim),
            str(card.max_tokens or "-"),
            str(cells),
            f"{seconds:.1f}",
        )
        for card, cells, seconds in cards.values()
    ]
    return grid(header, body, left=6)


def _runs(results: Sequence[Result]) -> str:
    runs = Counter(_sentence(result.run) for result in results)
    return _bullets(f"{what}: {_results(count)}" for what, count in sorted(runs.items()))


def _sentence(run: Run) -> str:
    machine = run.machine
    where = f"{machine.get('processor')}, {machine.get('cores')} cores, {machine.get('memory_gib')} GiB"
    commit = f"commit {run.commit[:12]}{' with changes' if run.dirty else ''}" if run.commit else "no checkout"
    return f"{where}, {machine.get('system')}; device {run.device}, {run.threads} threads; {commit}"


def _packages(results: Sequence[Result]) -> str:
    found: dict[str, Counter[str]] = {}
    for result in results:
        for name, version in result.run.packages.items():
            found.setdefault(name, Counter())[version] += 1
    body = []
    for name, versions in sorted(found.items()):
        several = len(versions) > 1
        texts = [f"{version} ({_results(n)})" if several else version for version, n in sorted(versions.items())]
        body.append((name, ", ".join(texts)))
    return grid(("Package", "Version"), body, left=2)


def _data(results: Sequence[Result]) -> str:
    found: dict[tuple[str, str], set[str]] = {}
    for result in results:
        for file, digest in result.data.items():
            found.setdefault((file, digest), set()).add(result.task)
    several = Counter(file for file, _ in found)
    body = [
        (f"`{file}`", digest, ", ".join(sorted(tasks)), "differs" if several[file] > 1 else "")
        for (file, digest), tasks in sorted(found.items())
    ]
    return grid(("File", "sha256", "Tasks", ""), body, left=4)


def _results(count: int) -> str:
    return f"{count} result{'' if count == 1 else 's'}"


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
