"""Healthy setups of other tasks, and of designs that look like faults: pairs, codes that are drawn, two players, a
sampler with weights, pooling over everything."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

from planted.case import Case, healthy
from planted.parts import batches, channels_first, digits, mlp, mnist, photos, plain


class VAE(nn.Module):
    """As in pytorch/examples: the code is drawn in evaluation mode too."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(784, 200)
        self.fc21 = nn.Linear(200, 20)
        self.fc22 = nn.Linear(200, 20)
        self.fc3 = nn.Linear(20, 200)
        self.fc4 = nn.Linear(200, 784)

    def reparameterize(self, mu: Tensor, logvar: Tensor) -> Tensor:
        std = torch.exp(0.5 * logvar)
        eps = torch.randn_like(std)
        return mu + eps * std

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = F.relu(self.fc1(x.view(-1, 784)))
        mu, logvar = self.fc21(h), self.fc22(h)
        z = self.reparameterize(mu, logvar)
        return torch.sigmoid(self.fc4(F.relu(self.fc3(z)))), mu, logvar


@healthy
def a_variational_autoencoder(seed: int) -> Case:
    torch.manual_seed(seed)
    data = mnist(seed)
    model = VAE()

    def train_step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _loss: Any) -> Tensor:
        images, _ = batch
        optimizer.zero_grad()
        recon, mu, logvar = model(images)
        bce = F.binary_cross_entropy(recon, images.view(-1, 784), reduction="sum")
        kld = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
        loss = bce + kld
        loss.backward()
        optimizer.step()
        return loss

    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    x, x_val = data.x.float() / 255, data.x_val.float() / 255
    return Case(model, batches(x, data.y, 100, seed), plain(x_val, data.y_val), optimizer=optimizer, step=train_step)


@healthy
def an_adversarial_pair(seed: int) -> Case:
    torch.manual_seed(seed)
    data = digits(seed, scaled=False)
    x = (data.x / 8 - 1).flatten(1)

    class GAN(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.G = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.Tanh())
            self.D = nn.Sequential(nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1))

        def forward(self, z: Tensor) -> Tensor:
            return self.G(z)

    model = GAN()
    criterion = nn.BCEWithLogitsLoss()
    other = torch.optim.Adam(model.D.parameters(), lr=2e-4, betas=(0.5, 0.999))

    def train_step(model: Any, batch: Any, optimizer: torch.optim.Optimizer, _loss: Any) -> Tensor:
        real = batch[0]
        ones, zeros = torch.ones(len(real), 1), torch.zeros(len(real), 1)
        fake = model(torch.randn(len(real), 16))
        other.zero_grad()
        d_loss = criterion(model.D(real), ones) + criterion(model.D(fake.detach()), zeros)
        d_loss.backward()
        other.step()
        optimizer.zero_grad()
        g_loss = criterion(model.D(fake), ones)
        g_loss.backward()
        optimizer.step()
        return g_loss

    optimizer = torch.optim.Adam(model.G.parameters(), lr=2e-4, betas=(0.5, 0.999))
    return Case(model, batches(x, data.y, 64, seed), optimizer=optimizer, step=train_step)


class ContrastiveLoss(nn.Module):
    def __init__(self, margin: float = 1.0) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, output1: Tensor, output2: Tensor, label: Tensor) -> Tensor:
        distance = F.pairwise_distance(output1, output2)
        near, far = distance.pow(2), torch.clamp(self.margin - distance, min=0.0).pow(2)
        return torch.mean(label * near + (1 - label) * far)


@healthy
def a_siamese_network(seed: int) -> Case:
    torch.manual_seed(seed)
    data = digits(seed)
    order = torch.randperm(len(data.x))
    same = (data.y == data.y[order]).float()
    few = torch.cat([same.nonzero()[:, 0], (same == 0).nonzero()[: int(same.sum()), 0]])
    first = torch.arange(len(data.x))

    class Siamese(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = mlp(64, 64, 16)

        def forward(self, x1: Tensor, x2: Tensor) -> tuple[Tensor, Tensor]:
            return self.body(x1), self.body(x2)

    model, criterion = Siamese(), ContrastiveLoss()

    def train_step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, criterion: Any) -> Tensor:
        x1, x2, label = batch
        optimizer.zero_grad()
        loss = criterion(*model(x1, x2), label)
        loss.backward()
        optimizer.step()
        return loss

    pairs = TensorDataset(data.x[first[few]], data.x[order[few]], same[few])
    loader = DataLoader(pairs, batch_size=32, shuffle=True)
    return Case(model, loader, None, criterion, torch.optim.Adam(model.parameters(), lr=1e-3), train_step)


@healthy
def supervised_contrast(seed: int) -> Case:
    torch.manual_seed(seed)
    data = digits(seed)
    model = mlp(64, 128, 32)

    def criterion(features: Tensor, labels: Tensor) -> Tensor:
        z = F.normalize(features, dim=1)
        logits = z @ z.T / 0.1
        eye = torch.eye(len(z), dtype=torch.bool)
        logits = logits.masked_fill(eye, -1e9)
        same = (labels[:, None] == labels[None, :]) & ~eye
        log_prob = logits - logits.logsumexp(1, keepdim=True)
        return -(log_prob * same).sum(1).div(same.sum(1).clamp_min(1)).mean()

    def train_step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, criterion: Any) -> Tensor:
        optimizer.zero_grad()
        loss = criterion(model(batch[0]), batch[1])
        loss.backward()
        optimizer.step()
        return loss

    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    return Case(
        model, batches(data.x, data.y, 64, seed), plain(data.x_val, data.y_val), criterion, optimizer, train_step
    )


@healthy
def a_sampler_with_weights(seed: int) -> Case:
    torch.manual_seed(seed)
    data = mnist(seed, 900, 400)
    rare = data.y % 3 == 0
    kept = (~rare | (torch.rand(len(data.y)) < 0.15)).nonzero()[:, 0]
    x, y = data.x[kept].float() / 128 - 1, (data.y[kept] % 3 == 0).long()
    weights = 1 / torch.bincount(y)[y].double()
    loader = DataLoader(TensorDataset(x, y), batch_size=32, sampler=WeightedRandomSampler(weights, len(y)))
    model = nn.Sequential(
        *(nn.Conv2d(1, 16, 5, stride=2), nn.ReLU(), nn.Conv2d(16, 32, 5, stride=2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 2)),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    x_val, y_val = data.x_val.float() / 128 - 1, (data.y_val % 3 == 0).long()
    return Case(model, loader, plain(x_val, y_val), nn.CrossEntropyLoss(), optimizer)


@healthy
def pooling_over_everything(seed: int) -> Case:
    torch.manual_seed(seed)
    data = photos(seed, size=32)
    model = nn.Sequential(
        *(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 5)),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    x, x_val = channels_first(data.x), channels_first(data.x_val)
    return Case(model, batches(x, data.y, 32, seed), plain(x_val, data.y_val), nn.CrossEntropyLoss(), optimizer)
