"""Which tables there are: a suite's columns, and the one metric, aggregation and protocol each table shows."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One task on one split, under the head that papers print."""

    task: str
    head: str
    split: str = "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A kind of table. Results of several protocols give as many tables, never one.

    Attributes:
        name: of the table's files.
        title: heading.
        measure: what the cells are, for the caption.
        columns: left to right.
        metric: first part of the score's key.
        aggregation: second part, or "" where there is nothing to aggregate.
        protocol: the one that the published rows were measured with; other protocols get tables without them.
        average: whether the row ends with the mean of its cells.
        main: whether a report shows it on its first page.
        published: (paper, table) whose rows are shown on a backbone that was measured.
        note: what a reader must know of the average, said below the table.
    """

    name: str
    title: str
    measure: str
    columns: tuple[Column, ...]
    metric: str
    aggregation: str
    protocol: str
    average: bool = False
    main: bool = False
    published: tuple[tuple[str, str], ...] = ()
    note: str = ""

    def key(self, column: Column) -> str:
        """The key of `Result.scores`, e.g. `spearman/all/test`."""
        return "/".join(part for part in (self.metric, self.aggregation, column.split) if part)


_STS = (
    *(Column(task=f"STS{year}", head=f"STS{year}") for year in range(12, 17)),
    Column(task="STSBenchmark", head="STS-B"),
    Column(task="SICKRelatedness", head="SICK-R"),
)
_SHARED = (
    "1,007 of the 1,379 pairs of STS-B are in STS12 to STS16 too, with the same score, so they count twice in the "
    "average; its interval is drawn over all pairs together and knows it."
)
_TRANSFER = tuple(
    Column(task=task, head=head)
    for task, head in (
        ("MR", "MR"),
        ("CR", "CR"),
        ("SUBJ", "SUBJ"),
        ("MPQA", "MPQA"),
        ("SST2", "SST"),
        ("TREC", "TREC"),
        ("MRPC", "MRPC"),
    )
)

LAYOUTS: tuple[Layout, ...] = (
    Layout(
        name="sts-all",
        main=True,
        title="STS, all pairs of a task together",
        measure="Spearman correlation × 100 over all pairs of a task at once (aggregation all), test sets",
        columns=_STS,
        metric="spearman",
        aggregation="all",
        protocol="sts",
        average=True,
        note=_SHARED,
        published=(("simcse", "5"),),
    ),
    Layout(
        name="sts-wmean",
        title="STS, weighted mean over subsets",
        measure="Spearman correlation × 100, mean over a task's subsets weighted by their pairs (aggregation wmean; "
        "STS-B and SICK-R are one set each), test sets",
        columns=_STS,
        metric="spearman",
        aggregation="wmean",
        protocol="sts",
        average=True,
        note=_SHARED,
        published=(("simcse", "B.3"),),
    ),
    Layout(
        name="sts-mean",
        title="STS, plain mean over subsets",
        measure="Spearman correlation × 100, mean over a task's subsets (aggregation mean; STS-B and SICK-R are one "
        "set each), test sets",
        columns=_STS,
        metric="spearman",
        aggregation="mean",
        protocol="sts",
        average=True,
        note=_SHARED,
    ),
    Layout(
        name="sts-dev",
        title="STS, development sets",
        measure="Spearman correlation × 100, development sets",
        columns=(
            Column(task="STSBenchmark-dev", head="STS-B dev", split="dev"),
            Column(task="SICKRelatedness-dev", head="SICK-R dev", split="dev"),
        ),
        metric="spearman",
        aggregation="all",
        protocol="sts",
    ),
    Layout(
        name="sickr-full",
        title="SICK-R, all 9,927 pairs",
        measure="Spearman correlation × 100 over train, trial and test pairs together, as MTEB scores SICK-R",
        columns=(Column(task="SICKRelatedness-full", head="SICK-R all", split="full"),),
        metric="spearman",
        aggregation="all",
        protocol="sts",
        published=(("mteb", ""),),
    ),
    Layout(
        name="stsb-v2",
        title="STS-B v2, without pairs seen elsewhere",
        measure="Spearman correlation × 100 over the test pairs that mteb's STSBenchmark.v2 keeps",
        columns=(Column(task="STSBenchmark.v2", head="STS-B v2"),),
        metric="spearman",
        aggregation="all",
        protocol="sts",
    ),
    Layout(
        name="stsb-v2-dev",
        title="STS-B v2, development set",
        measure="Spearman correlation × 100 over the development pairs that mteb's STSBenchmark.v2 keeps",
        columns=(Column(task="STSBenchmark.v2-dev", head="STS-B v2 dev", split="dev"),),
        metric="spearman",
        aggregation="all",
        protocol="sts",
    ),
    Layout(
        name="transfer",
        main=True,
        title="Transfer tasks",
        measure="Test accuracy in percent of a logistic regression on frozen sentence vectors",
        columns=_TRANSFER,
        metric="accuracy",
        aggregation="",
        protocol="senteval[mode=test]",
        average=True,
        published=(("simcse", "E.1"),),
    ),
    Layout(
        name="transfer-extra",
        title="Transfer tasks outside the paper's table",
        measure="Test accuracy in percent of a logistic regression on frozen sentence vectors",
        columns=(Column(task="SST5", head="SST5"), Column(task="SICKEntailment", head="SICK-E")),
        metric="accuracy",
        aggregation="",
        protocol="senteval[mode=test]",
    ),
    Layout(
        name="regressor",
        title="Relatedness with a trained regressor",
        measure="Spearman correlation × 100 of SentEval's trained regressor, test sets; not comparable with the cosine",
        columns=(
            Column(task="STSBenchmark-finetune", head="STS-B"),
            Column(task="SICKRelatedness-finetune", head="SICK-R"),
        ),
        metric="spearman",
        aggregation="all",
        protocol="senteval-regressor",
    ),
    Layout(
        name="mini",
        main=True,
        title="Mini suite",
        measure="Spearman correlation × 100 on the bundled sentence pairs; no number of a paper compares with it",
        columns=(Column(task="mini-sts", head="mini-STS"),),
        metric="spearman",
        aggregation="all",
        protocol="sts",
    ),
    Layout(
        name="mini-transfer",
        main=True,
        title="Mini suite, classification",
        measure="Test accuracy in percent of a logistic regression on frozen sentence vectors; no number of a paper "
        "compares with it",
        columns=(Column(task="mini-mr", head="mini-MR"), Column(task="mini-mrpc", head="mini-MRPC")),
        metric="accuracy",
        aggregation="",
        protocol="senteval[mode=test]",
    ),
)
