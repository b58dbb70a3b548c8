"""A folder for model hubs: weights, their description, a model card, and a loader that needs only torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from shutil import copymode
from typing import Any, ClassVar

import torch

from striate.exporting.export_format import ExportFormat, Runner
from striate.exporting.model_card import input_shape_text, input_text, model_card
from striate.exporting.torch_format import program_runner, save_program
from striate.exporting.traceable import Traceable
from striate.exporting.tracing import quiet_exporter, traced_program
from striate.layers.suppression import by_rounds


class HubFormat(ExportFormat):
    """`model.safetensors`, `network.pt2`, `config.json`, `README.md`, `load.py`."""

    name: ClassVar[str] = "hub"
    what: ClassVar[str] = "a folder with weights, model card and loader"
    exports_players: ClassVar[bool] = False

    def write(self, network: Traceable, facts: Mapping[str, Any], place: Path) -> None:
        """The weights have the names of the network's own state_dict; the program has the operations alone."""
        from safetensors.torch import save_file

        place.mkdir()
        with by_rounds():
            program = traced_program(network)
        with quiet_exporter():
            # Copies: layers may share weights, which the format does not support.
            weights = {
                name.removeprefix("module."): tensor.detach().clone().contiguous()
                for name, tensor in program.state_dict.items()
            }
            save_file(weights, place / "model.safetensors", metadata={"format": "pt"})
            for tensor in program.state_dict.values():
                tensor.data = torch.zeros((), dtype=tensor.dtype).expand(tensor.shape)
            save_program(program, place / "network.pt2")
        config = {key: value for key, value in facts.items() if key != "card"}
        (place / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        copymode(place / "config.json", place / "model.safetensors")  # its library keeps it from all other users
        (place / "README.md").write_text(model_card(facts), encoding="utf-8")
        loader = files("striate.exporting").joinpath("hub_loader.py").read_text(encoding="utf-8")
        (place / "load.py").write_text(_for_input(loader, facts), encoding="utf-8")

    def runners(self, place: Path) -> dict[str, Runner]:
        """torch, with the operations of the loader."""
        from safetensors.torch import load_file

        with quiet_exporter():
            program = torch.export.load(place / "network.pt2")
            weights = load_file(place / "model.safetensors")
            for name, tensor in program.state_dict.items():
                tensor.data = weights[name.removeprefix("module.")]
            return {"torch.export": program_runner(program)}


def _for_input(loader: str, facts: Mapping[str, Any]) -> str:
    """The loader, with the network's input in its first lines, which are written for pictures."""
    if facts["input"]["name"] == "image":
        return loader
    begin, end = loader.index("outputs = network(images)"), loader.index('"""', 3)
    use = f'outputs = network(inputs)    # {input_shape_text(facts)}; a tensor for each of config["outputs"]'
    return f"{loader[:begin]}{use}\n\nInputs: {input_text(facts)}.\n{loader[end:]}"
