"""Small ResNet on 16x16 colour images: OneCycle, label smoothing, mixup, EMA of the weights."""

import copy

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader
from toydata import Shapes

EPOCHS = 8
BATCH = 32
MAX_LR = 0.02
MIXUP_ALPHA = 0.2
EMA_DECAY = 0.98


class BasicBlock(nn.Module):
    def __init__(self, in_planes, planes, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(in_planes, planes, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_planes != planes:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_planes, planes, 1, stride=stride, bias=False), nn.BatchNorm2d(planes)
            )

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.shortcut(x))


class ResNet(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.layer1 = BasicBlock(16, 16)
        self.layer2 = BasicBlock(16, 32, stride=2)
        self.layer3 = BasicBlock(32, 64, stride=2)
        self.fc = nn.Linear(64, num_classes)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(self.stem(x))))
        return self.fc(x.mean(dim=(2, 3)))


class ModelEMA:
    def __init__(self, model, decay):
        self.module = copy.deepcopy(model).eval()
        self.decay = decay
        for p in self.module.parameters():
            p.requires_grad_(False)

    @torch.no_grad()
    def update(self, model):
        for ema_v, v in zip(self.module.state_dict().values(), model.state_dict().values()):
            if ema_v.dtype.is_floating_point:
                ema_v.mul_(self.decay).add_(v, alpha=1 - self.decay)
            else:
                ema_v.copy_(v)


def random_flip(x):
    chosen = torch.rand(len(x)) < 0.5
    x[chosen] = x[chosen].flip(3)
    return x


def random_crop(x, pad=2):
    size = x.size(-1)
    padded = F.pad(x, (pad, pad, pad, pad), mode="reflect")
    top, left = np.random.randint(0, 2 * pad + 1, 2)
    return padded[:, :, top : top + size, left : left + size]


def mixup(x, y):
    lam = float(np.random.beta(MIXUP_ALPHA, MIXUP_ALPHA))
    index = torch.randperm(len(x))
    return lam * x + (1 - lam) * x[index], y, y[index], lam


def normalize(x):
    return (x - 0.5) / 0.18


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    correct = total = 0
    for x, y in loader:
        pred = model(normalize(x)).argmax(1)
        correct += (pred == y).sum().item()
        total += y.size(0)
    return 100.0 * correct / total


def main():
    torch.manual_seed(0)
    np.random.seed(0)
    train_loader = DataLoader(Shapes(train=True, count=1500), batch_size=BATCH, shuffle=True, drop_last=True)
    test_loader = DataLoader(Shapes(train=False, count=300), batch_size=100)

    model = ResNet(num_classes=6)
    ema = ModelEMA(model, EMA_DECAY)
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    optimizer = torch.optim.SGD(model.parameters(), lr=MAX_LR, momentum=0.9, weight_decay=5e-4, nesterov=True)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=MAX_LR, total_steps=EPOCHS * len(train_loader), pct_start=0.3
    )

    for epoch in range(EPOCHS):
        model.train()
        total_loss = 0.0
        for x, y in train_loader:
            x = normalize(random_crop(random_flip(x)))
            x, y_a, y_b, lam = mixup(x, y)
            logits = model(x)
            loss = lam * criterion(logits, y_a) + (1 - lam) * criterion(logits, y_b)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            scheduler.step()
            ema.update(model)
            total_loss += loss.item() * len(x)
        print(
            f"epoch {epoch:2d}  lr {optimizer.param_groups[0]['lr']:.4f}"
            f"  train loss {total_loss / (len(train_loader) * BATCH):.4f}"
            f"  test acc {evaluate(ema.module, test_loader):.2f}%"
        )


if __name__ == "__main__":
    main()
