"""The methods that the SimCSE paper compares, as entries of the harness's registry."""

from baselines.transformers import BERT, ROBERTA

ENCODERS = (BERT, ROBERTA)
