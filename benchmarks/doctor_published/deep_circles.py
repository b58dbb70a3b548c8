"""Which of two rings, by a deep and narrow network."""

import math

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def rings(count, seed):
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(0, 2, (count,), generator=generator)
    angle = 2 * math.pi * torch.rand(count, generator=generator)
    radius = 0.6 + 0.7 * label + 0.1 * torch.randn(count, generator=generator)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], 1), label


def deep_network(depth=8, width=24):
    layers = [nn.Linear(2, width), nn.ReLU()]
    for _ in range(depth - 2):
        layers += [nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, 2))


def start(module):
    if isinstance(module, nn.Linear):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.zeros_(module.bias)


class Trainer:
    def __init__(self, model, rate):
        self.model = model
        self.optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
        self.criterion = nn.CrossEntropyLoss()

    def epoch(self, loader):
        self.model.train()
        for points, ring in loader:
            self.optimizer.zero_grad(set_to_none=True)
            loss = self.criterion(self.model(points), ring)
            loss.backward()
            self.optimizer.step()
        return loss.item()

    @torch.no_grad()
    def test(self, loader):
        self.model.eval()
        return sum((self.model(points).argmax(1) == ring).sum().item() for points, ring in loader) / len(loader.dataset)


torch.manual_seed(5)
train_loader = DataLoader(TensorDataset(*rings(1600, 0)), batch_size=32, shuffle=True)
test_loader = DataLoader(TensorDataset(*rings(400, 1)), batch_size=200)
model = deep_network().apply(start)
trainer = Trainer(model, rate=0.01)
for number in range(8):
    loss = trainer.epoch(train_loader)
    print(f"{number}: loss {loss:.3f}, accuracy {trainer.test(test_loader):.3f}")
