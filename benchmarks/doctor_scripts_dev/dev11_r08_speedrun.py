"""Speedrun on colored digits: whitening first layer, channels_last, triangular rate, label smoothing, averaged weights."""

import copy
import time
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import nn

from toydata import draw_digits

hyp = SimpleNamespace(
    opt=SimpleNamespace(train_epochs=7, batch_size=100, lr=0.0015, momentum=0.85, weight_decay=0.015, label_smoothing=0.2, bias_scaler=8.0),
    aug=SimpleNamespace(flip=False, translate=1),
    net=SimpleNamespace(width=24, scaling=0.2, whiten_kernel=2),
    ema=SimpleNamespace(decay=0.9, every=2),
)


# ---------------------------------------------------------------- data
def load_raw(train):
    """Bytes in N x H x W x C, as the archive holds them."""
    gray, labels = draw_digits(1500 if train else 400, seed=20 if train else 21, noise=0.25)
    generator = torch.Generator().manual_seed(30 if train else 31)
    ink, ground = 0.5 + 0.5 * torch.rand(len(gray), 1, 1, 3, generator=generator), 0.45 * torch.rand(len(gray), 1, 1, 3, generator=generator)
    stroke = gray.float().div(255).permute(0, 2, 3, 1)
    images = stroke * ink + (1 - stroke) * ground
    images = images + 0.12 * torch.randn(images.shape, generator=generator)
    return images.clamp(0, 1).mul(255).byte(), labels


def batch_crop(images, radius):
    size = images.shape[-1]
    padded = F.pad(images, (radius,) * 4, "reflect")
    out = torch.empty_like(images)
    shifts = torch.randint(0, 2 * radius + 1, (len(images), 2))
    for dy in range(2 * radius + 1):
        for dx in range(2 * radius + 1):
            chosen = (shifts[:, 0] == dy) & (shifts[:, 1] == dx)
            out[chosen] = padded[chosen, :, dy : dy + size, dx : dx + size]
    return out


class FastLoader:
    def __init__(self, train, batch_size, aug, mean=None, std=None):
        raw, self.labels = load_raw(train)
        images = raw.permute(0, 3, 1, 2).float() / 255
        self.mean = images.mean((0, 2, 3), keepdim=True) if mean is None else mean
        self.std = images.std((0, 2, 3), keepdim=True) if std is None else std
        self.images = ((images - self.mean) / self.std).to(memory_format=torch.channels_last)
        self.train, self.batch_size, self.aug = train, batch_size, aug

    def __len__(self):
        return len(self.images) // self.batch_size

    def __iter__(self):
        images, order = self.images, torch.arange(len(self.images))
        if self.train:
            images = batch_crop(images, self.aug.translate)
            if self.aug.flip:
                images = torch.where((torch.rand(len(images)) < 0.5).view(-1, 1, 1, 1), images.flip(-1), images)
            order = torch.randperm(len(images))
        for i in range(len(self)):
            index = order[i * self.batch_size : (i + 1) * self.batch_size]
            yield images[index], self.labels[index]


# ---------------------------------------------------------------- network
class Mul(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.scale = scale

    def forward(self, x):
        return x * self.scale


def conv(inside, outside):
    return nn.Conv2d(inside, outside, 3, padding="same", bias=False)


class ConvGroup(nn.Module):
    def __init__(self, inside, outside):
        super().__init__()
        self.conv1, self.conv2 = conv(inside, outside), conv(outside, outside)
        self.pool = nn.MaxPool2d(2)
        self.norm1, self.norm2 = nn.BatchNorm2d(outside, momentum=0.4), nn.BatchNorm2d(outside, momentum=0.4)
        self.activ = nn.GELU()

    def forward(self, x):
        x = self.activ(self.norm1(self.pool(self.conv1(x))))
        return self.activ(self.norm2(self.conv2(x)))


def make_net(width, scaling, kernel):
    whiten_width = 2 * 3 * kernel**2
    net = nn.Sequential(
        nn.Conv2d(3, whiten_width, kernel, padding=0, bias=True),
        nn.GELU(),
        ConvGroup(whiten_width, width),
        ConvGroup(width, 2 * width),
        nn.MaxPool2d(3),
        nn.Flatten(),
        nn.Linear(2 * width, 10, bias=False),
        Mul(scaling),
    )
    net[0].weight.requires_grad = False
    return net.to(memory_format=torch.channels_last)


def init_whitening(layer, images, eps=5e-3):
    channels, (h, w) = images.shape[1], layer.weight.shape[2:]
    patches = images.unfold(2, h, 1).unfold(3, w, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, channels * h * w)
    covariance = patches.T @ patches / len(patches)
    values, vectors = torch.linalg.eigh(covariance)
    filters = (vectors / (values + eps).sqrt()).T.reshape(-1, channels, h, w)
    layer.weight.data[:] = torch.cat((filters, -filters))


# ---------------------------------------------------------------- training
def triangle(steps, start=0.2, end=0.07, peak=0.23):
    def factor(step):
        if step < peak * steps:
            return start + (1 - start) * step / (peak * steps)
        return max(end, end + (1 - end) * (steps - step) / ((1 - peak) * steps))

    return factor


@torch.no_grad()
def update_ema(ema, net, decay):
    for ema_v, net_v in zip(ema.state_dict().values(), net.state_dict().values()):
        if ema_v.dtype.is_floating_point:
            ema_v.lerp_(net_v, 1 - decay)


@torch.no_grad()
def evaluate(net, loader):
    net.eval()
    hits = total = 0
    for inputs, labels in loader:
        logits = net(inputs)
        hits += (logits.argmax(1) == labels).sum().item()
        total += len(labels)
    return hits / total


def main():
    torch.manual_seed(5)
    opt = hyp.opt
    train_loader = FastLoader(True, opt.batch_size, hyp.aug)
    test_loader = FastLoader(False, 200, hyp.aug, train_loader.mean, train_loader.std)
    net = make_net(hyp.net.width, hyp.net.scaling, hyp.net.whiten_kernel)
    init_whitening(net[0], train_loader.images[:500])
    norm_biases = [p for name, p in net.named_parameters() if p.requires_grad and p.ndim == 1]
    others = [p for p in net.parameters() if p.requires_grad and p.ndim > 1]
    groups = [
        dict(params=norm_biases, lr=opt.lr * opt.bias_scaler, weight_decay=opt.weight_decay / opt.bias_scaler),
        dict(params=others, lr=opt.lr, weight_decay=opt.weight_decay),
    ]
    optimizer = torch.optim.SGD(groups, momentum=opt.momentum, nesterov=True)
    steps = opt.train_epochs * len(train_loader)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, triangle(steps))
    ema, step, started = copy.deepcopy(net), 0, time.time()
    for epoch in range(opt.train_epochs):
        net.train()
        for inputs, labels in train_loader:
            outputs = net(inputs)
            loss = F.cross_entropy(outputs, labels, label_smoothing=opt.label_smoothing, reduction="none")
            optimizer.zero_grad(set_to_none=True)
            loss.sum().backward()
            optimizer.step()
            scheduler.step()
            step += 1
            if step % hyp.ema.every == 0:
                update_ema(ema, net, hyp.ema.decay)
        train_acc = (outputs.argmax(1) == labels).float().mean().item()
        print(f"| {epoch:3d} | train_loss {loss.mean().item():.4f} | train_acc {train_acc:.4f} | val_acc {evaluate(net, test_loader):.4f}"
              f" | ema_val_acc {evaluate(ema, test_loader):.4f} | {time.time() - started:6.2f}s |")
    print(f"final ema_val_acc {evaluate(ema, test_loader):.4f}")


if __name__ == "__main__":
    main()
