"""Epochs of the lectures' network on Fashion-MNIST: striate beside plain torch, Keras, skorch and Lightning.

Command: STRIATE_DATA=… python benchmarks/fashion_epoch.py [--batch 128 512] [--repeats 5]

A turn is an epoch with data: 54,000 images of 28 × 28, shuffled, fp32 where the contender decides nothing else, AdamW,
dropout, no validation, no progress bar. Everyone has all images in memory before the clock runs. Once as they are, once
each shifted by up to 2 pixels. Peers as their users write them: plain torch with one sample at a time from a Dataset (2
workers) or from a TensorDataset (no workers; shifted images one at a time); Keras from arrays, compiled by its default,
shifted by RandomTranslation; skorch and Lightning from the same Datasets, without workers, as by default.
fastai is not among them: it needs torchvision, which does not import beside torch's CPU build. striate trains as
`striate train` does, its plan and files included.
"""

from __future__ import annotations

from typing import Any

from common.contender import Contender
from common.gate import Gate
from common.machine_rates import MATRIX_PRODUCTS, matrix_products  # noqa: F401 - contenders of this file
from common.measure import measure
from common.quick import quick_data
from common.results import arguments, best_ratio, case, claim, parsed, show, write_result
from common.striate_training import striate_contender, striate_training  # noqa: F401

MODEL, SHAPE = "mnist-cnn", (1, 28, 28)
BORDER = 2
RATE = 1e-3
TARGETS = {False: 2.5, True: 2.2}


def data(name: str) -> tuple[Any, Any]:
    """Training images (N, 1, 28, 28) uint8 and classes (N,), the same samples that striate trains on."""
    from striate.data.config import DataConfig
    from striate.data.read import load_dataset

    train = load_dataset(DataConfig(source=name)).splits["train"]
    return train.inputs, train.targets


def network() -> Any:
    """The lectures' network, as a module of plain torch."""
    from torch import nn

    return nn.Sequential(
        *(nn.Conv2d(1, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 24, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(384, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 10)),
    )


def samples(name: str, shifts: bool, *, ready: bool) -> Any:
    """A Dataset: `ready` holds standardized floats in memory, which cannot be shifted one by one."""
    from common.plain_torch import Samples, channel_statistics
    from torch.utils.data import TensorDataset

    x, y = data(name)
    mean, std = channel_statistics(x)
    if ready and not shifts:
        return TensorDataset((x.float() / 255 - mean[0]) / std[0], y)
    return Samples(x, y, mean, std, border=BORDER if shifts else 0)


def plain_torch(gate: Gate, name: str, batch: int, shifts: bool, workers: int) -> None:
    """The loop of the tutorials."""
    import torch
    from common.plain_torch import train_by_turns
    from torch.utils.data import DataLoader

    module = network()
    loader = DataLoader(samples(name, shifts, ready=not workers), batch, shuffle=True, num_workers=workers)
    train_by_turns(gate, module, loader, torch.optim.AdamW(module.parameters(), lr=RATE))


def keras_fit(gate: Gate, name: str, batch: int, shifts: bool) -> None:
    """`model.fit` from arrays in memory, with everything else as it is by default."""
    import keras
    from keras import layers

    x, y = (a.numpy() for a in data(name))
    inputs = (x.transpose(0, 2, 3, 1).astype("float32") / 255 - 0.2860) / 0.3530
    gate.say(backend=keras.backend.backend())
    shifting = [layers.RandomTranslation(BORDER / 28, BORDER / 28, fill_mode="constant")] if shifts else []
    model = keras.Sequential(
        [
            layers.Input((28, 28, 1)),
            *shifting,
            *(layers.Conv2D(16, 5, activation="relu"), layers.MaxPooling2D()),
            *(layers.Conv2D(24, 5, activation="relu"), layers.MaxPooling2D()),
            *(layers.Flatten(), layers.Dense(64, activation="relu"), layers.Dropout(0.5), layers.Dense(10)),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(RATE), loss, metrics=["accuracy"])

    class Turns(keras.callbacks.Callback):
        def on_epoch_begin(self, *_: Any) -> None:
            gate.begin()

        def on_epoch_end(self, *_: Any) -> None:
            gate.end(len(y))

    model.fit(inputs, y, batch_size=batch, epochs=1_000_000, verbose=0, callbacks=[Turns()])


def skorch_fit(gate: Gate, name: str, batch: int, shifts: bool) -> None:
    """`NeuralNetClassifier.fit` over the same Dataset, without a validation split."""
    import skorch
    import torch

    dataset = samples(name, shifts, ready=True)

    class Turns(skorch.callbacks.Callback):
        def on_epoch_begin(self, *_: Any, **__: Any) -> None:
            gate.begin()

        def on_epoch_end(self, *_: Any, **__: Any) -> None:
            gate.end(len(dataset))

    net = skorch.NeuralNetClassifier(
        network(),
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.AdamW,
        lr=RATE,
        batch_size=batch,
        max_epochs=1_000_000,
        train_split=None,
        iterator_train__shuffle=True,
        callbacks=[("turns", Turns())],
        verbose=0,
    )
    net.fit(dataset, None)


def lightning_fit(gate: Gate, name: str, batch: int, shifts: bool) -> None:
    """`Trainer.fit` over a DataLoader, without logs and checkpoints."""
    import lightning
    import torch
    from torch.utils.data import DataLoader

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = network()

        def training_step(self, batch: Any) -> Any:
            return torch.nn.functional.cross_entropy(self.network(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters(), lr=RATE)

    dataset = samples(name, shifts, ready=True)

    class Turns(lightning.Callback):
        def on_train_epoch_start(self, *_: Any) -> None:
            gate.begin()

        def on_train_epoch_end(self, *_: Any) -> None:
            gate.end(len(dataset))

    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=1_000_000,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Turns()],
    )
    trainer.fit(Module(), DataLoader(dataset, batch, shuffle=True))


def contenders(name: str, batch: int, shifts: bool, epochs: int) -> list[Contender]:
    """All of a case."""
    options = {"name": name, "batch": batch, "shifts": shifts}
    fields = {"model.name": MODEL, "batch": batch, "optim.name": "adamw", "optim.ema": 0.0}
    fields |= {"augment.flip": False, "augment.shift": BORDER if shifts else 0}
    return [
        striate_contender("striate", data=name, fields=fields, epochs=epochs),
        Contender("torch, DataLoader with 2 workers", "plain_torch", options | {"workers": 2}),
        Contender("torch, no workers", "plain_torch", options | {"workers": 0}),
        Contender("Keras on JAX", "keras_fit", options, {"KERAS_BACKEND": "jax"}),
        Contender("Keras on torch", "keras_fit", options, {"KERAS_BACKEND": "torch"}),
        Contender("skorch", "skorch_fit", options),
        Contender("Lightning", "lightning_fit", options),
        MATRIX_PRODUCTS,
    ]


def main() -> None:
    """Measure, print, write."""
    parser = arguments(__doc__, repeats=5)
    parser.add_argument("--batch", type=int, nargs="+", default=[128, 512])
    asked = parsed(parser)
    from striate.api import summarize

    macs = summarize(MODEL, SHAPE).macs
    with quick_data(SHAPE, asked.quick) as few:
        cases = measured_cases(few or "fashion-mnist", asked, macs)
    verdicts = judge_speed(cases) | judge_memory(cases)
    write_result(__file__, asked, cases, about=__doc__.split("\n\n")[2], claims=verdicts)


def measured_cases(name: str, asked: Any, macs: int) -> list[dict[str, Any]]:
    """A case for each batch size, without and with shifts."""
    cases = []
    for shifts in (False, True):
        for batch in asked.batch[:1] if asked.quick else asked.batch:
            how = f"shifted by up to {BORDER} pixels" if shifts else "as they are"
            taking_part = contenders(name, batch, shifts, max(12, asked.repeats + 1))
            found = measure(__file__, taking_part, repeats=asked.repeats, gently=asked.quick)
            options = {"batch": batch, "shifts": shifts}
            cases.append(case(f"batch {batch}, images {how}", found, macs=macs, options=options))
            print(show(cases[-1]), flush=True)
    return cases


def judge_speed(cases: list[dict[str, Any]]) -> dict[str, Any]:
    """striate over the best peer, where it is worst."""
    verdicts = {}
    for key, shifts in (("fashion-epoch", False), ("fashion-epoch-shifted", True)):
        ratio = best_ratio([found for found in cases if found["options"]["shifts"] == shifts])
        if ratio is not None:
            verdicts[key] = claim(f"{ratio:.2f}× the best peer", ratio >= TARGETS[shifts])
    return verdicts


def judge_memory(cases: list[dict[str, Any]]) -> dict[str, Any]:
    """The most memory that striate took in any case."""
    peaks = [row["peak_mib"] * 2**20 / 1e9 for found in cases for row in found["rows"] if row["ours"]]
    return {"fashion-memory": claim(f"{max(peaks):.2f} GB", max(peaks) < 1.2)} if peaks else {}


if __name__ == "__main__":
    main()
