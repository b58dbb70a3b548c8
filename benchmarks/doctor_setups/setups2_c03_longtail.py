"""Long-tailed digits with a class-balanced sampler (WeightedRandomSampler), augmentation of the rare ones."""

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler

from toydata import draw_digits

COUNTS = [200, 150, 100, 60, 30]
BATCH_SIZE = 48


class LongTailDigits(Dataset):
    def __init__(self, images, labels, augment):
        self.images, self.labels, self.augment = images, labels, augment

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        image = self.images[index].float() / 255
        if self.augment:
            shift = torch.randint(-1, 2, (2,)).tolist()
            image = torch.roll(image, shift, dims=(1, 2))
            image = image * (0.8 + 0.4 * torch.rand(())) + 0.05 * torch.randn_like(image)
        return (image - 0.15) / 0.27, int(self.labels[index])


def long_tail(images, labels):
    """The first COUNTS[c] images of class c, other classes left out."""
    chosen = [torch.nonzero(labels == c).flatten()[:count] for c, count in enumerate(COUNTS)]
    chosen = torch.cat(chosen)
    return images[chosen], labels[chosen]


def make_loader(images, labels):
    counts = torch.bincount(labels, minlength=len(COUNTS))
    weights = 1.0 / counts[labels].double()
    dataset = LongTailDigits(images, labels, augment=True)
    sampler = WeightedRandomSampler(weights, num_samples=len(labels), replacement=True)
    return DataLoader(dataset, batch_size=BATCH_SIZE, sampler=sampler, drop_last=True)


def conv_block(inputs, outputs):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True), nn.MaxPool2d(2)
    )


class DigitNet(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.features = nn.Sequential(conv_block(1, 16), conv_block(16, 32))
        self.fc = nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(32 * 4 * 4, num_classes))

    def forward(self, x):
        return self.fc(self.features(x))


def setup():
    torch.manual_seed(42)
    images, labels = long_tail(*draw_digits(2000, seed=20))
    val_images, val_labels = draw_digits(500, seed=21)
    keep = val_labels < len(COUNTS)
    val_set = LongTailDigits(val_images[keep], val_labels[keep], augment=False)
    model = DigitNet(len(COUNTS))
    return {
        "model": model,
        "train": make_loader(images, labels),
        "val": DataLoader(val_set, batch_size=100),
        "loss": nn.CrossEntropyLoss(),
        "optimizer": torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-4),
    }
