"""mteb's models as encoders of ours, each with the prompt that it has for one of mteb's tasks.

bench run --models "mteb:intfloat/e5-small-v2[task=STSBenchmark]" --suite sts-mteb
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from math import isfinite
from typing import Any
from unittest.mock import patch

from harness.encoders.context import Context
from harness.encoders.entry import EncoderEntry, parameter, parameters
from harness.encoders.foreign import ForeignEncoder, as_matrix, foreign
from harness.encoders.protocol import Embeddings, Encoder
from harness.errors import UsageError
from harness.names import EncoderCard, Spec

_PREFIX = "mteb:"
_PROBE = "a sentence that shows how long a vector is"


@parameters
class MtebModel:
    """The parameters of a model of mteb."""

    task: str = parameter("STSBenchmark", "the task of mteb whose prompt the model is given, whatever is evaluated")
    prompt: str | None = parameter(None, "the side that texts are on; not set: neither", choices=("query", "document"))


def _encoded(model: Any, chosen: MtebModel, name: str, sentences: Sequence[str]) -> Embeddings:
    """(n, d) float32 of a model of mteb, a sentence at a time, so that a row depends on its sentence alone."""
    from datasets import Dataset
    from mteb.types import PromptType
    from torch.utils.data import DataLoader

    with foreign(name, "encoding"):
        vectors = model.encode(
            DataLoader(Dataset.from_dict({"text": list(sentences)}), batch_size=1),
            task_metadata=open_mteb().get_task(chosen.task).metadata,
            hf_split="test",
            hf_subset="default",
            prompt_type=None if chosen.prompt is None else PromptType(chosen.prompt),
            batch_size=1,
            show_progress_bar=False,
        )
        return as_matrix(vectors)


def _build(spec: Spec, chosen: MtebModel, context: Context) -> Encoder:
    """Load the model that the name behind the prefix stands for.

    Raises:
        UsageError: if mteb is not installed, has no such model or task, or its model runs code of its own.
        EncoderError: if the model cannot be loaded.
    """
    mteb, name = open_mteb(), spec.name.removeprefix(_PREFIX)
    with _hub(offline=context.offline):
        try:
            mteb.get_task(chosen.task)
            meta = mteb.get_model_meta(name, fetch_from_hf=not context.offline)
        except (KeyError, ValueError, OSError, RuntimeError) as error:
            raise UsageError(
                f"{spec}: mteb does not know it ({str(error).strip(chr(34))[:160]}); name one of its models and tasks"
            ) from error
        if meta.loader_kwargs.get("trust_remote_code"):
            raise UsageError(f"{spec}: needs code of its own, which is never run")
        with foreign(str(spec), "loading"):
            model = meta.load_model(device=context.device)
    encode = partial(_encoded, model, chosen, str(spec))
    width = meta.embed_dim if isinstance(meta.embed_dim, int) else encode([_PROBE]).shape[-1]
    decisive = {"model": meta.name, "revision": meta.revision, "mteb task": chosen.task, "prompt": chosen.prompt}
    card = EncoderCard(
        name=str(spec),
        method="mteb",
        parameters=asdict(chosen),
        backbone=meta.name,
        revision=meta.revision,
        dim=width,
        max_tokens=int(meta.max_tokens) if meta.max_tokens and isfinite(meta.max_tokens) else None,
        content=decisive,
    )
    return ForeignEncoder(encode, card)


@contextmanager
def _hub(*, offline: bool) -> Iterator[None]:
    """Keep mteb, which has no option for it, from the network."""
    from huggingface_hub import constants

    with patch.object(constants, "HF_HUB_OFFLINE", offline or constants.HF_HUB_OFFLINE):
        yield


def open_mteb() -> Any:
    """The package mteb.

    Raises:
        UsageError: if it is not installed.
    """
    try:
        import mteb
    except ImportError as error:
        raise UsageError("mteb is not installed; install it with: pip install 'simcse-bench[mteb]'") from error
    return mteb


ENCODERS = (
    EncoderEntry(
        name=_PREFIX,
        summary="any model that mteb knows, as mteb:ORGANISATION/MODEL (needs simcse-bench[mteb])",
        parameters=MtebModel,
        build=_build,
    ),
)
