"""Where the numbers of a report are from: encoders, machines, package versions, data files."""

from collections import Counter
from collections.abc import Iterable, Sequence

from harness.names import EncoderCard
from harness.reports.plain import code, markdown_text
from harness.reports.renderers import grid
from harness.results.record import Result, Run

Listing = tuple[tuple[str, ...], Sequence[tuple[str, ...]]]  # header and rows


def markdown(results: Sequence[Result], problems: Sequence[str]) -> str:
    """The page on where the numbers of a report are from.

    Args:
        results: those in the tables.
        problems: one sentence per per-item file that could not be used.
    """
    where = bullets(f"{run}: {number}" for run, number in runs(results))
    sections = [
        "# Where the numbers are from",
        f"## Encoders\n\n{_grid(encoders(results), 6)}",
        f"## Machines\n\n{where}\n\n{_grid(packages(results), 2)}",
        f"## Data\n\n{_grid(data(results), 4)}",
    ]
    if problems:
        sections.append("## Scores without an interval\n\n" + bullets(problems))
    return "\n\n".join(sections) + "\n"


def _grid(listing: Listing, left: int) -> str:
    """The first column set as code, and so many columns aligned left."""
    header, body = listing
    lines = [(code(first), *map(markdown_text, rest)) for first, *rest in body]
    return grid(header, lines, set(range(left)))


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


def _results(count: int) -> str:
    return f"{count} result{'' if count == 1 else 's'}"


def bullets(lines: Iterable[str]) -> str:
    """A list in Markdown, of sentences that may hold anything."""
    return "\n".join(f"- {markdown_text(line)}" for line in lines)
