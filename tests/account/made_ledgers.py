"""Ledgers made by hand: renderings are functions of the record, whoever filled it."""

from __future__ import annotations

from typing import Any

from striate.account.ledger import Ledger, Row


def made_row(name: str, kind: str = "conv", **fields: Any) -> Row:
    """A row with shapes of a small map where none are given, and bytes that follow from its shapes."""
    values: dict[str, Any] = {"in_shape": (3, 8, 8), "out_shape": (4, 8, 8)} | fields
    count = 1
    for side in values["out_shape"]:
        count *= side
    axes = len(values["out_shape"]) - 1
    defaults = {
        "trainable": values.get("params", 0),
        "receptive_field": (3,) * axes,
        "jump": (1,) * axes,
        "center": (0.0,) * axes,
        "leftover": (0,) * (len(values["in_shape"]) - 1),
        "weight_bytes": 4 * values.get("params", 0),
        "output_bytes": 4 * count,
        "saved_bytes": 4 * count,
    }
    return Row(name=name, kind=kind, **(defaults | values))


def made_ledger(*rows: Row, **fields: Any) -> Ledger:
    """A ledger of these rows whose totals are their sums."""
    params = sum(row.params for row in rows)
    values: dict[str, Any] = {
        "model": "made",
        "input": rows[0].in_shape,
        "output": rows[-1].out_shape,
        "params": params,
        "trainable": sum(row.trainable for row in rows),
        "macs": sum(row.macs for row in rows),
        "receptive_field": rows[-1].receptive_field,
        "jump": rows[-1].jump,
        "activation_bytes": sum(row.output_bytes for row in rows),
        "training_bytes": sum(row.saved_bytes for row in rows),
        "inference_bytes": max(row.output_bytes + row.input_bytes for row in rows),
        "weight_bytes": 4 * params,
        "optimizer_bytes": {"sgd": 8 * params, "momentum": 12 * params, "adam": 16 * params},
        "other_ops": {"relu": sum(row.other_ops for row in rows)},
        "uncounted": (),
    }
    return Ledger(rows=rows, **(values | fields))
