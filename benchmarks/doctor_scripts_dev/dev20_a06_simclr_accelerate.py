#!/usr/bin/env python
"""SimCLR on digits without labels, then a linear probe with 300 labels. Uses Hugging Face Accelerate.

The encoder is trained to recognize two augmented views of an image among those of a batch; kNN accuracy is printed
along the way, and at the end a linear classifier is trained on the frozen features.
"""

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits

config = {
    "unlabeled": 2560,
    "labeled": 300,
    "batch_size": 64,
    "epochs": 14,
    "lr": 2e-3,
    "weight_decay": 1e-4,
    "temperature": 0.2,
    "probe_epochs": 30,
    "probe_lr": 1e-2,
    "seed": 17,
}


class Encoder(nn.Module):
    def __init__(self, width=24):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(2 * width, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU(),
        )  # fmt: skip

    def forward(self, images):
        return self.layers(images).mean(dim=(2, 3))


class SimCLR(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = Encoder()
        self.projector = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32))

    def forward(self, images):
        features = self.encoder(images)
        return F.normalize(self.projector(features), dim=1)


def normalize(images):
    return (images - 0.2) / 0.3


def augment(images):
    """Moves, dims, and adds noise to each image of a batch, and cuts a hole of 4 x 4 into it."""
    count, _, height, width = images.shape
    padded = F.pad(images, (2, 2, 2, 2))
    down, right = torch.randint(0, 5, (2, count, 1))
    rows = (down + torch.arange(height))[:, :, None]
    columns = (right + torch.arange(width))[:, None, :]
    images = padded[torch.arange(count)[:, None, None], 0, rows, columns].unsqueeze(1)
    images = images * (0.6 + 0.6 * torch.rand(count, 1, 1, 1))
    images = images + 0.1 * torch.randn_like(images)
    top, left = torch.randint(0, height - 3, (2, count, 1))
    y, x = torch.arange(height), torch.arange(width)
    hole = ((y >= top) & (y < top + 4))[:, :, None] & ((x >= left) & (x < left + 4))[:, None, :]
    images = images * (~hole).unsqueeze(1)
    return images


def nt_xent(first, second, temperature):
    """Cross entropy that names each view's partner among all other views of the batch."""
    count = len(first)
    views = torch.cat([first, second])
    similarity = views @ views.T / temperature
    similarity = similarity.masked_fill(torch.eye(2 * count, dtype=torch.bool), float("-inf"))
    partners = (torch.arange(2 * count) + count) % (2 * count)
    return F.cross_entropy(similarity, partners)


@torch.no_grad()
def extract(encoder, images):
    encoder.eval()
    return torch.cat([encoder(normalize(chunk)) for chunk in images.split(200)])


def knn_accuracy(bank, bank_labels, features, labels, k=5):
    similarity = F.normalize(features, dim=1) @ F.normalize(bank, dim=1).T
    neighbors = bank_labels[similarity.topk(k, dim=1).indices]
    return (neighbors.mode(dim=1).values == labels).float().mean().item()


def linear_probe(accelerator, features, labels, valid_features, valid_labels):
    mean, std = features.mean(0), features.std(0) + 1e-5
    features, valid_features = (features - mean) / std, (valid_features - mean) / std
    probe = nn.Linear(features.shape[1], 10)
    optimizer = torch.optim.Adam(probe.parameters(), lr=config["probe_lr"], weight_decay=1e-4)
    loader = DataLoader(TensorDataset(features, labels), batch_size=50, shuffle=True)
    probe, optimizer, loader = accelerator.prepare(probe, optimizer, loader)
    for epoch in range(config["probe_epochs"]):
        for inputs, targets in loader:
            loss = F.cross_entropy(probe(inputs), targets)
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()
        with torch.no_grad():
            accuracy = (probe(valid_features).argmax(dim=1) == valid_labels).float().mean().item()
        if epoch % 5 == 4:
            accelerator.print(f"probe epoch {epoch:2d}: loss {loss.item():.3f} accuracy {accuracy:.3f}")
    return accuracy


def main():
    set_seed(config["seed"])
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)

    pictures, all_labels = draw_digits(config["unlabeled"], seed=0)
    images = pictures.float() / 255
    labeled, labels = images[: config["labeled"]], all_labels[: config["labeled"]]
    valid_pictures, valid_labels = draw_digits(600, seed=1)
    valid_images = valid_pictures.float() / 255

    model = SimCLR()
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"], weight_decay=config["weight_decay"])
    loader = DataLoader(TensorDataset(images), batch_size=config["batch_size"], shuffle=True, drop_last=True)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=config["epochs"] * len(loader))
    model, optimizer, loader, scheduler = accelerator.prepare(model, optimizer, loader, scheduler)

    for epoch in range(config["epochs"]):
        model.train()
        total = 0.0
        for (batch,) in loader:
            first, second = model(normalize(augment(batch))), model(normalize(augment(batch)))
            loss = nt_xent(first, second, config["temperature"])
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()
            scheduler.step()
            total += loss.item()
        encoder = accelerator.unwrap_model(model).encoder
        accuracy = knn_accuracy(extract(encoder, labeled), labels, extract(encoder, valid_images), valid_labels)
        accelerator.print(f"epoch {epoch:2d}: contrastive loss {total / len(loader):.3f}  kNN accuracy {accuracy:.3f}")

    encoder = accelerator.unwrap_model(model).encoder
    accuracy = linear_probe(
        accelerator, extract(encoder, labeled), labels, extract(encoder, valid_images), valid_labels
    )
    accelerator.print(f"linear probe: {accuracy:.3f}")


if __name__ == "__main__":
    main()
