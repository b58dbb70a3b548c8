"""Semantic segmentation of shapes, after torchvision's references/segmentation."""
import argparse
import random
import time
from collections import OrderedDict, defaultdict, deque

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.utils.data

from toydata import Shapes

VOID = 255


class RandomHorizontalFlip:
    def __init__(self, flip_prob):
        self.flip_prob = flip_prob

    def __call__(self, image, target):
        if random.random() < self.flip_prob:
            image = image.flip(-1)
            target = target.flip(-1)
        return image, target


class RandomCrop:
    def __init__(self, padding):
        self.padding = padding

    def __call__(self, image, target):
        height, width = target.shape
        pad = self.padding
        image = F.pad(image, (pad, pad, pad, pad), value=0.5)
        target = F.pad(target, (pad, pad, pad, pad), value=VOID)
        top, left = random.randint(0, 2 * pad), random.randint(0, 2 * pad)
        return image[:, top : top + height, left : left + width], target[top : top + height, left : left + width]


class Normalize:
    def __init__(self, mean, std):
        self.mean, self.std = torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)

    def __call__(self, image, target):
        return (image - self.mean) / self.std, target


class Compose:
    def __init__(self, transforms):
        self.transforms = transforms

    def __call__(self, image, target):
        for t in self.transforms:
            image, target = t(image, target)
        return image, target


def get_transform(train):
    normalize = Normalize((0.5, 0.46, 0.5), (0.2, 0.15, 0.2))
    if train:
        return Compose([RandomHorizontalFlip(0.5), RandomCrop(1), normalize])
    return normalize


class ShapeSegmentation(torch.utils.data.Dataset):
    def __init__(self, image_set, transforms):
        self.base = Shapes(train=image_set == "train")
        self.transforms = transforms

    def __len__(self):
        return len(self.base)

    def __getitem__(self, index):
        return self.transforms(self.base.images[index], self.base.masks[index])


def conv_bn(cin, cout, stride=1, dilation=1):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, stride, dilation, dilation, bias=False), nn.BatchNorm2d(cout), nn.ReLU())


class FCN(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.backbone = nn.ModuleDict({"low": conv_bn(3, 24), "mid": conv_bn(24, 32, stride=2), "high": conv_bn(32, 32, dilation=2)})
        self.classifier = nn.Sequential(conv_bn(32 + 24, 32), nn.Dropout(0.1), nn.Conv2d(32, num_classes, 1))
        self.aux_classifier = nn.Sequential(conv_bn(32, 16), nn.Conv2d(16, num_classes, 1))

    def forward(self, x):
        size = x.shape[-2:]
        low = self.backbone["low"](x)
        mid = self.backbone["mid"](low)
        high = F.interpolate(self.backbone["high"](mid), size=size, mode="bilinear", align_corners=False)
        result = OrderedDict()
        result["out"] = self.classifier(torch.cat([high, low], dim=1))
        result["aux"] = F.interpolate(self.aux_classifier(mid), size=size, mode="bilinear", align_corners=False)
        return result


class ConfusionMatrix:
    def __init__(self, num_classes):
        self.num_classes = num_classes
        self.mat = torch.zeros(num_classes, num_classes, dtype=torch.int64)

    def update(self, a, b):
        n = self.num_classes
        k = (a >= 0) & (a < n)
        self.mat += torch.bincount(n * a[k] + b[k], minlength=n**2).reshape(n, n)

    def compute(self):
        h = self.mat.float()
        acc_global = torch.diag(h).sum() / h.sum()
        iou = torch.diag(h) / (h.sum(1) + h.sum(0) - torch.diag(h))
        return acc_global.item() * 100, iou.mean().item() * 100


class MetricLogger:
    def __init__(self):
        self.meters = defaultdict(lambda: deque(maxlen=20))

    def update(self, **kwargs):
        for k, v in kwargs.items():
            self.meters[k].append(float(v))

    def __str__(self):
        return "  ".join(f"{k}: {sum(v) / len(v):.4f}" for k, v in self.meters.items())


def criterion(inputs, target):
    losses = {}
    for name, x in inputs.items():
        logits = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])
        losses[name] = F.cross_entropy(logits, target.reshape(-1), ignore_index=VOID)
    return losses["out"] + 0.5 * losses["aux"]


def evaluate(model, data_loader, num_classes):
    model.eval()
    confmat = ConfusionMatrix(num_classes)
    with torch.inference_mode():
        for image, target in data_loader:
            output = model(image)["out"]
            confmat.update(target.flatten(), output.argmax(1).flatten())
    return confmat.compute()


def train_one_epoch(model, optimizer, data_loader, lr_scheduler, epoch):
    model.train()
    metric_logger = MetricLogger()
    for image, target in data_loader:
        loss = criterion(model(image), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        lr_scheduler.step()
        metric_logger.update(loss=loss.item(), lr=optimizer.param_groups[0]["lr"])
    print(f"Epoch: [{epoch}]  {metric_logger}")


def main(args):
    torch.manual_seed(0)
    random.seed(0)
    num_classes = 4
    dataset = ShapeSegmentation("train", get_transform(True))
    dataset_test = ShapeSegmentation("val", get_transform(False))
    train_sampler = torch.utils.data.RandomSampler(dataset)
    data_loader = torch.utils.data.DataLoader(dataset, batch_size=args.batch_size, sampler=train_sampler, drop_last=True)
    data_loader_test = torch.utils.data.DataLoader(dataset_test, batch_size=48)

    model = FCN(num_classes)
    params_to_optimize = [
        {"params": [p for p in model.backbone.parameters() if p.requires_grad]},
        {"params": [p for p in model.classifier.parameters() if p.requires_grad]},
    ]
    params_to_optimize.append({"params": [p for p in model.aux_classifier.parameters() if p.requires_grad], "lr": args.lr * 2})
    optimizer = torch.optim.SGD(params_to_optimize, lr=args.lr, momentum=0.9, weight_decay=args.weight_decay)
    iters = len(data_loader) * args.epochs
    lr_scheduler = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=iters, power=0.9)

    start_time = time.time()
    for epoch in range(args.epochs):
        train_one_epoch(model, optimizer, data_loader, lr_scheduler, epoch)
        acc_global, mean_iou = evaluate(model, data_loader_test, num_classes)
        print(f"Test: global correct: {acc_global:.1f}  mean IoU: {mean_iou:.1f}")
    print(f"Training time {time.time() - start_time:.1f} s")


def get_args_parser():
    parser = argparse.ArgumentParser(description="PyTorch Segmentation Training")
    parser.add_argument("-b", "--batch-size", default=16, type=int)
    parser.add_argument("--epochs", default=8, type=int)
    parser.add_argument("--lr", default=0.05, type=float)
    parser.add_argument("--wd", "--weight-decay", default=1e-4, type=float, dest="weight_decay")
    return parser


if __name__ == "__main__":
    main(get_args_parser().parse_args())
