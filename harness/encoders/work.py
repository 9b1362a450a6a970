"""The work that an encoder needs before it can encode: a training or a fit, and what it costs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from harness.encoders.context import Context


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What the work takes.

    Attributes:
        done: whether it is done already and kept in the cache.
        steps: of an optimiser; 0 where there is none.
        texts: sentences or examples that are read, each as often as it is.
        model_bytes: size of the weights that are trained, or of those that encode what is fitted on.
    """

    done: bool
    steps: int
    texts: int
    model_bytes: int


@dataclass(frozen=True, slots=True)
class Work:
    """What comes before the first sentence.

    Attributes:
        kind: of the work.
        cost: finds text and weights, which may read all of the text, and says what the work takes. It raises what
            building the encoder would raise where they are missing.
        shares: works with one text here read the same vectors; empty where the work shares nothing.
    """

    kind: Literal["train", "fit"]
    cost: Callable[[Context], Cost]
    shares: str = ""
