"""Measured scores as the Hugging Face hub reads them: `model-index` in a README.md, and `.eval_results/*.yaml`.

The second form names data sets and tasks of benchmarks on the hub, so only what mteb has too can be in it.

Source: https://huggingface.co/docs/hub/eval-results
"""

import json
import re
from collections.abc import Mapping, Sequence

from harness.names import EncoderCard, short_task
from harness.reports.renderers import code, visible
from harness.results.record import Result

_SIMILARITY, _CLASSIFICATION = "sentence-similarity", "text-classification"
_METRICS = {
    "spearman": ("spearmanr", "Spearman"),
    "pearson": ("pearsonr", "Pearson"),
    "accuracy": ("accuracy", "Accuracy"),
}
# What the hub calls the data; elsewhere the task's own name in lower case.
_DATA = {"STSBenchmark": "sentence-transformers/stsb", "SICKRelatedness": "sick", "SST2": "stanfordnlp/sst2"}


# What mteb calls our task on the hub: data set, and task_id as mteb writes it.
_BENCHMARK = {
    **{f"STS{year}": (f"mteb/sts{year}-sts", f"STS{year}_default_test") for year in range(12, 17)},
    "STSBenchmark": ("mteb/stsbenchmark-sts", "STSBenchmark_default_test"),
    "STSBenchmark.v2": ("mteb/STSBenchmarkv2", "STSBenchmark.v2_default_test"),
    "STSBenchmark.v2-dev": ("mteb/STSBenchmarkv2", "STSBenchmark.v2_default_validation"),
    "SICKRelatedness-full": ("mteb/sickr-sts", "SICK-R_default_test"),
}
EVAL_RESULTS = ".eval_results/bench.yaml"  # in a model's folder


def model_cards(results: Sequence[Result]) -> Mapping[str, str]:
    """The files of each encoder that has a correlation or an accuracy: `NAME.md`, and `NAME.eval_results.yaml`."""
    by_encoder: dict[str, list[Result]] = {}
    for result in results:
        if has_score(result):
            by_encoder.setdefault(result.encoder.name, []).append(result)
    files: dict[str, str] = {}
    for name, own in sorted(by_encoder.items()):
        plain = re.sub(r"[^A-Za-z0-9._=-]+", "_", name).strip("_.") or "encoder"
        plain = plain if f"{plain}.md" not in files else f"{plain}-{own[0].encoder.identity[:8]}"
        files[f"{plain}.md"] = f"---\n{_metadata(own, 'sentence-transformers')}\n---\n\n{_body(own[0].encoder, own)}"
        if entries := eval_results(own):
            files[f"{plain}.eval_results.yaml"] = entries
    return files


def with_scores(readme: str, results: Sequence[Result], library: str) -> str:
    """The README.md of an exported model, with the scores in its metadata and in a table at its end.

    Args:
        readme: with metadata of its own between two lines `---`, which are replaced.
        results: of the model, at least one of them a correlation or an accuracy.
        library: that loads the model, as the hub names it.
    """
    known = [result for result in results if has_score(result)]
    body = readme.split("---\n", 2)[2].rstrip()
    return f"---\n{_metadata(known, library)}\n---\n{body}\n\n{_table(known)}"


def eval_results(results: Sequence[Result]) -> str:
    """The content of `EVAL_RESULTS`, percent of each task that mteb has; empty where there is none. JSON is YAML."""
    entries = [
        {
            "dataset": dict(zip(("id", "task_id"), _BENCHMARK[result.task], strict=True)),
            "value": _percent(result),
            "date": result.run.started[:10],
            "notes": f"Spearman of cosines by bench, protocol {visible(result.protocol)}, SentEval's copy of the pairs",
        }
        for result in results
        if result.task in _BENCHMARK and result.metric.startswith("spearman/")
    ]
    return "".join(f"- {json.dumps(entry, ensure_ascii=True)}\n" for entry in entries)


def _metadata(known: Sequence[Result], library: str) -> str:
    """The metadata of a README.md: its lines between `---`."""
    card = known[0].encoder
    metadata = {
        "library_name": library,
        "pipeline_tag": _SIMILARITY,
        "tags": [_SIMILARITY, "feature-extraction"],
        **({"base_model": card.backbone} if card.backbone and re.fullmatch(r"[\w.-]+/[\w.-]+", card.backbone) else {}),
        "model-index": [{"name": visible(card.name), "results": [_entry(result) for result in known]}],
    }
    return "\n".join(f"{key}: {json.dumps(value, ensure_ascii=True)}" for key, value in metadata.items())


def has_score(result: Result) -> bool:
    """Whether a card shows the result: correlations and accuracies."""
    return result.metric.partition("/")[0] in _METRICS


def _entry(result: Result) -> dict[str, object]:
    """One task as an entry of `model-index`; JSON is YAML."""
    metric, *_, split = result.metric.split("/")
    kind, label = _METRICS[metric]
    similarity = metric != "accuracy"
    return {
        "task": {"type": _SIMILARITY if similarity else _CLASSIFICATION, "name": "STS" if similarity else "Transfer"},
        "dataset": {
            "type": _DATA.get(result.task, result.task.lower()),
            "name": short_task(result.task),
            "split": split,
        },
        "metrics": [{"type": kind, "name": f"{label} ({visible(result.protocol)})", "value": _percent(result)}],
    }


def _percent(result: Result) -> float:
    return round(100 * result.scores[result.metric], 4)


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
    return f"# {code(card.name)}\n\nSentence embeddings, evaluated by `bench`.\n\n{known}\n\n{_table(results)}"


def _table(results: Sequence[Result]) -> str:
    rows = "\n".join(
        f"| {short_task(result.task)} | {code(result.metric)} | {100 * result.scores[result.metric]:.2f} |"
        for result in results
    )
    return f"| Task | Score | Value |\n| :--- | :--- | ---: |\n{rows}\n"
