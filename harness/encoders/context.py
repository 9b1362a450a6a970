"""The settings of a run that every part needs: folders, device, dtype, and the progress callback."""

from dataclasses import dataclass
from pathlib import Path

from harness.data.locate import data_root
from harness.progress import Progress, silent


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The settings that are shared by all encoders and tasks of a run.

    Attributes:
        cache_dir: embeddings, downloads and fitted models are kept here.
        data_dir: the user's folder in SentEval's layout, or None.
        device: torch device string.
        dtype: of the forward pass: float32, bfloat16 or float16.
        backbone: used by every encoder that has a `backbone` parameter and was not given one; None: its default.
        offline: never use the network.
        progress: called during long work.
    """

    cache_dir: Path
    data_dir: Path | None = None
    device: str = "cpu"
    dtype: str = "float32"
    backbone: str | None = None
    offline: bool = False
    progress: Progress = silent

    def data_root(self) -> Path:
        """The folder that contains `downstream/`; what is not on this machine is fetched.

        Raises:
            DataError: if `data_dir` is not in SentEval's layout, or nothing can be fetched.
        """
        return data_root(self.data_dir, self.cache_dir, offline=self.offline, progress=self.progress is not silent)
