"""The objective against a loop written from the paper's equations, values and gradients, in float64 where it can be."""

import math

import pytest
import torch

from baselines.simcse.recipe import contrastive_loss


def reference_loss(views, temperature, similarity, weight):
    """Equations 1 and 5 of the paper, one term at a time, in float64.

    l_i = -log e^{s(i, i+)} / sum_j (e^{s(i, j+)} + alpha^{[i = j]} e^{s(i, j-)}), alpha = exp(weight).
    """

    def s(a, b):
        dot = (a * b).sum()
        if similarity == "dot":
            return dot / temperature
        return dot / (a.pow(2).sum().sqrt() * b.pow(2).sum().sqrt()) / temperature

    total = 0.0
    n = len(views[0])
    for i in range(n):
        denominator = 0.0
        for j in range(n):
            denominator = denominator + torch.exp(s(views[0][i], views[1][j]))
            for negatives in views[2:]:
                alpha = math.exp(weight) if i == j else 1.0
                denominator = denominator + alpha * torch.exp(s(views[0][i], negatives[j]))
        total = total - torch.log(torch.exp(s(views[0][i], views[1][i])) / denominator)
    return total / n


@pytest.mark.parametrize("columns", [2, 3, 4])
@pytest.mark.parametrize("similarity", ["cosine", "dot"])
@pytest.mark.parametrize("temperature", [0.05, 0.5, 1.0])
@pytest.mark.parametrize("weight", [0.0, -0.7, 1.3])
def test_loss_and_gradient_equal_the_reference(columns, similarity, temperature, weight):
    z = torch.randn(7, columns, 5, generator=torch.Generator().manual_seed(3))
    if similarity == "dot":
        z /= 5
    ours = z.clone().requires_grad_()
    loss = contrastive_loss(ours, temperature=temperature, similarity=similarity, hard_negative_weight=weight)
    loss.backward()
    theirs = z.double().requires_grad_()
    expected = reference_loss(theirs.unbind(1), temperature, similarity, weight)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6, abs=1e-6)
    assert torch.allclose(ours.grad.double(), theirs.grad, rtol=1e-5, atol=1e-6)


def test_equal_vectors_give_the_log_of_the_number_of_candidates():
    z = torch.ones(64, 2, 8)
    assert contrastive_loss(z, temperature=0.05).item() == pytest.approx(math.log(64), abs=1e-5)
    assert contrastive_loss(torch.ones(4, 3, 8), temperature=0.05).item() == pytest.approx(math.log(8), abs=1e-5)


def test_a_single_row_has_loss_zero():
    assert contrastive_loss(torch.randn(1, 2, 8), temperature=0.05).item() == 0.0


def test_the_loss_is_of_one_direction():
    z = torch.randn(6, 2, 4, generator=torch.Generator().manual_seed(0))
    assert contrastive_loss(z, temperature=0.5).item() != pytest.approx(
        contrastive_loss(z.flip(1), temperature=0.5).item(), abs=1e-4
    )


def test_the_loss_stays_float32_under_autocast():
    z = torch.randn(6, 2, 4)
    with torch.autocast("cpu", torch.bfloat16):
        inside = contrastive_loss(z, temperature=0.05)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, contrastive_loss(z, temperature=0.05))
