"""What is computed of token ids: a forward pass, its poolings, and the layers that a folder declares after them."""

import inspect
import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.encoders.modelfiles import find_weights, read_tensors
from harness.encoders.pooling import needs_all_layers, pool
from harness.encoders.protocol import Embeddings
from harness.errors import EncoderError

BERTS = ("bert", "roberta", "xlm-roberta", "camembert", "electra")  # families whose blocks are BERT's


class Head(nn.Module):
    """The trained layer on top of CLS: tanh(W x + b), (b, d) -> (b, d)."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.dense = nn.Linear(weight.shape[1], weight.shape[0])
        self.dense.weight = nn.Parameter(weight.detach().clone())
        self.dense.bias = nn.Parameter(bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.dense(x))


def forward_pooled(  # noqa: PLR0913  the one place where a model is run
    model: Any,
    ids: Tensor,
    mask: Tensor,
    poolings: Sequence[str],
    head: Head | None = None,
    *,
    skipped: int = 0,
    cls: int = 0,
) -> dict[str, Tensor]:
    """Run a model on token ids and pool its states: one forward pass for all poolings.

    Args:
        model: gives `last_hidden_state`, and `hidden_states` where poolings need every layer.
        ids: (b, s) for b sentences of s tokens.
        mask: (b, s), 1 on tokens and 0 on padding.
        poolings: see `pool`.
        head: for the pooling `cls`.
        skipped: so many first tokens of each sentence, those of a prompt, are not pooled.
        cls: see `pool`.

    Returns:
        By pooling, (b, d) in the model's dtype.
    """
    every = needs_all_layers(poolings)
    output = model(input_ids=ids, output_hidden_states=every, **attention(model, mask))
    layers = output.hidden_states if every else (output.last_hidden_state,)
    if skipped:
        mask = mask.clone()
        mask[:, :skipped] = 0
    return {name: pool(name, layers, mask, head, cls=cls) for name in poolings}


def attention(model: Any, mask: Tensor) -> dict[str, Tensor]:
    """The argument that tells a model which of (b, s) positions are tokens; none for a model that is not told."""
    if not _takes_mask(model.__class__):
        return {}
    # Of a plain mask the library asks whether it is all ones, for which it would have to wait for the GPU.
    if mask.is_cuda and model.config.model_type in BERTS:
        mask = mask[:, None, None, :].bool()  # (b, 1, 1, s)
    return {"attention_mask": mask}


@cache
def _takes_mask(kind: Hashable) -> bool:
    """Whether the model is told which tokens there are; FNet, which mixes all of them, is not."""
    taken = inspect.signature(kind.forward).parameters  # type: ignore[attr-defined]
    return "attention_mask" in taken or any(one.kind is one.VAR_KEYWORD for one in taken.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """A layer over the sentence vector: Dense (with its activation), LayerNorm, or Normalize."""

    kind: str
    folder: Path
    width: int | None = None
    activation: str = ""
    bias: bool = True


class Layers:
    """The layers of a folder in their order, and the cut to the first dimensions; loaded when they are first needed."""

    def __init__(self, modules: Sequence[Module], dim: int | None) -> None:
        self._modules, self._dim = modules, dim
        self._loaded: list[Callable[[Tensor], Tensor]] | None = None

    @property
    def content(self) -> str | None:
        """What the layers are, for the card; None where there are none. Their weights are in the digest of weights."""
        said = [{key: value for key, value in asdict(module).items() if key != "folder"} for module in self._modules]
        return json.dumps(said, sort_keys=True) if said else None

    def width(self, width: int) -> int:
        """The dimensions that come out where `width` go in."""
        for module in self._modules:
            width = module.width or width
        return min(width, self._dim or width)

    @torch.inference_mode()
    def __call__(self, x: Embeddings) -> Embeddings:
        """(n, d) -> (n, k) float32.

        Raises:
            EncoderError: if weights of a layer are missing or do not fit.
        """
        if not self._modules:
            return x if self._dim is None else x[:, : self._dim].copy()
        if self._loaded is None:
            self._loaded = _load(self._modules, x.shape[1])
        rows = torch.from_numpy(x)
        for layer in self._loaded:
            rows = layer(rows)
        cut: Embeddings = rows[:, : self._dim].contiguous().numpy()
        return cut


def _load(modules: Sequence[Module], width: int) -> list[Callable[[Tensor], Tensor]]:
    """The layers in float32 and evaluation mode, each tried on a vector of the length that comes to it."""
    layers = []
    for module in modules:
        layer, expected = _load_layer(module), module.width or width
        try:
            found = layer(torch.zeros(1, width)).shape[-1]
        except (RuntimeError, NotImplementedError):
            found = None
        if found != expected:
            raise EncoderError(
                f"{module.folder}: the layer cannot be applied, expected one that turns {width} numbers into "
                f"{expected}; correct its config.json"
            )
        layers.append(layer)
        width = expected
    return layers


def _load_layer(module: Module) -> Callable[[Tensor], Tensor]:
    if module.kind == "Normalize":
        return partial(nn.functional.normalize, p=2, dim=-1)
    paths = find_weights(module.folder)
    if not paths:
        raise EncoderError(
            f"{module.folder}: no weights, expected model.safetensors or pytorch_model.bin; copy them there"
        )
    tensors = {key: value.float() for path in paths for key, value in read_tensors(path).items()}
    if module.kind == "LayerNorm":
        return _fill(nn.LayerNorm(module.width or 0), "norm.", tensors, module.folder).eval()
    weight = tensors.get("linear.weight")
    if weight is None or weight.ndim != 2:
        raise EncoderError(f"{module.folder}: no linear.weight, expected a matrix; copy the weights there")
    if weight.shape[0] != module.width:
        raise EncoderError(
            f"{module.folder}: linear.weight has the shape {tuple(weight.shape)}, expected {module.width} rows"
        )
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=module.bias)
    return nn.Sequential(_fill(linear, "linear.", tensors, module.folder), _activation(module)).eval()


def _fill(layer: nn.Module, prefix: str, tensors: Mapping[str, Tensor], folder: Path) -> nn.Module:
    """The layer with the weights of the folder, every tensor of which must have its place."""
    try:
        layer.load_state_dict({key.removeprefix(prefix): value for key, value in tensors.items()})
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise EncoderError(f"{folder}: the weights do not fit config.json: {reason}") from error
    return layer


def _activation(module: Module) -> nn.Module:
    name = module.activation.rpartition(".")[2]
    kind = getattr(torch.nn.modules.activation, name, nn.Identity if name == "Identity" else None)
    try:
        found = kind() if isinstance(kind, type) and issubclass(kind, nn.Module) else None
    except TypeError:  # it needs arguments, which no file holds
        found = None
    if found is None or any(True for _ in found.parameters()):
        raise EncoderError(
            f"{module.folder}: activation {module.activation} is not supported, expected one of torch.nn without "
            "settings or weights of its own"
        )
    return found
