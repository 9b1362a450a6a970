"""The functions of `import harness`: load and evaluate encoders, read results, compare and explain them."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from harness.encoders.context import Context, torch_device
from harness.encoders.entry import Built
from harness.encoders.foreign import as_encoder
from harness.encoders.registry import Resolved, resolve
from harness.errors import UsageError
from harness.names import Spec
from harness.progress import bars
from harness.reports.match import without_seed
from harness.results.collection import Failure, Results
from harness.run import Plan, build_cached, run
from harness.tasks.suites import select

if TYPE_CHECKING:
    from harness.explanation.explain import Explanation
    from harness.reports.comparison import Comparison


class Settings(TypedDict, total=False):
    """Keyword arguments that `load_encoder` and `evaluate` share.

    Attributes:
        data_dir: folder in SentEval's layout (it contains `downstream/`); else BENCH_DATA_DIR, the cache, the hub.
        cache_dir: folder for embeddings, fits, downloads and trained models. Without it they live in a temporary folder
            until the process ends, so that nothing is written that was not asked for.
        device: `auto` (the default), `cpu`, `cuda`, `cuda:1`, `mps`.
        dtype: of the forward pass: float32 (the default), bfloat16 or float16.
        backbone: used by every specification that has a `backbone` parameter and was not given one.
        offline: never use the network.
        progress: whether to show progress; the default is no.
    """

    data_dir: str | Path | None
    cache_dir: str | Path | None
    device: str
    dtype: str
    backbone: str | None
    offline: bool
    progress: bool


class Evaluation(Settings, total=False):
    """Keyword arguments of `evaluate`.

    Attributes:
        mode: of SentEval's classifiers: `test` (10 folds, the default), `fasttest` (5 folds), or `dev`.
        classifier: `senteval` (the reference's PyTorch classifier, the default) or `senteval-sklearn`.
    """

    mode: str
    classifier: str


def load_encoder(
    model: Any, *, name: str | None = None, fingerprint: str | None = None, **settings: Unpack[Settings]
) -> Built:
    """Build the encoder of a specification, or wrap an object of your own.

        encoder = harness.load_encoder("minilm")
        encoder.encode(["a sentence"])          # (1, 384) float32
        encoder.card                            # what it is, and all that decides its vectors

    Args:
        model: a specification such as `bert-whitening[backbone=tiny,fit=target]`, an object with `encode` or
            `transform` (a SentenceTransformer, a fitted scikit-learn pipeline), or a function from texts to an array.
        name: the encoder's name in results; for objects only.
        fingerprint: a text that changes whenever an object's vectors change; with it they are kept in the cache.
        **settings: see `Settings`.

    Raises:
        UsageError: on an unknown name, parameter or checkpoint.
        EncoderError: if it cannot be built.
    """
    with _context(settings) as context:
        found = _model(model, name, fingerprint, context)
        return build_cached(found, context) if isinstance(found, Resolved) else found


def evaluate(
    model: Any,
    *,
    suite: str | Sequence[str] = (),
    tasks: str | Sequence[str] = (),
    name: str | None = None,
    results_dir: str | Path | None = None,
    force: bool = False,
    **settings: Unpack[Evaluation],
) -> Results:
    """Score one encoder, or several, on tasks.

        results = harness.evaluate("minilm", suite="sts", data_dir="SentEval/data")
        results["STS12"].spearman
        results.frame()

    Args:
        model: whatever `load_encoder` takes or returns, or a list of such.
        suite: name(s) of suites: `harness.SUITES`.
        tasks: name(s) of tasks, instead of a suite: `harness.TASKS`.
        name: the encoder's name in results; for a single object only.
        results_dir: result files are written there, and finished ones are kept. Without it nothing is saved.
        force: compute finished results again.
        **settings: see `Evaluation` and `Settings`.

    Raises:
        UsageError: on an unknown name, or where neither suite nor tasks are given.
        BenchError: whatever failed, if nothing succeeded. Else failures are in `Results.failures`.
    """
    models = list(model) if isinstance(model, list | tuple) else [model]
    probes = {"mode": settings.get("mode", "test"), "classifier": settings.get("classifier", "senteval")}
    chosen = select(_names(suite), _names(tasks), **probes)
    temporary = None if results_dir else tempfile.TemporaryDirectory(prefix="bench-results-")
    folder = Path(temporary.name if temporary else results_dir or "")
    with _context(settings) as context:
        found = [_model(one, name, None, context) for one in models]
        cells = run(Plan(models=found, tasks=chosen, results_dir=folder, context=context, force=force))
    errors = [cell.error for cell in cells if cell.error is not None]
    if errors and len(errors) == len(cells):
        raise errors[0]
    failures = [Failure(cell.encoder, cell.task, str(cell.error)) for cell in cells if cell.error is not None]
    results = [cell.result for cell in cells if cell.result is not None]
    return Results(results, folder, failures=failures, temporary=temporary)


def compare(a: Results, b: Results) -> "Comparison":
    """Compare two encoders on the items that both were scored on; see `harness.reports.comparison.compare`.

        results = harness.load_results("results")
        harness.compare(results.of("minilm"), results.of("bag-of-words")).frame()

    Args:
        a: results of one encoder; several seeds of one recipe count with their mean.
        b: results of another.

    Raises:
        UsageError: if a or b holds several encoders.
        ResultError: if there is no task to compare them on.
    """
    from harness.reports.comparison import compare as compared

    return compared([*a, *b], (_one_name(a), _one_name(b)))


def _one_name(results: Results) -> str:
    names = dict.fromkeys(results.encoders)
    recipes = dict.fromkeys(without_seed(name) for name in names)
    if len(names) == 1:
        return next(iter(names))
    if len(recipes) == 1:
        return next(iter(recipes))
    raise UsageError(f"compare: {', '.join(names)} are several encoders, expected one; choose with results.of(name)")


def explain(
    model: str | Spec,
    tasks: str | Sequence[str],
    *,
    published: Mapping[str, float] | None = None,
    score: float | None = None,
    thorough: bool = False,
    **settings: Unpack[Settings],
) -> "Explanation":
    """Find the choice of protocol that accounts for the difference between a number and a published one.

    Args:
        model: a specification.
        tasks: similarity benchmarks such as `STS-B`, or classification tasks.
        published: task -> percent, for all the tasks.
        score: a number of your own in percent, the mean over the tasks; without it the encoder's own is computed.
        thorough: whether to try the dearest readings too.
        **settings: see `Settings`.

    Raises:
        UsageError: if the specification or a task is unknown, or the encoder is fitted anew for every task.
        EncoderError: if the encoder cannot be built or breaks its promise.
    """
    from harness.explanation.explain import explain as explained

    with _context(settings) as context:
        return explained(str(model), _names(tasks), context, given=score, published=published, thorough=thorough)


def _names(given: str | Sequence[str]) -> list[str]:
    return given.replace(",", " ").split() if isinstance(given, str) else list(given)


def _model(model: Any, name: str | None, fingerprint: str | None, context: Context) -> Resolved | Built:
    if not isinstance(model, str | Spec):
        return as_encoder(model, name, fingerprint)
    if name is not None or fingerprint is not None:
        raise UsageError(f"{model}: a specification has its own name and fingerprint; give neither")
    return resolve(model, context)


_kept: list[Any] = []  # temporary cache folders, which live until the process ends


@contextmanager
def _context(settings: Settings) -> Iterator[Context]:
    """The context that the settings describe, with progress bars while it lasts."""
    cache_dir, data_dir = settings.get("cache_dir"), settings.get("data_dir")
    if cache_dir is None:
        _kept.append(tempfile.TemporaryDirectory(prefix="bench-cache-"))
        cache_dir = _kept[-1].name
    with bars(quiet=not settings.get("progress", False)) as progress:
        yield Context(
            cache_dir=Path(cache_dir),
            data_dir=None if data_dir is None else Path(data_dir),
            device=torch_device(settings.get("device", "auto")),
            dtype=settings.get("dtype", "float32"),
            backbone=settings.get("backbone"),
            offline=settings.get("offline", False),
            progress=progress,
        )
