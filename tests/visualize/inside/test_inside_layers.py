"""What layers give, filters, maps and features: the very numbers of the network, under the names of its parts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from looked_at import SHAPE, Functional, inputs, network
from torch import nn

from striate.errors import DataError, ModelError, UsageError
from striate.models.build import build_model
from striate.visualize.inside.feature_maps import feature_maps, feature_maps_figure
from striate.visualize.inside.features import find_features
from striate.visualize.inside.filters import filter_layers, filters_figure, find_filters
from striate.visualize.inside.passes import layer_outputs


def test_every_layer_gives_what_it_computes_in_eval_mode() -> None:
    module, x = network(), inputs()
    found = {output.name: output for output in layer_outputs(module, x)}
    # Dropout hands on what it got, so it is no layer of its own.
    assert [output.kind for output in found.values()] == ["conv", "bn", "relu", "pool", "conv", "relu", "flatten", "fc"]
    module.eval()
    with torch.no_grad():
        for k, part in enumerate(module):
            x = part(x)
            if str(k) in found and k != 1:  # the activation behind it writes into the same memory
                torch.testing.assert_close(found[str(k)].values, x)
    assert (found["1"].values < 0).any()


def test_functions_and_second_calls_have_names_of_their_own() -> None:
    names = [output.name for output in layer_outputs(Functional(), inputs())]
    assert names == ["first", "bn", "relu", "twice", "relu (2)", "twice (2)", "relu (3)", "fc"]


def test_filters_are_the_weights() -> None:
    module = network()
    first = find_filters(module)
    assert (first.layer, first.units, first.filters, first.channels) == ("0", tuple(range(6)), 6, 3)
    np.testing.assert_array_equal(first.weights, module[0].weight.detach().numpy())
    one = find_filters(module, "5", unit=7)
    np.testing.assert_array_equal(one.weights[0], module[5].weight[7].detach().numpy())
    np.testing.assert_allclose(one.norms, [float(module[5].weight.detach()[7].norm())], rtol=1e-6)
    assert find_filters(module, "5", most=16).weights.shape == (4, 4, 3, 3)


@pytest.mark.parametrize("layer", [nn.Conv2d(4, 6, 3, groups=2), nn.ConvTranspose2d(4, 6, 3, groups=2)])
def test_filters_of_groups_see_the_channels_of_their_own(layer: nn.Conv2d | nn.ConvTranspose2d) -> None:
    bank = find_filters(layer)
    assert (bank.filters, bank.channels, bank.groups) == (6, 2, 2)
    impulse = torch.zeros(1, 4, 5, 5)
    impulse[0, 3, 2, 2] = 1  # what filters of the second group answer to its second channel
    with torch.no_grad():
        answers = (layer(impulse) - layer(torch.zeros_like(impulse)))[0]
    assert not answers[:3].any()
    kernel = answers[5, 2:5, 2:5] if isinstance(layer, nn.ConvTranspose2d) else answers[5].flip(0, 1)
    np.testing.assert_allclose(bank.weights[5, 1], kernel.numpy(), atol=1e-6)
    figure = filters_figure(bank, title="t")
    assert figure.axes[0].get_xlabel() == "input channel of the group"


@pytest.mark.parametrize(
    ("model", "shape", "names"),
    [("conv(4,5) relu fc(3)", (2, 30), 1), ("conv(4,3) relu fc(3)", (1, 6, 6, 6), 1), ("mlp(8)", (1, 6, 5), 1),
     ("local(4,3) relu conv(4,3)", (1, 9, 9), 1)],
)  # fmt: skip
def test_filters_of_signals_volumes_and_dense_layers(model: str, shape: tuple[int, ...], names: int) -> None:
    module = build_model(model, shape, 3 if "fc" in model or "mlp" in model else None)
    assert len(filter_layers(module, shape)) == names
    figure = filters_figure(find_filters(module, input_shape=shape), title="t")
    assert figure.axes[0].images


def test_what_is_not_there_is_told_with_what_is() -> None:
    module = network()
    with pytest.raises(UsageError, match=r"one of: 0, 5") as told:
        find_filters(module, "4")
    assert told.value.remedy == "--layer 0"
    with pytest.raises(UsageError, match="0 to 7"):
        find_filters(module, "5", unit=8)
    with pytest.raises(ModelError, match="no layer with kernels"):
        find_filters(nn.Linear(3, 2))
    with pytest.raises(UsageError, match="one of: 0, 1, 2"):
        feature_maps(module, inputs()[0], "nothing")
    with pytest.raises(ModelError, match="inputs that the network takes"):
        feature_maps(module, torch.zeros(1, 5, 5))
    with pytest.raises(DataError, match="a batch of 2 inputs"):
        feature_maps(module, inputs()[:2])


def test_maps_come_in_the_order_of_their_activity() -> None:
    module, x = network().eval(), inputs()[0]
    (layer,) = feature_maps(module, x, "6").layers
    np.testing.assert_array_equal(feature_maps(module, x[None], "6").layers[0].maps, layer.maps)
    with torch.no_grad():
        values = module[:7](x[None])[0].numpy()
    assert layer.shape == (8, 3, 3)
    np.testing.assert_allclose(layer.activity, np.abs(values).mean((1, 2)), rtol=1e-6)
    assert list(layer.units) == sorted(range(8), key=lambda k: -layer.activity[k])
    np.testing.assert_array_equal(layer.maps, values[list(layer.units)])
    assert layer.silent == int((np.abs(values).max((1, 2)) == 0).sum())


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("layer", [None, "0", "8"])
def test_the_figure_shows_each_layer(layer: str | None) -> None:
    image = np.zeros(SHAPE, np.uint8)
    figure = feature_maps_figure(feature_maps(network(), inputs()[0], layer), title="$t_1$", image=image)
    figure.canvas.draw()
    assert len(figure.axes) == (8 if layer is None else 2)  # flatten is not drawn


def test_features_are_what_the_last_layer_gets() -> None:
    module, x = network().eval(), inputs()
    found = find_features(module, x)
    with torch.no_grad():
        np.testing.assert_allclose(found.values, module[:8](x).numpy(), rtol=1e-6)
        maps = find_features(module, x, "5")
        np.testing.assert_allclose(maps.values, module[:6](x).mean((2, 3)).numpy(), rtol=1e-5)
    assert (found.source, maps.source) == ("inputs of 8", "outputs of 5, mean over 9 positions")
    table = nn.Linear(5, 2)
    np.testing.assert_array_equal(find_features(table, torch.eye(5)).values, np.eye(5))
