"""VDSR on small drawings: a deep residual network sharpens images that were shrunk and enlarged bicubically."""

import argparse
import math
import os
import random
import tempfile

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

parser = argparse.ArgumentParser(description="PyTorch VDSR")
parser.add_argument("--batchSize", type=int, default=16, help="training batch size")
parser.add_argument("--nEpochs", type=int, default=16, help="number of epochs to train for")
parser.add_argument("--lr", type=float, default=0.1, help="learning rate")
parser.add_argument("--step", type=int, default=8, help="the rate falls to a tenth every n epochs")
parser.add_argument("--clip", type=float, default=0.4, help="clipping of gradients")
parser.add_argument("--momentum", default=0.9, type=float)
parser.add_argument("--weight-decay", "--wd", default=1e-5, type=float)
parser.add_argument("--patch", type=int, default=24)
parser.add_argument("--scale", type=int, default=2)


def drawing(size, generator):
    """Smooth-edged discs, bars and stripes in gray."""
    y, x = torch.meshgrid(torch.arange(size).float(), torch.arange(size).float(), indexing="ij")
    image = torch.full((size, size), 0.2) + 0.2 * torch.rand((), generator=generator)
    for _ in range(7):
        a, b, c, d, gray = torch.rand(5, generator=generator).tolist()
        if d < 0.4:
            inside = 2 + 7 * c - ((y - a * size) ** 2 + (x - b * size) ** 2).sqrt()
        elif d < 0.8:
            angle = math.pi * c
            inside = 1.5 + b - ((x - a * size) * math.sin(angle) + (y - b * size) * math.cos(angle)).abs()
        else:
            inside = torch.minimum(2 + 6 * c - (y - a * size).abs(), 2 + 5 * b - (x - b * size).abs())
        alpha = (inside * 2 + 0.5).clamp(0, 1)
        image = image * (1 - alpha) + gray * alpha
    return image.unsqueeze(0)


def degrade(hr, scale):
    """Bicubic down and up again: what the network is given."""
    size = hr.shape[-2:]
    small = F.interpolate(hr.unsqueeze(0), scale_factor=1 / scale, mode="bicubic", antialias=True)
    return F.interpolate(small, size=size, mode="bicubic").squeeze(0).clamp(0, 1)


class PatchDataset(Dataset):
    def __init__(self, count, seed, patch, scale):
        generator = torch.Generator().manual_seed(seed)
        self.images = [drawing(48, generator) for _ in range(count)]
        self.patch, self.scale = patch, scale

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        hr = self.images[index]
        top, left = (random.randrange(0, hr.shape[-1] - self.patch + 1, 2) for _ in range(2))
        hr = hr[:, top : top + self.patch, left : left + self.patch]
        if random.random() < 0.5:
            hr = hr.flip(-1)
        if random.random() < 0.5:
            hr = hr.transpose(-1, -2)
        lr = degrade(hr, self.scale)
        return lr, hr


class ValDataset(Dataset):
    def __init__(self, count, seed, scale):
        generator = torch.Generator().manual_seed(seed)
        self.images = [drawing(48, generator) for _ in range(count)]
        self.scale = scale

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        hr = self.images[index]
        return degrade(hr, self.scale), hr


class ConvReLU(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.relu(self.conv(x))


class VDSR(nn.Module):
    def __init__(self, depth=5, width=24):
        super().__init__()
        self.input = nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.residual_layer = nn.Sequential(*[ConvReLU(width) for _ in range(depth)])
        self.output = nn.Conv2d(width, 1, 3, padding=1, bias=False)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                n = m.kernel_size[0] * m.kernel_size[1] * m.out_channels
                m.weight.data.normal_(0, math.sqrt(2.0 / n))
        self.output.weight.data.mul_(0.1)

    def forward(self, x):
        out = self.output(self.residual_layer(self.relu(self.input(x))))
        return torch.add(out, x)


def psnr(prediction, target):
    mse = (prediction.clamp(0, 1) - target).pow(2).flatten(1).mean(1)
    return 10 * torch.log10(1 / mse)


def train(loader, optimizer, model, criterion, opt):
    model.train()
    total = 0.0
    for inputs, target in loader:
        loss = criterion(model(inputs), target) / len(inputs)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), opt.clip)
        optimizer.step()
        total += loss.item()
    return total / len(loader)


def validate(loader, model):
    model.eval()
    before, after = [], []
    with torch.no_grad():
        for inputs, target in loader:
            before.append(psnr(inputs, target))
            after.append(psnr(model(inputs), target))
    return torch.cat(before).mean().item(), torch.cat(after).mean().item()


def save_checkpoint(model, epoch, folder):
    torch.save({"epoch": epoch, "model": model.state_dict()}, os.path.join(folder, f"model_epoch_{epoch}.pth"))


def main():
    opt = parser.parse_args()
    random.seed(7)
    torch.manual_seed(7)
    train_loader = DataLoader(PatchDataset(480, 21, opt.patch, opt.scale), batch_size=opt.batchSize, shuffle=True)
    val_loader = DataLoader(ValDataset(40, 22, opt.scale), batch_size=20)
    model = VDSR()
    criterion = nn.MSELoss(reduction="sum")
    optimizer = torch.optim.SGD(model.parameters(), lr=opt.lr, momentum=opt.momentum, weight_decay=opt.weight_decay)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=opt.step, gamma=0.1)
    with tempfile.TemporaryDirectory() as folder:
        for epoch in range(1, opt.nEpochs + 1):
            loss = train(train_loader, optimizer, model, criterion, opt)
            scheduler.step()
            save_checkpoint(model, epoch, folder)
            if epoch % 4 == 0:
                before, after = validate(val_loader, model)
                print(f"===> Epoch {epoch}: loss {loss:.4f}, bicubic {before:.2f} dB, network {after:.2f} dB")
    print(f"final gain over bicubic: {after - before:.2f} dB")


if __name__ == "__main__":
    main()
