"""Results of schema 1 are converted with their scores bit for bit, and with the identities of today's encoders."""

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from result_cases import CARD, RUN, pairs

from harness import identify
from harness.encoders.context import Context
from harness.encoders.registry import build
from harness.errors import ResultError
from harness.names import STS_B_DEV
from harness.results import store
from harness.results.correlation import spearman
from harness.results.items import columns
from harness.results.migration import migrate
from harness.results.store import find_problems

ROOT = Path(__file__).parents[1]


def old_result(root, card, items=None, table=None, **changes):
    """Write a result as schema 1 had it."""
    items = pairs() if items is None else items
    table = {**columns(items, own=False), **columns(items, own=True)} if table is None else table
    folder = root / card.name
    folder.mkdir(parents=True, exist_ok=True)
    plain = {name: values.tolist() if hasattr(values, "tolist") else list(values) for name, values in table.items()}
    pq.write_table(pa.table(plain), folder / "draft")
    sidecar = hashlib.sha256((folder / "draft").read_bytes()).hexdigest()
    (folder / "draft").rename(folder / f"STS12@sts-{sidecar[:12]}.parquet")
    old = {key: value for key, value in asdict(card).items() if key not in ("selected_on", "content")}
    document = {
        "schema": 1, "task": "STS12", "protocol": "sts", "metric": "spearman/all/test",
        "scores": {"spearman/all/test": spearman(items.gold, items.cosine)} if hasattr(items, "cosine") else {},
        "counts": {}, "data": {"a.txt": "ab"}, "flags": ["a flag"], "encoder": old, "seed": None, "sidecar": sidecar,
        "run": asdict(RUN), **changes,
    }  # fmt: skip
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
    document["checksum"] = hashlib.sha256(canonical.encode()).hexdigest()
    path = folder / "STS12@sts.json"
    path.write_text(json.dumps(document))
    return path


def test_scores_items_and_provenance_are_the_same(tmp_path):
    items = pairs((0.3, 0.1, 0.25))
    old_result(tmp_path / "old", CARD, items)
    found = migrate(tmp_path / "old", tmp_path / "new", lambda card: card)
    assert (found.results, found.problems, found.names) == (1, (), ((CARD.name, CARD.name),))
    (result,) = store.read_all(tmp_path / "new")[0]
    assert result.scores == {"spearman/all/test": spearman(items.gold, items.cosine)}
    assert (result.items(), result.run, result.flags) == (items, RUN, ("a flag",))
    assert find_problems(tmp_path / "new") == []
    with pytest.raises(ResultError, match="is the folder to convert, expected another one"):
        migrate(tmp_path / "new", tmp_path / "new", lambda card: card)


def test_what_cannot_be_trusted_is_named_and_left_out(tmp_path):
    def stored(name, **changes):
        return old_result(tmp_path / "old", replace(CARD, name=name), **changes)

    edited, lost, whole, twin = map(stored, ("edited", "lost", "one", "two"))
    stored("forged", scores={"spearman/all/test": 0.99})
    edited.write_text(edited.read_text().replace("a flag", "no flag"))
    (sidecar,) = lost.parent.glob("*.parquet")
    sidecar.unlink()
    found = migrate(tmp_path / "old", tmp_path / "new", lambda card: card)
    assert (found.results, set(found.problems)) == (
        1,
        {
            f"{edited}: was edited after it was written; it cannot be converted",
            f"{sidecar}: is missing or not the file that {lost.name} names; it cannot be converted",
            f"{twin}: repeats {whole}, which has an equal encoder",
            "forged: score spearman/all/test is 0.99, but the per-item scores give 1.0; run STS12 again with --force",
        },
    )


def test_the_columns_of_the_regressor_have_other_names_today(tmp_path):
    table = {"left": ["5f"] * 3, "right": ["6f"] * 3, "gold": [1.0, 2.0, 3.0], "predicted": [1.0, 3.0, 2.0]}
    old_result(tmp_path / "old", CARD, table=table, scores={"spearman/all/test": 0.5})
    assert migrate(tmp_path / "old", tmp_path / "new", lambda card: card).problems == ()
    assert store.read_all(tmp_path / "new")[0][0].items().second == ("6f",) * 3


@pytest.mark.parametrize("name", ["bert[backbone=tiny]", "random", "bert-whitening[backbone=tiny,fit=mini-nli,dim=96]"])
def test_an_encoder_that_can_be_built_has_its_identity_of_today(tmp_path, name):
    context = Context(cache_dir=tmp_path, offline=True)
    today = build(name, context).card
    old = replace(today, content={}, fitted_on="mini-nli@0" if today.fitted_on else None)
    assert identify.identifier(context, {})(old) == today
    other = identify.identifier(context, {})(replace(old, weights_sha256="99ff"))
    assert other.identity != today.identity and other.content["weights_sha256"] == "99ff"


def test_trained_weights_keep_their_own_identity_and_name_their_text(tmp_path):
    given = {
        "backbone": "tiny",
        "data": "w.txt",
        "dev": "sts-b",
        "dropout": 0.0,
        "max_steps": 0,
        "augmentation": "none",
    }
    old = replace(
        CARD,
        name="simcse-unsup[backbone=tiny,data=w.txt,dev=sts-b,seed=0,dropout=0.0,length_groups=4]",
        method="simcse-unsup",
        parameters=given,
        trained_on="w.txt@0123456789ab",
        seed=0,
    )
    (tmp_path / "wiki.txt").write_text("a sentence\nanother one\na third\n")
    context = Context(cache_dir=tmp_path / "cache", offline=True)
    lost = identify.identifier(context, {})(old)
    assert lost.name == "simcse-unsup[backbone=tiny,data=w.txt@0123456789ab,dev=sts-b,seed=0,dropout=0.0]"
    assert (lost.trained_on, lost.selected_on, lost.parameters["max_steps"]) == (old.trained_on, STS_B_DEV, None)
    here = identify.identifier(context, {"w.txt": (str(tmp_path / "wiki.txt"), 2)})(old)
    assert here.name.startswith("simcse-unsup[backbone=tiny,data=wiki.txt@") and "sentences=2" in here.name
    assert here.identity == lost.identity and here.parameters["sentences"] == 2


@pytest.mark.skipif(not (ROOT / "results" / "index.csv").exists(), reason="an installed package has no results")
def test_the_committed_results_are_whole():
    assert find_problems(ROOT / "results") == []
