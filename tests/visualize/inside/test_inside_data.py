"""Embedding and correlation: agreement with scikit-learn and NumPy, and planted copies and dead maps are found."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from looked_at import inputs, network
from sklearn.manifold import trustworthiness
from torch import nn

from striate.errors import DataError
from striate.visualize.inside.correlation import correlate_maps, correlation_figure, grouped
from striate.visualize.inside.embedding import embed, embed_features, embedding_figure


def test_groups_stay_together_on_the_map() -> None:
    made = np.random.default_rng(0)
    centers = made.normal(0, 10, (3, 20))
    values = np.concatenate([center + made.normal(0, 1, (20, 20)) for center in centers]).astype(np.float32)
    for method in ("pca", "tsne"):
        found = embed_features(values, "made", method=method)
        assert trustworthiness(values, found.points, n_neighbors=5) > 0.7
        near = np.linalg.norm(found.points[:, None] - found.points, axis=-1).argsort(1)[:, 1:6]
        assert (near // 20 == np.arange(60)[:, None] // 20).all()
        assert 0.3 < found.kept <= 1
        again = embed_features(values, "made", method=method)
        np.testing.assert_array_equal(found.points, again.points)
    labels = np.repeat(np.arange(3), 20)
    images = np.zeros((60, 1, 4, 4), np.uint8)
    embedding_figure([found], title="t", labels=labels, classes=["a$", "b", "c"], images=images).canvas.draw()


def test_a_map_needs_several_samples_that_differ() -> None:
    with pytest.raises(DataError, match="at least 5"):
        embed(network(), inputs(4))
    with pytest.raises(DataError, match="the same 72 features"):
        embed(network(), inputs(1).repeat(6, 1, 1, 1))
    one = embed_features(np.arange(6, dtype=np.float32)[:, None], "one")
    assert (one.explained, one.points.shape) == ((1.0, 0.0), (6, 2))


def planted() -> nn.Sequential:
    """Of 6 maps the second copies the first, the third mirrors it, the fourth is dead, the fifth always 2."""
    module = network()
    first = module[0]
    with torch.no_grad():
        first.weight[1] = first.weight[0]
        first.weight[2] = -first.weight[0]
        first.weight[3:5] = 0
        first.bias[:] = 0
        first.bias[3], first.bias[4] = -1, 2
    module[1] = nn.Identity()
    return module


def test_planted_copies_and_dead_maps_are_found() -> None:
    module, x = planted(), inputs(20)
    raw = correlate_maps(module, x, "0").chosen
    assert [(a, b, round(r, 6)) for a, b, r in raw.alike] == [(0, 1, 1.0), (0, 2, -1.0), (1, 2, -1.0)]
    assert (raw.dead, raw.still) == ((), (3, 4))
    with torch.no_grad():
        values = module[0](x).movedim(1, 0).flatten(1).numpy()[[0, 1, 2, 5]]
    expected = np.corrcoef(values)
    known = np.isfinite(np.diag(raw.correlation))
    np.testing.assert_allclose(raw.correlation[np.ix_(known, known)], expected, atol=1e-5)
    eigenvalues = np.linalg.eigvalsh(expected)
    assert raw.effective == pytest.approx(eigenvalues.sum() ** 2 / np.square(eigenvalues).sum(), rel=1e-4)
    found = correlate_maps(module, x)
    active = found.layers[0]
    assert (active.name, active.dead, active.still) == ("2", (3,), (4,))
    assert "1 dead (3), 1 never varying, 1 pair nearly the same" in active.verdict
    assert found.verdict.startswith(f"{sum(len(layer.dead) for layer in found.layers)} of 14 units are dead")
    assert set(grouped(raw.correlation)[-2:].tolist()) == {3, 4}
    correlation_figure(found, title="t").canvas.draw()
    assert found.to_json()["correlation"] is not None
