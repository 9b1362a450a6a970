"""A paper's claims as checks over results: holds, does not hold, undecided, or not measured, with the numbers.

Every check is a difference with a 95 % interval that contains the noise of items and of seeds. It holds where the whole
interval is on the claim's side, does not hold where it is on the other, and is undecided between.
"""

import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

import numpy as np

from harness.names import EncoderCard, ScoreKey, Spec, pick
from harness.packaged import packaged
from harness.reports.contrasts import Contrast, Side, contrast, pool_spreads, side_of, stored_estimate
from harness.reports.match import OWN_TEXT, SEEDED, Match, recipe_of
from harness.reports.published import backbone_of
from harness.reports.renderers import markdown_text
from harness.reports.targets import PAPERS, Choice
from harness.reports.uncertainty import Estimate, Interval, Sharing, average, estimate
from harness.results.items import SeriesItems
from harness.results.record import Result

Answer = Literal["holds", "does not hold", "undecided", "not measured"]

ANSWERS: tuple[Answer, ...] = ("holds", "does not hold", "undecided", "not measured")
RULE = (
    "A claim holds if each 95 % interval, which contains the noise of items and of seeds, lies wholly where the claim "
    "says. It does not hold if one lies wholly elsewhere, and is undecided if one lies on both sides."
)
_LEFT_OPEN = frozenset({"backbone", "seed", "data"})
_ALL = Choice()
_TOP_SHARE = "top-eigenvalue-share"
_ABLATED = frozenset(  # parameters that the paper's tables vary, so that none of their values is a setting of all runs
    "augmentation dropout fixed_mask towers positives hard_negatives hard_negative_weight mlm_weight temperature "
    "similarity pooler mlp_only_train seed backbone data thesaurus max_tokens weights batch_size".split()
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What is compared: the mean over tasks of one key of their scores under one protocol, times a scale, in a unit."""

    tasks: tuple[str, ...]
    key: str
    protocol: str
    scale: float
    unit: str

    def on(self, split: str) -> "Score":
        """The same on another split, where the score is one of the geometry of STS-B."""
        if not self.protocol.startswith("geometry"):
            return self
        return replace(self, key=str(ScoreKey.parse(self.key)._replace(split=split)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """`left` minus `right` (a model) or `value`: more than `above`, or at most `margin` away from `near`."""

    score: str
    left: str
    right: str | None = None
    value: float = 0.0
    above: float | None = None
    near: float = 0.0
    margin: float = 0.0

    def answer(self, interval: Interval) -> Answer:
        """What the interval of the difference says."""
        if self.above is not None:
            if interval.low > self.above:
                return "holds"
            return "does not hold" if interval.high <= self.above else "undecided"
        low, high = self.near - self.margin, self.near + self.margin
        if low <= interval.low and interval.high <= high:
            return "holds"
        return "does not hold" if interval.high < low or interval.low > high else "undecided"

    @property
    def expected(self) -> str:
        """The claimed difference in words."""
        if self.above is not None:
            return f"more than {self.above:g}"
        return f"between {self.near - self.margin:g} and {self.near + self.margin:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One sentence of a paper; it holds if all its checks hold."""

    name: str  # for people and JSON
    where: str  # its place in the paper
    text: str  # the sentence
    checks: tuple[Check, ...] = ()  # none for a claim that cannot be measured here
    backbone: str | None = None  # the only one that it speaks of; None: any
    reason: str = ""  # why it cannot be measured here, or ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A claim on one backbone."""

    claim: Claim  # which
    backbone: str | None  # as in results, or None where nothing was measured
    verdict: Answer  # what was found
    evidence: tuple[str, ...]  # one sentence per check, with its numbers, or what is missing


def count(findings: Iterable[Finding]) -> str:
    """How many claims there are of each verdict, in words."""
    counts = Counter(finding.verdict for finding in findings)
    plural = {"holds": "hold", "does not hold": "do not hold"}
    return ", ".join(
        f"{counts[answer]} {plural.get(answer, answer) if counts[answer] > 1 else answer}"
        for answer in ANSWERS
        if counts[answer]
    )


def markdown(paper: str, findings: Sequence[Finding]) -> str:
    """The claims of a paper as a Markdown page: those with a verdict, then those that are not measured."""
    lines = [f"# The claims of {paper}, checked on these results", "", f"{count(findings).capitalize()}. {RULE}", ""]
    for answer in ANSWERS:
        for found in (one for one in findings if one.verdict == answer):
            where = f"{found.claim.where}; {found.backbone}" if found.backbone else found.claim.where
            lines += [f"- *{answer}*: {markdown_text(found.claim.text)} ({markdown_text(where)})"]
            lines += [f"    - {markdown_text(sentence)}" for sentence in found.evidence]
    return "\n".join(lines) + "\n"


@cache
def load(paper: str) -> tuple[Mapping[str, Score], tuple[Claim, ...]]:
    """A paper's scores by name, and its claims in its order.

    Raises:
        UsageError: if there are no claims of that paper.
    """
    pick("paper", dict.fromkeys(PAPERS), paper)
    text = packaged(f"harness/reports/published/{paper}-claims.toml").read_text(encoding="utf-8")
    document: dict[str, Any] = tomllib.loads(text)
    scores = {name: Score(**{**one, "tasks": tuple(one["tasks"])}) for name, one in document["scores"].items()}
    claims = [
        Claim(**{**one, "checks": tuple(Check(**check) for check in one.get("checks", ()))})
        for one in document["claim"]
    ]
    return scores, tuple(claims)


def judge(paper: str, results: Sequence[Result], choice: Choice = _ALL, split: str = "test") -> list[Finding]:
    """Every claim on its backbone, or on each backbone on which something of it was measured.

    Args:
        paper: one of `PAPERS`.
        results: of any encoders.
        choice: which of them are the claim's models. What it leaves open is what most results of a backbone have: one
            training text, one text to fit on, and the settings that all runs of a method share.
        split: of STS-B for alignment, uniformity and spectra: `test`, or `all`, which is what the paper's authors used.

    Raises:
        UsageError: if there are no claims of that paper.
    """
    scores, claims = load(paper)
    scores = {name: score.on(split) for name, score in scores.items()}
    by_backbone: dict[str, list[Result]] = {}
    for result in results:
        name = backbone_of(result.encoder)
        if name is not None and choice.backbone in (None, name, result.encoder.backbone):
            by_backbone.setdefault(name, []).append(result)
    sources = {name: _Measured(own, usual(own, choice), scores) for name, own in sorted(by_backbone.items())}
    findings = []
    for claim in claims:
        own = [(name, one) for name, one in sources.items() if claim.backbone in (None, name)]
        found = [_finding(claim, name, source) for name, source in own if claim.checks]
        known = [finding for finding in found if finding.verdict != "not measured"]
        findings += known or [_nearest(claim, found)]
    return findings


def _nearest(claim: Claim, found: Sequence[Finding]) -> Finding:
    """Of the backbones on which something is missing, the one with the least."""
    missing = (
        (claim.reason,) if claim.reason else tuple(f"missing: {check.left} on {check.score}" for check in claim.checks)
    )
    nothing = Finding(claim=claim, backbone=claim.backbone, verdict="not measured", evidence=missing)
    lacking = [[one for one in finding.evidence if one.startswith("missing")] for finding in [*found, nothing]]
    models = [sum(1 + one.count(" and ") for one in sentences) for sentences in lacking]
    return [*found, nothing][models.index(min(models))]


def usual(results: Iterable[Result], choice: Choice) -> Choice:
    """The choice with what it leaves open: the texts and settings that most encoders of each trained method have."""
    cards = {result.encoder.name: result.encoder for result in results}.values()
    texts, settings = dict(choice.texts), dict(choice.settings)
    for method, corpus in OWN_TEXT.items():
        specs = [Spec.parse(card.name) for card in cards if card.method == method and card.trained_on]
        named = Counter(str(spec.given["data"]) for spec in specs if "data" in spec.given)
        if named and corpus not in texts:
            texts[corpus] = named.most_common(1)[0][0]
        for key in dict.fromkeys(key for spec in specs for key in spec.given if key not in _ABLATED):
            values = Counter(str(spec.given.get(key)) for spec in specs)
            value, count = values.most_common(1)[0]
            if 2 * count > len(specs) and value != "None":
                settings.setdefault(f"{method}:{key}", value)
    fits = Counter(
        str(spec.given["fit"])
        for spec in (Spec.parse(card.name) for card in cards if card.method in ("bert-whitening", "bert-flow"))
        if spec.given.get("fit") not in (None, "target")
    )
    fit = choice.fit or (fits.most_common(1)[0][0] if fits and not choice.texts.get("nli") else "")
    return replace(choice, texts=texts, settings=settings, fit=fit)


class _Measured:
    """The results of one backbone, asked for sides by model and score."""

    def __init__(self, results: Sequence[Result], choice: Choice, scores: Mapping[str, Score]) -> None:
        self.scores = scores
        self._results, self._choice = results, choice
        self._sides: dict[tuple[str, str], Side | None] = {}

    def side(self, model: str, name: str) -> Side | None:
        """The model's runs on a score, of the recipe with the most; None if all of them lack a task."""
        if (model, name) in self._sides:
            return self._sides[model, name]
        score = self.scores[name]
        runs: dict[str, dict[str, Result]] = {}
        for result in self._inside(score):
            if _is(model, result.encoder, self._choice):
                runs.setdefault(result.encoder.identity, {})[result.task] = result
        whole = {identity: [*tasks.values()] for identity, tasks in runs.items() if len(tasks) == len(score.tasks)}
        recipes = {identity: recipe_of(own[0].encoder) for identity, own in whole.items()}
        most = Counter(recipes.values()).most_common(1)
        own = {identity: results for identity, results in whole.items() if recipes[identity] == most[0][0]}
        side = side_of({identity: _mean(results, score) for identity, results in own.items()})
        if side is not None:
            side = self._with_spread(side, next(iter(own.values()))[0].encoder, score)
        self._sides[model, name] = side
        return side

    def _inside(self, score: Score) -> Iterable[Result]:
        return (one for one in self._results if one.task in score.tasks and one.protocol == score.protocol)

    def _with_spread(self, side: Side, card: EncoderCard, score: Score) -> Side:
        """An encoder that was trained once borrows the spread of the method's recipes with several seeds."""
        if len(side.runs) > 1 or card.seed is None or not (card.trained_on or card.fitted_on):
            return side
        recipes: dict[str, dict[str, list[float]]] = {}
        for result in self._inside(score):
            found = _score(result, score.key) if result.encoder.method == card.method else None
            if found is not None:
                runs = recipes.setdefault(recipe_of(result.encoder), {})
                runs.setdefault(result.encoder.identity, []).append(found.value)
        groups = [
            [sum(values) / len(values) for values in runs.values() if len(values) == len(score.tasks)]
            for runs in recipes.values()
        ]
        return replace(side, borrowed=pool_spreads(groups))

    def known_noise(self, model: str, side: Side) -> bool:
        """Whether the noise of seeds is known: several runs, a spread to borrow, or no seed that decides."""
        trained = Spec.parse(model).name in SEEDED
        return not trained or len(side.runs) > 1 or side.borrowed is not None


def _mean(results: Iterable[Result], score: Score) -> Estimate | None:
    """The mean over the tasks in the score's scale, with the contributions of the items where they are known."""
    found = [_score(result, score.key) for result in sorted(results, key=lambda one: one.task)]
    known = [one for one in found if one is not None]
    if len(known) < len(found):
        return None
    mean = average(known)
    return replace(mean, value=score.scale * mean.value, influence=score.scale * mean.influence, bounded=False)


def _score(result: Result, key: str) -> Estimate | None:
    """A score; of some, such as the development accuracy of probes, no noise of items is known."""
    if key.startswith(_TOP_SHARE):
        value = _top_share(result, ScoreKey.parse(key).split)
    else:
        known = (estimate(result, key) or stored_estimate(result, key)) if result.items_sha256 else None
        if known is not None:
            return known
        value = result.scores.get(key)
    if value is None:
        return None
    ids = np.array([key])
    return Estimate(value=value, influence=np.zeros(1), sharing=Sharing(ids, ids), bounded=False)


def _top_share(result: Result, split: str) -> float | None:
    """Share of the largest eigenvalue in their sum, 0..1, from the stored singular values: what section 5 bounds."""
    items = result.items() if result.items_sha256 else None
    if not isinstance(items, SeriesItems):
        return None
    values = items.y[np.array(items.series) == f"spectrum/{split}"]
    return float(values[0] ** 2 / (values**2).sum()) if values.size else None


def _finding(claim: Claim, backbone: str | None, source: _Measured) -> Finding:
    answers: list[Answer] = []
    evidence: list[str] = []
    for check in claim.checks:
        answer, sentence = _answer(check, source)
        answers.append(answer)
        evidence.append(sentence)
    order: tuple[Answer, ...] = ("does not hold", "not measured", "undecided", "holds")
    verdict = next(answer for answer in order if answer in answers)
    return Finding(claim=claim, backbone=backbone, verdict=verdict, evidence=tuple(dict.fromkeys(evidence)))


def _answer(check: Check, source: _Measured) -> tuple[Answer, str]:
    models = [model for model in (check.left, check.right) if model]
    sides = [source.side(model, check.score) for model in models]
    known = [side for side in sides if side is not None]
    if len(known) < len(models):
        lacking = [model for model, side in zip(models, sides, strict=True) if side is None]
        return "not measured", f"missing: {' and '.join(lacking)} on {check.score}"
    found = contrast(known[0], known[1] if check.right else None, check.value)
    sentence = _sentence(check, source.scores[check.score], known, found)
    if not all(source.known_noise(model, side) for model, side in zip(models, known, strict=True)):
        return "undecided", f"{sentence}; one seed, and the noise of seeds is not known"
    if found.interval.low == found.interval.high and not any(side.mean.influence.any() for side in known):
        return "undecided", f"{sentence}; no noise is known, neither of items nor of seeds"
    return check.answer(found.interval), sentence


def _sentence(check: Check, score: Score, sides: Sequence[Side], found: Contrast) -> str:
    digits = 2 if score.scale == 100 else 3
    left = f"{check.left} {sides[0].mean.value:.{digits}f}{_seeds(sides[0])}"
    if check.right is None and check.value == 0:
        low, high = (f"{end:.{digits}f}" for end in (found.interval.low, found.interval.high))
        return f"{check.score}: {left} {score.unit} (95 % interval {low} to {high}), claimed is {check.expected}"
    right = f"{check.right} {sides[1].mean.value:.{digits}f}{_seeds(sides[1])}" if check.right else f"{check.value:g}"
    low, high = (f"{end:+.{digits}f}" for end in (found.interval.low, found.interval.high))
    return (
        f"{check.score}: {left} against {right}, difference {found.difference:+.{digits}f} {score.unit} "
        f"(95 % interval {low} to {high}), claimed is {check.expected}"
    )


def _seeds(side: Side) -> str:
    if side.borrowed:
        return " (1 seed, with the spread of the method's other settings)"
    return f" ({len(side.runs)} seeds)" if len(side.runs) > 1 else ""


def _is(model: str, card: EncoderCard, choice: Choice) -> bool:
    spec = Spec.parse(model)
    text = choice.texts.get(OWN_TEXT.get(spec.name, ""))
    wanted = choice.applied(spec.replaced(data=text) if text and "data" not in spec.given else spec)
    free = _LEFT_OPEN - wanted.given.keys()
    seed = card.parameters.get("seed")
    return Match((wanted,), free).fits(card) and (not choice.seeds or seed in (None, *choice.seeds))
