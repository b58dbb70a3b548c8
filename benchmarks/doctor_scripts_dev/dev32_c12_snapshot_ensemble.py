# Snapshot ensemble: one run of SGD with warm restarts, one snapshot at the end of each cycle
import copy

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts
from torch.utils.data import DataLoader, random_split

from toydata import Shapes

torch.manual_seed(2)
CYCLES, CYCLE = 4, 7

full = Shapes(train=True, count=1500)
train_part, val_part = random_split(full, [1300, 200], generator=torch.Generator().manual_seed(0))
test_set = Shapes(train=False, count=300)
train_loader = DataLoader(train_part, batch_size=32, shuffle=True, drop_last=True)
val_loader = DataLoader(val_part, batch_size=200)
test_loader = DataLoader(test_set, batch_size=300)

pixels = torch.stack([full[i][0] for i in train_part.indices])
mean, std = pixels.mean((0, 2, 3), keepdim=True), pixels.std((0, 2, 3), keepdim=True)


class Normalized(nn.Module):
    """Normalization is a part of the network: loaders yield raw images."""

    def __init__(self, body):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.body = body

    def forward(self, x):
        return self.body((x - self.mean) / self.std)


model = Normalized(
    nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 48, 3, stride=2, padding=1), nn.BatchNorm2d(48), nn.ReLU(),
        nn.Flatten(), nn.Dropout(0.3), nn.Linear(48 * 16, 6),
    )
)  # fmt: skip
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
scheduler = CosineAnnealingWarmRestarts(optimizer, T_0=CYCLE)


def predict(networks, loader):
    shares, labels = [], []
    with torch.no_grad():
        for x, y in loader:
            shares.append(torch.stack([F.softmax(network.eval()(x), dim=1) for network in networks]).mean(0))
            labels.append(y)
    return torch.cat(shares), torch.cat(labels)


def accuracy(networks, loader):
    shares, labels = predict(networks, loader)
    return (shares.argmax(dim=1) == labels).float().mean().item()


snapshots = []
for epoch in range(CYCLES * CYCLE):
    model.train()
    losses = 0.0
    for i, (x, y) in enumerate(train_loader):
        if torch.rand(1) < 0.5:
            x = x.flip(3)
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step(epoch + (i + 1) / len(train_loader))
        losses += loss.item()
    print(f"epoch {epoch + 1} loss {losses / len(train_loader):.4f} val accuracy {accuracy([model], val_loader):.3f}")
    if (epoch + 1) % CYCLE == 0:
        snapshots.append(copy.deepcopy(model))

for number, snapshot in enumerate(snapshots, 1):
    print(f"snapshot {number}: test accuracy {accuracy([snapshot], test_loader):.3f}")
print(f"ensemble of {len(snapshots)}: test accuracy {accuracy(snapshots, test_loader):.3f}")
