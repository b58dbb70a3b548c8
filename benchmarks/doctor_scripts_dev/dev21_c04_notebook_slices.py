# %% [markdown]
# # Digits with nothing but tensors
# No Dataset, no DataLoader, no torch.optim: batches are slices, momentum is written out.

# %%
import time

import torch
import torch.nn.functional as F
from torch import nn

from toydata import draw_digits

torch.manual_seed(42)

# %%
x_train, y_train = draw_digits(4000, seed=0)
x_valid, y_valid = draw_digits(800, seed=1)

x_train, x_valid = x_train.float().div_(255), x_valid.float().div_(255)
mean, std = x_train.mean(), x_train.std()
x_train, x_valid = (x_train - mean) / std, (x_valid - mean) / std
n, bs = len(x_train), 64
print(x_train.shape, x_train.mean().item(), x_train.std().item(), y_train[:10].tolist())

# %%
model = nn.Sequential(
    nn.Conv2d(1, 24, 5, padding=2),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Conv2d(24, 48, 3, padding=1),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Flatten(),
    nn.Linear(48 * 4 * 4, 128),
    nn.ReLU(),
    nn.Linear(128, 10),
    nn.LogSoftmax(dim=1),
)
params = list(model.parameters())
velocity = [torch.zeros_like(p) for p in params]
print(sum(p.numel() for p in params), "parameters")

# %%
epochs = 16
max_lr, momentum, decay = 0.03, 0.9, 1e-4
steps = epochs * ((n + bs - 1) // bs)


def lr_at(step):
    """A triangle: up for a tenth of the way, then down."""
    top = steps // 10
    return max_lr * (step + 1) / top if step < top else max_lr * (steps - step) / (steps - top)


def sgd(lr):
    with torch.no_grad():
        for p, v in zip(params, velocity):
            v.mul_(momentum).add_(p.grad + decay * p)
            p.sub_(lr * v)
            p.grad = None


def accuracy(log_probs, targets):
    return (log_probs.argmax(1) == targets).float().mean().item()


# %%
step, history = 0, []
start = time.time()
for epoch in range(epochs):
    order = torch.randperm(n)
    x_shuffled, y_shuffled = x_train[order], y_train[order]
    train_loss = 0.0
    for begin in range(0, n, bs):
        xb, yb = x_shuffled[begin : begin + bs], y_shuffled[begin : begin + bs]
        loss = F.nll_loss(model(xb), yb)
        loss.backward()
        sgd(lr_at(step))
        step += 1
        train_loss += loss.item() * len(xb)

    with torch.no_grad():
        log_probs = torch.cat([model(x_valid[i : i + 200]) for i in range(0, len(x_valid), 200)])
        valid_loss = F.nll_loss(log_probs, y_valid).item()
        valid_acc = accuracy(log_probs, y_valid)
    history.append((train_loss / n, valid_loss, valid_acc))
    print(f"{epoch:3d}  train {train_loss / n:.4f}  valid {valid_loss:.4f}  accuracy {valid_acc:.4f}")

print(f"{time.time() - start:.1f} s, {step} steps")

# %%
# The digits that are taken for another one most often.
mistakes = {}
for target, guess in zip(y_valid.tolist(), log_probs.argmax(1).tolist()):
    if target != guess:
        mistakes[target, guess] = mistakes.get((target, guess), 0) + 1
for (target, guess), times in sorted(mistakes.items(), key=lambda item: -item[1])[:5]:
    print(f"{target} taken for {guess}: {times}")
