"""Keypoints: the centers of a disc and of a square, read from heat maps by a soft argmax (integral regression)."""

import math

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import shape_mask

SIZE = 24


def draw(count, seed):
    rng = torch.Generator().manual_seed(seed)
    images = torch.zeros(count, 1, SIZE, SIZE)
    points = torch.zeros(count, 2, 2)
    for i in range(count):
        while True:
            spots = torch.randint(0, SIZE - 7, (2, 2), generator=rng)
            if (spots[0] - spots[1]).abs().max() >= 8:
                break
        for k, kind in enumerate(("disc", "square")):
            top, left = spots[k].tolist()
            images[i, 0][shape_mask(kind, SIZE, top, left, 7)] = 1.0
            points[i, k] = torch.tensor([left + 3.5, top + 3.5])
        # a thin hole tells the square apart
        top, left = spots[1].tolist()
        images[i, 0, top + 3, left + 1 : left + 6] = 0.0
    images = images + 0.15 * torch.randn(images.shape, generator=rng)
    return (images - 0.15) / 0.38, points / SIZE * 2 - 1


class SoftArgmax(nn.Module):
    """Mean position, from -1 to 1, under the softmax of each map."""

    def forward(self, maps):
        b, k, h, w = maps.shape
        weights = maps.flatten(2).softmax(-1).view(b, k, h, w)
        xs = (torch.arange(w, device=maps.device) + 0.5) / w * 2 - 1
        ys = (torch.arange(h, device=maps.device) + 0.5) / h * 2 - 1
        x = (weights.sum(2) * xs).sum(-1)
        y = (weights.sum(3) * ys).sum(-1)
        return torch.stack([x, y], -1)


class KeypointNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.maps = nn.Sequential(
            nn.Conv2d(1, 16, 5, padding=2, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 24, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(24),
            nn.ReLU(),
            nn.Conv2d(24, 24, 3, padding=1, bias=False),
            nn.BatchNorm2d(24),
            nn.ReLU(),
            nn.Conv2d(24, 24, 3, padding=1, bias=False),
            nn.BatchNorm2d(24),
            nn.ReLU(),
            nn.Conv2d(24, 2, 1),
        )
        self.read = SoftArgmax()

    def forward(self, x):
        return self.read(self.maps(x))


class Trainer:
    def __init__(self, model, train_loader, val_loader, epochs, lr):
        self.model, self.train_loader, self.val_loader, self.epochs = model, train_loader, val_loader, epochs
        self.optimizer = torch.optim.Adam(model.parameters(), lr=lr)
        steps, warmup = epochs * len(train_loader), 40
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer,
            lambda step: (step + 1) / warmup
            if step < warmup
            else 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))),
        )
        self.criterion = nn.SmoothL1Loss(beta=0.05)

    def train_epoch(self):
        self.model.train()
        total = 0.0
        for images, points in self.train_loader:
            if torch.rand(()) < 0.5:  # mirror the whole batch, and its points
                images = images.flip(-1)
                points = points * torch.tensor([-1.0, 1.0])
            loss = self.criterion(self.model(images), points)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.scheduler.step()
            total += loss.item()
        return total / len(self.train_loader)

    @torch.no_grad()
    def validate(self):
        self.model.eval()
        distances = []
        for images, points in self.val_loader:
            distances.append((self.model(images) - points).norm(dim=-1) * SIZE / 2)
        distances = torch.cat(distances)
        return distances.mean().item(), (distances < 1.5).float().mean().item()

    def fit(self):
        for epoch in range(1, self.epochs + 1):
            loss = self.train_epoch()
            error, pck = self.validate()
            print(f"{epoch:2d}: loss {loss:.4f}, mean error {error:.2f} px, within 1.5 px {pck:.1%}")


if __name__ == "__main__":
    torch.manual_seed(0)
    train = DataLoader(TensorDataset(*draw(1200, 0)), batch_size=24, shuffle=True)
    val = DataLoader(TensorDataset(*draw(240, 1)), batch_size=80)
    Trainer(KeypointNet(), train, val, epochs=12, lr=4e-3).fit()
