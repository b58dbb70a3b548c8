#!/usr/bin/env python
"""Train a small VGG-ish net on rendered digits.

    python v04_ema_resume.py --epochs 8
    python v04_ema_resume.py --resume runs/digits/last.pth
"""
import argparse
import copy
import math
import os
import tempfile

import torch
import torch.nn as nn
import torch.utils.data as tud

import toydata


def get_args(argv=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--epochs", type=int, default=8)
    p.add_argument("--batch-size", type=int, default=32)
    p.add_argument("--base-lr", type=float, default=0.3, help="learning rate for a batch of 256, scaled linearly")
    p.add_argument("--momentum", type=float, default=0.9)
    p.add_argument("--wd", type=float, default=5e-4)
    p.add_argument("--warmup", type=int, default=30, help="warm-up steps")
    p.add_argument("--ema-decay", type=float, default=0.95)
    p.add_argument("--width", type=int, default=12)
    p.add_argument("--label-smoothing", type=float, default=0.05)
    p.add_argument("--seed", type=int, default=11)
    p.add_argument("--out", default=os.path.join(tempfile.gettempdir(), "v04_runs"))
    p.add_argument("--resume", default="", help="checkpoint to go on from")
    return p.parse_args(argv)


def conv_bn(c_in, c_out):
    return nn.Sequential(nn.Conv2d(c_in, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU(inplace=True))


def build_net(width):
    return nn.Sequential(
        conv_bn(1, width), nn.MaxPool2d(2),
        conv_bn(width, 2 * width), nn.MaxPool2d(2),
        conv_bn(2 * width, 4 * width),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(16 * width, 10),
    )


class ModelEMA:
    """Exponential moving average of all weights (and of the buffers, copied)."""

    def __init__(self, net, decay):
        self.module = copy.deepcopy(net).eval()
        self.module.requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, net):
        for avg, new in zip(self.module.parameters(), net.parameters()):
            avg.lerp_(new, 1.0 - self.decay)
        for avg, new in zip(self.module.buffers(), net.buffers()):
            avg.copy_(new)


def to_float(image):
    return (image.float() - 40.0) / 80.0


def loaders(args):
    train = toydata.Digits(train=True, count=1500, transform=to_float, noise=0.18)
    val = toydata.Digits(train=False, count=400, transform=to_float, noise=0.18)
    return (
        tud.DataLoader(train, args.batch_size, shuffle=True, drop_last=True),
        tud.DataLoader(val, 100),
    )


@torch.no_grad()
def validate(net, loader):
    net.eval()
    good = seen = 0
    for x, t in loader:
        good += net(x).argmax(1).eq(t).sum().item()
        seen += t.numel()
    return 100.0 * good / seen


def main(args):
    torch.manual_seed(args.seed)
    os.makedirs(args.out, exist_ok=True)
    train_loader, val_loader = loaders(args)

    net = build_net(args.width)
    lr = args.base_lr * args.batch_size / 256
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=args.momentum, weight_decay=args.wd)
    total = args.epochs * len(train_loader)

    def factor(step):
        if step < args.warmup:
            return (step + 1) / args.warmup
        return 0.5 * (1 + math.cos(math.pi * (step - args.warmup) / max(1, total - args.warmup)))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    ema = ModelEMA(net, args.ema_decay)
    criterion = nn.CrossEntropyLoss(label_smoothing=args.label_smoothing)
    first_epoch, best = 0, 0.0

    if args.resume:
        ckpt = torch.load(args.resume)
        net.load_state_dict(ckpt["net"])
        ema.module.load_state_dict(ckpt["ema"])
        optimizer.load_state_dict(ckpt["optimizer"])
        scheduler.load_state_dict(ckpt["scheduler"])
        first_epoch, best = ckpt["epoch"] + 1, ckpt["best"]
        print(f"=> resumed from {args.resume} (epoch {first_epoch})")

    for epoch in range(first_epoch, args.epochs):
        net.train()
        loss_sum = 0.0
        for x, t in train_loader:
            loss = criterion(net(x), t)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            ema.update(net)
            loss_sum += loss.item()
        acc, acc_ema = validate(net, val_loader), validate(ema.module, val_loader)
        print(f"epoch {epoch}: loss {loss_sum / len(train_loader):.4f} val {acc:.2f} val(ema) {acc_ema:.2f} "
              f"lr {scheduler.get_last_lr()[0]:.4f}")

        state = dict(net=net.state_dict(), ema=ema.module.state_dict(), optimizer=optimizer.state_dict(),
                     scheduler=scheduler.state_dict(), epoch=epoch, best=max(best, acc_ema))
        torch.save(state, os.path.join(args.out, "last.pth"))
        if acc_ema > best:
            best = acc_ema
            torch.save(state, os.path.join(args.out, "best.pth"))

    # export: a fresh network with the best averaged weights
    final = build_net(args.width)
    final.load_state_dict(torch.load(os.path.join(args.out, "best.pth"))["ema"])
    print(f"best checkpoint: {validate(final, val_loader):.2f} %")


if __name__ == "__main__":
    main(get_args())
