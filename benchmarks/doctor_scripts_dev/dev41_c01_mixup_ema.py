"""Classifies small colored shapes, after torchvision's references/classification/train.py."""

import argparse
import copy
import os
import tempfile

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, default_collate

from toydata import NAMES, Shapes

MEAN, STD = 0.5, 0.2


class PresetTrain:
    def __init__(self, hflip_prob=0.5, pad=1):
        self.hflip_prob, self.pad = hflip_prob, pad

    def __call__(self, img):
        size = img.shape[-1]
        if torch.rand(()) < self.hflip_prob:
            img = img.flip(-1)
        img = F.pad(img[None], [self.pad] * 4, mode="replicate")[0]
        top, left = torch.randint(0, 2 * self.pad + 1, (2,)).tolist()
        return (img[:, top : top + size, left : left + size] - MEAN) / STD


class RandomMixup:
    def __init__(self, num_classes, alpha):
        self.num_classes = num_classes
        self.beta = torch.distributions.Beta(alpha, alpha)

    def __call__(self, batch, target):
        target = F.one_hot(target, self.num_classes).float()
        lam = float(self.beta.sample())
        # batches are shuffled anyway, so each sample is blended with the one before it
        batch = lam * batch + (1.0 - lam) * batch.roll(1, 0)
        target = lam * target + (1.0 - lam) * target.roll(1, 0)
        return batch, target


class BasicBlock(nn.Module):
    def __init__(self, inplanes, planes, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = None
        if stride != 1 or inplanes != planes:
            self.downsample = nn.Sequential(nn.Conv2d(inplanes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x):
        identity = x if self.downsample is None else self.downsample(x)
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + identity)


def resnet8(num_classes):
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        BasicBlock(16, 16, 1), BasicBlock(16, 32, 2), BasicBlock(32, 64, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, num_classes),
    )


class ExponentialMovingAverage:
    def __init__(self, model, decay):
        self.module = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model):
        decay = self.decay
        for average, value in zip(self.module.state_dict().values(), model.state_dict().values()):
            if average.is_floating_point():
                average.mul_(decay).add_(value, alpha=1.0 - decay)
            else:
                average.copy_(value)


def set_weight_decay(model, weight_decay):
    decay, no_decay = [], []
    for p in model.parameters():
        (decay if p.ndim > 1 else no_decay).append(p)
    return [{"params": decay, "weight_decay": weight_decay}, {"params": no_decay, "weight_decay": 0.0}]


def train_one_epoch(model, criterion, optimizer, data_loader, epoch, args, model_ema):
    model.train()
    loss_sum, seen = torch.zeros(()), 0
    for image, target in data_loader:
        loss = criterion(model(image), target)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), args.clip_grad_norm)
        optimizer.step()
        model_ema.update(model)
        loss_sum += loss.detach() * image.shape[0]
        seen += image.shape[0]
    print(f"Epoch: [{epoch}] lr {optimizer.param_groups[0]['lr']:.4f} loss {loss_sum.item() / seen:.4f}")


def evaluate(model, criterion, data_loader, log_suffix=""):
    model.eval()
    correct, loss_sum, seen = 0, 0.0, 0
    with torch.inference_mode():
        for image, target in data_loader:
            output = model(image)
            loss_sum += criterion(output, target).item() * len(target)
            correct += (output.argmax(1) == target).sum().item()
            seen += len(target)
    print(f"Test: {log_suffix} Acc@1 {100 * correct / seen:.2f} loss {loss_sum / seen:.4f}")
    return correct / seen


def main(args):
    torch.manual_seed(args.seed)
    mixup = RandomMixup(len(NAMES), args.mixup_alpha)
    train_loader = DataLoader(
        Shapes(train=True, transform=PresetTrain()), args.batch_size, shuffle=True,
        collate_fn=lambda samples: mixup(*default_collate(samples)),
    )
    test_loader = DataLoader(Shapes(train=False, transform=lambda img: (img - MEAN) / STD), batch_size=80)

    model = resnet8(len(NAMES))
    model_ema = ExponentialMovingAverage(model, args.model_ema_decay)
    criterion = nn.CrossEntropyLoss(label_smoothing=args.label_smoothing)
    optimizer = torch.optim.SGD(set_weight_decay(model, args.weight_decay), args.lr, momentum=0.9, nesterov=True)
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.1, total_iters=args.lr_warmup_epochs)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.epochs - args.lr_warmup_epochs)
    scheduler = torch.optim.lr_scheduler.SequentialLR(optimizer, [warmup, cosine], milestones=[args.lr_warmup_epochs])

    for epoch in range(args.epochs):
        train_one_epoch(model, criterion, optimizer, train_loader, epoch, args, model_ema)
        scheduler.step()
    evaluate(model, criterion, test_loader)
    evaluate(model_ema.module, criterion, test_loader, log_suffix="EMA")
    with tempfile.TemporaryDirectory() as folder:
        torch.save({"model": model.state_dict(), "ema": model_ema.module.state_dict()}, os.path.join(folder, "last.pth"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch-size", type=int, default=60)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--weight-decay", type=float, default=1e-4)
    parser.add_argument("--label-smoothing", type=float, default=0.05)
    parser.add_argument("--mixup-alpha", type=float, default=0.2)
    parser.add_argument("--lr-warmup-epochs", type=int, default=2)
    parser.add_argument("--clip-grad-norm", type=float, default=5.0)
    parser.add_argument("--model-ema-decay", type=float, default=0.95)
    parser.add_argument("--seed", type=int, default=0)
    main(parser.parse_args())
