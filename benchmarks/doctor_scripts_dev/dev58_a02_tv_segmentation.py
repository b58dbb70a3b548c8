"""Segmentation of shapes, after torchvision's references/segmentation/train.py."""
import argparse
import datetime
import random
import time

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

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
            image = image.flip(-1)
            target = target.flip(-1)
        return image, target


class RandomShift:
    """Pads on all sides and crops back to the old size; what is new is not labeled."""

    def __init__(self, pad, fill=255):
        self.pad, self.fill = pad, fill

    def __call__(self, image, target):
        h, w = target.shape
        top, left = random.randint(0, 2 * self.pad), random.randint(0, 2 * self.pad)
        image = F.pad(image, [self.pad] * 4)
        target = F.pad(target, [self.pad] * 4, value=self.fill)
        return image[:, top : top + h, left : left + w], target[top : top + h, left : left + w]


class Normalize:
    def __init__(self, mean, std):
        self.mean, self.std = torch.tensor(mean).view(-1, 1, 1), torch.tensor(std).view(-1, 1, 1)

    def __call__(self, image, target):
        return (image - self.mean) / self.std, target


def get_transform(train):
    normalize = Normalize((0.5, 0.45, 0.5), (0.2, 0.2, 0.2))
    if train:
        return Compose([normalize, RandomHorizontalFlip(0.5), RandomShift(2)])
    return Compose([normalize])


class ShapeSegmentation(Dataset):
    def __init__(self, image_set, transforms):
        self.shapes = Shapes(train=image_set == "train")
        self.transforms = transforms

    def __len__(self):
        return len(self.shapes)

    def __getitem__(self, index):
        return self.transforms(self.shapes.images[index], self.shapes.masks[index])


def block(i, o, stride=1):
    return nn.Sequential(nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU(inplace=True))


class Backbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer1 = block(3, 16)
        self.layer2 = nn.Sequential(block(16, 32, 2), block(32, 32))
        self.layer3 = nn.Sequential(block(32, 32, 2), block(32, 32))

    def forward(self, x):
        low = self.layer1(x)
        aux = self.layer2(low)
        return {"low": low, "aux": aux, "out": self.layer3(aux)}


class SegmentationModel(nn.Module):
    def __init__(self, backbone, num_classes):
        super().__init__()
        self.backbone = backbone
        self.fuse = block(32 + 32 + 16, 32)
        self.classifier = nn.Conv2d(32, num_classes, 1)
        self.aux_classifier = nn.Sequential(block(32, 16), nn.Conv2d(16, num_classes, 1))

    def forward(self, x):
        size = x.shape[-2:]
        features = self.backbone(x)
        up = [F.interpolate(features[k], size=size, mode="bilinear", align_corners=False) for k in ("out", "aux")]
        out = self.classifier(self.fuse(torch.cat(up + [features["low"]], dim=1)))
        aux = F.interpolate(self.aux_classifier(features["aux"]), size=size, mode="bilinear", align_corners=False)
        return {"out": out, "aux": aux}


def criterion(inputs, target):
    losses = {name: F.cross_entropy(x, target, ignore_index=255) for name, x in inputs.items()}
    return losses["out"] + 0.5 * losses["aux"]


class ConfusionMatrix:
    def __init__(self, num_classes):
        self.n = num_classes
        self.mat = torch.zeros(num_classes, num_classes, dtype=torch.int64)

    def update(self, a, b):
        k = (a >= 0) & (a < self.n)
        self.mat += torch.bincount(self.n * a[k] + b[k], minlength=self.n**2).reshape(self.n, self.n)

    def compute(self):
        h = self.mat.float()
        return torch.diag(h).sum() / h.sum(), torch.diag(h) / (h.sum(1) + h.sum(0) - torch.diag(h)).clamp(min=1)


def evaluate(model, data_loader, num_classes):
    model.eval()
    confmat = ConfusionMatrix(num_classes)
    with torch.inference_mode():
        for image, target in data_loader:
            output = model(image)["out"]
            confmat.update(target.flatten(), output.argmax(1).flatten())
    return confmat.compute()


def train_one_epoch(model, optimizer, data_loader, lr_scheduler, epoch, print_freq):
    model.train()
    for i, (image, target) in enumerate(data_loader):
        loss = criterion(model(image), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        lr_scheduler.step()
        if i % print_freq == 0:
            print(f"Epoch: [{epoch}] [{i}/{len(data_loader)}] lr: {optimizer.param_groups[0]['lr']:.4f} loss: {loss.item():.4f}")


def main(args):
    torch.manual_seed(0)
    random.seed(0)
    num_classes = 4
    dataset = ShapeSegmentation("train", get_transform(True))
    dataset_test = ShapeSegmentation("val", get_transform(False))
    data_loader = DataLoader(dataset, batch_size=args.batch_size, shuffle=True, drop_last=True)
    data_loader_test = DataLoader(dataset_test, batch_size=40)
    model = SegmentationModel(Backbone(), num_classes)
    params_to_optimize = [
        {"params": [p for p in model.backbone.parameters() if p.requires_grad]},
        {"params": list(model.fuse.parameters()) + list(model.classifier.parameters())},
        {"params": model.aux_classifier.parameters(), "lr": args.lr * 2},
    ]
    optimizer = torch.optim.SGD(params_to_optimize, lr=args.lr, momentum=0.9, weight_decay=1e-4)
    iters_per_epoch = len(data_loader)
    warmup_iters = args.lr_warmup_epochs * iters_per_epoch
    main_iters = args.epochs * iters_per_epoch - warmup_iters
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.2, total_iters=warmup_iters)
    poly = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=main_iters, power=0.9)
    lr_scheduler = torch.optim.lr_scheduler.SequentialLR(optimizer, [warmup, poly], milestones=[warmup_iters])
    start_time = time.time()
    best_iou, checkpoint = 0.0, None
    for epoch in range(args.epochs):
        train_one_epoch(model, optimizer, data_loader, lr_scheduler, epoch, args.print_freq)
        acc, iu = evaluate(model, data_loader_test, num_classes)
        mean_iou = iu.mean().item()
        print(f"Test: global correct: {acc:.3f} IoU: {[round(v, 3) for v in iu.tolist()]} mean IoU: {mean_iou:.3f}")
        if mean_iou > best_iou:
            best_iou, checkpoint = mean_iou, {k: v.clone() for k, v in model.state_dict().items()}
    model.load_state_dict(checkpoint)
    print(f"Best mean IoU {best_iou:.3f}, training time {datetime.timedelta(seconds=int(time.time() - start_time))}")


def get_args_parser():
    parser = argparse.ArgumentParser(description="Segmentation training")
    parser.add_argument("-b", "--batch-size", default=30, type=int)
    parser.add_argument("--epochs", default=8, type=int)
    parser.add_argument("--lr", default=0.05, type=float)
    parser.add_argument("--lr-warmup-epochs", default=1, type=int)
    parser.add_argument("--print-freq", default=15, type=int)
    return parser


if __name__ == "__main__":
    main(get_args_parser().parse_args())
