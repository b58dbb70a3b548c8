"""
Speedrun: one file, whole dataset in memory, bf16 autocast, channels_last, OneCycle, label smoothing,
flip + translate + cutout on batches, flip TTA. Data: 8 classes of drawn 32x32 pictures (4 shapes x red / blue).
"""
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

hyp = {
    'opt': {
        'epochs': 8,
        'batch_size': 64,
        'lr': 0.2,
        'momentum': 0.85,
        'weight_decay': 5e-4,
        'label_smoothing': 0.1,
        'pct_start': 0.25,
    },
    'aug': {'flip': True, 'translate': 2, 'cutout': 6},
    'net': {'widths': (16, 32, 48), 'bn_momentum': 0.4, 'scaling': 0.25},
    'data': {'train': 1600, 'test': 600},
}


#############################################
#                  Data                     #
#############################################

def render(n, seed, size=32):
    """uint8 pictures as (N, H, W, 3), as the usual archives have them, and labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 8, n)
    yy, xx = np.mgrid[:size, :size]
    out = np.empty((n, size, size, 3), dtype=np.uint8)
    for i, label in enumerate(labels):
        shape, blue = divmod(label, 2)
        cy, cx = rng.uniform(11, size - 11, 2)
        r = rng.uniform(6, 9)
        dy, dx = yy - cy, xx - cx
        mask = [dy ** 2 + dx ** 2 < r ** 2,
                np.maximum(abs(dy), abs(dx)) < r * 0.9,
                (abs(dy) < r) & (abs(dx) < (dy + r) / 2),
                (np.maximum(abs(dy), abs(dx)) < r) & ((abs(dy) < 2) | (abs(dx) < 2))][shape]
        color = np.array([150, 110, 90]) + rng.normal(0, 15, 3)
        if blue:
            color = color[::-1]
        img = rng.uniform(60, 120) + rng.normal(0, 22, (size, size, 3))
        img[mask] += color - 60
        out[i] = img.clip(0, 255)
    return out, labels


def load_split(n, seed):
    images, labels = render(n, seed)
    images = torch.from_numpy(images).float() / 255
    images = images.permute(0, 3, 1, 2)
    return images, torch.from_numpy(labels)


def batch_flip(images):
    flip_mask = (torch.rand(len(images)) < 0.5).view(-1, 1, 1, 1)
    return torch.where(flip_mask, images.flip(3), images)


def batch_translate(images, r):
    n, _, h, w = images.shape
    padded = F.pad(images, (r,) * 4, mode='reflect')
    out = torch.empty_like(images)
    shifts = torch.randint(0, 2 * r + 1, (n, 2))
    for sy in range(2 * r + 1):
        for sx in range(2 * r + 1):
            m = (shifts[:, 0] == sy) & (shifts[:, 1] == sx)
            out[m] = padded[m, :, sy:sy + h, sx:sx + w]
    return out


def batch_cutout(images, size):
    n, _, h, w = images.shape
    cy, cx = torch.randint(0, h - size + 1, (n, 1)), torch.randint(0, w - size + 1, (n, 1))
    rows, cols = torch.arange(h).view(1, h) - cy, torch.arange(w).view(1, w) - cx
    mask = ((rows >= 0) & (rows < size)).unsqueeze(2) & ((cols >= 0) & (cols < size)).unsqueeze(1)
    return images.masked_fill(mask.unsqueeze(1), 0)


class InfiniteishLoader:
    def __init__(self, images, labels, batch_size, train, aug=None):
        self.images, self.labels = images, labels
        self.batch_size, self.train, self.aug = batch_size, train, aug or {}

    def __len__(self):
        n = len(self.images)
        return n // self.batch_size if self.train else -(-n // self.batch_size)

    def __iter__(self):
        indices = (torch.randperm if self.train else torch.arange)(len(self.images))
        for i in range(len(self)):
            idx = indices[i * self.batch_size:(i + 1) * self.batch_size]
            images = self.images[idx]
            if self.train:
                if self.aug.get('flip'):
                    images = batch_flip(images)
                images = batch_translate(images, self.aug['translate'])
                images = batch_cutout(images, self.aug['cutout'])
            yield images.to(memory_format=torch.channels_last), self.labels[idx]


#############################################
#                 Network                   #
#############################################

class ConvGroup(nn.Module):
    def __init__(self, c_in, c_out):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(c_out, momentum=hyp['net']['bn_momentum'])
        self.activ = nn.GELU()

    def forward(self, x):
        return self.activ(self.norm1(F.max_pool2d(self.conv1(x), 2)))


class SpeedNet(nn.Module):
    def __init__(self, num_classes=8):
        super().__init__()
        w1, w2, w3 = hyp['net']['widths']
        self.whiten = nn.Conv2d(3, 12, 2, bias=False)
        self.groups = nn.Sequential(ConvGroup(12, w1), ConvGroup(w1, w2), ConvGroup(w2, w3))
        self.head = nn.Linear(w3, num_classes, bias=False)

    def init_whiten(self, images, eps=1e-2):
        patches = F.unfold(images, 2).transpose(1, 2).reshape(-1, 12)
        patches = patches - patches.mean(0)
        values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
        self.whiten.weight.data.copy_((vectors / (values + eps).sqrt()).T.reshape(12, 3, 2, 2))

    def forward(self, x):
        x = F.gelu(self.whiten(x))
        x = self.groups(x)
        return self.head(x.amax(dim=(2, 3))) * hyp['net']['scaling']


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    correct = total = 0
    for images, labels in loader:
        logits = model(images) + model(images.flip(3))  # flip TTA
        correct += (logits.argmax(1) == labels).sum().item()
        total += len(labels)
    return correct / total


def main():
    torch.manual_seed(0)
    train_x, train_y = load_split(hyp['data']['train'], seed=1)
    test_x, test_y = load_split(hyp['data']['test'], seed=2)
    mean, std = train_x.mean(dim=(0, 2, 3)).view(1, 3, 1, 1), train_x.std(dim=(0, 2, 3)).view(1, 3, 1, 1)
    train_x = (train_x - mean) / std
    test_x = (test_x - mean) / std
    train_loader = InfiniteishLoader(train_x, train_y, hyp['opt']['batch_size'], True, hyp['aug'])
    test_loader = InfiniteishLoader(test_x, test_y, 200, False)

    model = SpeedNet().to(memory_format=torch.channels_last)
    model.init_whiten(train_x[:400])
    params = [p for p in model.parameters() if p.requires_grad]
    opt = torch.optim.SGD(params, lr=hyp['opt']['lr'], momentum=hyp['opt']['momentum'], nesterov=True,
                          weight_decay=hyp['opt']['weight_decay'])
    sched = torch.optim.lr_scheduler.OneCycleLR(
        opt, max_lr=hyp['opt']['lr'], total_steps=hyp['opt']['epochs'] * len(train_loader),
        pct_start=hyp['opt']['pct_start'], anneal_strategy='linear', cycle_momentum=False)
    loss_fn = nn.CrossEntropyLoss(label_smoothing=hyp['opt']['label_smoothing'])

    print('| epoch | train_loss | val_acc | seconds |')
    start, acc = time.time(), 0.0
    for epoch in range(hyp['opt']['epochs']):
        model.train()
        running = 0.0
        for images, labels in train_loader:
            with torch.autocast('cpu', dtype=torch.bfloat16):
                logits = model(images)
            loss = loss_fn(logits.float(), labels)
            opt.zero_grad(set_to_none=True)
            loss.backward()
            opt.step()
            sched.step()
            running += loss.detach()
        acc = evaluate(model, test_loader)
        print(f'| {epoch:5d} | {running / len(train_loader):10.4f} | {acc:7.4f} | {time.time() - start:7.1f} |')
    print(f'final val_acc {acc:.4f}')


if __name__ == '__main__':
    main()
