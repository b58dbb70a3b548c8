"""States, rates, masks and metrics that scripts keep in code of their own: faults that were met, and healthy twins."""

from __future__ import annotations

import pytest
from test_source_checks import SCRIPT, found, values

from striate.doctor.checks.eval.batch_means import BATCH_MEANS


@pytest.mark.parametrize(("added", "wrong"), [("mean(1) / y", False), ("mean() / 2", True)])
def test_errors_of_each_sample_in_units_of_its_own(added: str, wrong: bool) -> None:
    text = SCRIPT.replace("correct += (predicted == y).sum().item()", f"errors.append(outputs.abs().{added})")
    text = text.replace("    accuracy = correct / total\n", "    accuracy = torch.stack(errors).mean().item()\n")
    assert list(found(text, values(), [BATCH_MEANS])) == ["eval.batch-means"] * wrong
