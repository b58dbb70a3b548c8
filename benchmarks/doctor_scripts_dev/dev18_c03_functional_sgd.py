"""Stateless training of a 1-D convnet: torch.func + a hand-written Nesterov SGD, jax style."""
import math
from typing import NamedTuple

import torch
from torch import nn
from torch.func import functional_call, grad_and_value

from toydata import waves

torch.manual_seed(0)

EPOCHS = 15
BATCH = 64
PEAK_LR = 0.05
WEIGHT_DECAY = 1e-4


class WaveNet1d(nn.Module):
    def __init__(self, n_classes=4, width=32):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(1, width, 7, padding=3),
            nn.GroupNorm(4, width),
            nn.GELU(),
            nn.MaxPool1d(2),
            nn.Conv1d(width, width, 5, padding=2),
            nn.GroupNorm(4, width),
            nn.GELU(),
            nn.MaxPool1d(2),
            nn.Conv1d(width, 2 * width, 5, padding=2),
            nn.GroupNorm(4, 2 * width),
            nn.GELU(),
        )
        self.head = nn.Linear(2 * width, n_classes)

    def forward(self, x):
        return self.head(self.body(x).mean(-1))


class SGDState(NamedTuple):
    step: int
    velocity: dict


def sgd_init(params):
    return SGDState(0, {k: torch.zeros_like(v) for k, v in params.items()})


def sgd_update(params, grads, state, lr, momentum=0.9, weight_decay=0.0):
    new_params, velocity = {}, {}
    for name, p in params.items():
        g = grads[name]
        if p.ndim > 1:
            g = g + weight_decay * p
        v = momentum * state.velocity[name] + g
        velocity[name] = v
        new_params[name] = p - lr * (g + momentum * v)
    return new_params, SGDState(state.step + 1, velocity)


def schedule(step, total, warmup):
    if step < warmup:
        return PEAK_LR * (step + 1) / warmup
    return PEAK_LR * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


model = WaveNet1d()
params = {k: v.detach().clone() for k, v in model.named_parameters()}


def loss_fn(params, x, y):
    logits = functional_call(model, params, (x,))
    return nn.functional.cross_entropy(logits, y)


value_and_grad = grad_and_value(loss_fn)


@torch.no_grad()
def evaluate(params, x, y, chunk=256):
    loss, hits = 0.0, 0
    for xb, yb in zip(x.split(chunk), y.split(chunk)):
        logits = functional_call(model, params, (xb,))
        loss += nn.functional.cross_entropy(logits, yb, reduction="sum").item()
        hits += (logits.argmax(-1) == yb).sum().item()
    return loss / len(y), hits / len(y)


def main():
    global params
    x_train, y_train = waves(count=2000, seed=0)
    x_val, y_val = waves(count=500, seed=1)

    steps_per_epoch = len(x_train) // BATCH
    total = EPOCHS * steps_per_epoch
    state = sgd_init(params)

    for epoch in range(EPOCHS):
        model.train()
        order = torch.randperm(len(x_train))
        running = 0.0
        for i in range(steps_per_epoch):
            idx = order[i * BATCH : (i + 1) * BATCH]
            grads, loss = value_and_grad(params, x_train[idx], y_train[idx])
            lr = schedule(state.step, total, warmup=steps_per_epoch)
            params, state = sgd_update(params, grads, state, lr, weight_decay=WEIGHT_DECAY)
            running += loss.item()

        model.eval()
        val_loss, val_acc = evaluate(params, x_val, y_val)
        print(
            f"[{epoch + 1:02d}/{EPOCHS}] train loss {running / steps_per_epoch:.4f} "
            f"val loss {val_loss:.4f} val acc {val_acc:.3f} lr {lr:.4f}"
        )

    model.load_state_dict(params)
    with torch.no_grad():
        final = (model(x_val).argmax(-1) == y_val).float().mean().item()
    print(f"final accuracy of the loaded module: {final:.3f}")


if __name__ == "__main__":
    main()
