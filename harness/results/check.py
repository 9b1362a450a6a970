"""What is wrong with a results folder: everything that `read_all` leaves out, files that nobody names, the index."""

from collections.abc import Iterator
from pathlib import Path

from harness.results import documents, layout, store


def check(root: Path) -> list[str]:
    """Name every problem of a results folder, one sentence each; none where all is well.

    Found are results that are damaged, edited or in a wrong place, whose per-item scores are missing or do not give
    their scores, and that repeat an encoder's name; files that no result names; and an index that is out of date.
    """
    return sorted([*store.read_all(root)[1], *_unnamed(root), *_orphans(root), *_index(root)])


def _unnamed(root: Path) -> Iterator[str]:
    named = {
        f"{result.stem}.{(documents.shared_digest(result) or '')[:12]}.parquet" for result in root.glob("*/*.json")
    }
    for items in root.glob(f"{layout.ITEMS}/*.parquet"):
        if items.name not in named:
            yield f"{items}: is named by no result; delete it"


def _orphans(root: Path) -> Iterator[str]:
    for scores in root.glob("*/*.scores.parquet"):
        result = scores.with_name(scores.name.replace(".scores.parquet", ".json"))
        if not result.exists():
            yield f"{scores}: has no result beside it, as when a run is killed; run the task again, or delete it"
    for card in root.glob(f"*/{layout.ENCODER}"):
        if len([*card.parent.glob("*.json")]) == 1:
            yield f"{card.parent}: holds an encoder's card and no result; delete it"
    for draft in root.glob("**/.bench-*.tmp"):
        yield f"{draft}: was left by a killed run; delete it"


def _index(root: Path) -> Iterator[str]:
    results = store.scan(root, check=False)[0]
    place = root / layout.INDEX
    try:
        found = place.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        found = ""
    except OSError as error:
        yield str(documents.unreadable(place, error))
        return
    if results and found != layout.index_of(results):
        yield f"{place}: is not what the results give; delete it, and the next run makes it anew"
