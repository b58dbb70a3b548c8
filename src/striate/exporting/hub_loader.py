"""Load the network of this folder: needs torch and safetensors, and nothing else.

from load import load
network, config = load()
outputs = network(images)    # (N, H, W, C) uint8 of any N, H and W; a tensor for each of config["outputs"]

Pictures are given upright, as their EXIF says, over white where they are transparent, and 16 bits as 8, divided by 257.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file


def load(folder: str | Path = Path(__file__).parent) -> tuple[torch.nn.Module, dict]:
    """The network, and what config.json says of it."""
    folder = Path(folder)
    program = torch.export.load(folder / "network.pt2")  # the operations; its weights are zeros
    weights = load_file(folder / "model.safetensors")
    for name, tensor in program.state_dict.items():
        tensor.data = weights[name.removeprefix("module.")]
    return program.module(), json.loads((folder / "config.json").read_text(encoding="utf-8"))
