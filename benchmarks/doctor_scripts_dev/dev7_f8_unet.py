"""Cell / nucleus segmentation with a small U-Net, in the manner of nnU-Net:
Dice + CE, SGD with Nesterov momentum, poly learning rate, mirrored patches, mean foreground Dice."""
import argparse
import os
import tempfile
from time import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

CLASSES = ('background', 'cell', 'nucleus')


def make_case(rng, size=48):
    """A slide with a few cells; a nucleus sits off-centre in its cell."""
    y, x = np.mgrid[:size, :size].astype(float)
    image, seg = rng.normal(0.25, 0.02) * np.ones((size, size)), np.zeros((size, size), np.int64)
    image = image + 0.1 * rng.uniform(-1, 1) * (x / size - .5)
    for _ in range(rng.integers(2, 5)):
        cy, cx, ry, rx = rng.uniform(8, size - 8, 2).tolist() + rng.uniform(5, 9, 2).tolist()
        body = ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1
        core = ((y - cy - .3 * ry) / (.45 * ry)) ** 2 + ((x - cx + .3 * rx) / (.45 * rx)) ** 2 < 1
        image[body], seg[body] = 0.5 + rng.normal(0, .04), 1
        image[core], seg[core] = 0.68 + rng.normal(0, .04), 2
    for _ in range(4):  # debris as bright as a nucleus, outside the cells
        cy, cx = rng.uniform(3, size - 3, 2)
        spot = (np.hypot(y - cy, x - cx) < rng.uniform(1.2, 2.5)) & (seg == 0)
        image[spot] = 0.68
    return (image + rng.normal(0, 0.12, image.shape)).astype(np.float32), seg


class CellDataset(Dataset):
    def __init__(self, cases, augment):
        self.cases, self.augment = cases, augment

    def __len__(self):
        return len(self.cases)

    def __getitem__(self, i):
        image, seg = self.cases[i]
        image = (image - image.mean()) / image.std()  # z-score per case
        if self.augment:
            for axis in (0, 1):
                if torch.rand(()) < 0.5:
                    image, seg = np.flip(image, axis), np.flip(seg, axis)
            image = image * (0.9 + 0.2 * torch.rand(()).item())
        return torch.from_numpy(image[None].copy()), torch.from_numpy(seg.copy())


class StackedConv(nn.Sequential):
    def __init__(self, cin, cout, stride=1):
        super().__init__(nn.Conv2d(cin, cout, 3, stride, 1), nn.BatchNorm2d(cout), nn.LeakyReLU(0.01, inplace=True),
                         nn.Conv2d(cout, cout, 3, 1, 1), nn.BatchNorm2d(cout), nn.LeakyReLU(0.01, inplace=True))


class UNet(nn.Module):
    def __init__(self, num_classes, features=(12, 24, 48)):
        super().__init__()
        a, b, c = features
        self.enc1, self.enc2, self.enc3 = StackedConv(1, a), StackedConv(a, b, 2), StackedConv(b, c, 2)
        self.up2, self.dec2 = nn.ConvTranspose2d(c, b, 2, 2), StackedConv(2 * b, b)
        self.up1, self.dec1 = nn.ConvTranspose2d(b, a, 2, 2), StackedConv(2 * a, a)
        self.seg = nn.Conv2d(a, num_classes, 1)
        for m in self.modules():
            if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.kaiming_normal_(m.weight, a=1e-2)
                nn.init.zeros_(m.bias)

    def forward(self, x):
        s1 = self.enc1(x)
        s2 = self.enc2(s1)
        x = self.enc3(s2)
        x = self.dec2(torch.cat([self.up2(x), s2], dim=1))
        x = self.dec1(torch.cat([self.up1(x), s1], dim=1))
        return self.seg(x)


class DiceCELoss(nn.Module):
    """Soft Dice over the foreground classes (batch dice) plus cross-entropy."""

    def __init__(self, smooth=1e-5):
        super().__init__()
        self.smooth, self.ce = smooth, nn.CrossEntropyLoss()

    def forward(self, logits, target):
        probs = F.softmax(logits, dim=1)
        onehot = F.one_hot(target, logits.shape[1]).permute(0, 3, 1, 2).float()
        inter = (probs * onehot).sum(dim=(0, 2, 3))
        denom = probs.sum(dim=(0, 2, 3)) + onehot.sum(dim=(0, 2, 3))
        dice = (2 * inter + self.smooth) / (denom + self.smooth)
        return self.ce(logits, target) + (1 - dice[1:].mean())


def poly_lr(epoch, max_epochs, initial_lr, exponent=0.9):
    return initial_lr * (1 - epoch / max_epochs) ** exponent


def train_epoch(net, loader, loss_fn, optimizer, scaler, args):
    net.train()
    losses = []
    for data, target in loader:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast('cpu', dtype=torch.bfloat16, enabled=args.amp):
            output = net(data)
        loss = loss_fn(output.float(), target)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(net.parameters(), 12)
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
    return np.mean(losses)


@torch.no_grad()
def validate(net, loader):
    net.eval()
    tp, fp, fn = torch.zeros(3), torch.zeros(3), torch.zeros(3)
    for data, target in loader:
        pred = net(data).argmax(dim=1)
        for c in range(len(CLASSES)):
            tp[c] += ((pred == c) & (target == c)).sum()
            fp[c] += ((pred == c) & (target != c)).sum()
            fn[c] += ((pred != c) & (target == c)).sum()
    return 2 * tp / (2 * tp + fp + fn).clamp(min=1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--epochs', type=int, default=8)
    parser.add_argument('--batch-size', type=int, default=8)
    parser.add_argument('--initial-lr', type=float, default=5e-2)
    parser.add_argument('--no-amp', dest='amp', action='store_false', help='no autocast, no gradient scaler')
    parser.add_argument('--seed', type=int, default=3)
    args = parser.parse_args()
    torch.manual_seed(args.seed)

    rng = np.random.default_rng(args.seed)
    cases = [make_case(rng) for _ in range(200)]
    train_set, val_set = CellDataset(cases[:160], augment=True), CellDataset(cases[160:], augment=False)
    train_loader = DataLoader(train_set, args.batch_size, shuffle=True, drop_last=True)
    val_loader = DataLoader(val_set, args.batch_size)

    net = UNet(num_classes=len(CLASSES))
    loss_fn = DiceCELoss()
    optimizer = torch.optim.SGD(net.parameters(), args.initial_lr, momentum=0.95, nesterov=True, weight_decay=3e-5)
    scaler = torch.amp.GradScaler('cpu', enabled=args.amp)
    best, start = 0.0, time()
    for epoch in range(args.epochs):
        for group in optimizer.param_groups:
            group['lr'] = poly_lr(epoch, args.epochs, args.initial_lr)
        loss = train_epoch(net, train_loader, loss_fn, optimizer, scaler, args)
        dice = validate(net, val_loader)
        print(f'epoch {epoch}: train loss {loss:.4f}, dice per class {[round(d, 3) for d in dice.tolist()]}, '
              f'mean fg dice {dice[1:].mean():.4f}, {time() - start:.0f}s')
        if dice[1:].mean() > best:
            best = dice[1:].mean().item()
            torch.save(net.state_dict(), os.path.join(tempfile.gettempdir(), 'dev7_unet_best.pth'))
    print(f'best mean foreground dice {best:.4f}')


if __name__ == '__main__':
    main()
