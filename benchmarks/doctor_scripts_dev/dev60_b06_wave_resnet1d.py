"""1-D ResNet for signals: bf16 autocast, gradient accumulation, mixup and an average of the weights."""

import copy

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import waves

config = dict(epochs=10, batch_size=16, accum=2, lr=3e-3, weight_decay=1e-2, ema_decay=0.9, mixup=0.2, classes=4)


class Block(nn.Module):
    def __init__(self, c_in, c_out, stride):
        super().__init__()
        self.conv1 = nn.Conv1d(c_in, c_out, 7, stride, padding=3, bias=False)
        self.conv2 = nn.Conv1d(c_out, c_out, 7, padding=3, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm1d(c_out), nn.BatchNorm1d(c_out)
        self.skip = nn.Conv1d(c_in, c_out, 1, stride)

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.skip(x))


class ResNet1d(nn.Module):
    def __init__(self, classes, width=16):
        super().__init__()
        self.blocks = nn.Sequential(Block(1, width, 1), Block(width, 2 * width, 2), Block(2 * width, 2 * width, 2))
        self.fc = nn.Linear(2 * width, classes)

    def forward(self, x):
        return self.fc(self.blocks(x).mean(dim=2))


class ModelEma:
    def __init__(self, model, decay):
        self.module = copy.deepcopy(model).eval()
        self.decay = decay
        for p in self.module.parameters():
            p.requires_grad_(False)

    @torch.no_grad()
    def update(self, model):
        for ema_p, p in zip(self.module.parameters(), model.parameters()):
            ema_p.mul_(self.decay).add_(p, alpha=1 - self.decay)
        for ema_b, b in zip(self.module.buffers(), model.buffers()):
            ema_b.copy_(b)


def mixup(x, y, alpha):
    lam = torch.distributions.Beta(alpha, alpha).sample().item()
    perm = torch.randperm(x.size(0))
    return lam * x + (1 - lam) * x[perm], y, y[perm], lam


def macro_f1(pred, target, classes):
    scores = []
    for c in range(classes):
        tp = ((pred == c) & (target == c)).sum().item()
        wrong = ((pred == c) ^ (target == c)).sum().item()
        scores.append(2 * tp / max(2 * tp + wrong, 1))
    return sum(scores) / classes


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    preds, targets = [], []
    for x, y in loader:
        preds.append(model(x).argmax(1))
        targets.append(y)
    pred, target = torch.cat(preds), torch.cat(targets)
    return (pred == target).float().mean().item(), macro_f1(pred, target, config["classes"])


def train_epoch(model, ema, loader, optimizer):
    model.train()
    running = 0.0
    optimizer.zero_grad()
    for i, (x, y) in enumerate(loader):
        x, y_a, y_b, lam = mixup(x, y, config["mixup"])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(x)
        logits = logits.float()
        loss = lam * F.cross_entropy(logits, y_a) + (1 - lam) * F.cross_entropy(logits, y_b)
        (loss / config["accum"]).backward()
        if (i + 1) % config["accum"] == 0:
            optimizer.step()
            optimizer.zero_grad()
            ema.update(model)
        running += loss.item()
    return running / len(loader)


def main():
    torch.manual_seed(0)
    x_train, y_train = waves(960, seed=0)
    x_valid, y_valid = waves(300, seed=1)
    train_loader = DataLoader(TensorDataset(x_train, y_train), config["batch_size"], shuffle=True, drop_last=True)
    valid_loader = DataLoader(TensorDataset(x_valid, y_valid), 64)
    model = ResNet1d(config["classes"])
    ema = ModelEma(model, config["ema_decay"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"], weight_decay=config["weight_decay"])
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=config["epochs"])
    for epoch in range(config["epochs"]):
        loss = train_epoch(model, ema, train_loader, optimizer)
        scheduler.step()
        accuracy, f1 = evaluate(ema.module, valid_loader)
        print(f"[{epoch + 1:02d}] loss {loss:.4f} | valid accuracy {accuracy:.4f} | macro F1 {f1:.4f}")


if __name__ == "__main__":
    main()
