"""The first networks: perceptron and its kin, the Neocognitron, and the multi-layer perceptron."""

from __future__ import annotations

from striate.models.layer_strings.words import MAX_NUMBER, Parameter
from striate.models.model_info import ACTIVATIONS, ZOO, ModelInfo

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
        own_rule=True,
    ),
    ModelInfo(
        name="adaline",
        path=ZOO + "adaline:adaline",
        year=1960,
        description="one linear layer; its own rule is least mean squares (--optim.name own-rule)",
        source="Widrow and Hoff, Adaptive switching circuits, IRE WESCON",
        input_shape=(1, 28, 28),
        outputs=10,
        published_parameters=7_850,
        published_macs=7_840,
        own_rule=True,
    ),
    ModelInfo(
        name="madaline",
        path=ZOO + "madaline:madaline",
        year=1962,
        description="two layers with hard thresholds, or committees that vote; learns by Madaline rules II and I",
        source="Widrow, Generalization and information storage in networks of Adaline neurons; Winter and Widrow, 1988",
        input_shape=(1, 28, 28),
        outputs=10,
        published_parameters=318_010,
        published_macs=317_600,
        parameters=(
            Parameter("units", "count", 400, low=1, high=MAX_NUMBER),
            Parameter("logic", "choice", "adaptive", choices=("adaptive", "majority")),
        ),
        own_rule=True,
    ),
    ModelInfo(
        name="neocognitron",
        path=ZOO + "neocognitron:neocognitron",
        year=1980,
        description="the first convolutional network: S- and C-cells that learn by competition, without gradients",
        source="Fukushima, Neocognitron, Biological Cybernetics 36; last layer: Neurocomputing 51, 2003",
        input_shape=(1, 28, 28),
        outputs=10,
        published_parameters=798_148,
        published_macs=4_195_184,
        parameters=(
            Parameter("first", "count", 16, low=1, high=4096),
            Parameter("second", "count", 32, low=1, high=4096),
            Parameter("planes", "count", 50, low=1, high=4096),
        ),
        own_rule=True,
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
