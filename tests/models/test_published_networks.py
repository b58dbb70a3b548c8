"""The networks that torchvision and timm have too: every tensor has their name and shape, in their order.

`published_networks.json` holds facts of torchvision 0.29 and timm 1.0.31: the number of parameters, of tensors in the
state_dict, SHA-256 (16 digits) of its lines "name shape", and multiply–accumulates at 224×224 (Inception-v3: 299×299).
"""

import hashlib
import json
from pathlib import Path

import pytest
import torch

from striate.account.summarize import count_macs, count_parameters
from striate.models.build import build_model
from striate.models.registry import MODELS

PUBLISHED = json.loads((Path(__file__).parent / "published_networks.json").read_text())


def test_every_network_with_weight_files_elsewhere_is_compared():
    listed = {info.name for info in MODELS.values() if info.weights}
    assert listed == {name.partition("(")[0] for name in PUBLISHED}


@pytest.mark.each_nth(6)
@pytest.mark.parametrize("name", PUBLISHED)
def test_names_shapes_and_counts(name):
    facts, info = PUBLISHED[name], MODELS[name.partition("(")[0]]
    with torch.device("meta"):
        network = build_model(name)
    lines = [f"{key} {tuple(tensor.shape)}" for key, tensor in network.state_dict().items()]
    assert count_parameters(network) == facts["params"]
    assert len(lines) == facts["tensors"]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16] == facts["digest"]
    assert count_macs(network, info.input_shape) == facts["macs"]
    if "(" not in name:
        assert (info.published_parameters, info.published_macs) == (facts["params"], facts["macs"])
