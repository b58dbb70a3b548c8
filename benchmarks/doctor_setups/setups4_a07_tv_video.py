"""Motions of a square in short clips, after torchvision's references/video_classification/train.py."""

import argparse
import math
import weakref

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

CLASSES = ["left", "right", "up", "down", "grow", "shrink"]


class MotionClips(Dataset):
    """Clips as read_video gives them: uint8, T x H x W x C."""

    def __init__(self, count, seed, transform, frames=8, size=16):
        g = torch.Generator().manual_seed(seed)
        self.transform = transform
        self.targets = torch.randint(0, len(CLASSES), (count,), generator=g)
        self.clips = 0.2 + 0.05 * torch.randn(count, frames, size, size, 3, generator=g)
        for clip, target in zip(self.clips, self.targets.tolist()):
            color = 0.5 + 0.4 * torch.rand(3, generator=g)
            a, b = torch.randint(0, 5, (1,), generator=g).item(), torch.randint(0, 12, (1,), generator=g).item()
            for t in range(frames):
                name, width = CLASSES[target], 4
                top, left = {"left": (b, a + 7 - t), "right": (b, a + t), "up": (a + 7 - t, b),
                             "down": (a + t, b)}.get(name, (a, b % 6))
                if name in ("grow", "shrink"):
                    width = 3 + (t if name == "grow" else frames - 1 - t)
                clip[t, top : top + width, left : left + width] += color
        self.clips = (self.clips.clamp(0, 1) * 255).to(torch.uint8)

    def __len__(self):
        return len(self.clips)

    def __getitem__(self, index):
        return self.transform(self.clips[index]), self.targets[index]


class ConvertTHWCtoCTHW(nn.Module):
    def forward(self, vid):
        return vid.permute(3, 0, 1, 2).contiguous()


class VideoClassificationPreset:
    def __init__(self, mean=0.32, std=0.25, brightness=0.0):
        self.mean, self.std, self.brightness = mean, std, brightness
        self.convert = ConvertTHWCtoCTHW()

    def __call__(self, vid):
        vid = self.convert(vid).float() / 255
        if self.brightness > 0:
            vid = vid * (1 + self.brightness * (2 * torch.rand(()) - 1))
        return (vid - self.mean) / self.std


class Conv2Plus1D(nn.Sequential):
    def __init__(self, cin, cout, stride):
        super().__init__(
            nn.Conv3d(cin, cout, (1, 3, 3), stride=(1, stride, stride), padding=(0, 1, 1), bias=False),
            nn.BatchNorm3d(cout), nn.ReLU(inplace=True),
            nn.Conv3d(cout, cout, (3, 1, 1), padding=(1, 0, 0), bias=False),
            nn.BatchNorm3d(cout), nn.ReLU(inplace=True),
        )


class VideoNet(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv3d(3, 16, (3, 5, 5), stride=(1, 2, 2), padding=(1, 2, 2), bias=False),
            nn.BatchNorm3d(16), nn.ReLU(inplace=True),
        )
        self.layers = nn.Sequential(Conv2Plus1D(16, 24, stride=1), Conv2Plus1D(24, 32, stride=2))
        self.avgpool = nn.AdaptiveAvgPool3d(1)
        self.fc = nn.Linear(32, num_classes)

    def forward(self, x):
        return self.fc(self.avgpool(self.layers(self.stem(x))).flatten(1))


def get_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch-size", default=32, type=int)
    parser.add_argument("--lr", default=0.4, type=float, help="for a batch of 256, scaled linearly")
    parser.add_argument("--iterations", default=800, type=int)
    return parser.parse_args([])


def setup():
    torch.manual_seed(5)
    args = get_args()
    train = MotionClips(800, seed=20, transform=VideoClassificationPreset(brightness=0.2))
    val = MotionClips(200, seed=21, transform=VideoClassificationPreset())
    model = VideoNet(num_classes=len(CLASSES))
    lr = args.lr * args.batch_size / 256
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=1e-4)
    schedulers = weakref.WeakKeyDictionary()

    def lr_lambda(it, warmup_iterations=15):
        if it < warmup_iterations:
            return (it + 1) / warmup_iterations
        return 0.01 + 0.495 * (1 + math.cos(math.pi * min(1.0, it / args.iterations)))

    def train_one_iteration(model, batch, optimizer, criterion):
        video, target = batch
        if optimizer not in schedulers:
            schedulers[optimizer] = torch.optim.lr_scheduler.LambdaLR(optimizer, lr_lambda)
        optimizer.zero_grad()
        loss = criterion(model(video), target)
        loss.backward()
        optimizer.step()
        schedulers[optimizer].step()
        return loss

    return dict(model=model, train=DataLoader(train, args.batch_size, shuffle=True, drop_last=True),
                val=DataLoader(val, 50), loss=nn.CrossEntropyLoss(label_smoothing=0.05), optimizer=optimizer,
                step=train_one_iteration, task="classify")
