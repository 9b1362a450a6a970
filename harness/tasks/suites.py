"""The tasks, one row each, and the suites made of them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache, partial

from harness.data import sts
from harness.data.classification import LOADERS, PROBING_LOADERS
from harness.errors import UsageError
from harness.names import STS, pick, short_task
from harness.tasks.classification import ClassificationTask, Protocol, Scheme
from harness.tasks.geometry import GeometryTask, Load
from harness.tasks.outcome import Task
from harness.tasks.probes import MODES
from harness.tasks.regression import RegressionTask
from harness.tasks.similarity import SimilarityTask

_SPLITS = ("train", "dev", "test")
_CLEAN = "without pairs seen elsewhere (mteb)"


def _sts_b(*splits: str) -> Load:
    return partial(sts.sts_benchmark, splits=splits)


def _sick(*splits: str) -> Load:
    return partial(sts.sick_relatedness, splits=splits)


def _similarity(name: str, title: str, load: Load, target: Load | None = None, split: str = "test") -> SimilarityTask:
    """A row of the table; without a target a `fit=target` method may see what is scored."""
    bundled = name.startswith("mini-")
    return SimilarityTask(name=name, title=title, split=split, load=load, load_target=target or load, bundled=bundled)


_STS_B, _SICK, _MINI = _sts_b(*_SPLITS), _sick(*_SPLITS), partial(sts.semeval, year="MINI")
_SEMEVAL = {
    "STS12": "SemEval 2012 task 6",
    "STS13": "SemEval 2013 shared task, without SMT",
    "STS14": "SemEval 2014 task 10",
    "STS15": "SemEval 2015 task 2",
    "STS16": "SemEval 2016 task 1",
}
_CLASSIFICATION: dict[str, tuple[Scheme, str]] = {
    "MR": ("nested folds", "film review sentiment"),
    "CR": ("nested folds", "product review sentiment"),
    "SUBJ": ("nested folds", "subjective or objective"),
    "MPQA": ("nested folds", "opinion polarity of phrases"),
    "SST2": ("train, dev, test", "Stanford Sentiment Treebank, two classes"),
    "TREC": ("folds, test", "question type, six classes"),
    "MRPC": ("folds, test", "paraphrase or not"),
    "SST5": ("train, dev, test", "Stanford Sentiment Treebank, five classes"),
    "SICKEntailment": ("train, dev, test", "SICK entailment, three classes"),
    "mini-mr": ("nested folds", "bundled mini suite, sentiment"),
    "mini-mrpc": ("folds, test", "bundled mini suite, paraphrase"),
}

_ROWS: tuple[Task, ...] = (
    *(_similarity(year, title, partial(sts.semeval, year=year)) for year, title in _SEMEVAL.items()),
    _similarity("STSBenchmark", "STS Benchmark, test", _sts_b("test"), _STS_B),
    _similarity("SICKRelatedness", "SICK relatedness, test", _sick("test"), _SICK),
    _similarity("STSBenchmark-dev", "STS Benchmark, dev", _sts_b("dev"), _STS_B, "dev"),
    _similarity("SICKRelatedness-dev", "SICK relatedness, dev", _sick("dev"), _SICK, "dev"),
    _similarity("SICKRelatedness-full", "SICK relatedness, full", _SICK, split="full"),
    _similarity(
        "STSBenchmark.v2", f"STS Benchmark, test, {_CLEAN}", partial(sts.sts_benchmark_v2, split="test"), _STS_B
    ),
    _similarity(
        "STSBenchmark.v2-dev",
        f"STS Benchmark, dev, {_CLEAN}",
        partial(sts.sts_benchmark_v2, split="dev"),
        _STS_B,
        "dev",
    ),
    _similarity("mini-sts", "bundled mini suite, sentence pairs", _MINI),
    *(
        ClassificationTask(name=name, title=title, scheme=scheme, load=LOADERS[name], bundled=name.startswith("mini-"))
        for name, (scheme, title) in _CLASSIFICATION.items()
    ),
    RegressionTask(name="STSBenchmark-finetune", title="STS Benchmark with a trained regressor", load=_STS_B),
    RegressionTask(name="SICKRelatedness-finetune", title="SICK relatedness with a trained regressor", load=_SICK),
    GeometryTask(
        name="geometry-stsb",
        title="alignment, uniformity and anisotropy on STS-B",
        loads={**{split: _sts_b(split) for split in _SPLITS}, "all": _STS_B},
        load_target=_STS_B,
    ),
    GeometryTask(
        name="mini-geometry",
        title="bundled mini suite, alignment, uniformity and anisotropy",
        loads={"test": _MINI},
        load_target=_MINI,
        bundled=True,
    ),
    *(
        ClassificationTask(name=name, title=f"probing: {name}", scheme="train, dev, test", load=load)
        for name, load in PROBING_LOADERS.items()
    ),
)
TASKS: Mapping[str, Task] = {row.name: row for row in _ROWS}

# Other names of tasks, in mteb, sentence-transformers, GLUE and papers, as `_plain` writes them. A table's head is such
# a name too. mteb's SICK-R is all of SICK, here SICKRelatedness-full; papers, and this table, mean the test set.
_ALIASES = {
    "stsbtest": "STSBenchmark",
    "stsbenchmarktest": "STSBenchmark",
    "stsbenchmarkvalidation": "STSBenchmark-dev",
    "stsbvalidation": "STSBenchmark-dev",
    "stsbv2": "STSBenchmark.v2",
    "sickrtest": "SICKRelatedness",
    "sickrfull": "SICKRelatedness-full",
    "sickrmteb": "SICKRelatedness-full",
    "sicke": "SICKEntailment",
    "moviereviews": "MR",
    "customerreviews": "CR",
}

SUITES = {
    "sts": STS,
    "sts-dev": ("STSBenchmark-dev", "SICKRelatedness-dev"),
    "sts-mteb": (*STS[:-1], "SICKRelatedness-full"),
    "sts-mteb-v2": (*STS[:-2], "STSBenchmark.v2", "SICKRelatedness-full"),
    "transfer": ("MR", "CR", "SUBJ", "MPQA", "SST2", "TREC", "MRPC"),
    "transfer-extra": ("SST5", "SICKEntailment", "STSBenchmark-finetune", "SICKRelatedness-finetune"),
    "probing": tuple(PROBING_LOADERS),
    "geometry": ("geometry-stsb",),
    "mini": ("mini-sts", "mini-mr", "mini-mrpc", "mini-geometry"),
}

CLASSIFIERS: dict[str, Protocol] = {"senteval": "senteval", "senteval-sklearn": "senteval-sklearn"}


def under(task: Task, *, mode: str, classifier: Protocol) -> Task:
    """The task under a mode and a classifier of SentEval; tasks that have none are returned as they are."""
    return replace(task, mode=mode, classifier=classifier) if isinstance(task, ClassificationTask) else task


def select(
    suites: Sequence[str], tasks: Sequence[str], *, mode: str = "test", classifier: str = "senteval"
) -> list[Task]:
    """The tasks of the suites, or those named, under a mode and a classifier of the probes.

    Raises:
        UsageError: if a name is unknown, or not exactly one of suites and tasks is given.
    """
    pick("mode", MODES, mode)
    if bool(suites) == bool(tasks):
        raise UsageError(f"give either a suite ({', '.join(SUITES)}) or tasks (`bench list tasks`)")
    names = [name for suite in suites for name in pick("suite", SUITES, suite)] if suites else tasks
    chosen = pick("classifier", CLASSIFIERS, classifier)
    return [under(find_task(name), mode=mode, classifier=chosen) for name in dict.fromkeys(names)]


def find_task(name: str) -> Task:
    """The task of that name, of its head in tables (`STS-B`), or of another name that is in use (`stsb`, `SICK-R`).

    Raises:
        UsageError: if there is none; the nearest name is in the message.
    """
    return TASKS[name] if name in TASKS else pick("task", TASKS, _other_names().get(_plain(name), name))


@cache
def _other_names() -> dict[str, str]:
    heads = {_plain(text): name for name in TASKS for text in (name, short_task(name))}
    return _ALIASES | heads


def _plain(name: str) -> str:
    """Letters and digits alone, in lower case."""
    return "".join(filter(str.isalnum, name.lower()))
