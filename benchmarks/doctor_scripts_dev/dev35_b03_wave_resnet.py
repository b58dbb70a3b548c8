"""Wave classification: 1-d ResNet, mixup, EMA of the weights, mixed precision, warmup and cosine per update."""

import argparse
import copy
import math
import os
import tempfile

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import waves

parser = argparse.ArgumentParser(description="Wave training")
parser.add_argument("--epochs", type=int, default=14)
parser.add_argument("-b", "--batch-size", type=int, default=64)
parser.add_argument("--lr", type=float, default=0.1)
parser.add_argument("--clip-grad", type=float, default=5.0)
parser.add_argument("--model-ema-decay", type=float, default=0.98)
parser.add_argument("--seed", type=int, default=42)


class WaveDataset(Dataset):
    def __init__(self, signals, labels, mean, std, is_training=False):
        self.signals = (signals - mean) / std
        self.labels = labels
        self.is_training = is_training

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        signal = self.signals[index]
        if self.is_training:
            signal = torch.roll(signal, int(torch.randint(-8, 9, ())), dims=-1)
            if torch.rand(()) < 0.5:
                signal = -signal
        return signal, self.labels[index]


class BasicBlock(nn.Module):
    def __init__(self, inplanes, planes, stride=1):
        super().__init__()
        self.conv1 = nn.Conv1d(inplanes, planes, 5, stride, 2, bias=False)
        self.bn1 = nn.BatchNorm1d(planes)
        self.conv2 = nn.Conv1d(planes, planes, 5, 1, 2, bias=False)
        self.bn2 = nn.BatchNorm1d(planes)
        self.downsample = nn.Identity()
        if stride != 1 or inplanes != planes:
            self.downsample = nn.Sequential(nn.Conv1d(inplanes, planes, 1, stride, bias=False), nn.BatchNorm1d(planes))

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.downsample(x))


class ResNet1d(nn.Module):
    def __init__(self, num_classes=4, width=16):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv1d(1, width, 7, 1, 3, bias=False), nn.BatchNorm1d(width), nn.ReLU())
        self.layers = nn.Sequential(
            BasicBlock(width, width), BasicBlock(width, 2 * width, 2), BasicBlock(2 * width, 4 * width, 2)
        )
        self.fc = nn.Linear(4 * width, num_classes)
        for m in self.modules():
            if isinstance(m, nn.Conv1d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x):
        return self.fc(self.layers(self.stem(x)).mean(-1))


class ModelEma(nn.Module):
    def __init__(self, model, decay):
        super().__init__()
        self.module = copy.deepcopy(model).eval()
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, model):
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for ema_v, model_v in zip(self.module.state_dict().values(), model.state_dict().values()):
            if ema_v.is_floating_point():
                ema_v.lerp_(model_v, 1.0 - decay)
            else:
                ema_v.copy_(model_v)


def train_one_epoch(args, model, loader, optimizer, scheduler, scaler, model_ema):
    model.train()
    total = 0.0
    for samples, target in loader:
        lam = float(np.random.beta(0.2, 0.2))
        perm = torch.randperm(len(samples))
        mixed = lam * samples + (1.0 - lam) * samples[perm]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = model(mixed).float()
        loss = lam * F.cross_entropy(output, target) + (1.0 - lam) * F.cross_entropy(output, target[perm])
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), args.clip_grad)
        scaler.step(optimizer)
        scaler.update()
        scheduler.step()
        model_ema.update(model)
        total += loss.item()
    return total / len(loader)


@torch.no_grad()
def validate(model, loader):
    model.eval()
    correct = 0
    for samples, target in loader:
        correct += (model(samples).argmax(dim=1) == target).sum().item()
    return 100.0 * correct / len(loader.dataset)


def main():
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    np.random.seed(args.seed)
    train_x, train_y = waves(1200, seed=0)
    val_x, val_y = waves(300, seed=1)
    mean, std = train_x.mean(), train_x.std()
    dataset_train = WaveDataset(train_x, train_y, mean, std, is_training=True)
    dataset_val = WaveDataset(val_x, val_y, mean, std)
    loader_train = DataLoader(dataset_train, args.batch_size, shuffle=True, drop_last=True)
    loader_val = DataLoader(dataset_val, 128)

    model = ResNet1d()
    model_ema = ModelEma(model, decay=args.model_ema_decay)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=args.lr, momentum=0.9, nesterov=True, weight_decay=1e-4
    )
    warmup, updates = len(loader_train), args.epochs * len(loader_train)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda u: min((u + 1) / warmup, 0.5 * (1 + math.cos(math.pi * min(1.0, u / updates))))
    )
    scaler = torch.amp.GradScaler("cpu")
    best_acc, best_path = -1.0, os.path.join(tempfile.mkdtemp(), "model_best.pth.tar")
    for epoch in range(args.epochs):
        train_loss = train_one_epoch(args, model, loader_train, optimizer, scheduler, scaler, model_ema)
        acc = validate(model_ema.module, loader_val)
        print(f"Train: {epoch} loss {train_loss:.3f}  Test (EMA): Acc@1 {acc:.2f}  lr {scheduler.get_last_lr()[0]:.4f}")
        if acc > best_acc:
            best_acc = acc
            torch.save({"epoch": epoch, "state_dict": model_ema.module.state_dict()}, best_path)
    print(f"*** Best metric: {best_acc:.2f} (epoch {torch.load(best_path)['epoch']})")


if __name__ == "__main__":
    main()
