"""Met in taggers of padded sentences and in networks of all nodes of a graph."""

from __future__ import annotations

import pytest
import torch
from test_met_in_graphs_and_mosaics import Graph
from test_source_checks import found, values

from striate.doctor.checks.eval.modes import MODE

OF_ALL_NODES = """
class Graph(torch.nn.Module):
    def forward(self, x):
        return torch.nn.functional.dropout(self.lin(x.flatten(1)), 0.5, training=self.training)

def train(epoch):
    model.train()
    for x, y in loader:
        output = model(x)
    if not fast:
        model.eval()
        with torch.no_grad():
            output = model(nodes)
    loss_val = loss_fn(output[idx_val], labels[idx_val])

def test():
    model.eval()
    return model(nodes)[idx_test]

for epoch in range(5):
    train(epoch)
test()
"""


@pytest.mark.parametrize("switched", ["before", "never", "elsewhere"])
def test_a_function_that_trains_and_validates_switches_modes_though_another_does(switched: str) -> None:
    text = OF_ALL_NODES if switched == "before" else OF_ALL_NODES.replace("        model.eval()\n", "", 1)
    if switched == "elsewhere":  # who calls it has the mode, and nothing here puts the network into another
        text = text.replace("    model.train()\n", "")
    names = values() | {"model": Graph()}
    names["optimizer"] = torch.optim.SGD(names["model"].parameters(), lr=0.1)
    assert list(found(text, names, [MODE])) == ["eval.mode"] * (switched == "never")
