"""`bench explain` and `bench verify`: our numbers beside other people's."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from harness.cli import completion, options
from harness.cli.console import Rows, notes, notice, notice_unless_quiet, out, print_json, show_rows
from harness.cli.options import chosen_tasks, command, names_in, option
from harness.errors import UsageError
from harness.names import STS

if TYPE_CHECKING:
    from harness.explanation.explain import Explanation
    from harness.names import EncoderCard
    from harness.reports.published import PublishedRow


@command
def explain(
    *,
    model: Annotated[str, option("--model", "-m", help="One encoder.", choices=completion.MODELS)] = "minilm",
    published: Annotated[
        str,
        option(
            help="What to compare with: a row as source:table:model[:backbone[:variant]], e.g. simcse:5:bert, or a "
            "table of your own, FILE.csv, that has a row of the encoder.",
            choices=completion.published_rows,
        ),
    ] = "",
    tasks: Annotated[
        str,
        option(
            *("--tasks", "-t"),
            help="Similarity tasks or classification tasks; else all published.",
            choices=completion.TASKS,
            several=True,
        ),
    ] = "",
    score: Annotated[
        float | None, option(help="Your own number in percent, the mean over the tasks; else it is computed.")
    ] = None,
    thorough: Annotated[
        bool, option("--thorough", help="Try the dearest readings too: float16, padding to 128 tokens, a regressor.")
    ] = False,
    computation: options.Computation,
    json: options.Json = False,
) -> None:
    r"""Find the choice of protocol that accounts for the difference between a number and a published one.

    It tries all poolings, similarities, aggregations, correlations, splits and forms of the text together. If none of
    these readings gives the number, it tries one by one what costs another pass of the model (a lower limit of tokens,
    another dtype, special tokens or padding in the mean, dropout left on, a prompt, a layer of random weights) or a
    training (the regressor; of classification tasks the mode, the folds and the classifier). Before each part it says
    how many readings it will compute.

    The table shows what each difference from the published protocol is worth, over all orders in which they can be
    undone. Where no reading gives your number, it is called unexplained.

    For example: bench explain --model minilm\[pooling=cls_before_pooler] --tasks STS-B
    """
    from harness.encoders.registry import build
    from harness.explanation.explain import explain as explained
    from harness.explanation.explain import find_tasks
    from harness.reports.published import label, source

    with computation.context() as context:
        named = [task.name for task in find_tasks(names_in(tasks, "--tasks"))] if tasks else []
        row = _published(published, build(model, context).card, named)
        targets = {} if row is None else _by_benchmark(row)
        chosen = named or (list(targets) if row else list(STS))
        missing = [task for task in chosen if row is not None and task not in targets]
        if row is not None and missing:
            raise UsageError(f"{source(row)}, {label(row)}: has no number on {missing[0]}; it has {', '.join(targets)}")
        found = explained(
            model,
            chosen,
            context,
            given=score,
            published=targets or None,
            thorough=thorough,
            tell=lambda work: notice_unless_quiet(f"computes {work}"),
        )
    name = None if row is None else f"{source(row)}: {label(row)}"
    if json:
        readings = {"own": dict(found.own.values), "start": dict(found.start.values)}
        print_json({"model": model, "published": name, **asdict(found), **readings})
        return
    out.print(_waterfall(model, name, found))
    for note in found.notes:
        notice(f"not tried: {note}")
    if not notes.quiet:
        _remark(found)


def _published(reference: str, card: "EncoderCard", tasks: Sequence[str]) -> "PublishedRow | None":
    """The row named, or of the tables with the tasks the one nearest to what the encoder is; None if there is none.

    Raises:
        UsageError: if several rows fit the name and none of them is the encoder's.
    """
    from harness.reports.layouts import LAYOUTS
    from harness.reports.published import candidates, counterpart, find, is_own, label

    tables = (one for one in LAYOUTS if set(tasks) & one.heads.keys())
    key = next(tables, LAYOUTS[0]).key._replace(split="test")
    if is_own(reference):
        own = candidates(key, (reference,), only=True)
        near = counterpart(card, own)
        if near is None:
            raise UsageError(
                f"--published {reference}: no row whose spec is {card.name}; name one as {reference}:table:model"
            )
        reference = _reference(near, reference)
    elif not reference:
        usual = candidates(key)
        near = counterpart(card, usual) or next((r for r in usual if r.model == card.method and not r.backbone), None)
        near = near or next((r for r in usual if (r.model, r.backbone) == (card.method, card.backbone)), None)
        if near is None:
            return None
        reference = _reference(near, near.paper)
    found = find(reference, key.metric)
    same = [row for row in found if row.backbone == card.backbone] or found
    chosen = counterpart(card, same) or (same[0] if len(same) == 1 else None)
    if chosen is None:
        names = ", ".join(_reference(row, row.paper) for row in same)
        raise UsageError(f"--published {reference}: {len(same)} rows, e.g. {label(same[0])}; name one of {names}")
    return chosen


def _reference(row: "PublishedRow", source: str) -> str:
    return f"{source}:{row.table}:{row.model}:{row.backbone}:{row.variant}"


def _by_benchmark(row: "PublishedRow") -> dict[str, float]:
    """Percent by task without its split; averages are left out."""
    from harness.reports.published import AVERAGE

    values = {task: value for task, value in row.values.items() if task != AVERAGE}
    return {task.removesuffix("-full").removesuffix("-dev"): value for task, value in values.items()}


def _waterfall(model: str, published: str | None, found: "Explanation") -> Table:
    tasks = found.tasks[0] if len(found.tasks) == 1 else f"mean of {', '.join(found.tasks)}"
    table = Table(title=escape(f"{model}\n{tasks}"), title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("", overflow="fold")
    table.add_column("change", justify="right", no_wrap=True)
    table.add_column("any order", justify="right", no_wrap=True)
    table.add_column("score", justify="right", no_wrap=True)
    changed = ["pooling", *(name for name in found.own.changes(found.start) if name != "pooling")]
    start = ", ".join(f"{name} {found.start[name]}" for name in changed)
    if found.given is not None:
        table.add_row("your number", "", "", f"{found.given:.2f}")
        table.add_row(escape(f"nearest: {start}"), f"{found.score - found.given:+.2f}", "", f"{found.score:.2f}")
    else:
        table.add_row(escape(f"measured: {start}"), "", "", f"{found.score:.2f}")
    for share in found.shares:
        spread = f"{share.low:+.2f}..{share.high:+.2f}" if len(found.shares) > 1 else ""
        table.add_row(escape(f"{share.part}: {share.before} → {share.after}"), _signed(share.points), spread, "")
    if found.published is not None and found.gap is not None:
        table.add_row("not explained", _signed(found.gap), "", "")
        table.add_row(escape(f"{published}"), "", "", f"{found.published:.2f}", style="bold")
    return table


def _signed(points: float) -> str:
    text = f"{points:+.2f}"
    return "0.00" if float(text) == 0 else text


def _remark(found: "Explanation") -> None:
    if found.noise:
        out.print(
            f"A reading on the way is random: each draw gives another number, by up to {found.noise:.2f}.",
            highlight=False,
        )
    if found.given is not None and not found.met:
        off = abs(found.score - found.given)
        out.print(
            f"No reading gives {found.given:.2f}; the nearest is {off:.2f} away, so nothing is said of the cause.",
            highlight=False,
        )
    elif found.published is None:
        notes.print("nothing is published for it; name a row with --published")
    elif not found.shares:
        notes.print("no choice of protocol brings the number nearer")
    else:
        *first, last = found.causes
        causes = f"causes: {', '.join(first)} and {last} together" if first else f"cause: {last}"
        same = f"{found.as_near} of {found.readings} different numbers are as near to the published ones"
        notes.print(f"{causes}; {same}")
    notes.print("scaling vectors to length 1 changes no cosine, so it is not among the readings")


@command
def verify(
    *,
    models: Annotated[str, option("--models", "-m", help="One encoder.", choices=completion.MODELS)] = "minilm",
    suite: options.Suite = "",
    tasks: options.Tasks = "",
    mode: options.Mode = "test",
    against: Annotated[
        str,
        option(help="The other implementation: senteval, sentence-transformers, or mteb.", choices=completion.OTHERS),
    ] = "senteval",
    senteval: Annotated[
        Path | None, option(help="A checkout of SentEval, or of SimCSE with its copy of SentEval.")
    ] = None,
    computation: options.Computation,
    json: options.Json = False,
) -> None:
    """Score an encoder's vectors by another implementation too, and print both numbers and times.

    SentEval's code is imported from a checkout of yours and runs on the CPU. The other two have to be installed.

    For example: bench verify --suite sts --models minilm --senteval SimCSE --data-dir SentEval/data
    """
    from harness.encoders.protocol import Transductive
    from harness.encoders.registry import resolve
    from harness.run import build_cached
    from harness.verify import compare, open_upstream

    upstream = open_upstream(against, senteval)
    chosen = chosen_tasks(suite, tasks, mode)
    with computation.context() as context:
        encoder = build_cached(resolve(models, context), context)
        if isinstance(encoder, Transductive):
            raise UsageError(f"{models}: fitted per task, which {against} cannot do; name an encoder that is not")
        found = list(compare(encoder, chosen, context.data_root(), context, upstream))
    if json:
        print_json([asdict(one) for one in found])
        return
    rows: Rows = []
    differences = []
    for one in found:
        if one.ours is None or one.theirs is None:
            rows.append({"task": one.task, "score": one.note, "bench": "", against: "", "difference": ""})
            continue
        points = 100 * (one.ours - one.theirs)
        both = {"bench": f"{100 * one.ours:.4f}", against: f"{100 * one.theirs:.4f}"}
        rows.append({"task": one.task, "score": one.score, **both, "difference": f"{points:+.5f}"})
        differences.append(abs(points))
    show_rows(rows)
    if differences:
        notes.print(f"largest difference: {max(differences):.5f} points")
