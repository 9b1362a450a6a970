"""BERT-flow: golden numbers of the reference, what makes the map a density, and the fit."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from baselines.flow import BertAdam, Flow, FlowSettings, fit_flow
from baselines.flow_model import FlowShape, Glow, bits_per_dimension
from harness.errors import EncoderError, UsageError

SHAPES = [
    FlowShape(),
    FlowShape(coupling="affine"),
    FlowShape(permutation="learned"),
    FlowShape(levels=1, depth=2, width=5, coupling="affine", permutation="learned"),
]
ORDER = [  # of a step's parameters in the golden numbers
    *("norm.bias", "norm.log_scale", "coupling.weight_1", "coupling.norm_1.bias", "coupling.norm_1.log_scale"),
    *("coupling.weight_2", "coupling.norm_2.bias", "coupling.norm_2.log_scale"),
    *("coupling.weight_3", "coupling.bias_3", "coupling.log_scale_3"),
]
REVERSED = [*range(7, -1, -1), *range(12, 16), *range(11, 7, -1)]  # where an identity flow takes its 16 channels from


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def flow(dim: int = 16, shape: FlowShape | None = None, seed: int = 0) -> Glow:
    return Glow(dim, shape or FlowShape(), torch.Generator().manual_seed(seed)).double()


@torch.no_grad()
def fill(model: Glow, only: tuple[str, ...] = ("",)) -> Glow:
    """The golden weights, for the parameters whose name holds one of `only`; the rest of them zero."""
    for q, step in enumerate(model.steps):
        for p, name in enumerate(ORDER):
            weight = step.get_parameter(name)
            size = 0.2 if "weight" in name else 0.1
            value = size * torch.sin(0.7 + 1.3 * q + 0.9 * p + 0.17 * torch.arange(weight.numel(), dtype=torch.float64))
            weight.copy_(value.view_as(weight) if any(part in name for part in only) else torch.zeros_like(weight))
    return model


@torch.no_grad()
def roughen(model: Glow) -> Glow:
    """Random values everywhere, so that no coupling is the identity; small, so that the map is well-conditioned."""
    generator = torch.Generator().manual_seed(7)
    for name, parameter in model.named_parameters():
        noise = torch.empty(parameter.shape).normal_(generator=generator).to(parameter.dtype)
        parameter.copy_(parameter + 0.02 * noise if "permutation" in name else 0.1 * noise)
    return model


def vectors(rows: int) -> Tensor:
    n, j = np.mgrid[:rows, :16]
    return torch.from_numpy(np.sin(0.31 * n + 0.57 * j) + 0.5 * np.cos(0.13 * n * j))


def cosine(a: Tensor, b: Tensor) -> float:
    return torch.nn.functional.cosine_similarity(a, b, dim=0).item()


def gaussian(rows: int, dim: int, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((rows, dim)) @ rng.standard_normal((dim, dim)) + 3).astype(np.float32)


def test_golden_forward():
    x = vectors(4)
    assert x[0, :4].tolist() == pytest.approx([0.5, 1.0396320487, 1.4086334961, 1.4903268042], abs=1e-10)
    z, log_det = fill(flow())(x)
    expected_0 = """-0.0839116669 0.4066941770 0.7263205260 0.8150339313 0.7420865282 0.6245726470 0.5321189169
        0.4424094809 1.2943717934 2.1465534142 2.4297698834 2.0504834860 0.6074027716 0.3522070587 0.2063958770
        0.2261542549"""
    expected_3 = """-0.9394026096 -0.6680806548 -0.3577744397 -0.0629886614 0.2307219873 0.5499012136 0.8627686326
        1.0505374964 1.2571895985 1.7744065702 1.6160437322 0.8571958527 0.6282327310 0.3027664976 -0.0343098126
        -0.2137574526"""
    assert z[0].tolist() == pytest.approx([float(value) for value in expected_0.split()], abs=1e-10)
    assert z[3].tolist() == pytest.approx([float(value) for value in expected_3.split()], abs=1e-10)
    assert log_det.tolist() == pytest.approx([-3.3061924964972893] * 4, abs=1e-14)
    z = z.detach()
    assert float(z.sum()) == pytest.approx(34.212365400978, abs=1e-12)
    assert float(z.square().sum()) == pytest.approx(46.6969831332037, abs=1e-12)
    assert [cosine(z[0], z[1]), cosine(z[2], z[3])] == pytest.approx([0.9463961158956, 0.9106440931959], abs=1e-13)


def test_golden_bits_per_dimension():
    bits = bits_per_dimension(*fill(flow())(vectors(4)))
    assert bits.tolist() == pytest.approx([2.5148171048, 2.0332606692, 1.8754856327, 2.1771827942], abs=1e-10)
    assert bits.mean().item() == pytest.approx(2.1501865502214406, abs=1e-14)


def test_golden_training():
    model, x = fill(flow()), vectors(4)
    optimizer = BertAdam(model, FlowSettings())
    losses, norms = [], []
    for _ in range(3):
        loss = bits_per_dimension(*model(x)).mean()
        losses.append(loss.item())
        norms.append(optimizer.step(loss))
    assert losses == pytest.approx([2.1501865502214, 1.9527384338370, 1.7569065019299], abs=1e-13)
    assert norms == pytest.approx([2.8017181586, 2.3331761100, 2.1286157021], abs=1e-10)


@pytest.mark.parametrize(
    ("filled", "loss", "cosines", "squares"),
    [
        pytest.param(
            ("weight_1", "weight_2"),
            1.40354239451749,
            [0.7396176842336, 0.6260234766737],
            127.999744000128,
            id="couplings zero",
        ),
        pytest.param(
            ("weight_1", "weight_2", "weight_3"),
            1.4499789019625,
            [0.7292300451510, 0.6366240162356],
            129.855572866155,
            id="couplings filled",
        ),
    ],
)
def test_golden_data_dependent_initialisation(filled, loss, cosines, squares):
    n, j = np.mgrid[:8, :16]
    x = vectors(8) + torch.from_numpy(0.2 * ((n**2 + 3 * j) % 5))
    model = fill(flow(), filled)
    model.initialise(x)
    z, log_det = model(x)
    assert bits_per_dimension(z, log_det).mean().item() == pytest.approx(loss, abs=1e-13)
    assert [cosine(z[0], z[1]), cosine(z[6], z[7])] == pytest.approx(cosines, abs=1e-12)
    assert z.square().sum().item() == pytest.approx(squares, abs=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
def test_inverse_is_exact(shape, dtype, tolerance):
    model = roughen(flow(16, shape)).to(dtype)
    x = vectors(8).to(dtype)
    with torch.no_grad():
        assert float((model.inverse(model(x)[0]) - x).abs().max()) < tolerance
        assert float((model(model.inverse(x))[0] - x).abs().max()) < tolerance


@pytest.mark.parametrize("shape", SHAPES)
def test_log_det_is_that_of_the_jacobian(shape):
    model = roughen(flow(16, shape))
    x = vectors(3)
    _, log_det = model(x)
    for row in range(3):
        jacobian = torch.autograd.functional.jacobian(lambda v: model(v[None])[0][0], x[row])
        assert float(torch.linalg.slogdet(jacobian).logabsdet) == pytest.approx(log_det[row].item(), abs=1e-12)


def test_log_det_of_additive_couplings_is_that_of_the_outer_normalisations():
    model = fill(flow())
    x = vectors(5)
    expected = 3 * sum(float(step.norm.log_scale.detach().sum()) for step in model.steps)
    assert model(x)[1].tolist() == pytest.approx([expected] * 5, abs=1e-14)
    with torch.no_grad():
        for step in model.steps:
            for parameter in step.coupling.parameters():
                parameter += 0.3
    assert model(x)[1].tolist() == pytest.approx([expected] * 5, abs=1e-14)


def test_identity_flow_permutes():
    model = fill(flow(), ())
    x = vectors(4)
    z, log_det = model(x)
    assert torch.equal(z, x[:, REVERSED])
    expected = (0.5 * x.square().sum(dim=1) + 8 * math.log(2 * math.pi)) / (16 * math.log(2))
    assert bits_per_dimension(z, log_det).tolist() == pytest.approx(expected.tolist(), abs=1e-14)


def test_initialisation_standardises_each_dimension_and_repeats_itself():
    x = torch.from_numpy(gaussian(500, 16).astype(np.float64))
    model = flow()
    model.initialise(x)
    z, log_det = model(x)
    deviation = x.std(dim=0, correction=0)
    expected = ((x - x.mean(dim=0)) / deviation)[:, REVERSED]
    assert (z - expected).abs().max().item() < 1e-4  # each normalisation adds 1e-6 to a deviation
    loss = (0.5 * (1 + math.log(2 * math.pi)) + deviation.log().mean().item()) / math.log(2)
    assert bits_per_dimension(z, log_det).mean().item() == pytest.approx(loss, abs=1e-4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.initialise(x)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_initial_weights():
    model = Glow(768, FlowShape(), torch.Generator().manual_seed(0))
    for step, channels in zip(model.steps, [768] * 3 + [384] * 3 + [192] * 3, strict=True):
        reach = math.sqrt(6 / (1 + channels))
        for drawn in (step.norm.bias, step.norm.log_scale):
            assert float(drawn.detach().abs().max()) <= reach
            assert float(drawn.detach().var()) == pytest.approx(reach**2 / 3, rel=0.2)
        assert float(step.coupling.norm_1.bias.detach().abs().max()) <= math.sqrt(6 / 33)
        assert float(step.coupling.weight_1.detach().std()) == pytest.approx(0.05, rel=0.05)
        assert not any(p.any() for p in (step.coupling.weight_3, step.coupling.bias_3, step.coupling.log_scale_3))


@pytest.mark.parametrize(("dim", "expected"), [(768, 151_488), (1024, 198_528)])
def test_parameter_count(dim, expected):
    model = Glow(dim, FlowShape(), torch.Generator())
    assert sum(parameter.numel() for parameter in model.parameters()) == expected


def test_learned_permutation_starts_orthogonal():
    model = flow(16, FlowShape(permutation="learned"))
    for step in model.steps:
        weight = step.permutation.weight().detach()
        assert float((weight @ weight.T - torch.eye(len(weight))).abs().max()) < 1e-5
        assert step.permutation.log_det().item() == pytest.approx(0, abs=1e-5)


def test_density_integrates_to_one():
    model = roughen(flow(2, FlowShape(levels=1, coupling="affine")))
    axis = torch.linspace(-20, 20, 401, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        density = torch.exp(-bits_per_dimension(*model(grid)) * math.log(2) * 2)
    assert float(density.sum()) * float(axis[1] - axis[0]) ** 2 == pytest.approx(1, abs=1e-5)


def test_samples_have_the_entropy_of_the_flow():
    model = roughen(flow())
    z = torch.randn(20_000, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        back, log_det = model(model.inverse(z))
        found = bits_per_dimension(back, log_det).mean().item() * 16 * math.log(2)
    assert found == pytest.approx(8 * (1 + math.log(2 * math.pi)) - log_det[0].item(), abs=0.1)


def test_first_step_is_not_bias_corrected_and_decays_everything():
    model = torch.nn.Linear(2, 1).double()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = BertAdam(model, FlowSettings())
    loss = 0.3 * model.weight[0, 0] - 0.4 * model.bias[0]
    assert optimizer.step(loss) == pytest.approx(0.5, abs=1e-15)  # below 1: not clipped

    def moved(weight: float, gradient: float) -> float:
        return weight - 1e-3 * (0.1 * gradient / (math.sqrt(0.001) * abs(gradient) + 1e-6) + 0.01 * weight)

    weights, bias = before["weight"][0].tolist(), before["bias"].item()
    assert model.weight[0].tolist() == pytest.approx([moved(weights[0], 0.3), weights[1] * (1 - 1e-5)], abs=1e-15)
    assert model.bias.item() == pytest.approx(moved(bias, -0.4), abs=1e-15)


def test_clip_divides_by_the_norm():
    model = torch.nn.Linear(2, 1, bias=False).double()
    optimizer = BertAdam(model, FlowSettings())
    assert optimizer.step(3 * model.weight[0, 0] + 4 * model.weight[0, 1]) == pytest.approx(5, abs=1e-14)
    assert optimizer.state["first"].tolist() == pytest.approx([0.06, 0.08], abs=1e-15)


@pytest.mark.parametrize("ddi", [True, False])
def test_fit_lands_between_the_full_and_the_diagonal_gaussian(ddi):
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((16, 16))
    seen, unseen = ((rng.standard_normal((3000, 16)) @ mixing).astype(np.float32) for _ in range(2))
    entropy = 0.5 * (1 + math.log(2 * math.pi)) / math.log(2)
    full = entropy + np.log2(np.abs(np.linalg.det(mixing))) / 16
    diagonal = entropy + 0.5 * np.log2((mixing**2).sum(axis=0)).mean()
    fitted = fit_flow(seen, FlowSettings(shape=FlowShape(levels=2), ddi=ddi, epochs=8))
    with torch.no_grad():
        bits = bits_per_dimension(*fitted.model(torch.from_numpy(unseen))).mean().item()
    assert full < bits < diagonal - 0.1


def test_a_pair_counts_double_and_stays_together():
    seen = []

    class Recorder:
        shape = (40, 16)

        def __getitem__(self, rows: NDArray[np.int64]) -> Tensor:
            seen.append(rows)
            return torch.from_numpy(gaussian(40, 16)[rows])

    settings = FlowSettings(batch=8, epochs=2, pairs=True)
    fit_flow(Recorder(), settings)
    assert len(seen) == settings.steps(40) == 10
    assert all(np.array_equal(rows[:4] + 20, rows[4:]) for rows in seen)
    for epoch in (seen[:5], seen[5:]):
        assert sorted(np.concatenate(epoch)) == list(range(40))
    assert not np.array_equal(seen[0], seen[5])


@pytest.mark.parametrize(("vectors", "epochs", "expected"), [(11498, 1, 179), (17256, 1, 269), (128, 0.5, 1)])
def test_steps(vectors, epochs, expected):
    assert FlowSettings(epochs=epochs).steps(vectors) == expected


def test_batches_straddle_epochs():
    x = gaussian(100, 16)
    assert len(trace(x, FlowSettings(batch=64, epochs=3.2))) == 5


def trace(x: NDArray[np.float32], settings: FlowSettings, checkpoint: Path | None = None) -> list[tuple[int, float]]:
    progress: list[tuple[int, float]] = []
    fit_flow(x, settings, lambda step, bits: progress.append((step, bits)), checkpoint=checkpoint)
    return progress


def test_progress_and_seed():
    x = gaussian(640, 16)
    first = trace(x, FlowSettings(ddi=True, epochs=3))
    assert [step for step, _ in first] == list(range(1, 31))
    assert first[-1][1] < first[0][1]
    assert trace(x, FlowSettings(ddi=True, epochs=3)) == first
    assert trace(x, FlowSettings(ddi=True, epochs=3, seed=1)) != first


class Dropout:
    """Vectors that an encoder with dropout on computes anew each time; stops after `calls` of them."""

    shape = (400, 16)

    def __init__(self, calls: int) -> None:
        self.calls = calls

    def __getitem__(self, rows: NDArray[np.int64]) -> Tensor:
        self.calls -= 1
        if self.calls < 0:
            raise KeyboardInterrupt
        return torch.nn.functional.dropout(torch.from_numpy(gaussian(400, 16)[rows]), 0.1)


@pytest.mark.parametrize("shape", [FlowShape(levels=2, depth=1), SHAPES[3]])
def test_a_resumed_fit_is_the_same_fit(tmp_path, shape):
    settings = FlowSettings(shape=shape, ddi=True, batch=8, epochs=3)  # 150 steps
    whole = fit_flow(Dropout(150), settings)
    path = tmp_path / "fits" / "fit.checkpoint.safetensors"
    with pytest.raises(KeyboardInterrupt):
        fit_flow(Dropout(130), settings, checkpoint=path)
    torch.manual_seed(99)  # what was drawn since must not matter
    steps: list[int] = []
    resumed = fit_flow(Dropout(50), settings, lambda step, _: steps.append(step), checkpoint=path)
    assert steps == list(range(101, 151))
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name])
    finished = fit_flow(Dropout(0), settings, checkpoint=path)
    assert torch.equal(finished.model.steps[0].norm.bias, whole.model.steps[0].norm.bias)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_fitting_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fit_flow(Dropout(100), FlowSettings(batch=8))
    assert torch.equal(torch.rand(3), expected)


def zeros(content: bytearray) -> None:
    content[len(content) // 2 : len(content) // 2 + 4096] = bytes(4096)


def half(content: bytearray) -> None:
    del content[len(content) // 2 :]


@pytest.mark.parametrize("damage", [zeros, half, bytearray.clear])
def test_a_damaged_checkpoint_is_named_and_the_fit_begins_anew(tmp_path, caplog, damage):
    settings = FlowSettings(batch=8, epochs=3)
    path = tmp_path / "fits" / "fit.checkpoint.safetensors"
    with pytest.raises(KeyboardInterrupt):
        fit_flow(Dropout(130), settings, checkpoint=path)
    content = bytearray(path.read_bytes())
    damage(content)
    path.write_bytes(content)
    steps: list[int] = []
    resumed = fit_flow(Dropout(150), settings, lambda step, _: steps.append(step), checkpoint=path)
    assert steps[0] == 1
    (message,) = caplog.messages
    assert message.startswith(f"{path}: cannot be used (")
    whole = fit_flow(Dropout(150), settings)
    for name, value in whole.arrays().items():
        assert np.array_equal(value, resumed.arrays()[name])


def test_a_checkpoint_of_another_fit_is_not_gone_on_with(tmp_path, caplog):
    path = tmp_path / "fits" / "fit.checkpoint.safetensors"
    x = gaussian(64, 16)
    fit_flow(x, FlowSettings(), checkpoint=path)
    other = fit_flow(x, FlowSettings(seed=1), checkpoint=path)
    assert caplog.messages == [f"{path}: cannot be used (it was stored under another key); it is made anew"]
    assert np.array_equal(other.transform(x), fit_flow(x, FlowSettings(seed=1)).transform(x))


def test_a_checkpoint_that_cannot_be_written_costs_no_fit(tmp_path, caplog):
    (tmp_path / "fits").write_text("a file where the folder should be")
    x = gaussian(64, 16)
    fitted = fit_flow(x, FlowSettings(), checkpoint=tmp_path / "fits" / "fit.checkpoint.safetensors")
    assert np.array_equal(fitted.transform(x), fit_flow(x, FlowSettings()).transform(x))
    assert caplog.messages[-1].endswith("; the fit goes on without a checkpoint")


@pytest.mark.parametrize("shape", SHAPES)
def test_a_flow_is_its_arrays_bit_for_bit(shape):
    x = gaussian(5000, 16)
    fitted = Flow(roughen(Glow(16, shape, torch.Generator().manual_seed(3))))
    again = Flow.from_arrays(fitted.arrays(), 16, shape)
    z = again.transform(x)
    assert (z.dtype, z.shape) == (np.float32, x.shape)
    assert np.array_equal(z, fitted.transform(x))
    assert again.transform(x[4500:4501]) == pytest.approx(z[4500:4501], abs=1e-4)


def test_a_loss_that_is_not_finite_stops_with_its_step():
    x = gaussian(640, 16)
    bad = np.random.default_rng([1234, 0]).permutation(640)[3 * 64]  # met in the fourth step
    x[bad, 5] = np.nan
    with pytest.raises(EncoderError) as caught:
        fit_flow(x, FlowSettings())
    assert str(caught.value) == (
        "flow: the loss is nan bits/dim with gradient norm nan at step 4 of 10, expected finite numbers; lower the "
        "learning rate, or look for vectors that are not finite"
    )


def test_too_few_vectors():
    with pytest.raises(EncoderError) as caught:
        fit_flow(gaussian(63, 16), FlowSettings())
    assert str(caught.value) == (
        "flow: 63 vectors make no step of 64 in 1 epochs, expected at least one; fit on more sentences or for more "
        "epochs"
    )


def test_dimensions_that_cannot_be_halved():
    with pytest.raises(UsageError) as caught:
        fit_flow(gaussian(64, 20), FlowSettings())
    assert str(caught.value) == (
        "flow: vectors of 20 numbers cannot be halved 3 times, expected a multiple of 8; choose fewer levels"
    )
