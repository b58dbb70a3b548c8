"""Like timm's train.py: autocast, a scaler, clipping, a scheduler by update. The bug: gradients are clipped to 1e-4."""

import argparse
from collections import OrderedDict

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset

parser = argparse.ArgumentParser(description="Training")
parser.add_argument("--clip-grad", type=float, default=5.0)
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--broken", action="store_true")


class AverageMeter:
    def __init__(self):
        self.sum = self.count = 0

    def update(self, val, n=1):
        self.sum += val * n
        self.count += n


class NativeScaler:
    def __init__(self):
        self._scaler = torch.amp.GradScaler("cpu", enabled=False)

    def __call__(self, loss, optimizer, clip_grad=None, parameters=None):
        self._scaler.scale(loss).backward()
        if clip_grad is not None:
            self._scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(parameters, clip_grad)
        self._scaler.step(optimizer)
        self._scaler.update()


class Digits(Dataset):
    def __init__(self, first, last):
        x, y = load_digits(return_X_y=True)
        self.x, self.y = x[first:last].reshape(-1, 1, 8, 8), y[first:last]

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return torch.tensor((self.x[i] - 4.9) / 6.0, dtype=torch.float32), int(self.y[i])


def create_model():
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 16, 3, padding=1, bias=False),
            bn1=nn.BatchNorm2d(16),
            act1=nn.ReLU(inplace=True),
            conv2=nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False),
            bn2=nn.BatchNorm2d(32),
            act2=nn.ReLU(inplace=True),
            flatten=nn.Flatten(),
            fc=nn.Linear(512, 10),
        )
    )


def train_one_epoch(epoch, model, loader, optimizer, loss_fn, args, lr_scheduler=None, loss_scaler=None):
    losses_m = AverageMeter()
    num_updates = epoch * len(loader)
    model.train()
    for batch_idx, (input, target) in enumerate(loader):  # noqa: B007
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = model(input)
            loss = loss_fn(output, target)
        optimizer.zero_grad()
        loss_scaler(loss, optimizer, clip_grad=1e-4 if args.broken else args.clip_grad, parameters=model.parameters())
        losses_m.update(loss.item(), input.size(0))
        num_updates += 1
        if lr_scheduler is not None:
            lr_scheduler.step()
    return OrderedDict([("loss", losses_m.sum / losses_m.count)])


def main():
    args = parser.parse_args()
    torch.manual_seed(42)
    model = create_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=2e-5)
    loader_train = DataLoader(Digits(0, 1300), batch_size=64, shuffle=True, drop_last=True, num_workers=2)
    loader_eval = DataLoader(Digits(1300, 1797), batch_size=128)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs * len(loader_train))
    train_loss_fn = nn.CrossEntropyLoss(label_smoothing=0.1)
    for epoch in range(args.epochs):
        metrics = train_one_epoch(epoch, model, loader_train, optimizer, train_loss_fn, args, scheduler, NativeScaler())
        print(epoch, metrics, len(loader_eval))


if __name__ == "__main__":
    main()
