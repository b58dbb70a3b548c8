import argparse
import datetime
import os
import random
import tempfile
import time
from collections import defaultdict

import torch
import torch.utils.data
from torch import nn

from toydata import Digits

class SmoothedValue:
    """Tracks a series of values and gives the average over all of them."""

    def __init__(self):
        self.total, self.count = 0.0, 0

    def update(self, value, n=1):
        self.total += value * n
        self.count += n

    @property
    def global_avg(self):
        return self.total / max(self.count, 1)

class MetricLogger:
    def __init__(self):
        self.meters = defaultdict(SmoothedValue)

    def __str__(self):
        return "  ".join(f"{name}: {meter.global_avg:.3f}" for name, meter in self.meters.items())

class ClassificationPresetTrain:
    def __init__(self, *, mean, std, hflip_prob, pad=1):
        self.mean, self.std, self.hflip_prob, self.pad = mean, std, hflip_prob, pad

    def __call__(self, img):
        size = img.shape[-1]
        img = nn.functional.pad(img.float() / 255, [self.pad] * 4)
        top, left = random.randint(0, 2 * self.pad), random.randint(0, 2 * self.pad)
        img = img[:, top:top + size, left:left + size]
        if random.random() < self.hflip_prob:
            img = img.flip(-1)
        return (img - self.mean) / self.std

class ClassificationPresetEval:
    def __init__(self, *, mean, std):
        self.mean, self.std = mean, std

    def __call__(self, img):
        return (img.float() / 255 - self.mean) / self.std

class BasicBlock(nn.Module):
    def __init__(self, inplanes, planes, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or inplanes != planes:
            self.downsample = nn.Sequential(nn.Conv2d(inplanes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x):
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.relu(out + identity)

def resnet8(num_classes, width=12):
    return nn.Sequential(
        nn.Conv2d(1, width, kernel_size=3, stride=1, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
        BasicBlock(width, width),
        BasicBlock(width, 2 * width, stride=2),
        BasicBlock(2 * width, 4 * width, stride=2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, num_classes),
    )

def accuracy(output, target, topk=(1,)):
    with torch.inference_mode():
        maxk = max(topk)
        _, pred = output.topk(maxk, 1, True, True)
        correct = pred.t().eq(target[None])
        return [correct[:k].flatten().sum(dtype=torch.float32) * (100.0 / target.size(0)) for k in topk]

def train_one_epoch(model, criterion, optimizer, data_loader, device, epoch, args):
    model.train()
    metric_logger = MetricLogger()
    for image, target in data_loader:
        image, target = image.to(device), target.to(device)
        output = model(image)
        loss = criterion(output, target)
        optimizer.zero_grad()
        loss.backward()
        if args.clip_grad_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), args.clip_grad_norm)
        optimizer.step()
        metric_logger.meters["loss"].update(loss.item(), n=image.shape[0])
    print(f"Epoch: [{epoch}]  lr: {optimizer.param_groups[0]['lr']:.4f}  {metric_logger}")

def evaluate(model, criterion, data_loader, device):
    model.eval()
    metric_logger = MetricLogger()
    with torch.inference_mode():
        for image, target in data_loader:
            image, target = image.to(device), target.to(device)
            output = model(image)
            acc1, acc3 = accuracy(output, target, topk=(1, 3))
            batch_size = image.shape[0]
            metric_logger.meters["loss"].update(criterion(output, target).item(), n=batch_size)
            metric_logger.meters["acc1"].update(acc1.item(), n=batch_size)
            metric_logger.meters["acc3"].update(acc3.item(), n=batch_size)
    print(f"Test:  {metric_logger}")
    return metric_logger.meters["acc1"].global_avg

def main(args):
    torch.manual_seed(args.seed)
    random.seed(args.seed)
    device = torch.device(args.device)
    stats = dict(mean=0.17, std=0.30)
    dataset = Digits(train=True, noise=args.noise, transform=ClassificationPresetTrain(hflip_prob=args.hflip_prob, **stats))
    dataset_test = Digits(train=False, noise=args.noise, transform=ClassificationPresetEval(**stats))
    data_loader = torch.utils.data.DataLoader(dataset, batch_size=args.batch_size, shuffle=True, drop_last=True)
    data_loader_test = torch.utils.data.DataLoader(dataset_test, batch_size=96)

    model = resnet8(num_classes=10).to(device)
    criterion = nn.CrossEntropyLoss(label_smoothing=args.label_smoothing)
    lr = args.lr * args.batch_size / 256
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=args.weight_decay)
    main_scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.epochs - args.lr_warmup_epochs)
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.1, total_iters=args.lr_warmup_epochs)
    lr_scheduler = torch.optim.lr_scheduler.SequentialLR(optimizer, [warmup, main_scheduler], milestones=[args.lr_warmup_epochs])

    print("Start training")
    start_time = time.time()
    for epoch in range(args.epochs):
        train_one_epoch(model, criterion, optimizer, data_loader, device, epoch, args)
        lr_scheduler.step()
        acc1 = evaluate(model, criterion, data_loader_test, device)
        torch.save({"model": model.state_dict(), "epoch": epoch, "args": args}, os.path.join(args.output_dir, "checkpoint.pth"))
    print(f"Training time {datetime.timedelta(seconds=int(time.time() - start_time))}, final acc1 {acc1:.2f}")

def get_args_parser():
    parser = argparse.ArgumentParser(description="Classification training")
    parser.add_argument("--device", default="cpu", type=str)
    parser.add_argument("-b", "--batch-size", default=64, type=int)
    parser.add_argument("--epochs", default=8, type=int)
    parser.add_argument("--lr", default=0.4, type=float, help="learning rate for a total batch of 256")
    parser.add_argument("--weight-decay", default=5e-4, type=float)
    parser.add_argument("--label-smoothing", default=0.05, type=float)
    parser.add_argument("--lr-warmup-epochs", default=1, type=int)
    parser.add_argument("--clip-grad-norm", default=None, type=float)
    parser.add_argument("--hflip-prob", default=0.0, type=float)
    parser.add_argument("--noise", default=0.35, type=float)
    parser.add_argument("--output-dir", default=tempfile.gettempdir(), type=str)
    parser.add_argument("--seed", default=0, type=int)
    return parser

if __name__ == "__main__":
    main(get_args_parser().parse_args())
