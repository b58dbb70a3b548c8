"""The networks before convolution: perceptron and its kin."""

from __future__ import annotations

from striate.models.model_info import ACTIVATIONS, ZOO, ModelInfo
from striate.models.words import MAX_NUMBER, Parameter

ENTRIES = (
    ModelInfo(
        name="perceptron",
        path=ZOO + "perceptron:perceptron",
        year=1958,
        description="one linear layer, the baseline that anything else has to beat",
        source="Rosenblatt, The perceptron, Psychological Review 65",
        input_shape=(1, 28, 28),
        outputs=10,
        published_parameters=7_850,
        published_macs=7_840,
    ),
    ModelInfo(
        name="mlp",
        path=ZOO + "mlp:mlp",
        year=1986,
        description="fully connected layers of the given sizes; for tables",
        source="Rumelhart et al., Learning representations by back-propagating errors, Nature 323",
        input_shape=(1, 28, 28),
        outputs=10,
        published_parameters=109_386,
        published_macs=109_184,
        parameters=(
            Parameter("sizes", "count", low=1, high=MAX_NUMBER, many=True),
            Parameter("activation", "choice", "relu", choices=ACTIVATIONS),
            Parameter("dropout", "number", 0.0, high=0.999),
        ),
    ),
)
