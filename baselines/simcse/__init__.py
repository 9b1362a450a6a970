"""SimCSE training (Gao, Yao & Chen 2021, https://arxiv.org/abs/2104.08821), unsupervised and supervised.

Read `settings` and `recipe`, in this order: what can be set; what is trained, and how. They are two files because names
and parameters are listed without torch. `data` makes batches of a text; `ablations`, `devices` and `checkpoint` are
details; the registry and `bench train` come in at `encoders`.
"""

from baselines.simcse.settings import Settings, SimcseSup, SimcseUnsup
from harness.encoders.context import Context
from harness.encoders.entry import EncoderEntry, Work
from harness.encoders.protocol import Encoder
from harness.names import Spec


def _build(spec: Spec, chosen: Settings, context: Context) -> Encoder:
    from baselines.simcse.encoders import build_simcse  # with torch, which names and parameters do not need

    return build_simcse(spec, chosen, context)


def _work(spec: Spec, chosen: Settings) -> Work | None:
    from baselines.simcse.encoders import training_of

    return training_of(spec, chosen)


SIMCSE_UNSUP = EncoderEntry(
    name="simcse-unsup",
    summary="unsupervised SimCSE: dropout as the only augmentation; released weights, or trained here",
    parameters=SimcseUnsup,
    build=_build,
    work=_work,
)
SIMCSE_SUP = EncoderEntry(
    name="simcse-sup",
    summary="supervised SimCSE: NLI pairs with hard negatives; released weights, or trained here",
    parameters=SimcseSup,
    build=_build,
    work=_work,
)
