"""Semantic segmentation in the manner of the torchvision references."""
import argparse
from collections import OrderedDict, defaultdict

import torch
import torch.utils.data
from torch import nn
from torch.nn import functional as F

from toydata import Shapes


class SegmentationPreset:
    def __init__(self, hflip_prob, mean=(0.5, 0.45, 0.5), std=(0.2, 0.2, 0.2)):
        self.hflip_prob = hflip_prob
        self.mean, self.std = torch.tensor(mean)[:, None, None], torch.tensor(std)[:, None, None]

    def __call__(self, image, target):
        if torch.rand(1).item() < self.hflip_prob:
            image = image.flip(-1)
            target = target.flip(-1)
        return (image - self.mean) / self.std, target


class ShapesSegmentation(torch.utils.data.Dataset):
    def __init__(self, image_set, transforms):
        self.base = Shapes(train=image_set == "train", count=480 if image_set == "train" else 120, size=24)
        self.transforms = transforms

    def __len__(self):
        return len(self.base)

    def __getitem__(self, index):
        image, target = self.base.images[index], self.base.masks[index]
        return self.transforms(image, target)


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
        iu = torch.diag(h) / (h.sum(1) + h.sum(0) - torch.diag(h))
        return acc_global.item(), iu


def conv_bn(inp, out, stride=1):
    return nn.Sequential(nn.Conv2d(inp, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True))


class FCN(nn.Module):
    def __init__(self, num_classes, width=16):
        super().__init__()
        self.backbone = nn.ModuleDict({
            "stem": nn.Sequential(conv_bn(3, width), conv_bn(width, width)),
            "layer1": nn.Sequential(conv_bn(width, 2 * width, 2), conv_bn(2 * width, 2 * width)),
            "layer2": nn.Sequential(conv_bn(2 * width, 2 * width, 2), conv_bn(2 * width, 2 * width)),
        })
        self.classifier = nn.Sequential(conv_bn(5 * width, width), nn.Dropout(0.1), nn.Conv2d(width, num_classes, 1))
        self.aux_classifier = nn.Conv2d(2 * width, num_classes, 1)

    def forward(self, x):
        size = x.shape[-2:]
        low = self.backbone["stem"](x)
        mid = self.backbone["layer1"](low)
        high = self.backbone["layer2"](mid)
        up = [F.interpolate(f, size=size, mode="bilinear", align_corners=False) for f in (mid, high)]
        result = OrderedDict()
        result["out"] = self.classifier(torch.cat([low, *up], dim=1))
        aux = self.aux_classifier(high)
        result["aux"] = F.interpolate(aux, size=size, mode="bilinear", align_corners=False)
        return result


def criterion(inputs, target):
    losses = {}
    for name, x in inputs.items():
        losses[name] = nn.functional.cross_entropy(x, target, ignore_index=255)
    return losses["out"] + 0.5 * losses["aux"]


def evaluate(model, data_loader, device, num_classes):
    model.eval()
    confmat = ConfusionMatrix(num_classes)
    with torch.inference_mode():
        for image, target in data_loader:
            image, target = image.to(device), target.to(device)
            output = model(image)["out"]
            confmat.update(target.flatten().cpu(), output.argmax(1).flatten().cpu())
    return confmat


def train_one_epoch(model, criterion, optimizer, data_loader, lr_scheduler, device, epoch, print_freq):
    model.train()
    meters = defaultdict(list)
    for i, (image, target) in enumerate(data_loader):
        image, target = image.to(device), target.to(device)
        output = model(image)
        loss = criterion(output, target)

        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        lr_scheduler.step()

        meters["loss"].append(loss.item())
        if i % print_freq == 0:
            lr = optimizer.param_groups[0]["lr"]
            mean = sum(meters["loss"]) / len(meters["loss"])
            print(f"Epoch: [{epoch}]  [{i}/{len(data_loader)}]  lr: {lr:.5f}  loss: {loss.item():.4f} ({mean:.4f})")


def main(args):
    torch.manual_seed(0)
    device = torch.device(args.device)
    num_classes = 4
    dataset = ShapesSegmentation("train", SegmentationPreset(hflip_prob=0.5))
    dataset_test = ShapesSegmentation("val", SegmentationPreset(hflip_prob=0.0))
    train_sampler = torch.utils.data.RandomSampler(dataset)
    test_sampler = torch.utils.data.SequentialSampler(dataset_test)
    data_loader = torch.utils.data.DataLoader(dataset, args.batch_size, sampler=train_sampler, drop_last=True)
    data_loader_test = torch.utils.data.DataLoader(dataset_test, batch_size=40, sampler=test_sampler)

    model = FCN(num_classes).to(device)
    params_to_optimize = [
        {"params": model.backbone.parameters()},
        {"params": model.classifier.parameters()},
        {"params": model.aux_classifier.parameters(), "lr": args.lr * 2},
    ]
    optimizer = torch.optim.SGD(params_to_optimize, lr=args.lr, momentum=0.9, weight_decay=args.weight_decay)
    iters = len(data_loader) * args.epochs
    lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda x: (1 - x / iters) ** 0.9)

    for epoch in range(args.epochs):
        train_one_epoch(model, criterion, optimizer, data_loader, lr_scheduler, device, epoch, args.print_freq)
        acc, iu = evaluate(model, data_loader_test, device, num_classes).compute()
        print(f"global correct: {acc * 100:.1f}  IoU: {[f'{i * 100:.1f}' for i in iu.tolist()]}  mean: {iu.mean() * 100:.1f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Segmentation training")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("-b", "--batch-size", default=16, type=int)
    parser.add_argument("--epochs", default=8, type=int)
    parser.add_argument("--lr", default=0.05, type=float)
    parser.add_argument("--weight-decay", default=1e-4, type=float)
    parser.add_argument("--print-freq", default=10, type=int)
    main(parser.parse_args())
