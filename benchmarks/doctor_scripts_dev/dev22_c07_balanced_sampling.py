"""Long-tailed digits: a sampler draws the classes alike, metrics are classes, logs are dictionaries."""

import json

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

from toydata import draw_digits

COUNTS = [400, 300, 220, 170, 130, 100, 80, 60, 50, 40]  # of digits 0 to 9


class Mean:
    def __init__(self):
        self.reset()

    def reset(self):
        self.total, self.weight = 0.0, 0

    def update(self, value, weight=1):
        self.total += float(value) * weight
        self.weight += weight

    def compute(self):
        return self.total / max(1, self.weight)


class ConfusionMatrix:
    """Rows are labels, columns predictions."""

    def __init__(self, classes):
        self.classes = classes
        self.reset()

    def reset(self):
        self.matrix = torch.zeros(self.classes, self.classes, dtype=torch.long)

    def update(self, logits, labels):
        cells = labels * self.classes + logits.argmax(dim=1)
        self.matrix += torch.bincount(cells, minlength=self.classes**2).view(self.classes, self.classes)

    def compute(self):
        matrix = self.matrix.double()
        hits = matrix.diagonal()
        recall = hits / matrix.sum(1).clamp(min=1)
        precision = hits / matrix.sum(0).clamp(min=1)
        f1 = 2 * precision * recall / (precision + recall).clamp(min=1e-12)
        return {
            "accuracy": (hits.sum() / matrix.sum()).item(),
            "balanced_accuracy": recall.mean().item(),
            "macro_f1": f1.mean().item(),
            "worst_recall": recall.min().item(),
        }


def long_tailed(counts):
    images, labels = draw_digits(5500, seed=0)
    chosen = [torch.nonzero(labels == digit).flatten()[:count] for digit, count in enumerate(counts)]
    assert all(len(found) == count for found, count in zip(chosen, counts))
    chosen = torch.cat(chosen)
    return images[chosen].float() / 255, labels[chosen]


def make_augment(mean, std, shift=1, noise=0.05):
    """Rare digits come again and again: each time a little elsewhere, brighter or darker, with other noise."""

    def augment(images):
        size = images.shape[-1]
        windows = F.pad(images, [shift] * 4).unfold(2, size, 1).unfold(3, size, 1)
        tops = torch.randint(0, 2 * shift + 1, (len(images),))
        lefts = torch.randint(0, 2 * shift + 1, (len(images),))
        images = windows[torch.arange(len(images)), :, tops, lefts]
        images = images * (0.85 + 0.3 * torch.rand(len(images), 1, 1, 1))
        return (images + noise * torch.randn_like(images) - mean) / std

    return augment


def make_network(width=16):
    def unit(inner, outer):
        return nn.Sequential(
            nn.Conv2d(inner, outer, 3, padding=1, bias=False), nn.BatchNorm2d(outer), nn.LeakyReLU(0.1), nn.MaxPool2d(2)
        )

    return nn.Sequential(
        unit(1, width),
        unit(width, 2 * width),
        unit(2 * width, 4 * width),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(4 * width * 4, 10),
    )


def main():
    torch.manual_seed(11)
    images, labels = long_tailed(COUNTS)
    mean, std = images.mean().item(), images.std().item()
    augment = make_augment(mean, std)
    valid_images, valid_labels = draw_digits(500, seed=1)
    valid_images = (valid_images.float() / 255 - mean) / std

    weights = 1.0 / torch.bincount(labels, minlength=10).double()
    sampler = WeightedRandomSampler(weights[labels], num_samples=len(labels), replacement=True)
    train_loader = DataLoader(TensorDataset(images, labels), batch_size=50, sampler=sampler)
    valid_loader = DataLoader(TensorDataset(valid_images, valid_labels), batch_size=100)

    network = make_network()
    optimizer = torch.optim.Adam(network.parameters(), lr=1.5e-3)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", factor=0.4, patience=4)
    train_loss, valid_loss, confusion = Mean(), Mean(), ConfusionMatrix(10)
    log, best = [], {"macro_f1": -1.0}

    for epoch in range(1, 36):
        for metric in (train_loss, valid_loss, confusion):
            metric.reset()

        network.train()
        for batch, target in train_loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(network(augment(batch)), target)
            loss.backward()
            optimizer.step()
            train_loss.update(loss.item(), len(target))

        network.eval()
        with torch.no_grad():
            for batch, target in valid_loader:
                logits = network(batch)
                valid_loss.update(F.cross_entropy(logits, target), len(target))
                confusion.update(logits, target)

        entry = {"epoch": epoch, "train_loss": train_loss.compute(), "valid_loss": valid_loss.compute()}
        entry.update(confusion.compute(), lr=optimizer.param_groups[0]["lr"])
        scheduler.step(entry["macro_f1"])
        log.append(entry)
        if entry["macro_f1"] > best["macro_f1"]:
            best = entry
        rounded = {key: round(value, 5) if isinstance(value, float) else value for key, value in entry.items()}
        print(json.dumps(rounded), flush=True)

    print("best:", best["epoch"], f"{best['macro_f1']:.4f}")
    print(confusion.matrix)


if __name__ == "__main__":
    main()
