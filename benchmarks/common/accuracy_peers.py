"""What tutorials train, for so many seconds of wall clock: peers in accuracy. One run a process, its result as JSON.

Command: STRIATE_DATA=… python benchmarks/common/accuracy_peers.py PEER DATA SECONDS SEED
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

STARTED = monotonic()
BATCH = 128


def splits(name: str) -> dict[str, tuple[Any, Any]]:
    """Training images, with the validation ones, and test images, (N, C, H, W) uint8 tensors, with classes (N,)."""
    import torch

    from striate.data.config import DataConfig
    from striate.data.read import load_dataset

    read = load_dataset(DataConfig(source=name)).splits
    train, val = read["train"], read["val"]
    x, y = torch.cat([train.inputs[:], val.inputs[:]]), torch.cat([train.targets, val.targets])
    return {"train": (x, y), "test": (read["test"].inputs[:], read["test"].targets)}


def torch_resnet18(name: str, deadline: float, seed: int) -> dict[str, Any]:
    """ResNet-18 for small images, SGD with momentum, crops and mirroring one sample at a time in 2 workers."""
    import striate

    return _torch(name, deadline, seed, lambda shape: striate.build("resnet18(stem=small)", shape, 10), sgd=True)


def torch_small_cnn(name: str, deadline: float, seed: int) -> dict[str, Any]:
    """The network of Keras' small image examples, Adam, without augmentation."""
    from torch import nn

    def build(shape: tuple[int, ...]) -> nn.Module:
        return nn.Sequential(
            *(nn.Conv2d(shape[0], 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Dropout(0.5), nn.LazyLinear(10)),
        )

    return _torch(name, deadline, seed, build, sgd=False)


def _torch(
    name: str, deadline: float, seed: int, build: Callable[[tuple[int, ...]], Any], *, sgd: bool
) -> dict[str, Any]:
    import torch
    from torch.utils.data import DataLoader

    sys.path.insert(0, str(Path(__file__).parents[1]))
    from common.plain_torch import Samples, channel_statistics

    torch.manual_seed(seed)
    data = splits(name)
    x, y = data["train"]
    statistics = channel_statistics(x)
    loader = DataLoader(
        Samples(x, y, *statistics, border=4 if sgd else 0, flip=sgd), BATCH, shuffle=True, num_workers=2
    )
    network = build(tuple(x.shape[1:]))
    network(torch.zeros(2, *x.shape[1:]))
    optimizer = (
        torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
        if sgd
        else torch.optim.Adam(network.parameters())
    )
    test = DataLoader(Samples(*data["test"], *statistics), 500, num_workers=2)
    seen, late = 0, deadline - 0.03 * (deadline - STARTED)  # the rest is for the test images
    while monotonic() < late:
        network.train()
        for images, classes in loader:
            loss = torch.nn.functional.cross_entropy(network(images), classes)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen += len(classes)
            if monotonic() > late:
                break
    network.eval()
    with torch.no_grad():
        right = sum(int((network(images).argmax(1) == classes).sum()) for images, classes in test)
    return {"accuracy": right / len(data["test"][1]), "epochs": seen / len(y)}


def keras_small_cnn(name: str, deadline: float, seed: int) -> dict[str, Any]:
    """The network of Keras' own example for small images, Adam, batches of 128, by `fit`."""
    import keras

    keras.utils.set_random_seed(seed)
    data = {part: (x.permute(0, 2, 3, 1).numpy() / 255, y.numpy()) for part, (x, y) in splits(name).items()}
    x, y = data["train"]
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input(x.shape[1:]),
            *(layers.Conv2D(32, 3, activation="relu"), layers.MaxPooling2D(2)),
            *(layers.Conv2D(64, 3, activation="relu"), layers.MaxPooling2D(2)),
            *(layers.Flatten(), layers.Dropout(0.5), layers.Dense(10, activation="softmax")),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    epochs, slowest = 0, 0.0
    while monotonic() + slowest < deadline:
        before = monotonic()
        model.fit(x, y, batch_size=BATCH, epochs=1, verbose=0)
        epochs, slowest = epochs + 1, max(slowest, monotonic() - before)
    return {"accuracy": float(model.evaluate(*data["test"], verbose=0)[1]), "epochs": epochs}


PEERS: dict[str, Callable[[str, float, int], dict[str, Any]]] = {
    "torch, resnet18": torch_resnet18,
    "torch, small CNN": torch_small_cnn,
    "Keras, small CNN": keras_small_cnn,
}


if __name__ == "__main__":
    peer, source, seconds, number = sys.argv[1:]
    print(json.dumps(PEERS[peer](source, STARTED + float(seconds), int(number))))
