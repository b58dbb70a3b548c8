"""Tell five kinds of white blood cells apart in stained smears.

The photographs are kept as OpenCV reads them: height x width x BGR, bytes.
"""

import argparse

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

KINDS = ("neutrophil", "lymphocyte", "monocyte", "eosinophil", "basophil")
SHARES = (0.45, 0.25, 0.12, 0.10, 0.08)
GRANULES = {"eosinophil": (232.0, 120.0, 66.0), "basophil": (66.0, 70.0, 205.0)}


def draw_smear(kind, rng, size=32):
    yy, xx = np.mgrid[:size, :size].astype(np.float64)

    def disc(cy, cx, radius):
        return (yy - cy) ** 2 + (xx - cx) ** 2 < radius**2

    image = np.tile(np.array([232.0, 214.0, 216.0]) + rng.normal(0, 5, 3), (size, size, 1))
    for _ in range(int(rng.integers(2, 5))):
        cy, cx = rng.uniform(-2, size + 2, 2)
        image[disc(cy, cx, rng.uniform(3.5, 5))] = (214.0, 150.0, 150.0)
    cy, cx = rng.uniform(13, 19, 2)
    body = rng.uniform(9.5, 11.5)
    cytoplasm = disc(cy, cx, body)
    image[cytoplasm] = (206.0, 192.0, 220.0)
    if kind in GRANULES:
        image[cytoplasm & (rng.random((size, size)) < 0.35)] = GRANULES[kind]

    scale, turn = body * rng.uniform(0.9, 1.1), rng.uniform(0, 2 * np.pi)

    def lobe(distance, angle, radius):
        y = cy + scale * distance * np.sin(turn + angle)
        x = cx + scale * distance * np.cos(turn + angle)
        return disc(y, x, scale * radius)

    if kind == "lymphocyte":
        nucleus = lobe(0, 0, 0.62)
    elif kind == "monocyte":
        nucleus = lobe(0, 0, 0.72) & ~lobe(0.5, 0, 0.42)
    elif kind == "neutrophil":
        nucleus = lobe(0.42, 0, 0.35) | lobe(0.42, 2.09, 0.35) | lobe(0.42, 4.19, 0.35)
    else:
        nucleus = lobe(0.45, 0, 0.38) | lobe(0.45, np.pi, 0.38)
    image[nucleus] = np.array([96.0, 52.0, 138.0]) + rng.normal(0, 8, 3)
    image = image + rng.normal(0, 10, image.shape)
    return image.clip(0, 255).astype(np.uint8)[..., ::-1]


def photograph(names, seed):
    rng = np.random.default_rng(seed)
    return np.stack([draw_smear(name, rng) for name in names])


def augment(image):
    image = np.rot90(image, np.random.randint(4))
    if np.random.rand() < 0.5:
        image = image[:, ::-1]
    return (image * np.random.uniform(0.92, 1.06)).clip(0, 255)


class SmearDataset(Dataset):
    def __init__(self, images, names, mean, std, train):
        self.images, self.mean, self.std, self.train = images, mean, std, train
        self.classes = sorted(set(names))
        self.labels = [self.classes.index(name) for name in names]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = self.images[index][..., ::-1]  # BGR -> RGB
        if self.train:
            image = augment(image)
        pixels = (image / 255.0 - self.mean) / self.std
        pixels = pixels.transpose(2, 0, 1)
        return torch.from_numpy(np.ascontiguousarray(pixels, dtype=np.float32)), self.labels[index]


def block(cin, cout):
    return [nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True)]


def build_model(classes):
    return nn.Sequential(
        *block(3, 24), nn.MaxPool2d(2),
        *block(24, 48), nn.MaxPool2d(2),
        *block(48, 64), nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(256, classes),
    )


def train_one_epoch(model, loader, criterion, optimizer):
    model.train()
    total = seen = 0
    for images, labels in loader:
        loss = criterion(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(labels)
        seen += len(labels)
    return total / seen


@torch.no_grad()
def evaluate(model, loader, classes):
    model.eval()
    right, count = torch.zeros(classes), torch.zeros(classes)
    for images, labels in loader:
        hits = model(images).argmax(dim=1) == labels
        right += torch.bincount(labels[hits], minlength=classes)
        count += torch.bincount(labels, minlength=classes)
    return right / count


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    np.random.seed(args.seed)

    train_names = np.random.default_rng(5).choice(KINDS, 1600, p=SHARES).tolist()
    valid_names = np.repeat(sorted(KINDS), 60).tolist()  # a panel with the same number of each
    train_images, valid_images = photograph(train_names, 1), photograph(valid_names, 2)
    pixels = train_images[..., ::-1].reshape(-1, 3) / 255.0
    mean, std = pixels.mean(0), pixels.std(0)
    train_set = SmearDataset(train_images, train_names, mean, std, train=True)
    valid_set = SmearDataset(valid_images, valid_names, mean, std, train=False)
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True)
    valid_loader = DataLoader(valid_set, batch_size=100)

    counts = torch.bincount(torch.tensor(train_set.labels), minlength=len(KINDS)).float()
    criterion = nn.CrossEntropyLoss(weight=counts.sum() / (len(KINDS) * counts))
    model = build_model(len(KINDS))
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, nesterov=True, weight_decay=5e-4)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=5, gamma=0.3)

    for epoch in range(args.epochs):
        loss = train_one_epoch(model, train_loader, criterion, optimizer)
        recall = evaluate(model, valid_loader, len(KINDS))
        scheduler.step()
        each = " ".join(f"{name[:4]} {value:.2f}" for name, value in zip(valid_set.classes, recall.tolist()))
        print(f"epoch {epoch + 1:2d}  loss {loss:.3f}  balanced accuracy {recall.mean():.3f}  ({each})")


if __name__ == "__main__":
    main()
