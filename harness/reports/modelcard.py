"""Model cards for the Hugging Face hub: a README.md whose `model-index` holds the measured scores."""

import json
import re
from collections.abc import Mapping, Sequence

from harness.names import EncoderCard, short_task
from harness.reports.plain import code, visible
from harness.results.record import Result

_SIMILARITY, _CLASSIFICATION = "sentence-similarity", "text-classification"
_METRICS = {
    "spearman": ("spearmanr", "Spearman"),
    "pearson": ("pearsonr", "Pearson"),
    "accuracy": ("accuracy", "Accuracy"),
}
# What the hub calls the data; elsewhere the task's own name in lower case.
_DATA = {"STSBenchmark": "sentence-transformers/stsb", "SICKRelatedness": "sick", "SST2": "stanfordnlp/sst2"}


def model_cards(results: Sequence[Result]) -> Mapping[str, str]:
    """A card for each encoder that has a correlation or an accuracy, by a name that is safe as a file name."""
    by_encoder: dict[str, list[Result]] = {}
    for result in results:
        if _metric(result) is not None:
            by_encoder.setdefault(result.encoder.name, []).append(result)
    cards: dict[str, str] = {}
    for name, own in sorted(by_encoder.items()):
        plain = re.sub(r"[^A-Za-z0-9._=-]+", "_", name).strip("_.") or "encoder"
        cards[plain if plain not in cards else f"{plain}-{own[0].encoder.identity[:8]}"] = model_card(own)
    return cards


def model_card(results: Sequence[Result]) -> str:
    """A README.md with metadata as the hub reads it.

    Args:
        results: of one encoder, at least one of them a correlation or an accuracy.
    """
    known = [result for result in results if _metric(result) is not None]
    card = known[0].encoder
    metadata = {
        "library_name": "sentence-transformers",
        "pipeline_tag": _SIMILARITY,
        "tags": [_SIMILARITY, "feature-extraction"],
        **({"base_model": card.backbone} if card.backbone and re.fullmatch(r"[\w.-]+/[\w.-]+", card.backbone) else {}),
        "model-index": [{"name": visible(card.name), "results": [_entry(result) for result in known]}],
    }
    lines = "\n".join(f"{key}: {json.dumps(value, ensure_ascii=True)}" for key, value in metadata.items())
    return f"---\n{lines}\n---\n\n{_body(card, known)}"


def _metric(result: Result) -> str | None:
    metric = result.metric.partition("/")[0]
    return metric if metric in _METRICS else None


def _entry(result: Result) -> dict[str, object]:
    """One task as an entry of `model-index`; JSON is YAML."""
    kind, label = _METRICS[str(_metric(result))]
    split = result.metric.rpartition("/")[2]
    similarity = kind in ("spearmanr", "pearsonr")
    return {
        "task": {"type": _SIMILARITY if similarity else _CLASSIFICATION, "name": "STS" if similarity else "Transfer"},
        "dataset": {
            "type": _DATA.get(result.task, result.task.lower()),
            "name": short_task(result.task),
            "split": split,
        },
        "metrics": [
            {
                "type": kind,
                "name": f"{label} ({visible(result.protocol)})",
                "value": round(100 * result.scores[result.metric], 4),
            }
        ],
    }


def _body(card: EncoderCard, results: Sequence[Result]) -> str:
    facts = {
        "Method": card.method,
        "Backbone": card.backbone,
        "Pooling": card.pooling,
        "Dimensions": card.dim,
        "Longest input": f"{card.max_tokens} tokens" if card.max_tokens else None,
        "Trained on": card.trained_on,
        "Fitted on": card.fitted_on,
        "Weights selected on": card.selected_on,
        "Weights (sha256)": card.weights_sha256,
    }
    known = "\n".join(f"- {key}: {code(str(value))}" for key, value in facts.items() if value)
    rows = "\n".join(
        f"| {short_task(result.task)} | {code(result.metric)} | {100 * result.scores[result.metric]:.2f} |"
        for result in results
    )
    return (
        f"# {code(card.name)}\n\nSentence embeddings, evaluated by `bench`.\n\n{known}\n\n"
        f"| Task | Score | Value |\n| :--- | :--- | ---: |\n{rows}\n"
    )
