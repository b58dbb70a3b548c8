"""The fusion of streams: what the machine computes, and what validation chooses."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.svm import LinearSVC

from striate.layers.late_fusion import LateFusion, stacked_scores
from striate.models.build import build_model
from striate.training.late_fusion import Known, choose_fusion, scaled_loss


def outputs(truth: torch.Tensor, *strengths: float, seed: int = 0) -> Known:
    """Of streams that know the class so well, with noise."""
    random = torch.Generator().manual_seed(seed)
    right = torch.nn.functional.one_hot(truth, int(truth.max()) + 1).float()
    return tuple(one * right + torch.randn(right.shape, generator=random) for one in strengths), truth


def test_the_machine_is_that_of_scikit_learn() -> None:
    for classes in (2, 3):
        truth = torch.arange(60) % classes
        train, val = outputs(truth, 2, 2), outputs(truth, 2, 2, seed=1)
        fused = choose_fusion("svm", ("a", "b"), train, val, scaled_loss)
        cost = float(fused.name.partition("C = ")[2].partition(")")[0])
        scores = stacked_scores(val[0])
        assert np.allclose(scores.numpy()[:, :classes].__pow__(2).sum(1), 1, atol=1e-5)
        machine = LinearSVC(C=cost, dual=False).fit(stacked_scores(train[0]).numpy(), truth.numpy())
        assert fused(val[0]).argmax(1).tolist() == machine.predict(scores.numpy()).tolist()
        assert fused.share == (0, 0)


def test_validation_prefers_the_stream_that_knows_and_both_where_both_know() -> None:
    truth = torch.arange(300) % 2
    # One has learned the training clips by heart: the machine trusts it, and validation does not.
    train = outputs(truth, 50.0, 2.0)
    alone = choose_fusion("best", ("rgb", "flow"), train, outputs(truth, 0.0, 2.0, seed=1), scaled_loss)
    assert (alone.name, alone.share) == ("flow alone", (0, 1))
    both = choose_fusion("best", ("rgb", "flow"), outputs(truth, 2, 2), outputs(truth, 2, 2, seed=1), scaled_loss)
    assert both.name not in ("rgb alone", "flow alone")


def test_a_fresh_fusion_is_the_mean_and_is_in_the_checkpoint() -> None:
    network = build_model("two-stream(width=4, directions=8, fusion=best)", (5, 4, 16, 16), 3).eval()
    x = torch.randn(2, 5, 4, 16, 16)
    with torch.no_grad():
        alone = network.alone(x)
        assert tuple(alone) == ("rgb", "flow", "entropy")
        assert torch.allclose(network(x), sum(alone.values()) / 3, atol=1e-6)
        network.fusion.take((0, 1, 0))
        assert torch.equal(network(x), alone["flow"])
    assert {"fusion.share", "fusion.weight", "fusion.bias"} <= set(network.state_dict())
    assert isinstance(network.fusion, LateFusion)
    flow = build_model("two-stream(width=4, directions=8)", (2, 4, 16, 16), 3)
    assert flow.streams == ("flow", "entropy")
    assert len(flow.train()(x[:, 3:])) == 3
