"""What `striate train mnist5k --model "conv(16,5) relu pool(2) conv(24,5) relu pool(2) fc(64) relu fc(10)" --epochs 2
--augment.shift 0 --plan plain` does, written in plain torch: same batches, same start, the same bits at the end."""

import math

import torch
from torch import nn
from torch.nn import functional

import striate
from striate.data.config import DataConfig
from striate.data.loader import epoch_order
from striate.data.read import load_dataset

NETWORK = "conv(16,5) relu pool(2) conv(24,5) relu pool(2) fc(64) relu fc(10)"
EPOCHS, BATCH, PEAK, DECAY, SEED = 2, 64, 0.003, 0.02, 0


def train_plainly() -> nn.Module:
    """The trained network."""
    train = load_dataset(DataConfig("mnist5k")).splits["train"]
    x, y = train.inputs.float(), train.targets
    mean, scale = x.double().mean().float(), (1 / x.double().std(correction=0)).float()
    x = (x - mean) * scale

    torch.manual_seed(SEED)
    start = striate.build(NETWORK, (1, 28, 28), 10)
    network = nn.Sequential(
        *(nn.Conv2d(1, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 24, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(384, 64), nn.ReLU(), nn.Linear(64, 10)),
    )
    network.load_state_dict(dict(zip(network.state_dict(), start.state_dict().values(), strict=True)))

    kernels, biases = ([p for p in network.parameters() if (p.ndim > 1) == many] for many in (True, False))
    groups = [{"params": kernels, "weight_decay": DECAY}, {"params": biases, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=PEAK, fused=True)
    steps = EPOCHS * math.ceil(len(x) / BATCH)
    for step in range(steps):
        epoch, k = divmod(step, steps // EPOCHS)
        rows = epoch_order(len(x), SEED, epoch)[k * BATCH : (k + 1) * BATCH]
        progress, warmup = step / (steps - 1), 0.2
        if progress < warmup:
            factor = 0.04 + 0.96 * (1 - math.cos(math.pi * progress / warmup)) / 2
        else:
            factor = 0.001 + 0.999 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup))) / 2
        for group in optimizer.param_groups:
            group["lr"] = PEAK * factor
        loss = functional.cross_entropy(network(x[rows].float()), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network


if __name__ == "__main__":
    trained = train_plainly()
    print(f"{sum(p.numel() for p in trained.parameters()):,} parameters, trained")
