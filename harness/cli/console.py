"""The two streams of the command line: data on stdout, and everything for people's eyes on stderr."""

import json
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

out = Console(soft_wrap=False)
err = Console(stderr=True, highlight=False)

Rows = list[dict[str, object]]


def print_json(value: object) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def show_rows(rows: Sequence[dict[str, object]], *, json: bool = False, empty: str = "nothing") -> None:
    """Rows of equal keys as a table on stdout, or as JSON."""
    if json:
        print_json(list(rows))
        return
    if not rows:
        out.print(empty, markup=False, soft_wrap=True)
        return
    table = Table()
    for key in rows[0]:
        table.add_column(key, overflow="fold")
    for row in rows:
        table.add_row(*(escape(str(value)) for value in row.values()))
    out.print(table)
