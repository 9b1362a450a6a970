"""Which encoders a table cannot tell apart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.reports.statistics import holm, normal_p, tied_groups

_LEVEL = 0.05


@dataclass(frozen=True, slots=True)
class Candidate:
    """An encoder: its name, the bootstrap draws (b,) of its score, and by task the data files it was scored on."""

    name: str
    draws: NDArray[np.float64]
    data: Mapping[str, Mapping[str, str]]


def tied(candidates: Sequence[Candidate]) -> list[tuple[str, ...]]:
    """Groups of names, best first, no two of which differ at 5 % after Holm's correction over all pairs.

    Only encoders that were scored on the same files as the first of them are compared. The p-values are the normal
    approximation of the paired bootstrap, `normal_p`: counting draws gives none below 2 / (b + 1), and with the 496
    pairs of 32 encoders, 2,000 draws would call everything tied.
    """
    same = [c for c in candidates if c.data == candidates[0].data]
    pairs = [(i, j) for i in range(len(same)) for j in range(i)]
    adjusted = holm([normal_p(same[i].draws - same[j].draws) for i, j in pairs])
    separable = np.zeros((len(same), len(same)), dtype=np.bool_)
    for (i, j), p in zip(pairs, adjusted, strict=True):
        separable[i, j] = separable[j, i] = p < _LEVEL
    groups = tied_groups([float(np.nanmean(c.draws)) for c in same], separable)
    return [tuple(same[i].name for i in group) for group in groups]
