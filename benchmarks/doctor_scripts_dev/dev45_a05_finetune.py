"""Pretrain on the digits 0-4, fine-tune on thirty pictures each of 5-9 (Accelerate, no Trainer)."""

import os
import tempfile

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits

SOURCE_CLASSES = [0, 1, 2, 3, 4]
TARGET_CLASSES = [5, 6, 7, 8, 9]
SHOTS = 30

config = {
    "seed": 11,
    "batch_size": 16,
    "pretrain_epochs": 3,
    "pretrain_lr": 0.02,
    "finetune_epochs": 12,
    "backbone_lr": 0.005,
    "head_lr": 0.02,
    "momentum": 0.9,
}


class Classifier(nn.Module):
    def __init__(self, num_labels):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
        )
        self.head = nn.Linear(64 * 2 * 2, num_labels)

    def forward(self, pixel_values):
        return self.head(self.backbone(pixel_values))


def relabel(labels):
    """Numbers the classes that occur from 0."""
    classes = sorted(set(labels.tolist()))
    table = {name: number for number, name in enumerate(classes)}
    return torch.tensor([table[name] for name in labels.tolist()])


def to_dataset(images, labels):
    pixels = (images.float() / 255 - 0.17) / 0.3
    return TensorDataset(pixels, relabel(labels))


def pick(count, seed, classes, per_class=None):
    images, labels = draw_digits(count, seed=seed)
    if per_class is None:
        keep = torch.isin(labels, torch.tensor(classes))
    else:
        keep = torch.cat([torch.nonzero(labels == name).flatten()[:per_class] for name in classes])
    return to_dataset(images[keep], labels[keep])


def train_epoch(accelerator, model, optimizer, scheduler, loader):
    model.train()
    total = 0.0
    for pixel_values, labels in loader:
        loss = nn.functional.cross_entropy(model(pixel_values), labels)
        optimizer.zero_grad()
        accelerator.backward(loss)
        optimizer.step()
        scheduler.step()
        total += loss.detach().float().item()
    return total / len(loader)


def evaluate(accelerator, model, loader):
    model.eval()
    hits, seen = 0, 0
    for pixel_values, labels in loader:
        with torch.no_grad():
            predictions = model(pixel_values).argmax(dim=-1)
        predictions, references = accelerator.gather_for_metrics((predictions, labels))
        hits += (predictions == references).sum().item()
        seen += references.numel()
    return hits / seen


def pretrain(accelerator, path):
    loader = DataLoader(pick(2000, 0, SOURCE_CLASSES), batch_size=config["batch_size"], shuffle=True, drop_last=True)
    eval_loader = DataLoader(pick(400, 1, SOURCE_CLASSES), batch_size=64)
    model = Classifier(len(SOURCE_CLASSES))
    optimizer = torch.optim.SGD(model.parameters(), lr=config["pretrain_lr"], momentum=config["momentum"])
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=config["pretrain_epochs"] * len(loader))
    model, optimizer, loader, eval_loader, scheduler = accelerator.prepare(
        model, optimizer, loader, eval_loader, scheduler
    )
    for epoch in range(config["pretrain_epochs"]):
        loss = train_epoch(accelerator, model, optimizer, scheduler, loader)
        accelerator.print(f"pretrain {epoch}: loss {loss:.4f} accuracy {evaluate(accelerator, model, eval_loader):.3f}")
    state = accelerator.unwrap_model(model).state_dict()
    torch.save({"model": state, "epoch": config["pretrain_epochs"]}, path)


def finetune(accelerator, path):
    train_set = pick(1200, 3, TARGET_CLASSES, per_class=SHOTS)
    train_loader = DataLoader(train_set, batch_size=config["batch_size"], shuffle=True, drop_last=True)
    eval_loader = DataLoader(pick(600, 4, TARGET_CLASSES), batch_size=64)

    model = Classifier(len(TARGET_CLASSES))
    state = torch.load(path, map_location="cpu")["model"]
    state = {name: value for name, value in state.items() if not name.startswith("head.")}
    model.load_state_dict(state, strict=False)

    optimizer = torch.optim.SGD(
        [
            {"params": model.backbone.parameters(), "lr": config["backbone_lr"]},
            {"params": model.head.parameters(), "lr": config["head_lr"]},
        ],
        momentum=config["momentum"],
    )
    total = config["finetune_epochs"] * len(train_loader)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / total))
    model, optimizer, train_loader, eval_loader, scheduler = accelerator.prepare(
        model, optimizer, train_loader, eval_loader, scheduler
    )
    for epoch in range(config["finetune_epochs"]):
        loss = train_epoch(accelerator, model, optimizer, scheduler, train_loader)
        accelerator.print(f"finetune {epoch}: loss {loss:.4f} accuracy {evaluate(accelerator, model, eval_loader):.3f}")


def main():
    set_seed(config["seed"])
    accelerator = Accelerator(cpu=True)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "pretrained.pt")
        pretrain(accelerator, path)
        finetune(accelerator, path)


if __name__ == "__main__":
    main()
