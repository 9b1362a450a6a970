"""Where the numbers of a report are from: encoders, machines, package versions, data files."""

from collections import Counter
from collections.abc import Iterable, Sequence

from harness.names import EncoderCard
from harness.reports.render import grid
from harness.results.record import Result, Run

Listing = tuple[tuple[str, ...], Sequence[tuple[str, ...]]]  # header and rows


def markdown(
    results: Sequence[Result], problems: Sequence[str], no_table: Sequence[str], without_interval: Sequence[str] = ()
) -> str:
    """The closing sections of a report.

    Args:
        results: those in the tables.
        problems: one sentence per result file that was left out.
        no_table: tasks measured but in no table.
        without_interval: one sentence per per-item file that could not be used.
    """
    where = _bullets(f"{run}: {number}" for run, number in runs(results))
    sections = [
        f"## Encoders\n\n{grid(*_as_code(encoders(results)), left=6)}",
        f"## Provenance\n\n{where}\n\n{grid(*packages(results), left=2)}",
        f"## Data\n\n{grid(*_as_code(data(results)), left=4)}",
    ]
    if no_table:
        sections.append("## Measured, but in no table\n\n" + _bullets(no_table))
    if without_interval:
        sections.append("## Scores without an interval\n\n" + _bullets(without_interval))
    if problems:
        sections.append(f"## Left out\n\nResult files not used: {len(problems)}.\n\n" + _bullets(problems))
    return "\n\n".join(sections) + "\n"


def encoders(results: Sequence[Result]) -> Listing:
    """One row per encoder, with what tells it apart from others of its name."""
    cards: dict[str, tuple[EncoderCard, int, float]] = {}
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
            card.name,
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
    return header, body


def runs(results: Sequence[Result]) -> list[tuple[str, str]]:
    """Machines, devices and commits, each with the number of its results."""
    found = Counter(_sentence(result.run) for result in results)
    return [(what, _results(count)) for what, count in sorted(found.items())]


def _sentence(run: Run) -> str:
    machine = run.machine
    where = f"{machine.get('processor')}, {machine.get('cores')} cores, {machine.get('memory_gib')} GiB"
    commit = f"commit {run.commit[:12]}{' with changes' if run.dirty else ''}" if run.commit else "no checkout"
    return f"{where}, {machine.get('system')}; device {run.device}, {run.threads} threads; {commit}"


def packages(results: Sequence[Result]) -> Listing:
    """Versions; where there are several, with the number of their results."""
    found: dict[str, Counter[str]] = {}
    for result in results:
        for name, version in result.run.packages.items():
            found.setdefault(name, Counter())[version] += 1
    body = []
    for name, versions in sorted(found.items()):
        several = len(versions) > 1
        texts = [f"{version} ({_results(n)})" if several else version for version, n in sorted(versions.items())]
        body.append((name, ", ".join(texts)))
    return ("Package", "Version"), body


def data(results: Sequence[Result]) -> Listing:
    """Files that were read; a file that was read in two versions has two rows and says so."""
    found: dict[tuple[str, str], set[str]] = {}
    for result in results:
        for file, digest in result.data.items():
            found.setdefault((file, digest), set()).add(result.task)
    several = Counter(file for file, _ in found)
    body = [
        (file, digest, ", ".join(sorted(tasks)), "differs" if several[file] > 1 else "")
        for (file, digest), tasks in sorted(found.items())
    ]
    return ("File", "sha256", "Tasks", ""), body


def _as_code(listing: Listing) -> Listing:
    """The first column set as code."""
    header, body = listing
    return header, [(f"`{first}`", *rest) for first, *rest in body]


def _results(count: int) -> str:
    return f"{count} result{'' if count == 1 else 's'}"


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
