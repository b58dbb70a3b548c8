"""Digits with sharpness-aware minimization (Foret et al., 2021), in the manner of ImageNet's main.py."""

import argparse
import os
import shutil
import tempfile

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

from toydata import Digits

parser = argparse.ArgumentParser(description="SAM on digits")
parser.add_argument("--epochs", default=12, type=int)
parser.add_argument("-b", "--batch-size", default=64, type=int)
parser.add_argument("--lr", default=0.05, type=float)
parser.add_argument("--wd", default=5e-4, type=float)
parser.add_argument("--rho", default=0.05, type=float)

MEAN, STD = 0.15, 0.3


class SAM(torch.optim.Optimizer):
    def __init__(self, params, base_optimizer, rho=0.05, **kwargs):
        super().__init__(params, dict(rho=rho, **kwargs))
        self.base_optimizer = base_optimizer(self.param_groups, **kwargs)
        self.param_groups = self.base_optimizer.param_groups

    @torch.no_grad()
    def first_step(self):
        norm = self._grad_norm()
        for group in self.param_groups:
            scale = group["rho"] / (norm + 1e-12)
            for p in group["params"]:
                self.state[p]["old_p"] = p.clone()
                p.add_(p.grad * scale)
        self.zero_grad()

    @torch.no_grad()
    def second_step(self):
        """Go back, and descend with the gradient found there."""
        for group in self.param_groups:
            for p in group["params"]:
                p.copy_(self.state[p]["old_p"])
        self.base_optimizer.step()
        self.zero_grad()

    def _grad_norm(self):
        norms = [p.grad.norm(p=2) for group in self.param_groups for p in group["params"]]
        return torch.stack(norms).norm(p=2)


def set_running_stats(model, enabled):
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1 if enabled else 0.0


class ConvNet(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True),
            nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(inplace=True),
            nn.Conv2d(32, 48, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(48), nn.ReLU(inplace=True),
        )
        self.classifier = nn.Linear(48 * 4 * 4, num_classes)

    def forward(self, x):
        return self.classifier(torch.flatten(self.features(x), 1))


def shift_and_normalize(image):
    image = F.pad(image.float() / 255, (1, 1, 1, 1))
    top, left = torch.randint(0, 3, (2,)).tolist()
    return (image[:, top : top + 16, left : left + 16] - MEAN) / STD


def normalize(image):
    return (image.float() / 255 - MEAN) / STD


class AverageMeter:
    def __init__(self):
        self.sum, self.count = 0.0, 0

    def update(self, val, n=1):
        self.sum += val * n
        self.count += n

    def avg(self):
        return self.sum / self.count


def train(loader, model, criterion, optimizer):
    losses, top1 = AverageMeter(), AverageMeter()
    model.train()
    for images, target in loader:
        set_running_stats(model, True)
        output = model(images)
        loss = criterion(output, target)
        loss.backward()
        optimizer.first_step()

        set_running_stats(model, False)
        criterion(model(images), target).backward()
        optimizer.second_step()

        losses.update(loss.item(), images.size(0))
        top1.update((output.argmax(1) == target).float().mean().item() * 100, images.size(0))
    return losses.avg(), top1.avg()


@torch.no_grad()
def validate(loader, model, criterion):
    losses, top1 = AverageMeter(), AverageMeter()
    model.eval()
    for images, target in loader:
        output = model(images)
        losses.update(criterion(output, target).item(), images.size(0))
        top1.update((output.argmax(1) == target).float().mean().item() * 100, images.size(0))
    return losses.avg(), top1.avg()


def main():
    args = parser.parse_args()
    torch.manual_seed(1)
    train_set = Digits(train=True, transform=shift_and_normalize)
    val_set = Digits(train=False, transform=normalize)
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True, drop_last=True)
    val_loader = DataLoader(val_set, batch_size=100)

    model = ConvNet()
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    sgd = dict(lr=args.lr, momentum=0.9, weight_decay=args.wd)
    optimizer = SAM(model.parameters(), torch.optim.SGD, rho=args.rho, **sgd)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer.base_optimizer, T_max=args.epochs)

    best_acc1 = 0.0
    with tempfile.TemporaryDirectory() as folder:
        last, best = os.path.join(folder, "checkpoint.pth.tar"), os.path.join(folder, "model_best.pth.tar")
        for epoch in range(args.epochs):
            train_loss, train_acc1 = train(train_loader, model, criterion, optimizer)
            val_loss, acc1 = validate(val_loader, model, criterion)
            scheduler.step()
            is_best = acc1 > best_acc1
            best_acc1 = max(acc1, best_acc1)
            torch.save({"epoch": epoch + 1, "state_dict": model.state_dict(), "best_acc1": best_acc1}, last)
            if is_best:
                shutil.copyfile(last, best)
            print(f"Epoch [{epoch}] loss {train_loss:.4f} acc {train_acc1:.2f}  val {val_loss:.4f} * Acc@1 {acc1:.2f}")
        checkpoint = torch.load(best)
        model.load_state_dict(checkpoint["state_dict"])
        print(f"best of epoch {checkpoint['epoch']}: Acc@1 {validate(val_loader, model, criterion)[1]:.2f}")


if __name__ == "__main__":
    main()
