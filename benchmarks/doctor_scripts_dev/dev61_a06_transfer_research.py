import copy
import json

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits

CONFIG = {
    "seed": 0,
    "device": "cpu",
    "model": {"width": 16, "feature_dim": 64},
    "source": {"classes": 10, "count": 800, "epochs": 7, "batch_size": 32, "lr": 0.05, "backbone_lr_scale": 1.0},
    "target": {"classes": 5, "count": 500, "val_count": 250, "epochs": 12, "batch_size": 25, "lr": 0.03, "backbone_lr_scale": 0.5},
    "optim": {"momentum": 0.9, "weight_decay": 5e-4, "nesterov": False},
}


# ----------------------------------------------------------------------------- data
def source_loaders(cfg):
    """Clean digits, ten classes."""
    images, labels = draw_digits(cfg["count"], seed=20, noise=0.1, shift=1)
    val_images, val_labels = draw_digits(200, seed=21, noise=0.1, shift=1)
    scale = lambda x: (x.float() / 255 - 0.2) / 0.35
    train = DataLoader(TensorDataset(scale(images), labels), batch_size=cfg["batch_size"], shuffle=True)
    return train, DataLoader(TensorDataset(scale(val_images), val_labels), batch_size=100)


def residue(labels, classes):
    return labels % classes


def target_loaders(cfg):
    """Noisier digits, to be told apart by their residue modulo five."""
    images, labels = draw_digits(cfg["count"], seed=30, noise=0.25, shift=1)
    val_images, val_labels = draw_digits(cfg["val_count"], seed=31, noise=0.25, shift=1)
    scale = lambda x: (x.float() / 255 - 0.25) / 0.35
    train_set = TensorDataset(scale(images), residue(labels, cfg["classes"]))
    val_set = TensorDataset(scale(val_images), residue(val_labels, cfg["classes"]))
    train = DataLoader(train_set, batch_size=cfg["batch_size"], shuffle=True)
    return train, DataLoader(val_set, batch_size=125)


# ----------------------------------------------------------------------------- model
class Backbone(nn.Module):
    def __init__(self, width, feature_dim):
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 3, padding=1)
        self.norm1 = nn.GroupNorm(4, width)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.norm2 = nn.GroupNorm(4, 2 * width)
        self.pool = nn.MaxPool2d(2)
        self.proj = nn.Linear(2 * width * 16, feature_dim)

    def forward(self, x):
        x = torch.relu(self.norm1(self.conv1(x)))
        x = self.pool(torch.relu(self.norm2(self.conv2(x))))
        return torch.relu(self.proj(x.flatten(1)))


class Classifier(nn.Module):
    def __init__(self, model_cfg, classes):
        super().__init__()
        self.backbone = Backbone(**model_cfg)
        self.head = nn.Linear(model_cfg["feature_dim"], classes)

    def forward(self, x):
        features = self.backbone(x)
        return self.head(features)


def load_pretrained(model, checkpoint):
    """Copies the backbone of a checkpoint; the head stays as it was."""
    prefix = "backbone."
    state = {k[len(prefix):]: v for k, v in checkpoint["model"].items() if k.startswith(prefix)}
    model.backbone.load_state_dict(state)
    return model


# ----------------------------------------------------------------------------- training
def build_optimizer(model, lr, backbone_lr_scale, optim_cfg):
    groups = [
        {"params": model.backbone.parameters(), "lr": lr * backbone_lr_scale},
        {"params": model.head.parameters(), "lr": lr},
    ]
    return torch.optim.SGD(
        groups,
        lr=lr,
        momentum=optim_cfg["momentum"],
        weight_decay=optim_cfg["weight_decay"],
        nesterov=optim_cfg["nesterov"],
    )


def evaluate(model, loader, device):
    model.eval()
    hits = total = 0
    with torch.no_grad():
        for x, y in loader:
            logits = model(x.to(device))
            hits += (logits.argmax(dim=-1).cpu() == y).sum().item()
            total += y.numel()
    return hits / total


def run_stage(name, model, loaders, cfg, optim_cfg, device):
    train_loader, val_loader = loaders
    optimizer = build_optimizer(model, cfg["lr"], cfg["backbone_lr_scale"], optim_cfg)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=cfg["epochs"])
    criterion = nn.CrossEntropyLoss()
    best = {"acc": -1.0, "model": None}
    for epoch in range(cfg["epochs"]):
        model.train()
        running, seen = 0.0, 0
        for x, y in train_loader:
            x, y = x.to(device), y.to(device)
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
            running += loss.item() * y.numel()
            seen += y.numel()
        scheduler.step()
        acc = evaluate(model, val_loader, device)
        print(f"[{name}] epoch {epoch:02d} loss {running / seen:.4f} val acc {acc:.4f}")
        if acc > best["acc"]:
            best = {"acc": acc, "model": copy.deepcopy(model.state_dict())}
    return best


def run(config):
    print(json.dumps(config, indent=1))
    torch.manual_seed(config["seed"])
    device = torch.device(config["device"])
    source, target = config["source"], config["target"]

    teacher = Classifier(config["model"], source["classes"]).to(device)
    checkpoint = run_stage("source", teacher, source_loaders(source), source, config["optim"], device)

    model = Classifier(config["model"], target["classes"]).to(device)
    model = load_pretrained(model, checkpoint)
    result = run_stage("target", model, target_loaders(target), target, config["optim"], device)
    print(f"best target accuracy {result['acc']:.4f}")
    return result


def main():
    run(CONFIG)


if __name__ == "__main__":
    main()
