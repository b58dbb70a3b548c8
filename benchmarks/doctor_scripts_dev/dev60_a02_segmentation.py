"""Semantic segmentation reference training (FCN with an auxiliary head) on generated shapes."""
import argparse
import random
import time

import numpy as np
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
        if random.random() < self.flip_prob:
            image = np.ascontiguousarray(image[:, ::-1])
            target = np.ascontiguousarray(target[:, ::-1])
        return image, target


class ToTensor:
    def __call__(self, image, target):
        image = torch.from_numpy(image).permute(2, 0, 1).float() / 255
        target = torch.as_tensor(target, dtype=torch.int64)
        return image, target


class Normalize:
    def __init__(self, mean, std):
        self.mean, self.std = torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)

    def __call__(self, image, target):
        return (image - self.mean) / self.std, target


class ShapesSegmentation(torch.utils.data.Dataset):
    """Images of height x width x 3 (uint8), masks of height x width with 0 as background."""

    def __init__(self, image_set, transforms):
        shapes = Shapes(train=image_set == "train", count=600 if image_set == "train" else 160, size=24)
        self.images = [(i * 255).byte().permute(1, 2, 0).contiguous().numpy() for i in shapes.images]
        self.masks = [m.numpy().astype(np.uint8) for m in shapes.masks]
        self.transforms = transforms

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.transforms(self.images[index], self.masks[index])


class ConfusionMatrix:
    def __init__(self, num_classes):
        self.num_classes = num_classes
        self.mat = torch.zeros((num_classes, num_classes), dtype=torch.int64)

    def update(self, a, b):
        n = self.num_classes
        k = (a >= 0) & (a < n)
        inds = n * a[k].to(torch.int64) + b[k]
        self.mat += torch.bincount(inds, minlength=n**2).reshape(n, n)

    def compute(self):
        h = self.mat.float()
        acc_global = torch.diag(h).sum() / h.sum()
        acc = torch.diag(h) / h.sum(1)
        iu = torch.diag(h) / (h.sum(1) + h.sum(0) - torch.diag(h))
        return acc_global, acc, iu


def conv_bn(cin, cout, stride=1, dilation=1):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, stride, dilation, dilation, bias=False), nn.BatchNorm2d(cout), nn.ReLU())


class FCN(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.stem = nn.Sequential(conv_bn(3, 16), conv_bn(16, 32, stride=2))
        self.layer = nn.Sequential(conv_bn(32, 32, dilation=2), conv_bn(32, 32, dilation=3))
        self.classifier = nn.Sequential(conv_bn(32, 32), nn.Dropout(0.1), nn.Conv2d(32, num_classes, 1))
        self.aux_classifier = nn.Conv2d(32, num_classes, 1)

    def forward(self, x):
        size = x.shape[-2:]
        low = self.stem(x)
        out = self.classifier(self.layer(low))
        return {"out": F.interpolate(out, size=size, mode="bilinear", align_corners=False),
                "aux": F.interpolate(self.aux_classifier(low), size=size, mode="bilinear", align_corners=False)}


def criterion(inputs, target):
    losses = {name: F.cross_entropy(x, target, ignore_index=255) for name, x in inputs.items()}
    return losses["out"] + 0.5 * losses["aux"]


def train_one_epoch(model, optimizer, data_loader, lr_scheduler, epoch):
    model.train()
    start, total, count = time.time(), 0.0, 0
    for image, target in data_loader:
        output = model(image)
        loss = criterion(output, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        lr_scheduler.step()
        total, count = total + loss.item() * len(image), count + len(image)
    print(f"Epoch: [{epoch}] loss: {total / count:.4f} time: {time.time() - start:.2f}")


def evaluate(model, data_loader, num_classes):
    model.eval()
    confmat = ConfusionMatrix(num_classes)
    with torch.inference_mode():
        for image, target in data_loader:
            output = model(image)["out"]
            confmat.update(target.flatten(), output.argmax(1).flatten())
    acc_global, acc, iu = confmat.compute()
    print(f"global correct: {acc_global:.3f} IoU: {[f'{i:.3f}' for i in iu.tolist()]} mean IoU: {iu.mean():.3f}")
    return iu.mean().item()


def main(args):
    random.seed(0)
    torch.manual_seed(0)
    norm = Normalize([0.5, 0.46, 0.5], [0.18, 0.16, 0.18])
    dataset = ShapesSegmentation("train", Compose([RandomHorizontalFlip(0.5), ToTensor(), norm]))
    dataset_test = ShapesSegmentation("val", Compose([ToTensor(), norm]))
    data_loader = torch.utils.data.DataLoader(
        dataset, args.batch_size, sampler=torch.utils.data.RandomSampler(dataset), drop_last=True)
    data_loader_test = torch.utils.data.DataLoader(dataset_test, batch_size=32)
    model = FCN(num_classes=4)
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, weight_decay=1e-4)
    total = len(data_loader) * args.epochs
    lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda x: (1 - x / total) ** 0.9)
    for epoch in range(args.epochs):
        train_one_epoch(model, optimizer, data_loader, lr_scheduler, epoch)
        evaluate(model, data_loader_test, num_classes=4)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", default=16, type=int)
    parser.add_argument("--epochs", default=8, type=int)
    parser.add_argument("--lr", default=0.05, type=float)
    main(parser.parse_args())
