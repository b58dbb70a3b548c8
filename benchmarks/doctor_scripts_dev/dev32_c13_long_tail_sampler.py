"""Long-tailed digits: the rarest class has a twelfth of the images of the most common one. Balanced by a sampler."""

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler

from toydata import draw_digits

CLASSES = 10


def long_tail(count=5000, most=360, ratio=12.0, seed=0):
    images, labels = draw_digits(count, seed=seed)
    chosen = []
    for digit in range(CLASSES):
        wanted = int(most * ratio ** (-digit / (CLASSES - 1)))
        chosen.append((labels == digit).nonzero().flatten()[:wanted])
    chosen = torch.cat(chosen)
    return images[chosen], labels[chosen]


class LongTail(Dataset):
    def __init__(self, images, labels, augment=False):
        self.images, self.labels, self.augment = images, labels, augment

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        image = self.images[index].float() / 255
        if self.augment:  # rare images come often, so that they should never look the same
            top, left = torch.randint(0, 3, (2,)).tolist()
            image = nn.functional.pad(image, (1, 1, 1, 1))[:, top : top + 16, left : left + 16]
            image = image * (0.8 + 0.4 * torch.rand(())) + 0.08 * torch.randn_like(image)
        return (image - 0.2) / 0.35, self.labels[index]


def build():
    layers, channels = [], 1
    for width in (16, 32, 64):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
        channels = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * 4, CLASSES))


def recalls(model, loader):
    right, total = torch.zeros(CLASSES), torch.zeros(CLASSES)
    model.eval()
    with torch.no_grad():
        for images, labels in loader:
            hit = (model(images).argmax(1) == labels).float()
            right.scatter_add_(0, labels, hit)
            total.scatter_add_(0, labels, torch.ones_like(hit))
    return right / total


def main():
    torch.manual_seed(4)
    images, labels = long_tail()
    counts = torch.bincount(labels, minlength=CLASSES)
    print("images per class", counts.tolist())
    weights = (1.0 / counts.float())[labels]
    sampler = WeightedRandomSampler(weights, num_samples=1500, replacement=True)
    train_loader = DataLoader(LongTail(images, labels, augment=True), batch_size=50, sampler=sampler)
    val_loader = DataLoader(LongTail(*draw_digits(500, seed=1)), batch_size=250)

    model = build()
    optimizer = torch.optim.RMSprop(model.parameters(), lr=5e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=16, eta_min=1e-5)
    criterion = nn.CrossEntropyLoss()
    for epoch in range(1, 17):
        model.train()
        total = 0.0
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
            total += loss.item()
        scheduler.step()
        recall = recalls(model, val_loader)
        print(
            f"epoch {epoch:2d} loss {total / len(train_loader):.4f} balanced accuracy {recall.mean():.3f} "
            f"rare classes {recall[6:].mean():.3f}"
        )


if __name__ == "__main__":
    main()
