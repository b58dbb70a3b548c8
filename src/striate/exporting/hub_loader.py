"""Load the network of this folder: needs torch, and nothing else.

from load import load
network, config = load()
outputs = network(images)    # (N, H, W, C) uint8 of any N, H and W; a tensor for each of config["outputs"]

Pictures are given upright, as their EXIF says, over white where they are transparent, and 16 bits as 8, divided by 257.
"""

import json
from pathlib import Path

import torch

TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "BOOL": torch.bool}
TYPES |= {"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8}


def load(folder: str | Path = Path(__file__).parent) -> tuple[torch.nn.Module, dict]:
    """The network, and what config.json says of it."""
    folder = Path(folder)
    program = torch.export.load(folder / "network.pt2")  # the operations; its weights are zeros
    weights = read_safetensors(folder / "model.safetensors")
    for name, tensor in program.state_dict.items():
        tensor.data = weights[name.removeprefix("module.")]
    return program.module(), json.loads((folder / "config.json").read_text(encoding="utf-8"))


def read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file: the length of a JSON header, the header, and the bytes of one tensor after the other."""
    content = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            first, last = (start + place for place in entry["data_offsets"])
            dtype = TYPES[entry["dtype"]]
            part = content[first:last]
            flat = torch.frombuffer(part, dtype=dtype) if part else torch.empty(0, dtype=dtype)
            tensors[name] = flat.reshape(entry["shape"])
    return tensors
