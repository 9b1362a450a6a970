"""A paper's claims as checks over results: holds, does not hold, or not measured, with the numbers that decided it."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean
from typing import Any, Literal

from harness.names import EncoderCard, Spec, pick
from harness.packaged import packaged
from harness.reports.choice import Choice
from harness.reports.match import OWN_TEXT, Match, without_seed
from harness.reports.published import backbone_of
from harness.results.record import Result

Verdict = Literal["holds", "does not hold", "not measured"]

PAPERS: Mapping[str, str] = {"simcse": "simcse-claims.toml"}
_LEFT_OPEN = frozenset({"backbone", "seed", "data"})
_OPTIONS = {"wiki": "--wiki", "nli": "--nli"}
_ALL = Choice()


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What is compared: the mean over tasks of one key of their scores under one protocol, times a scale."""

    tasks: tuple[str, ...]
    key: str
    protocol: str
    scale: float


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

    def passes(self, difference: float) -> bool:
        if self.above is not None:
            return difference > self.above
        return abs(difference - self.near) <= self.margin

    @property
    def expected(self) -> str:
        return f"> {self.above:g}" if self.above is not None else f"{self.near:g} ± {self.margin:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One sentence of a paper; it holds if all its checks pass. `backbone` None: on any backbone."""

    name: str
    where: str
    text: str
    checks: tuple[Check, ...]
    backbone: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A claim on one backbone.

    Attributes:
        claim: which.
        backbone: as in results, or None where nothing was measured.
        verdict: what was found.
        evidence: one phrase per check, with its numbers, or what is missing or ambiguous.
    """

    claim: Claim
    backbone: str | None
    verdict: Verdict
    evidence: tuple[str, ...]


@cache
def load(paper: str) -> tuple[Mapping[str, Score], tuple[Claim, ...]]:
    """A paper's scores by name, and its claims in its order.

    Raises:
        UsageError: if there are no claims of that paper.
    """
    file = packaged(f"harness/reports/published/{pick('paper', PAPERS, paper)}")
    document: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
    scores = {name: Score(**{**one, "tasks": tuple(one["tasks"])}) for name, one in document["scores"].items()}
    claims = [Claim(**{**one, "checks": tuple(Check(**check) for check in one["checks"])}) for one in document["claim"]]
    return scores, tuple(claims)


def judge(paper: str, results: Sequence[Result], choice: Choice = _ALL) -> list[Finding]:
    """Every claim on its backbone, or on each backbone on which all that it speaks of was measured.

    Several seeds of one encoder count with their mean. Where encoders with different training data fit, the evidence
    names them and the claim counts as not measured until one is chosen.

    Args:
        paper: a key of `PAPERS`.
        results: of any encoders.
        choice: which of them are the claim's models: on that backbone alone, with those texts and settings.

    Raises:
        UsageError: if there are no claims of that paper.
    """
    scores, claims = load(paper)
    by_backbone: dict[str, list[Result]] = {}
    for result in results:
        name = backbone_of(result.encoder)
        if name is not None and choice.backbone in (None, name, result.encoder.backbone):
            by_backbone.setdefault(name, []).append(result)
    findings = []
    for claim in claims:
        found = [
            _finding(claim, backbone, scores, own, choice)
            for backbone, own in sorted(by_backbone.items())
            if claim.backbone in (None, backbone)
        ]
        measured = [finding for finding in found if finding.verdict != "not measured"]
        findings += measured or [_nearest(claim, scores, found, choice)]
    return findings


def _nearest(claim: Claim, scores: Mapping[str, Score], found: Sequence[Finding], choice: Choice) -> Finding:
    """Of the backbones on which something is missing, the one with the least."""
    nothing = _finding(claim, claim.backbone, scores, [], choice)
    return min([*found, nothing], key=lambda finding: len(finding.evidence))


def _finding(
    claim: Claim, backbone: str | None, scores: Mapping[str, Score], results: Sequence[Result], choice: Choice
) -> Finding:
    missing: list[str] = []
    evidence = []
    passed = True
    for check in claim.checks:
        score = scores[check.score]
        named = [model for model in (check.left, check.right) if model]
        sides = [measure(model, score, results, choice) for model in named]
        missing += [_lack(model, check, side) for model, side in zip(named, sides, strict=True) if len(side) != 1]
        if all(len(side) == 1 for side in sides):
            known = [_mean(side) for side in sides]
            other = known[1] if check.right else (check.value, 0)
            difference = known[0][0] - other[0]
            passed = passed and check.passes(difference)
            evidence.append(_phrase(check, known[0], other, difference))
    if missing:
        return Finding(claim=claim, backbone=backbone, verdict="not measured", evidence=tuple(dict.fromkeys(missing)))
    verdict: Verdict = "holds" if passed else "does not hold"
    return Finding(claim=claim, backbone=backbone, verdict=verdict, evidence=tuple(evidence))


def _phrase(check: Check, left: tuple[float, int], right: tuple[float, int], difference: float) -> str:
    other = f"{check.right} {right[0]:.2f}{_seeds(right[1])}" if check.right else f"{check.value:g}"
    return (
        f"{check.score}: {check.left} {left[0]:.2f}{_seeds(left[1])} - {other} = {difference:+.2f}, "
        f"expected {check.expected}"
    )


def _seeds(count: int) -> str:
    return f" ({count} seeds)" if count > 1 else ""


def _lack(model: str, check: Check, found: Mapping[str, Sequence[float]]) -> str:
    if not found:
        return f"missing: {model} on {check.score}"
    option = _OPTIONS.get(OWN_TEXT.get(Spec.parse(model).name, ""), "--backbone")
    return f"ambiguous: {model} on {check.score} may be {' or '.join(sorted(found))}; choose with {option}"


def _mean(found: Mapping[str, Sequence[float]]) -> tuple[float, int]:
    """Of the one encoder's seeds, and their number."""
    (values,) = found.values()
    return fmean(values), len(values)


def measure(
    model: str, score: Score, results: Sequence[Result], choice: Choice = _ALL
) -> Mapping[str, Sequence[float]]:
    """A model's scores, one per seed, by the encoder's name without its seed.

    There is none if a task is missing from all of them, and more than one if they differ in what is left open, as in
    their training data.

    Args:
        model: specification; every parameter must be as it says, or else as the choice does. What neither says of
            backbone, seed and data is left open, and any other parameter must be at its default.
        score: what to take.
        results: of one backbone.
        choice: its seeds are those of trained and fitted encoders, its texts and settings as in a table.
    """
    by_encoder: dict[str, dict[str, float]] = {}
    for result in results:
        inside = result.task in score.tasks and result.protocol == score.protocol and score.key in result.scores
        if inside and _is(model, result.encoder, choice):
            by_encoder.setdefault(result.encoder.name, {})[result.task] = score.scale * result.scores[score.key]
    found: dict[str, list[float]] = {}
    for name, tasks in by_encoder.items():
        if len(tasks) == len(score.tasks):
            found.setdefault(without_seed(name), []).append(fmean(tasks.values()))
    return found


def _is(model: str, card: EncoderCard, choice: Choice) -> bool:
    spec = Spec.parse(model)
    text = choice.texts.get(OWN_TEXT.get(spec.name, ""))
    wanted = choice.applied(spec.replaced(data=text) if text else spec)
    free = _LEFT_OPEN - wanted.given.keys()
    seed = card.parameters.get("seed")
    return Match((wanted,), free).fits(card) and (not choice.seeds or seed in (None, *choice.seeds))
