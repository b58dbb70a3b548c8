"""Fine-tunes a digit network (trained first, and saved) on capital letters, with Hugging Face Accelerate."""

import copy
import itertools
import os
import tempfile
from collections import OrderedDict

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader, Dataset

from toydata import draw_digits

PRETRAIN_EPOCHS, EPOCHS, BATCH_SIZE = 6, 10, 16
LEARNING_RATE, ENCODER_LR_FACTOR = 0.1, 0.2
LETTERS = dict(A="25755", C="74447", E="74747", F="74744", H="55755", L="44447", P="75744", T="72222", U="55557")


def draw_letters(count, seed, noise=0.1):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, len(LETTERS), count)
    fonts = list(LETTERS.values())
    images = np.zeros((count, 1, 16, 16))
    for image, label in zip(images, labels):
        glyph = np.array([[int(row) >> bit & 1 for bit in (2, 1, 0)] for row in fonts[label]])
        top, left = rng.integers(1, 6), rng.integers(3, 8)
        image[0, top : top + 10, left : left + 6] = glyph.repeat(2, 0).repeat(2, 1) * rng.uniform(0.7, 1.0)
    images = (images + noise * rng.standard_normal(images.shape)).clip(0, 1)
    return torch.from_numpy((255 * images).astype(np.uint8)), torch.from_numpy(labels)


class GlyphDataset(Dataset):
    def __init__(self, images, labels, transform):
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.transform(self.images[index]), self.labels[index]


def to_float(image):
    return image.float() / 255


def normalize(image):
    return (to_float(image) - 0.17) / 0.31


def jitter(image):
    top, left = torch.randint(0, 3, (2,)).tolist()
    image = F.pad(image, (1, 1, 1, 1))[:, top : top + 16, left : left + 16]
    return normalize(image * (0.8 + 0.3 * torch.rand(())))


def stage(inp, out, pool):
    layers = [nn.Conv2d(inp, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
    return nn.Sequential(*layers, nn.MaxPool2d(2) if pool else nn.Identity())


class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        stages = OrderedDict(stem=stage(1, 16, True), stage1=stage(16, 32, True), stage2=stage(32, 64, False))
        self.encoder = nn.Sequential(stages)
        self.head = nn.Linear(64, num_classes)

    def forward(self, x):
        return self.head(self.encoder(x).mean(dim=(2, 3)))


def pretrain(path):
    loader = DataLoader(GlyphDataset(*draw_digits(1200, seed=0), jitter), batch_size=32, shuffle=True)
    task = nn.ModuleDict({"model": Net(num_classes=10), "criterion": nn.CrossEntropyLoss()})
    adam = torch.optim.Adam(task.parameters(), lr=3e-3)
    for epoch in range(PRETRAIN_EPOCHS):
        for images, targets in loader:
            adam.zero_grad()
            loss = task["criterion"](task["model"](images), targets)
            loss.backward()
            adam.step()
        print(f"pretraining epoch {epoch}: loss of the last batch {loss.item():.3f}")
    torch.save({"epoch": PRETRAIN_EPOCHS, "state_dict": task.state_dict()}, path)


@torch.no_grad()
def evaluate(accelerator, net, loader):
    net.eval()
    hits = []
    for images, labels in loader:
        predictions, labels = accelerator.gather_for_metrics((net(images).argmax(dim=-1), labels))
        hits.append(predictions == labels)
    return torch.cat(hits).float().mean().item()


def main():
    set_seed(1)
    accelerator = Accelerator(cpu=True)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "digits.pt")
        pretrain(path)
        checkpoint = torch.load(path, map_location="cpu")
    net = Net(num_classes=10)
    state = {name.removeprefix("model."): tensor for name, tensor in checkpoint["state_dict"].items()}
    net.load_state_dict(state)
    net.head = nn.Linear(net.head.in_features, len(LETTERS))
    for parameter in itertools.chain(net.encoder.stem.parameters(), net.encoder.stage1.parameters()):
        parameter.requires_grad_(False)

    eval_transform = normalize
    train_loader = DataLoader(GlyphDataset(*draw_letters(400, seed=1), jitter), batch_size=BATCH_SIZE, shuffle=True)
    val_loader = DataLoader(GlyphDataset(*draw_letters(150, seed=2), eval_transform), batch_size=50)
    test_loader = DataLoader(GlyphDataset(*draw_letters(250, seed=3), eval_transform), batch_size=50)

    groups = [
        {"params": net.encoder.stage2.parameters(), "lr": LEARNING_RATE * ENCODER_LR_FACTOR},
        {"params": net.head.parameters()},
    ]
    optimizer = torch.optim.SGD(groups, lr=LEARNING_RATE, momentum=0.9, weight_decay=1e-4)
    max_steps = EPOCHS * len(train_loader)
    warmup_steps = max_steps // 10

    def lr_lambda(step):
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        return max(0.0, (max_steps - step) / (max_steps - warmup_steps))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lr_lambda)
    net, optimizer, train_loader, val_loader, test_loader, scheduler = accelerator.prepare(
        net, optimizer, train_loader, val_loader, test_loader, scheduler
    )

    best_accuracy, best_state = -1.0, None
    for epoch in range(EPOCHS):
        net.train()
        net.encoder[:2].eval()  # frozen: their batch norm keeps the statistics of pretraining
        for images, labels in train_loader:
            loss = F.cross_entropy(net(images), labels)
            accelerator.backward(loss)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
        accuracy = evaluate(accelerator, net, val_loader)
        accelerator.print(f"epoch {epoch}: validation accuracy {accuracy:.3f}")
        if accuracy > best_accuracy:
            best_accuracy, best_state = accuracy, copy.deepcopy(net.state_dict())

    net.load_state_dict(best_state)
    accelerator.print(f"test accuracy {evaluate(accelerator, net, test_loader):.3f}")


if __name__ == "__main__":
    main()
