import datetime
import time
from collections import OrderedDict

import torch
import torch.utils.data
from torch import nn
from torch.nn import functional as F

from toydata import Shapes


class Compose:
    def __init__(self, transforms):
        self.transforms = transforms

    def __call__(self, image, target):
        for t in self.transforms:
            image, target = t(image, target)
        return image, target


class RandomHorizontalFlip:
    def __init__(self, flip_prob):
        self.flip_prob = flip_prob

    def __call__(self, image, target):
        if torch.rand(1).item() < self.flip_prob:
            image, target = image.flip(-1), target.flip(-1)
        return image, target


class Normalize:
    def __init__(self, mean, std):
        self.mean, self.std = torch.tensor(mean)[:, None, None], torch.tensor(std)[:, None, None]

    def __call__(self, image, target):
        return (image - self.mean) / self.std, target


class RandomCrop:
    def __init__(self, size, padding):
        self.size, self.padding = size, padding

    def __call__(self, image, target):
        image = F.pad(image, [self.padding] * 4, value=0.0)
        target = F.pad(target, [self.padding] * 4, value=255)
        top = int(torch.randint(0, image.shape[-2] - self.size + 1, (1,)))
        left = int(torch.randint(0, image.shape[-1] - self.size + 1, (1,)))
        window = (..., slice(top, top + self.size), slice(left, left + self.size))
        return image[window], target[window]


def get_transform(train, size):
    normalize = Normalize(mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
    if train:
        return Compose([RandomHorizontalFlip(0.5), normalize, RandomCrop(size, padding=4)])
    return Compose([normalize])


class ShapeSegmentation(torch.utils.data.Dataset):
    def __init__(self, train, count, size, transforms):
        self.shapes = Shapes(train=train, count=count, size=size)
        self.transforms = transforms

    def __len__(self):
        return len(self.shapes)

    def __getitem__(self, idx):
        return self.transforms(self.shapes.images[idx], self.shapes.masks[idx])


def double_conv(cin, cout):
    return nn.Sequential(
        nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True),
        nn.Conv2d(cout, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    def __init__(self, num_classes, width=8):
        super().__init__()
        self.enc1, self.enc2 = double_conv(3, width), double_conv(width, 2 * width)
        self.enc3 = double_conv(2 * width, 4 * width)
        self.up2, self.dec2 = nn.ConvTranspose2d(4 * width, 2 * width, 2, 2), double_conv(4 * width, 2 * width)
        self.up1, self.dec1 = nn.ConvTranspose2d(2 * width, width, 2, 2), double_conv(2 * width, width)
        self.classifier = nn.Conv2d(width, num_classes, 1)
        self.aux_classifier = nn.Conv2d(4 * width, num_classes, 1)

    def forward(self, x):
        a = self.enc1(x)
        b = self.enc2(F.max_pool2d(a, 2))
        c = self.enc3(F.max_pool2d(b, 2))
        d = self.dec2(torch.cat([self.up2(c), b], dim=1))
        e = self.dec1(torch.cat([self.up1(d), a], dim=1))
        aux = F.interpolate(self.aux_classifier(c), size=x.shape[-2:], mode="bilinear", align_corners=False)
        return OrderedDict(out=self.classifier(e), aux=aux)


class ConfusionMatrix:
    def __init__(self, num_classes):
        self.num_classes, self.mat = num_classes, torch.zeros(num_classes, num_classes, dtype=torch.int64)

    def update(self, a, b):
        n = self.num_classes
        k = (a >= 0) & (a < n)
        self.mat += torch.bincount(n * a[k] + b[k], minlength=n**2).reshape(n, n)

    def compute(self):
        h = self.mat.float()
        return torch.diag(h).sum() / h.sum(), torch.diag(h) / (h.sum(1) + h.sum(0) - torch.diag(h)).clamp(min=1)


def criterion(inputs, target, weight=None):
    losses = {name: F.cross_entropy(x, target, weight=weight, ignore_index=255) for name, x in inputs.items()}
    return losses["out"] + 0.5 * losses["aux"]


def train_one_epoch(model, class_weight, optimizer, data_loader, lr_scheduler, epoch):
    model.train()
    for image, target in data_loader:
        loss = criterion(model(image), target, class_weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        lr_scheduler.step()
    print(f"Epoch: [{epoch}] lr {optimizer.param_groups[0]['lr']:.5f} loss {loss.item():.4f}")


def evaluate(model, data_loader, num_classes):
    model.eval()
    confmat = ConfusionMatrix(num_classes)
    with torch.inference_mode():
        for image, target in data_loader:
            output = model(image)["out"]
            confmat.update(target.flatten(), output.argmax(1).flatten())
    return confmat


def main(epochs=8, size=32, num_classes=4, batch_size=16):
    torch.manual_seed(3)
    dataset = ShapeSegmentation(True, 480, size, get_transform(True, size))
    dataset_test = ShapeSegmentation(False, 120, size, get_transform(False, size))
    data_loader = torch.utils.data.DataLoader(dataset, batch_size, shuffle=True, drop_last=True)
    data_loader_test = torch.utils.data.DataLoader(dataset_test, batch_size)
    model = UNet(num_classes)
    class_weight = None
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    iters = len(data_loader) * epochs
    lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda x: (1 - x / iters) ** 0.9)
    start_time = time.time()
    for epoch in range(epochs):
        train_one_epoch(model, class_weight, optimizer, data_loader, lr_scheduler, epoch)
        acc, iou = evaluate(model, data_loader_test, num_classes).compute()
        print(f"  pixels {100 * acc:.1f} IoU {[f'{i:.1f}' for i in (100 * iou).tolist()]} mean {100 * iou.mean():.1f}")
    print(f"Training time {datetime.timedelta(seconds=int(time.time() - start_time))}")


if __name__ == "__main__":
    main()
