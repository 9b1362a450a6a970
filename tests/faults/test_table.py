"""The documentation's table of faults names every kind of stored file, every damage, and tests that are there."""

import re
import sys
from pathlib import Path

from harness import storage

sys.path.insert(0, str(Path(__file__).parent))
from damage import DAMAGES

_TESTS = Path(__file__).parents[1]
_PAGE = (_TESTS.parent / "docs" / "faults.md").read_text(encoding="utf-8")


def test_every_kind_and_every_damage_is_in_the_table():
    assert set(re.findall(r"^\| `(\w+)` \|", _PAGE, re.M)) == set(storage.KINDS)
    assert ", ".join(DAMAGES) in " ".join(_PAGE.split())


def test_every_test_that_the_table_names_is_there():
    named = re.findall(r"`(test_\w+\.py)(?:::(test_\w+))?`", _PAGE)
    assert len(named) > 20
    for file, function in named:
        (place,) = [*_TESTS.glob(f"**/{file}")]
        assert f"def {function}(" in place.read_text(encoding="utf-8") or not function
