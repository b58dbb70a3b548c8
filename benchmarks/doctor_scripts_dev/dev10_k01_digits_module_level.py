"""Digit recognition, a plain script: everything at module level, tensors shuffled by hand, OneCycle, label smoothing."""

import math
import time

import torch
import torch.nn.functional as F
from torch import nn

from toydata import draw_digits

torch.manual_seed(1234)
device = "cuda" if torch.cuda.is_available() else "cpu"

# ---------------------------------------------------------------- settings
batch_size = 100
n_epochs = 8
max_lr = 4e-3
smoothing = 0.05

# ---------------------------------------------------------------- data
x_train, y_train = draw_digits(4000, seed=101)
x_val, y_val = draw_digits(600, seed=102)
x_test, y_test = draw_digits(600, seed=103)

mean = x_train.float().div(255).mean().item()
std = x_train.float().div(255).std().item()


def prepare(images):
    return ((images.float() / 255 - mean) / std).to(device)


x_train, x_val, x_test = prepare(x_train), prepare(x_val), prepare(x_test)
y_train, y_val, y_test = y_train.to(device), y_val.to(device), y_test.to(device)

# ---------------------------------------------------------------- network
net = nn.Sequential(
    nn.Conv2d(1, 24, 3, padding=1, bias=False),
    nn.BatchNorm2d(24),
    nn.ReLU(inplace=True),
    nn.Conv2d(24, 48, 3, padding=1, stride=2, bias=False),
    nn.BatchNorm2d(48),
    nn.ReLU(inplace=True),
    nn.Conv2d(48, 64, 3, padding=1, stride=2, bias=False),
    nn.BatchNorm2d(64),
    nn.ReLU(inplace=True),
    nn.Flatten(),
    nn.Dropout(0.2),
    nn.Linear(64 * 4 * 4, 10),
).to(device)
print(f"{sum(p.numel() for p in net.parameters())} parameters")

steps_per_epoch = math.ceil(len(x_train) / batch_size)
optimizer = torch.optim.AdamW(net.parameters(), lr=max_lr, weight_decay=1e-2)
scheduler = torch.optim.lr_scheduler.OneCycleLR(
    optimizer, max_lr=max_lr, epochs=n_epochs, steps_per_epoch=steps_per_epoch, pct_start=0.25
)
criterion = nn.CrossEntropyLoss(label_smoothing=smoothing)


@torch.no_grad()
def measure(x, y):
    net.eval()
    hits, total_loss = 0, 0.0
    for start in range(0, len(x), 200):
        logits = net(x[start : start + 200])
        target = y[start : start + 200]
        total_loss += F.cross_entropy(logits, target, reduction="sum").item()
        hits += (logits.argmax(1) == target).sum().item()
    return total_loss / len(x), hits / len(x)


# ---------------------------------------------------------------- loop
for epoch in range(1, n_epochs + 1):
    began = time.time()
    net.train()
    running = torch.zeros((), device=device)
    permutation = torch.randperm(len(x_train), device=device)
    for indices in permutation.split(batch_size):
        loss = criterion(net(x_train[indices]), y_train[indices])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        scheduler.step()
        running += loss.detach() * len(indices)
    val_loss, val_accuracy = measure(x_val, y_val)
    print(
        f"epoch {epoch}/{n_epochs}  train {running.item() / len(x_train):.4f}  "
        f"val {val_loss:.4f}  accuracy {val_accuracy:.4f}  ({time.time() - began:.1f} s)"
    )

test_loss, test_accuracy = measure(x_test, y_test)
print(f"test loss {test_loss:.4f}, test accuracy {test_accuracy:.4f}")
