"""Cards and results by hand, for the tests of reports."""

from harness.names import EncoderCard
from harness.reports.table import Table, numbered, texts
from harness.results.record import Result, Run

STS = ("STS12", "STS13", "STS14", "STS15", "STS16", "STSBenchmark", "SICKRelatedness")


MINILM = dict(
    zip(STS, (0.72371353, 0.80603222, 0.75589128, 0.85389669, 0.78989453, 0.82032467, 0.77146939), strict=True)
)


def card(name: str, **values: object) -> EncoderCard:
    blank = dict(
        method=name.partition("[")[0],
        parameters={},
        backbone=None,
        revision=None,
        weights_sha256="53aa",
        pooling=None,
        dim=384,
        max_tokens=256,
        dtype="float32",
        normalized=False,
        fitted_on=None,
        trained_on=None,
        seed=None,
        content={"name": name},
    )
    return EncoderCard(name=name, **(blank | values))


def result(encoder: EncoderCard, task: str, scores: dict[str, float], **values: object) -> Result:
    run = Run(
        started="2026-01-02T03:04:05+00:00",
        seconds=1.5,
        encoding_seconds=0.5,
        machine={"processor": "A", "cores": 2, "memory_gib": 8, "system": "Linux 6"},
        packages={"numpy": "2.4"},
        commit="c" * 40,
        dirty=True,
        device="cpu",
        threads=2,
    )
    blank = dict(protocol="sts", metric=next(iter(scores)), counts={}, data={f"{task}.txt": "ab"}, flags=(), seed=None)
    return Result(task=task, scores=scores, encoder=encoder, run=run, **(blank | values))


def sts(encoder: EncoderCard, values: dict[str, float], **rest: object) -> list[Result]:
    return [result(encoder, task, {"spearman/all/test": value}, **rest) for task, value in values.items()]


def lines(table: Table, kind: str) -> list[tuple[str, ...]]:
    numbers = numbered(table)
    return [tuple(texts(row, table, numbers)) for row in table.rows if row.kind == kind]


def seeds(values, **rest):
    return [
        one
        for seed, value in enumerate(values)
        for one in sts(
            card(
                f"simcse-unsup[backbone=tiny,data=my.txt,seed={seed}]",
                backbone="tiny",
                seed=seed,
                trained_on="my.txt ab",
                weights_sha256=f"{seed:02d}",
                **rest,
            ),
            dict.fromkeys(STS, value),
        )
    ]
