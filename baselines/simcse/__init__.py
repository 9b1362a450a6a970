"""SimCSE training (Gao, Yao & Chen 2021, https://arxiv.org/abs/2104.08821), unsupervised and supervised.

Read in this order: settings, model, data, recipe; then ablations, devices and checkpoint where a detail is wanted.
"""
