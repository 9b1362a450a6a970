"""BERT's forward pass on the CPU, faster than the library's at the same float32 digits.

Four things differ from `transformers`, and none in what is computed. Before the first block a token is only its id
and its place, so each such pair of a batch is embedded and projected once. Queries, keys and values are one matrix
product. Tokens are laid out by position first, (s, b, d) instead of (b, s, d), so that the heads of all sentences are
matrices in place, without copies. And attention over few keys, where PyTorch's softmax leaves its vector units unused,
is spelled out.

The weights of its linear layers, and of those of every other architecture, are laid out for the processor once instead
of at every call: oneDNN multiplies a float32 matrix 1.1 to 1.6 times faster when the weights are in its own blocked
layout; PyTorch uses that only inside compiled graphs, which take longer to build than a whole evaluation takes here.
The operators are the ones that its compiler emits. Results differ from `torch.nn.Linear` by rounding (1e-6 relative).
"""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers.activations import GELUActivation
from transformers.modeling_outputs import BaseModelOutput

if TYPE_CHECKING:
    from transformers import BertModel
    from transformers.models.bert.modeling_bert import BertLayer, BertSelfAttention

_PIECE = 512  # tokens that go through the blocks together: their activations should stay in the processor's cache
_SAME_BLOCKS = ("bert", "roberta", "xlm-roberta", "camembert")
_FUSED = 48  # keys from which on PyTorch's fused attention is the faster one
_EXP_LIMIT = 60.0  # exp of a float32 overflows above 88, and its products with values need room


class FastBert(nn.Module):
    """The encoder of a BERT or RoBERTa for inference on the CPU in float32; called like the model it is made of.

    That model is used up: its blocks are taken one by one, so that no weights are in memory twice.
    """

    def __init__(self, model: "BertModel") -> None:
        super().__init__()
        self.embeddings = model.embeddings
        self._counts_from_padding = model.config.model_type != "bert"
        layers = model.encoder.layer
        self.blocks = nn.ModuleList(_Block(layers.pop(0)) for _ in range(len(layers)))

    def forward(self, input_ids: Tensor, attention_mask: Tensor, *, output_hidden_states: bool) -> BaseModelOutput:
        """Ids (b, s) and mask (b, s), 1 on tokens -> hidden states (b, s, d): the last, or of every layer if asked.

        Sentences are padded on the right; what stands in the places of padding is for no reader.
        """
        b, s = input_ids.shape
        lengths = attention_mask.sum(1)
        embedded, projected, where = self._start(input_ids)
        kept = range(len(self.blocks) + 1) if output_hidden_states else (len(self.blocks),)
        states = {layer: embedded.new_zeros(b, s, embedded.shape[1]) for layer in kept}
        pieces = max(1, round(b * s / _PIECE))
        rows = max(1, math.ceil(b / pieces))  # about as many in each: a few tokens alone are slow for their number
        for piece in (slice(start, start + rows) for start in range(0, b, rows)):
            n, longest = len(lengths[piece]), max(1, int(lengths[piece].max()))
            # Sentences of a piece have about the same length; where it is the same there is nothing to mask.
            shortest = int(lengths[piece].min())
            mask = None if shortest == longest else attention_mask[piece, None, None, :longest].bool()
            tokens = where[:longest, piece].flatten()
            first = embedded.index_select(0, tokens)  # a fifth of embedded[tokens]'s time
            for layer, x in enumerate(self._layers(first, projected.index_select(0, tokens), n, mask)):
                if layer in states:
                    states[layer][piece, :longest] = x.view(longest, n, -1).transpose(0, 1)
        layers = tuple(states.values())
        return BaseModelOutput(last_hidden_state=layers[-1], hidden_states=layers if output_hidden_states else None)

    def _start(self, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Embeddings (n, d) and first projections (n, 3 d) of the distinct tokens; which of them is where (s, b)."""
        places = self.embeddings.position_embeddings.num_embeddings
        if self._counts_from_padding:  # RoBERTa's places begin behind the padding index, which padding itself has
            padding = self.embeddings.padding_idx
            place = (ids != padding).cumsum(1) * (ids != padding) + padding
        else:
            place = torch.arange(ids.shape[1]).expand_as(ids)
        if place.numel() and int(place.max()) >= places:
            raise IndexError(f"a sentence reaches position {int(place.max())}, the model has {places}")
        distinct, where = torch.unique(ids * places + place, return_inverse=True)
        tokens, positions = distinct[None] // places, distinct[None] % places
        kinds = torch.zeros_like(tokens)
        embedded = self.embeddings(input_ids=tokens, position_ids=positions, token_type_ids=kinds)[0]
        return embedded, self.blocks[0].project_in(embedded), where.t()  # type: ignore[operator]

    def _layers(self, x: Tensor, projected: Tensor, b: int, mask: Tensor | None) -> Iterator[Tensor]:
        yield x
        for number, block in enumerate(self.blocks):
            x = block(x, block.project_in(x) if number else projected, b, mask)  # type: ignore[operator]
            yield x


def fits(model: nn.Module) -> "TypeGuard[BertModel]":
    """Whether `FastBert` computes what the model does: an encoder of BERT's blocks with the exact GELU."""
    config = getattr(model, "config", None)
    if getattr(config, "model_type", None) not in _SAME_BLOCKS or getattr(config, "is_decoder", False):
        return False
    if getattr(config, "position_embedding_type", None) not in (None, "absolute"):
        return False
    linears = [module for module in model.encoder.modules() if isinstance(module, nn.Linear)]  # type: ignore[union-attr]
    blocks = model.encoder.layer  # type: ignore[union-attr]
    return all(type(linear) is nn.Linear for linear in linears) and all(
        isinstance(block.intermediate.intermediate_act_fn, GELUActivation)
        for block in blocks  # type: ignore[union-attr]
    )


class _Block(nn.Module):
    """Attention and feed-forward of one layer, tokens by position first: (s * b, d) -> (s * b, d)."""

    def __init__(self, layer: "BertLayer") -> None:
        super().__init__()
        attention, output = layer.attention.self, layer.attention.output
        self.heads: int = attention.num_attention_heads
        self.project_in = PackedLinear(_queries_keys_values(attention))
        self.project_out = PackedLinear(output.dense)
        self.attention_norm = output.LayerNorm
        self.up = PackedLinear(layer.intermediate.dense, gelu=True)
        self.down = PackedLinear(layer.output.dense)
        self.output_norm = layer.output.LayerNorm

    def forward(self, x: Tensor, projected: Tensor, b: int, mask: Tensor | None) -> Tensor:
        heads = projected.view(len(x) // b, b, self.heads, -1)
        x = self.attention_norm(self.project_out(attend(heads, mask)).add_(x))
        return self.output_norm(self.down(self.up(x)).add_(x))  # type: ignore[no-any-return]


def _queries_keys_values(attention: "BertSelfAttention") -> nn.Linear:
    """One layer d -> 3 d whose output holds, head after head, query, key and value."""
    heads = attention.num_attention_heads
    parts = (attention.query, attention.key, attention.value)
    joint = nn.Linear(attention.query.in_features, 3 * attention.query.out_features, device="meta")
    for name in ("weight", "bias"):
        query, key, value = (getattr(part, name).detach().unflatten(0, (heads, -1)) for part in parts)
        setattr(joint, name, nn.Parameter(torch.cat((query, key, value), dim=1).flatten(0, 1)))
    return joint


def attend(heads: Tensor, mask: Tensor | None) -> Tensor:
    """Softmax attention of one layer.

    Args:
        heads: (s, b, h, 3 k): per head its query, its key and its value, k numbers each.
        mask: (b, 1, 1, s), True on tokens; None if all are.

    Returns:
        (s * b, h k).
    """
    s, b, h, width = heads.shape
    if s >= _FUSED:
        query, key, value = (part.permute(1, 2, 0, 3) for part in heads.chunk(3, dim=-1))
        x = scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return x.permute(2, 0, 1, 3).reshape(s * b, -1)
    query, key, value = (part.transpose(0, 1) for part in heads.view(s, b * h, width).chunk(3, dim=-1))
    scale = (width // 3) ** -0.5
    scores = torch.empty(b * h, s, s).baddbmm_(query, key.transpose(1, 2), beta=0, alpha=scale)
    # Softmax is the same whatever is subtracted from a row, so nothing is unless exp could overflow or vanish.
    lowest, highest = scores.aminmax()
    if not max(-lowest.item(), highest.item()) <= _EXP_LIMIT:  # nan, too
        if mask is not None:  # else a key of padding could be the one that is subtracted
            scores.view(b, h, s, s).masked_fill_(~mask, torch.finfo(scores.dtype).min)
        scores -= scores.amax(-1, keepdim=True)
    weights = scores.exp_()
    if mask is not None:
        weights.view(b, h, s, s).mul_(mask)
    sums = weights.sum(-1, keepdim=True).clamp_(min=torch.finfo(weights.dtype).tiny)  # 0 for a sentence of no tokens
    x = torch.empty(s, b * h, width // 3)
    torch.div(torch.bmm(weights, value).transpose(0, 1), sums.transpose(0, 1), out=x)
    return x.view(s * b, -1)


class PackedLinear(nn.Module):
    """`torch.nn.Linear` for inference on the CPU in float32, and a GELU after it if asked: (..., in) -> (..., out)."""

    def __init__(self, linear: nn.Linear, *, gelu: bool = False, keep_weight: bool = False) -> None:
        super().__init__()
        self.packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())
        if keep_weight:  # some models look at its type, or multiply by it themselves
            self.weight = linear.weight
        self.bias = linear.bias
        self.then: tuple[str, list[float], str] = ("gelu", [], "none") if gelu else ("none", [], "")

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, *self.then)  # type: ignore[no-any-return]


def can_pack() -> bool:
    """Whether this build of PyTorch has the operators."""
    return bool(torch._C._has_mkldnn) and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")


def pack_linears(module: nn.Module) -> None:
    """Replace every plain float32 `nn.Linear` below `module`; the module can no longer be trained or saved.

    Its weights are in memory twice afterwards, once in each layout.
    """
    # The first half of the feed-forward in relatives of BERT, such as MPNet.
    if isinstance(getattr(module, "intermediate_act_fn", None), GELUActivation):
        module.dense = PackedLinear(module.dense, gelu=True, keep_weight=True)  # type: ignore[arg-type]
        module.intermediate_act_fn = nn.Identity()
    for name, child in module.named_children():
        if type(child) is nn.Linear and child.weight.dtype == torch.float32:
            setattr(module, name, PackedLinear(child, keep_weight=True))
        else:
            pack_linears(child)
