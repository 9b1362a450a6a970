"""What construction needs besides the specification: where things are, where to compute, whom to tell."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Progress = Callable[[str, int, int], None]  # what is being done, units done, units in all


def silent(what: str, done: int, total: int) -> None:
    """A Progress that shows nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The surroundings of a run.

    Attributes:
        cache_dir: embeddings, downloads and fitted models are kept here.
        data_dir: the user's folder in SentEval's layout, or None.
        device: torch device string.
        dtype: of the forward pass: float32, bfloat16 or float16.
        backbone: used by every encoder that has a `backbone` parameter and was not given one; None: its default.
        offline: never use the network.
        progress: told of long work.
    """

    cache_dir: Path
    data_dir: Path | None = None
    device: str = "cpu"
    dtype: str = "float32"
    backbone: str | None = None
    offline: bool = False
    progress: Progress = silent
