# %% Colored shapes with mixup and an exponential moving average of the weights
import copy

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from toydata import Shapes

torch.manual_seed(0)
rng = np.random.default_rng(0)
EPOCHS, BATCH, DECAY = 22, 50, 0.98

# %% data
normalize = lambda image: (image - 0.5) / 0.25


def augment(image):
    if torch.rand(()) < 0.5:
        image = image.flip(2)
    if torch.rand(()) < 0.5:
        image = image.flip(1)
    return normalize(image)


train_loader = DataLoader(Shapes(train=True, count=1500, transform=augment), BATCH, shuffle=True)
val_loader = DataLoader(Shapes(train=False, count=400, transform=normalize), 200)


# %% model
def block(cin, cout):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True))


model = nn.Sequential(
    block(3, 16),
    block(16, 24),
    nn.MaxPool2d(2),
    block(24, 48),
    nn.MaxPool2d(2),
    block(48, 64),
    nn.AdaptiveAvgPool2d(1),
    nn.Flatten(),
    nn.Linear(64, 6),
)
ema = copy.deepcopy(model).requires_grad_(False).eval()


@torch.no_grad()
def update_ema(step):
    decay = min(DECAY, (1 + step) / (10 + step))
    for average, current in zip(ema.parameters(), model.parameters()):
        average.lerp_(current, 1 - decay)
    for average, current in zip(ema.buffers(), model.buffers()):
        average.copy_(current)


def mixup(images, targets, alpha=0.2):
    share = rng.beta(alpha, alpha)
    order = torch.randperm(len(images))
    return share * images + (1 - share) * images[order], targets, targets[order], share


@torch.no_grad()
def accuracy(network):
    network.eval()
    hits = sum((network(x).argmax(1) == y).sum().item() for x, y in val_loader)
    return hits / len(val_loader.dataset)


# %% training
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.01)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * len(train_loader))
step = 0
for epoch in range(EPOCHS):
    model.train()
    running = 0.0
    for images, targets in train_loader:
        mixed, first, second, share = mixup(images, targets)
        output = model(mixed)
        loss = share * criterion(output, first) + (1 - share) * criterion(output, second)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        update_ema(step)
        step += 1
        running += loss.item()
    print(
        f"epoch {epoch + 1} mixup loss {running / len(train_loader):.3f} "
        f"accuracy {accuracy(model):.3f} ema {accuracy(ema):.3f}"
    )
