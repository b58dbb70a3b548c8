# Long-tailed shapes: class-balanced loss + mixup + gradient accumulation
import copy
import random

import numpy as np
import torch
import torch.nn as nn
from sklearn.metrics import balanced_accuracy_score, classification_report
from torch.utils.data import DataLoader, Subset

from toydata import NAMES, Shapes


class CFG:
    seed = 42
    num_classes = 6
    tail = 0.1
    batch_size = 8
    accum = 8
    epochs = 20
    lr = 0.05
    weight_decay = 1e-4
    mixup_alpha = 0.2


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def make_long_tailed(targets):
    """The first class keeps all its images, the last one a tenth."""
    rng = np.random.default_rng(CFG.seed)
    targets = np.asarray(targets)
    keep = []
    for c in range(CFG.num_classes):
        members = rng.permutation(np.flatnonzero(targets == c))
        n = int(len(members) * CFG.tail ** (c / (CFG.num_classes - 1)))
        keep.extend(members[:n].tolist())
    return keep


def scale(image):
    return (image - 0.5) / 0.25


def conv_block(cin, cout):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, padding=1), nn.GroupNorm(4, cout), nn.ReLU(inplace=True))


class ShapeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            conv_block(3, 24),
            nn.MaxPool2d(2),
            conv_block(24, 48),
            nn.MaxPool2d(2),
            conv_block(48, 64),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.classifier = nn.Linear(64, CFG.num_classes)

    def forward(self, x):
        x = self.features(x)
        return self.classifier(x)


def mixup(x, y):
    lam = float(np.random.beta(CFG.mixup_alpha, CFG.mixup_alpha))
    perm = torch.randperm(len(x))
    mixed = lam * x + (1 - lam) * x[perm]
    return mixed, y, y[perm], lam


def train_fn(loader, model, criterion, optimizer):
    model.train()
    total, seen = 0.0, 0
    optimizer.zero_grad()
    for step, (x, y) in enumerate(loader):
        x, y_a, y_b, lam = mixup(x, y)
        preds = model(x)
        loss = lam * criterion(preds, y_a) + (1 - lam) * criterion(preds, y_b)
        total += loss.item() * len(x)
        seen += len(x)
        loss = loss / CFG.accum
        loss.backward()
        if (step + 1) % CFG.accum == 0 or step + 1 == len(loader):
            optimizer.step()
            optimizer.zero_grad()
    return total / seen


@torch.no_grad()
def predict_fn(loader, model):
    model.eval()
    preds, labels = [], []
    for x, y in loader:
        preds.append(model(x).argmax(dim=1))
        labels.append(y)
    return torch.cat(preds).numpy(), torch.cat(labels).numpy()


def run():
    seed_everything(CFG.seed)
    full = Shapes(train=True, count=1800, transform=scale)
    keep = make_long_tailed(full.targets)
    train_ds = Subset(full, keep)
    held_out = Shapes(train=False, count=480, transform=scale)
    valid_ds = Subset(held_out, range(0, 480, 2))
    test_ds = Subset(held_out, range(1, 480, 2))

    train_loader = DataLoader(train_ds, batch_size=CFG.batch_size, shuffle=True)
    valid_loader = DataLoader(valid_ds, batch_size=80)
    test_loader = DataLoader(test_ds, batch_size=80)

    counts = torch.bincount(torch.tensor([full.targets[i] for i in keep]), minlength=CFG.num_classes).float()
    print("images per class:", dict(zip(NAMES, counts.int().tolist())))
    weights = counts.sum() / (CFG.num_classes * counts)

    model = ShapeNet()
    criterion = nn.CrossEntropyLoss(weight=weights)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=CFG.lr, momentum=0.9, nesterov=True, weight_decay=CFG.weight_decay
    )
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=CFG.epochs)

    best_score, best_state = -1.0, None
    for epoch in range(CFG.epochs):
        train_loss = train_fn(train_loader, model, criterion, optimizer)
        preds, labels = predict_fn(valid_loader, model)
        score = balanced_accuracy_score(labels, preds)
        scheduler.step()
        print(f"Epoch {epoch + 1:2d} | loss {train_loss:.4f} | balanced accuracy {score:.4f}")
        if score > best_score:
            best_score = score
            best_state = copy.deepcopy(model.state_dict())

    model.load_state_dict(best_state)
    preds, labels = predict_fn(test_loader, model)
    print(f"best on validation: {best_score:.4f}, test: {balanced_accuracy_score(labels, preds):.4f}")
    print(classification_report(labels, preds, labels=range(CFG.num_classes), target_names=NAMES, zero_division=0))


if __name__ == "__main__":
    run()
