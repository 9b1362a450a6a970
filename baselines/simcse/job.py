"""A training run as a value: what is trained on what, and the fingerprint of everything that decides the weights."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from baselines.simcse.augment import thesaurus_sha256
from baselines.simcse.corpus import Corpus
from baselines.simcse.dev import DevSet
from baselines.simcse.settings import TrainSettings
from harness.encoders.checkpoint import Checkpoint, weights_sha256
from harness.progress import Progress, silent


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to train, on what, and where to put it.

    Attributes:
        settings: all knobs.
        backbone: pretrained checkpoint to start from.
        corpus: tokenised data.
        dev: chooses the best step; None: the last step's weights are kept.
        folder: becomes a Hugging Face folder with `card.json` and `log.jsonl`; holds the checkpoint until then.
        device: torch device string.
        progress: told of steps.
        checkpoint_seconds: a checkpoint is at least so old before the next one is written.
        log_every: steps per line of the log; the losses are looked at as often, so that a GPU need not wait.
        compile: run the model through torch.compile; same dropout masks, results differ by rounding.
    """

    settings: TrainSettings
    backbone: Checkpoint
    corpus: Corpus
    dev: DevSet | None
    folder: Path
    device: str = "cpu"
    progress: Progress = silent
    checkpoint_seconds: float = 120.0
    log_every: int = 10
    compile: bool = False

    def identity(self) -> dict[str, Any]:
        """Everything that decides the weights; of a thesaurus the name and the content, wherever the file lies.

        Raises:
            DataError: if the thesaurus cannot be read.
        """
        settings, thesaurus = asdict(self.settings), self.settings.thesaurus
        parts: dict[str, Any] = {
            "settings": settings,
            "backbone": _backbone(self.backbone),
            "data": {"name": self.corpus.name, "sha256": self.corpus.sha256, **asdict(self.corpus.facts)},
            "dev": {"name": self.dev.name, "sha256": self.dev.sha256} if self.dev else None,
        }
        if thesaurus is not None:
            settings["thesaurus"] = Path(thesaurus).name
            parts["thesaurus"] = {"name": Path(thesaurus).name, "sha256": thesaurus_sha256(thesaurus)}
        return parts


def _backbone(checkpoint: Checkpoint) -> dict[str, str]:
    """Its weights; of a folder also the other files that decide the network, and not how its path was written."""
    facts = {"name": checkpoint.title, "sha256": weights_sha256(checkpoint)}
    return facts | ({"revision": checkpoint.revision} if checkpoint.revision else {})


def fingerprint(identity: Mapping[str, Any]) -> str:
    """Sha256 (hex) of `Job.identity`."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
