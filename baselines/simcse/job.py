"""A training run before it starts: what to train, on what, where to, and what identifies it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from baselines.simcse.ablations import thesaurus_sha256
from baselines.simcse.data import Corpus
from baselines.simcse.model import DevSet
from baselines.simcse.settings import Settings, SimcseUnsup
from harness.encoders.checkpoint import Checkpoint
from harness.progress import Progress, silent


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to train, on what, and where to put it.

    Attributes:
        settings: the parameters, completed by `settings.published`.
        backbone: pretrained checkpoint to start from.
        corpus: tokenised data.
        dev: chooses the best step; None: the last step's weights are kept.
        folder: becomes a Hugging Face folder with `card.json` and `log.jsonl`; holds the checkpoint until then.
        in_cache: the folder is named after the run in the cache, and is made anew where it is damaged.
        device: torch device string.
        progress: told of steps.
        checkpoint_seconds: a checkpoint is at least so old before the next one is written.
        log_every: steps per line of the log; the losses are looked at as often, so that a GPU need not wait.
        compile: run the step through torch.compile; results differ by rounding. None: on a GPU, where a run is so long
            that it pays.
        capture: on a GPU, record the step as a CUDA graph and replay it; None: where it can be done and pays.
        deterministic: on a GPU, take only operations that give the same bits each time.
    """

    settings: Settings
    backbone: Checkpoint
    corpus: Corpus
    dev: DevSet | None
    folder: Path
    in_cache: bool = False
    device: str = "cpu"
    progress: Progress = silent
    checkpoint_seconds: float = 120.0
    log_every: int = 10
    compile: bool | None = None
    capture: bool | None = None
    deterministic: bool = False

    def identity(self) -> dict[str, Any]:
        """Everything that decides the weights; of a thesaurus the name and the content, wherever the file lies.

        Raises:
            DataError: if the thesaurus cannot be read.
        """
        settings = self.settings.decisive
        parts: dict[str, Any] = {
            "settings": settings,
            "backbone": _backbone(self.backbone),
            "data": {"name": self.corpus.name, "sha256": self.corpus.sha256, **asdict(self.corpus.facts)},
            "dev": {"name": self.dev.name, "sha256": self.dev.sha256} if self.dev else None,
        }
        if isinstance(self.settings, SimcseUnsup) and self.settings.thesaurus is not None:
            path = self.settings.thesaurus
            settings["thesaurus"] = Path(path).name
            parts["thesaurus"] = {"name": Path(path).name, "sha256": thesaurus_sha256(path)}
        return parts


def _backbone(checkpoint: Checkpoint) -> dict[str, str]:
    """Its weights; of a folder also the other files that decide the network, and not how its path was written."""
    facts = {"name": checkpoint.title, "sha256": checkpoint.weights_sha256}
    if checkpoint.revision:
        return facts | {"revision": checkpoint.revision}
    if checkpoint.name != str(checkpoint.folder):  # bundled
        return facts
    return facts | {key: str(value) for key, value in checkpoint.content.items() if key in ("config", "tokenizer")}


def fingerprint(identity: Mapping[str, Any]) -> str:
    """Sha256 (hex) of `Job.identity` without the names of files, which decide nothing."""
    parts = {
        part: {k: v for k, v in facts.items() if k != "name"} if facts else None for part, facts in identity.items()
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
