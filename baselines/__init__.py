"""The methods that the SimCSE paper compares, as entries of the harness's registry."""

from baselines.glove import AVERAGE_GLOVE
from baselines.postprocessing import BERT_FLOW, BERT_WHITENING
from baselines.simcse import SIMCSE_SUP, SIMCSE_UNSUP
from baselines.transformers import PLAIN, RELEASED, released_encoders

ENCODERS = (
    AVERAGE_GLOVE,
    *PLAIN,
    BERT_FLOW,
    BERT_WHITENING,
    *RELEASED,
    SIMCSE_UNSUP,
    SIMCSE_SUP,
    *released_encoders(),
)
