# Semantic segmentation of shapes: U-Net with deep supervision (U-Net++ / nnU-Net style), CE + soft Dice, poly schedule.
import random

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

SEED, EPOCHS, BATCH, N_CLASSES = 7, 16, 16, 4
DS_WEIGHTS = np.array([1.0, 0.5, 0.25])
DS_WEIGHTS = DS_WEIGHTS / DS_WEIGHTS.sum()

random.seed(SEED)
np.random.seed(SEED)
torch.manual_seed(SEED)


class SegmentationSet(Dataset):
    def __init__(self, train, count):
        base = Shapes(train=train, count=count, size=32)
        self.images = torch.stack(base.images)
        self.masks = torch.stack(base.masks)
        self.train = train

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        image, mask = (self.images[i] - 0.5) / 0.25, self.masks[i]
        if self.train:
            if random.random() < 0.5:
                image, mask = torch.flip(image, [2]), torch.flip(mask, [1])
            if random.random() < 0.5:
                image, mask = torch.flip(image, [1]), torch.flip(mask, [0])
            k = random.randint(0, 3)
            image, mask = torch.rot90(image, k, [1, 2]), torch.rot90(mask, k, [0, 1])
            image = image * random.uniform(0.9, 1.1) + random.uniform(-0.1, 0.1)
        return image, mask


def double_conv(cin, cout):
    return nn.Sequential(
        nn.Conv2d(cin, cout, 3, padding=1, bias=False),
        nn.InstanceNorm2d(cout, affine=True),
        nn.LeakyReLU(0.01, inplace=True),
        nn.Conv2d(cout, cout, 3, padding=1, bias=False),
        nn.InstanceNorm2d(cout, affine=True),
        nn.LeakyReLU(0.01, inplace=True),
    )


class UNet(nn.Module):
    def __init__(self, features=(8, 16, 32, 48)):
        super().__init__()
        self.downs = nn.ModuleList()
        cin = 3
        for f in features[:-1]:
            self.downs.append(double_conv(cin, f))
            cin = f
        self.bottleneck = double_conv(features[-2], features[-1])
        self.ups, self.convs, self.heads = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for below, f in zip(reversed(features), list(reversed(features))[1:]):
            self.ups.append(nn.ConvTranspose2d(below, f, 2, stride=2))
            self.convs.append(double_conv(2 * f, f))
            self.heads.append(nn.Conv2d(f, N_CLASSES, 1))

    def forward(self, x):
        skips = []
        for down in self.downs:
            x = down(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.bottleneck(x)
        outputs = []
        for up, conv, head, skip in zip(self.ups, self.convs, self.heads, reversed(skips)):
            x = conv(torch.cat([up(x), skip], 1))
            outputs.append(head(x))
        outputs.reverse()  # finest first
        return outputs if self.training else outputs[0]


def soft_dice(logits, target, eps=1.0):
    probs = logits.softmax(1)
    onehot = F.one_hot(target, N_CLASSES).permute(0, 3, 1, 2).float()
    inter = (probs * onehot).sum((0, 2, 3))
    total = probs.sum((0, 2, 3)) + onehot.sum((0, 2, 3))
    return 1 - ((2 * inter + eps) / (total + eps))[1:].mean()  # foreground only, as in nnU-Net


def deep_supervision_loss(outputs, target):
    loss = 0
    for weight, logits in zip(DS_WEIGHTS, outputs):
        small = target
        if logits.shape[-2:] != target.shape[-2:]:
            small = F.interpolate(target[:, None].float(), size=logits.shape[-2:], mode="nearest")[:, 0].long()
        loss = loss + float(weight) * (F.cross_entropy(logits, small) + soft_dice(logits, small))
    return loss


def confusion(pred, target):
    index = target.flatten() * N_CLASSES + pred.flatten()
    return torch.bincount(index, minlength=N_CLASSES**2).reshape(N_CLASSES, N_CLASSES)


@torch.no_grad()
def evaluate(net, loader):
    net.eval()
    matrix = torch.zeros(N_CLASSES, N_CLASSES, dtype=torch.long)
    for image, mask in loader:
        matrix += confusion(net(image).argmax(1), mask)
    inter = matrix.diag().float()
    union = matrix.sum(0) + matrix.sum(1) - matrix.diag()
    return (inter / union.clamp(min=1)), inter.sum() / matrix.sum()


train_loader = DataLoader(SegmentationSet(True, 640), batch_size=BATCH, shuffle=True)
val_loader = DataLoader(SegmentationSet(False, 160), batch_size=40)
net = UNet()
max_iter = EPOCHS * len(train_loader)
optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.99, nesterov=True, weight_decay=3e-5)
scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda it: (1 - it / max_iter) ** 0.9)

for epoch in range(EPOCHS):
    net.train()
    losses = []
    for image, mask in train_loader:
        optimizer.zero_grad()
        loss = deep_supervision_loss(net(image), mask)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 12)
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
    iou, pixel = evaluate(net, val_loader)
    print(f"[{epoch:02d}] loss {np.mean(losses):.3f} mIoU {iou.mean():.3f} per class {[round(v, 3) for v in iou.tolist()]} pixel acc {pixel:.3f}")
