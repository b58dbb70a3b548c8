"""Boltzmann machines and sparse codes against their definitions: by enumeration, by long chains, by NumPy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from striate import reference
from striate.errors import ModelError, UsageError
from striate.layers.boltzmann import ConvolutionalBoltzmannMachine, RestrictedBoltzmannMachine
from striate.layers.image_whitening import ImageWhitening
from striate.models.boltzmann.contrastive_divergence import ContrastiveDivergence, Divergence, gibbs_chain
from striate.models.boltzmann.likelihood import (
    annealed_log_partition,
    base_biases,
    exact_log_partition,
    log_likelihood,
    log_partition,
)
from striate.models.build import build_model
from striate.models.zoo.sparse_decomposition import PredictiveSparseDecomposition


def machine(
    visible_units: int, hidden_units: int, visible: str = "binary", scale: float = 1.0, seed: int = 0
) -> RestrictedBoltzmannMachine:
    torch.manual_seed(seed)
    made = RestrictedBoltzmannMachine(visible_units, hidden_units, visible)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(0, scale)
    return made


def arrays(made: RestrictedBoltzmannMachine) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """w, a, b as `striate.reference` has them."""
    return tuple(t.detach().numpy() for t in (made.hidden.weight, made.offset.bias, made.hidden.bias))


def states(units: int) -> np.ndarray:
    return np.array(list(itertools.product((0.0, 1.0), repeat=units)))


@pytest.mark.parametrize("visible", ["binary", "gaussian"])
def test_free_energy_sums_over_all_hidden_states(visible: str) -> None:
    made, gaussian = machine(5, 4, visible), visible == "gaussian"
    w, a, b = arrays(made)
    v, hidden = np.random.default_rng(0).random((3, 5)), states(4)
    pairs = [reference.boltzmann_energy(v[[k] * 16], hidden, w, a, b, gaussian=gaussian) for k in range(3)]
    brute = [-np.logaddexp.reduce(-energies) for energies in pairs]
    np.testing.assert_allclose(reference.free_energy(v, w, a, b, gaussian=gaussian), brute)
    given = torch.tensor(v, dtype=torch.float32)
    np.testing.assert_allclose(made.free_energy(given).detach(), brute, rtol=1e-5)
    posterior = np.exp(-pairs[0] + pairs[0].min())
    np.testing.assert_allclose(made(given)[0].detach(), posterior @ hidden / posterior.sum(), rtol=1e-5)
    np.testing.assert_allclose(made(given).detach(), reference.hidden_given_visible(v, w, b), rtol=1e-5)
    h = torch.tensor(hidden, dtype=torch.float32)
    expected = reference.visible_given_hidden(hidden, w, a, gaussian=gaussian)
    np.testing.assert_allclose(made.visible_mean(h).detach(), expected, rtol=1e-4, atol=1e-6)


def test_log_partition_is_the_same_by_either_side_and_by_enumeration() -> None:
    for sizes in ((6, 3), (3, 6)):
        made = machine(*sizes)
        w, a, b = arrays(made)
        v, h = (states(n) for n in sizes)
        energy = reference.boltzmann_energy(np.repeat(v, len(h), 0), np.tile(h, (len(v), 1)), w, a, b)
        brute = np.logaddexp.reduce(-energy)
        assert exact_log_partition(made) == pytest.approx(brute)
        assert reference.log_partition(w, a, b) == pytest.approx(brute)
        assert log_partition(made).method == "exact"


def test_annealed_importance_sampling_holds_the_exact_log_partition_in_its_interval() -> None:
    for seed in range(3):
        made = machine(40, 12, scale=0.6, seed=seed)
        base = base_biases(torch.bernoulli(torch.full((50, 40), 0.3)))
        found = annealed_log_partition(made, base, seed=seed)
        assert found.low <= exact_log_partition(made) <= found.high
        assert found.high - found.low < 0.3
        # Too few temperatures miss: the interval is worth what its runs are, and the test could fail.
    coarse = annealed_log_partition(machine(40, 12, scale=3.0), temperatures=1)
    assert not coarse.low <= exact_log_partition(machine(40, 12, scale=3.0)) <= coarse.high


def test_likelihoods_of_all_images_sum_to_one() -> None:
    made = machine(6, 4)
    v = torch.tensor(states(6), dtype=torch.float32)
    each = [log_likelihood(made, row[None], log_partition(made)).value for row in v]
    assert np.exp(each).sum() == pytest.approx(1)
    with pytest.raises(UsageError, match="gaussian"):
        exact_log_partition(machine(4, 4, "gaussian"))


def exact_gradient(made: RestrictedBoltzmannMachine, v: torch.Tensor) -> list[torch.Tensor]:
    """Of the mean log-likelihood, by all states of the visible units."""
    every = torch.tensor(states(made.hidden.in_features), dtype=torch.float32)
    log_p = -made.free_energy(v).mean() - torch.logsumexp(-made.free_energy(every), 0)
    return list(torch.autograd.grad(log_p, list(made.parameters())))


def mean_change(made: RestrictedBoltzmannMachine, v: torch.Tensor, k: int, repeats: int) -> list[torch.Tensor]:
    """The mean of what a step of CD-k adds to the parameters, at rate 1 and without momentum: of so many copies."""
    with torch.no_grad():
        v = v.repeat(repeats, 1)
        found, end = made.statistics(v, made(v)), gibbs_chain(made, v, k)
        imagined = made.statistics(end, made(end))
        return [found[name] - imagined[name] for name, _ in made.named_parameters()]


def test_contrastive_divergence_tends_to_the_gradient_of_the_likelihood() -> None:
    made = machine(4, 3, scale=0.7)
    v = torch.bernoulli(torch.full((10, 4), 0.7))
    exact = torch.cat([g.flatten() for g in exact_gradient(made, v)])
    torch.manual_seed(1)
    short, long = (torch.cat([g.flatten() for g in mean_change(made, v, k, 4000)]) for k in (1, 60))
    assert (long - exact).abs().max() < 0.01
    assert (short - exact).norm() > 3 * (long - exact).norm()  # one step is biased,
    assert torch.dot(short, exact) > 0.5 * short.norm() * exact.norm()  # but uphill


def test_a_step_of_the_rule_adds_rate_times_the_difference_and_keeps_its_momentum() -> None:
    made = machine(6, 4, scale=0.1)
    rule, v = ContrastiveDivergence(made, (6,), Divergence(k=2)), torch.bernoulli(torch.full((20, 6), 0.5))
    before = [p.detach().clone() for p in made.parameters()]
    rule.learn(made, v, 0.05, 0.0)
    changes = [p.detach() - b for p, b in zip(made.parameters(), before, strict=True)]
    for change, velocity in zip(changes, rule.buffers(), strict=True):
        torch.testing.assert_close(change, velocity)
    with pytest.raises(UsageError, match="binary visible units"):
        rule.learn(made, v * 3 - 1, 0.05, 0.0)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("persistent", [False, True])
def test_learning_raises_the_likelihood_of_bars(persistent: bool) -> None:
    """Images of 3×3 with whole rows on: 8 of 512."""
    rows = torch.tensor(states(3), dtype=torch.float32)
    v = rows[:, :, None].expand(-1, 3, 3).flatten(1)
    torch.manual_seed(0)
    made = RestrictedBoltzmannMachine(9, 8)
    rule = ContrastiveDivergence(made, (9,), Divergence(k=5, persistent=persistent))
    rate = 1.0 if persistent else 0.1  # momentum of 0.9, which chains do without, makes ten times of it
    before = log_likelihood(made, v, log_partition(made)).value
    for step in range(600):
        rule.learn(made, v.repeat(4, 1), rate * (1 - step / 600), step / 600)
    after = log_likelihood(made, v, log_partition(made)).value
    assert before == pytest.approx(-9 * np.log(2), abs=0.3)
    assert after > -4  # of at most −ln 8 = −2.08
    assert not persistent or not torch.equal(rule.chains[: len(v)], v)


@pytest.mark.slow
def test_probabilistic_max_pooling_is_a_choice_in_each_block() -> None:
    torch.manual_seed(0)
    made = ConvolutionalBoltzmannMachine(2, 3, 3, 2)
    with torch.no_grad():
        made.hidden.weight.normal_()
        made.hidden.bias.normal_()
    x = torch.rand(2, 2, 9, 8)  # the last row is seen by no whole block
    inputs = made.hidden(made.covered(x)).detach().numpy()
    on, pooled = reference.probabilistic_max_pool(inputs, 2)
    np.testing.assert_allclose(made.detections(x).detach(), on, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(made(x).detach(), pooled, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(on.reshape(2, 3, 3, 2, 3, 2).sum((3, 5)), pooled)
    drawn = torch.stack([made.sample_hidden(x) for _ in range(3000)])
    assert (drawn.mean(0) - made.detections(x)).abs().max() < 0.06
    assert set(drawn.unflatten(-1, (-1, 2)).unflatten(-3, (-1, 2)).sum((-1, -3)).unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("visible", ["binary", "gaussian"])
def test_gradients_of_the_convolutional_energy_are_those_of_its_free_energy(visible: str) -> None:
    torch.manual_seed(0)
    made = ConvolutionalBoltzmannMachine(2, 3, 3, 2, visible, 0.5)
    with torch.no_grad():
        made.hidden.weight.normal_(0, 0.3)
    v = torch.rand(4, 2, 8, 8)
    by_energy = torch.autograd.grad(-made.free_energy(v).mean(), list(made.parameters()))
    with torch.no_grad():
        found = made.statistics(v, made.detections(v))
    for (name, _), gradient in zip(made.named_parameters(), by_energy, strict=True):
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-5)


def test_whitening_flattens_the_spectrum_and_its_inverse_gives_the_image_back() -> None:
    noise = torch.randn(4, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    rows, columns = torch.fft.fftfreq(64)[:, None], torch.fft.rfftfreq(64)
    falling = 1 / (rows.square() + columns.square()).sqrt().clamp(min=1 / 64)  # as in photographs
    x = torch.fft.irfft2(torch.fft.rfft2(noise) * falling)
    x = (x - x.amin()) / (x.amax() - x.amin())
    whitening = ImageWhitening(64, 64, 0.3)
    white = whitening(x)
    torch.testing.assert_close(white.square().mean((1, 2, 3)).sqrt(), torch.full((4,), 0.3))
    assert white.mean().abs() < 1e-4

    frequency = (rows.square() + columns.square()).sqrt()

    def fall(images: torch.Tensor) -> float:
        """Power at a tenth of a cycle a pixel over that at a quarter."""
        power = torch.fft.rfft2(images).abs().square().mean((0, 1))
        low, high = ((frequency - at).abs() < 0.03 for at in (0.1, 0.25))
        return float(power[low].mean() / power[high].mean())

    assert fall(x) > 4
    assert 0.5 < fall(white) < 2
    assert (whitening.inverse(white, x) - x).abs().mean() < 0.25 * (x - x.mean((2, 3), keepdim=True)).abs().mean()


def test_inference_lowers_the_energy_of_a_code_and_few_codes_are_active() -> None:
    torch.manual_seed(0)
    network = PredictiveSparseDecomposition((1, 8, 8), 10, 32, 0, 0.3)
    network.for_reconstruction(logits=False)
    atoms = torch.randn(4, 64)
    x = torch.rand(200, 4).mul(torch.rand(200, 4) < 0.5) @ (atoms / atoms.norm(dim=1, keepdim=True)) * 3
    code = network.inferred(x, 200)

    @torch.no_grad()
    def energy(code: torch.Tensor) -> float:
        return float(network.code_energy(x, code).mean())

    energies = [energy(network.inferred(x, steps)) for steps in (0, 5, 200)]
    assert energies[0] > energies[1] > energies[2]
    assert (code == 0).float().mean() > 0.5
    for _ in range(50):
        network.learn(x.view(-1, 1, 8, 8), torch.zeros(0), 0.5, 0.0)
    assert energy(network.predicted(x)) < 0.7 * energies[0]
    assert network.dictionary.weight.norm(dim=0).max() <= 1 + 1e-5


@pytest.mark.parametrize("name", ["crbm", "rbm(20,visible=gaussian)", "psd(20,patch=5)"])
def test_what_needs_images_is_refused_for_tables(name: str) -> None:
    with pytest.raises(ModelError, match="images"):
        build_model(name, (12,), 3)
