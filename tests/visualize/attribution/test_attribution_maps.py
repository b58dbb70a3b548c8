"""Maps are captum's, asked as said; sums and signs are those of the definitions."""

from __future__ import annotations

import pytest
import torch
from captum.attr import (
    Deconvolution,
    GuidedBackprop,
    IntegratedGradients,
    LayerGradCam,
    NoiseTunnel,
    Occlusion,
    Saliency,
)
from torch import nn
from torch.nn import functional

from striate.errors import ModelError
from striate.models.preserved_state import on_trial
from striate.visualize.attribution.maps import (
    grad_cam,
    grad_cam_layers,
    integrated_gradients,
    occlusion,
    rectified,
    saliency,
    smooth_grad,
)
from striate.visualize.attribution.question import LogOdds, make_question
from striate.visualize.attribution.removal import cell_means, cell_numbers, grid_of, removed, without


@pytest.fixture
def module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3), nn.ReLU(),
        nn.Flatten(), nn.Linear(8 * 16, 4),
    ).eval()  # fmt: skip


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(1, 3, 12, 12, generator=torch.Generator().manual_seed(1))


def test_gradients_of_large_inputs_are_computed_in_small_batches() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv3d(1, 2, 4, 4), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 16**3, 2)).eval()
    x, batches = torch.randn(1, 1, 64, 64, 64), list[int]()
    path = IntegratedGradients(module).attribute(x, removed(x), target=1, n_steps=24)[0].sum(0)
    module.register_forward_pre_hook(lambda _, inputs: batches.append(len(inputs[0])))
    torch.testing.assert_close(integrated_gradients(module, x, 1), path.float())
    smooth_grad(module, x, 1)
    assert sum(batches) >= 36
    assert max(batches) == 2


def test_each_map_is_captums(module: nn.Module, x: torch.Tensor) -> None:
    leaf = x.clone().requires_grad_(True)
    torch.testing.assert_close(saliency(module, x, 2), Saliency(module).attribute(leaf, target=2)[0].amax(0))
    path = IntegratedGradients(module).attribute(leaf, removed(x), target=2, n_steps=24)
    torch.testing.assert_close(integrated_gradients(module, x, 2), path[0].sum(0).float())
    torch.manual_seed(0)
    spread = 0.15 * float(x.max() - x.min())
    noisy = NoiseTunnel(Saliency(module)).attribute(leaf, nt_samples=12, stdevs=spread, target=2, abs=False)
    torch.testing.assert_close(smooth_grad(module, x, 2), noisy[0].abs().amax(0).detach())
    hidden = Occlusion(module).attribute(x, (3, 2, 2), (3, 1, 1), removed(x), target=2)
    torch.testing.assert_close(occlusion(module, x, 2), hidden[0, 0].float())
    cam = LayerGradCam(module, module[4]).attribute(leaf, target=2, relu_attributions=True)
    large = functional.interpolate(cam.detach(), (12, 12), mode="bilinear", align_corners=False)[0, 0]
    torch.testing.assert_close(grad_cam(module, x, 2, "4"), large)


@pytest.mark.parametrize(("rule", "theirs"), [("deconvnet", Deconvolution), ("guided-backprop", GuidedBackprop)])
def test_rectified_maps_are_captums(rule: str, theirs: type, module: nn.Module, x: torch.Tensor) -> None:
    with pytest.warns(UserWarning, match="backward hooks"):
        expected = theirs(module).attribute(x.clone().requires_grad_(True), target=2)
    torch.testing.assert_close(rectified(module, x, 2, rule), expected[0].detach().abs().amax(0))
    with pytest.raises(ModelError, match=r"no ReLU(.|\n)*--method saliency"):
        rectified(nn.Linear(3, 2), torch.ones(1, 3), 0, rule)


def test_integrated_gradients_add_up(module: nn.Module, x: torch.Tensor) -> None:
    with torch.no_grad():
        gap = float((module(x) - module(removed(x)))[0, 1])
    assert float(integrated_gradients(module, x, 1).sum()) == pytest.approx(gap, rel=0.05)


def test_maps_of_a_table() -> None:
    line = nn.Linear(3, 1, bias=False)
    with torch.no_grad():
        line.weight.copy_(torch.tensor([[2.0, -1.0, 0.0]]))
    x = torch.tensor([[3.0, 4.0, 5.0]])
    for signed in (integrated_gradients, occlusion):
        torch.testing.assert_close(signed(line, x, 0), torch.tensor([6.0, -4.0, 0.0]))
    torch.testing.assert_close(saliency(line, x, 0), torch.tensor([2.0, 1.0, 0.0]))


def test_layers_are_the_last_ones_of_each_size(module: nn.Module, x: torch.Tensor) -> None:
    assert grad_cam_layers(module, x) == ("4", "2", "1")
    again = nn.ReLU()
    twice = nn.Sequential(nn.Conv2d(3, 4, 3), again, nn.Conv2d(4, 4, 1), again, nn.Flatten(), nn.Linear(400, 2))
    assert grad_cam_layers(twice, x) == ("2",), "what runs twice has no map of its own"
    assert grad_cam_layers(nn.Sequential(nn.Flatten(), nn.Linear(432, 2)), x) == ()


def test_log_odds_are_those_of_the_probability(module: nn.Module, x: torch.Tensor) -> None:
    question = make_question(module, x)
    with torch.no_grad():
        odds = LogOdds(question)(x)[0, 0]
        chance = module(x).softmax(1)[0, question.target]
        torch.testing.assert_close(odds, (chance / (1 - chance)).log())
        soft = nn.Sequential(module, nn.Softmax(1))
        same = make_question(soft, x)
        assert same.kind == "probabilities"
        torch.testing.assert_close(LogOdds(same)(x)[0, 0], odds, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(same.scores(x), question.scores(x))
    with on_trial(module):
        assert make_question(nn.Sequential(module, nn.Linear(4, 1)), x).kind == "number"


def test_cells_divide_an_image_evenly() -> None:
    assert (grid_of((28, 28)), grid_of((5, 96)), grid_of((13,))) == ((14, 14), (5, 14), (13,))
    numbers = cell_numbers((28, 30))
    assert numbers.unique().tolist() == list(range(196))
    assert set(numbers.flatten().bincount().tolist()) <= {4, 6}
    torch.testing.assert_close(cell_means(numbers.float()), torch.arange(196).double())


def test_what_is_taken_out_is_blurred(x: torch.Tensor) -> None:
    blank = removed(x)
    assert float(blank.std()) < 0.5 * float(x.std())
    taken = torch.zeros(1, 12, 12, dtype=torch.bool)
    taken[0, 2:5, 3:6] = True
    left = without(x, taken, blank)
    assert torch.equal(left[..., 2:5, 3:6], blank[..., 2:5, 3:6])
    assert int((left != x).sum()) == 27
    assert not removed(torch.ones(1, 4)).any()
