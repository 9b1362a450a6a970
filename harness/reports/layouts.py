"""Which tables there are: a suite's columns, and the one metric, aggregation and protocol each table shows."""

from collections.abc import Mapping
from dataclasses import dataclass

from harness.names import STS, ScoreKey, short_task

SPEARMAN = ScoreKey("spearman", "all", "test")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A kind of table. Results of several protocols give as many tables, never one."""

    name: str  # of the table's files
    title: str  # heading
    measure: str  # what the cells are, for the caption
    heads: Mapping[str, str]  # task -> the head that papers print above its column, left to right
    key: ScoreKey = SPEARMAN  # of every cell's score
    protocol: str = "sts"  # the one that the published rows were measured with; other protocols get tables without them
    average: bool = False  # whether the row ends with the mean of its cells
    main: bool = False  # whether a report shows it on its first page
    published: tuple[tuple[str, str], ...] = ()  # (paper, table) whose rows are shown on a backbone that was measured
    note: str = ""  # what a reader must know of the average, said below the table


_ACCURACY = ScoreKey("accuracy", "", "test")
_STS = {task: short_task(task) for task in STS}
_TRANSFER = {"MR": "MR", "CR": "CR", "SUBJ": "SUBJ", "MPQA": "MPQA", "SST2": "SST", "TREC": "TREC", "MRPC": "MRPC"}
_SHARED = (
    "1,007 of the 1,379 pairs of STS-B are in STS12 to STS16 too, with the same score, so they count twice in the "
    "average; its interval is drawn over all pairs together and knows it."
)

LAYOUTS: tuple[Layout, ...] = (
    Layout(
        name="sts-all",
        main=True,
        title="STS, all pairs of a task together",
        measure="Spearman correlation × 100 over all pairs of a task at once (aggregation all), test sets",
        heads=_STS,
        average=True,
        note=_SHARED,
        published=(("simcse", "5"),),
    ),
    Layout(
        name="sts-wmean",
        title="STS, weighted mean over subsets",
        measure="Spearman correlation × 100, mean over a task's subsets weighted by their pairs (aggregation wmean; "
        "STS-B and SICK-R are one set each), test sets",
        heads=_STS,
        key=SPEARMAN._replace(aggregation="wmean"),
        average=True,
        note=_SHARED,
        published=(("simcse", "B.3"),),
    ),
    Layout(
        name="sts-mean",
        title="STS, plain mean over subsets",
        measure="Spearman correlation × 100, mean over a task's subsets (aggregation mean; STS-B and SICK-R are one "
        "set each), test sets",
        heads=_STS,
        key=SPEARMAN._replace(aggregation="mean"),
        average=True,
        note=_SHARED,
    ),
    Layout(
        name="sts-dev",
        title="STS, development sets",
        measure="Spearman correlation × 100, development sets",
        heads={"STSBenchmark-dev": "STS-B dev", "SICKRelatedness-dev": "SICK-R dev"},
        key=SPEARMAN._replace(split="dev"),
    ),
    Layout(
        name="sickr-full",
        title="SICK-R, all 9,927 pairs",
        measure="Spearman correlation × 100 over train, trial and test pairs together, as MTEB scores SICK-R",
        heads={"SICKRelatedness-full": "SICK-R all"},
        key=SPEARMAN._replace(split="full"),
        published=(("mteb", ""),),
    ),
    Layout(
        name="stsb-v2",
        title="STS-B v2, without pairs seen elsewhere",
        measure="Spearman correlation × 100 over the test pairs that mteb's STSBenchmark.v2 keeps",
        heads={"STSBenchmark.v2": "STS-B v2"},
    ),
    Layout(
        name="stsb-v2-dev",
        title="STS-B v2, development set",
        measure="Spearman correlation × 100 over the development pairs that mteb's STSBenchmark.v2 keeps",
        heads={"STSBenchmark.v2-dev": "STS-B v2 dev"},
        key=SPEARMAN._replace(split="dev"),
    ),
    Layout(
        name="transfer",
        main=True,
        title="Transfer tasks",
        measure="Test accuracy in percent of a logistic regression on frozen sentence vectors",
        heads=_TRANSFER,
        key=_ACCURACY,
        protocol="senteval[mode=test]",
        average=True,
        published=(("simcse", "E.1"),),
    ),
    Layout(
        name="transfer-extra",
        title="Transfer tasks outside the paper's table",
        measure="Test accuracy in percent of a logistic regression on frozen sentence vectors",
        heads={"SST5": "SST5", "SICKEntailment": "SICK-E"},
        key=_ACCURACY,
        protocol="senteval[mode=test]",
    ),
    Layout(
        name="regressor",
        title="Relatedness with a trained regressor",
        measure="Spearman correlation × 100 of SentEval's trained regressor, test sets; not comparable with the cosine",
        heads={"STSBenchmark-finetune": "STS-B", "SICKRelatedness-finetune": "SICK-R"},
        protocol="senteval-regressor",
    ),
    Layout(
        name="mini",
        main=True,
        title="Mini suite",
        measure="Spearman correlation × 100 on the bundled sentence pairs; no number of a paper compares with it",
        heads={"mini-sts": "mini-STS"},
    ),
    Layout(
        name="mini-transfer",
        main=True,
        title="Mini suite, classification",
        measure="Test accuracy in percent of a logistic regression on frozen sentence vectors; no number of a paper "
        "compares with it",
        heads={"mini-mr": "mini-MR", "mini-mrpc": "mini-MRPC"},
        key=_ACCURACY,
        protocol="senteval[mode=test]",
    ),
)
