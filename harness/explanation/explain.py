"""Why a score differs from another: every reading of what can differ, and what each difference is worth.

Readings are tried from the cheap to the dear, and as soon as one gives the number that is looked for, to its two
decimals, the dearer ones are left out. Scaling vectors to length 1 is not among them, as it changes no cosine.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from statistics import fmean

from harness.encoders.context import Context
from harness.errors import TaskError, UsageError
from harness.explanation.factors import Cost, Factor, Reading, factors_of, readings_of, usual, without_dear
from harness.explanation.numbers import Numbers, encoders_of
from harness.tasks.classification import ClassificationTask
from harness.tasks.similarity import SimilarityTask
from harness.tasks.suites import find_task

DIGITS = 0.005 + 1e-9  # points: half a unit of the second decimal, in which numbers are printed
_WORTH = 0.05  # points that a change must explain to be called a cause, so that chance matches are not

Tell = Callable[[str], None]
Grid = dict[Reading, tuple[float, ...]]  # percent, by task
Value = Callable[[Reading], float | None]  # percent, or None where a reading gives no number


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One factor whose reading differs, and how much of the way it is worth."""

    part: str  # e.g. `pooling`
    before: str  # its reading at the start
    after: str  # its reading at the end
    points: float  # its Shapley value: the mean of what it changes over all orders in which the factors can be changed
    low: float  # the least that it changes in any order
    high: float  # the most


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The way from a number to a published one.

    Attributes:
        tasks: what the numbers are means over.
        own: the encoder's own reading under this project's protocol.
        start: the reading at the start: the encoder's own, or the one nearest to the number that was given.
        given: the number that was given (percent), or None.
        score: mean score under `start`, percent.
        readings: how many different numbers the readings that were tried give.
        notes: what could not be tried.
        shares: the factors that differ between start and end, the one that is worth most first; their points add up to
            the difference of the two scores.
        interaction: points that the factors change together and none of them alone; 0 where there is one.
        published: mean of the published numbers, percent, or None where there are none.
        gap: published minus the score at the end, or None.
        as_near: how many different numbers are as near to the published ones as the end, or nearer.
        noise: points by which another draw of the reading at the start, or at the end, can differ; 0 where neither is
            random.
    """

    tasks: tuple[str, ...]
    own: Reading
    start: Reading
    given: float | None
    score: float
    readings: int
    notes: tuple[str, ...]
    shares: tuple[Share, ...] = ()
    interaction: float = 0.0
    published: float | None = None
    gap: float | None = None
    as_near: int = 0
    noise: float = 0.0

    @property
    def met(self) -> bool:
        """Whether a reading gives the number that was given: to two decimals, or to the noise of a random reading."""
        return self.given is None or abs(self.score - self.given) <= DIGITS + self.noise

    @property
    def causes(self) -> tuple[str, ...]:
        """The factors that are to blame: the largest share, or all of them where they act together."""
        if not self.shares:
            return ()
        together = abs(self.interaction) > abs(self.shares[0].points) / 2
        return tuple(share.part for share in (self.shares if together else self.shares[:1]))


def explain(  # noqa: PLR0913  what the command asks for
    model: str,
    tasks: Sequence[str],
    context: Context,
    *,
    given: float | None = None,
    published: Mapping[str, float] | None = None,
    thorough: bool = False,
    tell: Tell = lambda text: None,
) -> Explanation:
    """Find the reading of every factor under which an encoder gives the published numbers; see `harness.explain`.

    Similarity benchmarks are named without a split. `given`, `published` and `tell` are those of `search`.

    Raises:
        UsageError: if the specification or a task is unknown, or the encoder is fitted anew for every task.
        EncoderError: if the encoder cannot be built or breaks its promise.
    """
    chosen = find_tasks(tasks)
    encoders, refused = encoders_of(model, context)
    factors, notes = factors_of(encoders, chosen, context)
    if not thorough:
        factors, left_out = without_dear(factors)
        notes = (*notes, *left_out)
    numbers = Numbers(encoders, chosen, factors, context)
    if numbers.of(usual(factors)) is None:
        names = ", ".join(numbers.tasks)
        raise TaskError(f"{model}: its own score is undefined on {names}; the encoder tells nothing apart")
    found = search(numbers, given=given, published=published, tell=tell)
    return replace(found, notes=(*refused, *notes))


def search(
    numbers: Numbers,
    *,
    given: float | None = None,
    published: Mapping[str, float] | None = None,
    tell: Tell = lambda text: None,
) -> Explanation:
    """Search the readings of numbers whose own reading is known to give one.

    Args:
        numbers: what a reading gives.
        given: a number that the user has, the mean over the tasks; the way starts at the reading nearest to it.
        published: task -> percent, for all the tasks.
        tell: is told, before each part of the work, what will be computed.
    """
    own = usual(numbers.factors)
    targets = None if published is None else [published[task] for task in numbers.tasks]
    grid: Grid = {own: numbers.of(own) or ()}
    dear = [[factor.name] for factor in numbers.factors if factor.cost > Cost.VECTORS]
    for stage in _stages(numbers.factors, own, numbers.are_trained):
        if _is_done(grid, numbers, given, targets):
            break
        tell(_announcement(stage))
        for done, reading in enumerate(stage, start=1):
            found = numbers.of(reading)
            numbers.progress("readings", done, len(stage))
            if found is None:
                continue
            grid[reading] = found
            alone = {own: grid[own], reading: found}
            if own.changes(reading) in dear and _is_done(alone, numbers, given, targets):
                break  # nothing explains a number better than one change that gives it
    return _explanation(grid, numbers, given, targets)


def _explanation(
    grid: Grid,
    numbers: Numbers,
    given: float | None,
    targets: Sequence[float] | None,
) -> Explanation:
    own = usual(numbers.factors)
    start = own if given is None else nearest(grid, own, _to_mean(given), numbers.tolerance)
    explanation = Explanation(
        tasks=numbers.tasks,
        own=own,
        start=start,
        given=given,
        score=fmean(grid[start]),
        readings=len(set(grid.values())),
        notes=(),
        noise=numbers.tolerance(start),
    )
    if targets is None or not explanation.met:
        return explanation
    distance = _to_each(targets)
    end = nearest(grid, start, distance, numbers.tolerance)

    def value(reading: Reading) -> float | None:
        found = numbers.of(reading)
        return None if found is None else fmean(found)

    shares, interaction = shapley(value, start, end)
    return replace(
        explanation,
        shares=shares,
        interaction=interaction,
        published=fmean(targets),
        gap=fmean(targets) - fmean(grid[end]),
        as_near=sum(distance(scores) <= distance(grid[end]) for scores in set(grid.values())),
        noise=max(explanation.noise, numbers.tolerance(end)),
    )


def find_tasks(names: Sequence[str]) -> list[SimilarityTask | ClassificationTask]:
    """The tasks by any name that is in use.

    Raises:
        UsageError: if one is unknown, is neither a similarity nor a classification task, or names a split; or if both
            kinds are there.
    """
    found: list[SimilarityTask | ClassificationTask] = []
    for name in names:
        task = find_task(name)
        if not isinstance(task, SimilarityTask | ClassificationTask):
            raise UsageError(f"{task.name}: has no readings to try, expected a similarity or a classification task")
        if isinstance(task, SimilarityTask) and task.split != "test":
            whole = task.name.removesuffix(f"-{task.split}")
            raise UsageError(f"{task.name}: is one split, and all splits are readings; name {whole}")
        found.append(task)
    kinds = {type(task) for task in found}
    if len(kinds) != 1:
        raise UsageError(
            "tasks: similarity and classification tasks differ in what can be read otherwise; name tasks of one kind"
        )
    return list({task.name: task for task in found}.values())


def _stages(factors: Sequence[Factor], own: Reading, trained: bool) -> list[list[Reading]]:
    """Readings in the order in which they are tried: all combinations of what costs little, then each factor alone.

    Where every number needs a training, nothing is combined, and what needs no other vectors comes first. Within a part
    one change comes before several, and what is drawn more than once comes last.
    """
    numbers = [factor for factor in factors if factor.cost == Cost.NUMBER]
    if trained:
        costs: tuple[tuple[Cost, ...], ...] = ((Cost.TRAINING,), (Cost.VECTORS, Cost.PASS))
        stages = []
    else:
        costs = ((Cost.DATA,), (Cost.PASS,), (Cost.TRAINING,))
        vectors = [factor for factor in factors if factor.cost == Cost.VECTORS]
        stages = [readings_of([*vectors, *numbers], own)]
    for group in costs:
        alone = [
            own.changed(factor.name, value)
            for factor in sorted(factors, key=lambda factor: factor.is_random)
            if factor.cost in group
            for value in factor.readings
            if value != factor.usual
        ]
        stages.append([reading for one in alone for reading in readings_of(numbers, one)])
    return [sorted(stage, key=lambda reading: len(own.changes(reading))) for stage in stages if stage]


def _announcement(stage: Sequence[Reading]) -> str:
    """`144 readings of pooling, text, similarity, aggregation, correlation and split`."""
    varied = [name for name, _ in stage[0].values if len({reading[name] for reading in stage}) > 1]
    *first, last = varied or [name for name, _ in stage[0].values][:1]
    names = f"{', '.join(first)} and {last}" if first else last
    return f"{len(stage):,} readings: {names}"


def _is_done(grid: Grid, numbers: Numbers, given: float | None, targets: Sequence[float] | None) -> bool:
    """Whether a reading gives each of the numbers that are looked for, to two decimals."""
    wanted = [] if given is None else [_to_mean(given)]
    wanted += [] if targets is None else [_to_each(targets)]
    return all(
        any(distance(scores) <= DIGITS for reading, scores in grid.items() if not numbers.spread(reading))
        for distance in wanted
    )


Distance = Callable[[Sequence[float]], float]


def _to_mean(number: float) -> Distance:
    return lambda scores: abs(fmean(scores) - number)


def _to_each(targets: Sequence[float]) -> Distance:
    return lambda scores: fmean(abs(score - target) for score, target in zip(scores, targets, strict=True))


def nearest(
    grid: Grid, origin: Reading, distance: Distance, spread: Callable[[Reading], float] = lambda reading: 0.0
) -> Reading:
    """The reading that explains a number best.

    It is the one of the smallest distance, each factor that differs from the origin counted as `_WORTH` points, so that
    a chance match is no cause. One change alone that gives the number to two decimals is none: it goes first, however
    little it changes. A random reading can differ from its scores by its spread.
    """

    def rank(reading: Reading) -> tuple[bool, float]:
        changes = len(origin.changes(reading))
        off = distance(grid[reading])
        exact = changes <= 1 and off <= DIGITS and not spread(reading)
        return not exact, max(0.0, off - spread(reading)) + _WORTH * changes

    return min(grid, key=rank)


def shapley(value: Value, start: Reading, end: Reading) -> tuple[tuple[Share, ...], float]:
    """What each factor that differs is worth, over all orders in which the factors can be changed.

    Two wrong settings can each look like the cause, or like none, by the order in which they are put right; the mean
    over all orders depends on none. A reading on the way that gives no number leaves out the orders through it.

    Returns:
        The shares, largest first, and the interaction: the whole difference minus what each factor changes alone.

    Source: Shapley 1953, A value for n-person games.
    """
    parts = start.changes(end)
    gains: dict[str, list[float]] = {part: [] for part in parts}
    for order in permutations(parts):
        stations = [start]
        for part in order:
            stations.append(stations[-1].changed(part, end[part]))
        values = [value(station) for station in stations]
        known = [one for one in values if one is not None]
        if len(known) == len(values):
            for part, before, after in zip(order, known, known[1:], strict=False):
                gains[part].append(after - before)
    shares = [
        Share(
            part=part,
            before=start[part],
            after=end[part],
            points=fmean(found),
            low=min(found),
            high=max(found),
        )
        for part, found in gains.items()
        if found
    ]
    return tuple(sorted(shares, key=lambda share: -abs(share.points))), _interaction(value, start, end)


def _interaction(value: Value, start: Reading, end: Reading) -> float:
    parts = start.changes(end)
    alone = [value(start.changed(part, end[part])) for part in parts]
    before, after = value(start), value(end)
    known = [one for one in alone if one is not None]
    if len(parts) < 2 or len(known) < len(parts) or before is None or after is None:
        return 0.0
    return after - before - sum(one - before for one in known)
