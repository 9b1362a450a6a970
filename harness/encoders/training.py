"""What `bench train` asks of a method and what it is told: the contract of the entry points `bench.trainers`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.encoders.context import Context
from harness.encoders.registry import Resolved


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOptions:
    """How a model is trained, beside its specification; none of it changes what the model is.

    Attributes:
        output: folder for the model; None: in the cache, where encoders look for it.
        compile: whether steps go through torch.compile; None: where it pays.
        deterministic: whether a GPU takes only operations that give the same bits each time.
        track: trackers that are sent the log's lines; see `harness.integrations.trackers`.
        track_dir: folder that trackers write to.
    """

    output: Path | None = None
    compile: bool | None = None
    deterministic: bool = False
    track: tuple[str, ...] = ()
    track_dir: Path = Path("tracking")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRun:
    """A finished run.

    Attributes:
        model: the specification that finds the weights in the cache.
        folder: where the model is.
        steps: number of steps.
        selected_step: the step whose weights were kept.
        dev_spearman: its score on the development set, -1..1; None where there is no such set.
        rows: examples of the training data.
        blank: those whose first text is blank.
        card: everything that the folder's `card.json` says.
    """

    model: str
    folder: Path
    steps: int
    selected_step: int
    dev_spearman: float | None
    rows: int
    blank: int
    card: Mapping[str, Any]


Trainer = Callable[[Resolved, Context, TrainingOptions], TrainingRun]


def training_facts(card: Mapping[str, Any]) -> Mapping[str, str]:
    """What people need to know of a trained folder, in names and digests, never a path.

    Args:
        card: what the folder's `card.json` says.
    """
    data, dev, selected = card["data"], card["dev"], card["selected"]
    score = selected["dev_spearman"]
    chosen = f"step {selected['step']} of {card['steps']}" + (
        f", the best on {dev['name']} dev with a Spearman correlation of {100 * score:.2f} (x 100)"
        if dev and score is not None
        else ""
    )
    return {
        "base model": f"{card['backbone']['name']}, sha256 of its weights {card['backbone']['sha256']}",
        "training text": f"{data['name']}, {data['rows']} examples, sha256 {data['sha256']}",
        "weights": chosen,
        "licence": "not stated; the licences of the base model and of the training text apply",
    }
