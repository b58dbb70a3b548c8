"""Contrastive pretraining without labels, a linear probe on the frozen encoder, then all layers with graded rates."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import Shapes

torch.manual_seed(0)
torch.set_num_threads(1)
TEMPERATURE = 0.3


def load(train, count):
    shapes = Shapes(train=train, count=count)
    return (torch.stack(shapes.images) - 0.5) / 0.2, torch.tensor(shapes.targets)


def random_view(images):
    """Zoomed, moved, mirrored, brighter or darker and noisier: one draw for each image."""
    n = len(images)
    zoom = torch.empty(n).uniform_(0.85, 1.15)
    mirror = 1.0 - 2.0 * (torch.rand(n) < 0.5).float()
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = zoom * mirror, zoom
    theta[:, :, 2] = torch.empty(n, 2).uniform_(-0.2, 0.2)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return moved * torch.empty(n, 1, 1, 1).uniform_(0.85, 1.15) + 0.15 * torch.randn_like(moved)


def stage(inputs, outputs, pool):
    layers = [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, *([nn.MaxPool2d(2)] if pool else []))


class Encoder(nn.Sequential):
    def __init__(self):
        super().__init__(
            stage(3, 16, True), stage(16, 32, True), stage(32, 64, False), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )


def contrast(first, second):
    """NT-Xent: each view has to find the other view of its image among all others of the batch."""
    n = len(first)
    z = F.normalize(torch.cat([first, second]), dim=1)
    similarity = z @ z.T / TEMPERATURE
    similarity = similarity.masked_fill(torch.eye(2 * n, dtype=torch.bool), -1e9)
    partner = torch.cat([torch.arange(n) + n, torch.arange(n)])
    return F.cross_entropy(similarity, partner), (similarity.argmax(1) == partner).float().mean()


def pretrain(encoder, images, epochs=20):
    projector = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32))
    loader = DataLoader(TensorDataset(images), batch_size=64, shuffle=True, drop_last=True)
    optimizer = torch.optim.Adam([*encoder.parameters(), *projector.parameters()], lr=2e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs * len(loader))
    encoder.train()
    for epoch in range(epochs):
        losses, found = 0.0, 0.0
        for (batch,) in loader:
            loss, hits = contrast(projector(encoder(random_view(batch))), projector(encoder(random_view(batch))))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            losses += loss.item()
            found += hits.item()
        print(f"contrast {epoch + 1:2d}  loss {losses / len(loader):.3f}  partner found {found / len(loader):.3f}")


@torch.no_grad()
def accuracy(encoder, head, images, labels):
    encoder.eval()
    head.eval()
    return (head(encoder(images)).argmax(1) == labels).float().mean().item()


def make_fit(encoder, head, train_data, valid_data):
    loader = DataLoader(TensorDataset(*train_data), batch_size=64, shuffle=True, drop_last=True)

    def fit(title, optimizer, epochs, frozen):
        for epoch in range(epochs):
            encoder.train(not frozen)
            head.train()
            total = 0.0
            for images, labels in loader:
                if not frozen:
                    images = torch.where(torch.rand(len(images), 1, 1, 1) < 0.5, images.flip(-1), images)
                loss = F.cross_entropy(head(encoder(images)), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += loss.item()
            valid = accuracy(encoder, head, *valid_data)
            print(f"{title} {epoch + 1:2d}  loss {total / len(loader):.3f}  validation accuracy {valid:.3f}")

    return fit


images, labels = load(train=True, count=1800)
valid_data = load(train=False, count=300)
encoder, head = Encoder(), nn.Linear(64, 6)
pretrain(encoder, images)  # sees no labels

labelled = images[:900], labels[:900]
fit = make_fit(encoder, head, labelled, valid_data)

encoder.requires_grad_(False)
fit("probe", torch.optim.Adam(head.parameters(), lr=1e-2), epochs=15, frozen=True)

encoder.requires_grad_(True)
graded = [
    {"params": encoder[0].parameters(), "lr": 3e-4},
    {"params": encoder[1].parameters(), "lr": 6e-4},
    {"params": encoder[2].parameters(), "lr": 1e-3},
    {"params": head.parameters(), "lr": 2e-3},
]
fit("all layers", torch.optim.AdamW(graded, weight_decay=1e-3), epochs=25, frozen=False)
