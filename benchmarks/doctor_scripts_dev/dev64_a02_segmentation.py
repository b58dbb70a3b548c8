import argparse
import random

import torch
import torch.utils.data
from torch import nn
from torch.nn import functional as F

from toydata import Shapes


class SegmentationPreset:
    def __init__(self, hflip_prob=0.0, mean=(0.5, 0.48, 0.5), std=(0.2, 0.15, 0.2)):
        self.hflip_prob = hflip_prob
        self.mean = torch.tensor(mean)[:, None, None]
        self.std = torch.tensor(std)[:, None, None]

    def __call__(self, image, target):
        if random.random() < self.hflip_prob:
            image = image.flip(-1)
            target = target.flip(-1)
        return (image - self.mean) / self.std, target


class ShapeSegmentation(torch.utils.data.Dataset):
    def __init__(self, image_set, transforms):
        self.shapes = Shapes(train=image_set == "train", count=600 if image_set == "train" else 160, size=24)
        self.transforms = transforms

    def __len__(self):
        return len(self.shapes)

    def __getitem__(self, idx):
        return self.transforms(self.shapes.images[idx], self.shapes.masks[idx])


def conv_bn_relu(inp, out, stride=1):
    return nn.Sequential(nn.Conv2d(inp, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True))


class FCN(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.backbone = nn.ModuleDict({
            "layer1": conv_bn_relu(3, 16),
            "layer2": conv_bn_relu(16, 32, stride=2),
            "layer3": nn.Sequential(conv_bn_relu(32, 48, stride=2), conv_bn_relu(48, 48)),
        })
        self.classifier = nn.Sequential(conv_bn_relu(48, 32), nn.Dropout(0.1), nn.Conv2d(32, num_classes, 1))
        self.aux_classifier = nn.Conv2d(32, num_classes, 1)

    def forward(self, x):
        size = x.shape[-2:]
        mid = self.backbone["layer2"](self.backbone["layer1"](x))
        top = self.backbone["layer3"](mid)
        out = F.interpolate(self.classifier(top), size=size, mode="bilinear", align_corners=False)
        aux = F.interpolate(self.aux_classifier(mid), size=size, mode="bilinear", align_corners=False)
        return {"out": out, "aux": aux}


class ConfusionMatrix:
    def __init__(self, num_classes):
        self.num_classes = num_classes
        self.mat = torch.zeros(num_classes, num_classes, dtype=torch.int64)

    def update(self, a, b):
        n = self.num_classes
        k = (a >= 0) & (a < n)
        inds = n * a[k] + b[k]
        self.mat += torch.bincount(inds, minlength=n**2).reshape(n, n)

    def compute(self):
        h = self.mat.float()
        acc_global = torch.diag(h).sum() / h.sum()
        iu = torch.diag(h) / (h.sum(1) + h.sum(0) - torch.diag(h)).clamp(min=1)
        return acc_global, iu


def criterion(inputs, target, weight):
    losses = {name: F.cross_entropy(x, target, weight=weight, ignore_index=255) for name, x in inputs.items()}
    return losses["out"] + 0.5 * losses["aux"]


def get_class_weights(dataset, num_classes):
    counts = torch.zeros(num_classes)
    for mask in dataset.shapes.masks:
        counts += torch.bincount(mask.flatten(), minlength=num_classes).float()
    freq = counts / counts.sum()
    weight = 1.0 / freq.sqrt()
    return weight / weight.mean()


def evaluate(model, data_loader, device, num_classes):
    model.eval()
    confmat = ConfusionMatrix(num_classes)
    with torch.inference_mode():
        for image, target in data_loader:
            output = model(image.to(device))["out"]
            confmat.update(target.flatten(), output.argmax(1).flatten().cpu())
    return confmat.compute()


def train_one_epoch(model, class_weights, optimizer, data_loader, lr_scheduler, device, epoch):
    model.train()
    losses = []
    for image, target in data_loader:
        image, target = image.to(device), target.to(device)
        loss = criterion(model(image), target, class_weights)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        lr_scheduler.step()
        losses.append(loss.item())
    mean = sum(losses) / len(losses)
    print(f"Epoch: [{epoch}] lr: {optimizer.param_groups[0]['lr']:.5f} loss: {mean:.4f}")


def main(args):
    torch.manual_seed(args.seed)
    random.seed(args.seed)
    device = torch.device(args.device)
    num_classes = 4
    dataset = ShapeSegmentation("train", SegmentationPreset(args.hflip_prob))
    dataset_test = ShapeSegmentation("val", SegmentationPreset())
    data_loader = torch.utils.data.DataLoader(dataset, args.batch_size, shuffle=True, drop_last=True)
    data_loader_test = torch.utils.data.DataLoader(dataset_test, batch_size=32)

    model = FCN(num_classes).to(device)
    params_to_optimize = [
        {"params": model.backbone.parameters()},
        {"params": model.classifier.parameters()},
        {"params": model.aux_classifier.parameters(), "lr": args.lr * 2},
    ]
    optimizer = torch.optim.SGD(params_to_optimize, lr=args.lr, momentum=0.9, weight_decay=args.weight_decay)
    class_weights = get_class_weights(dataset, num_classes).to(device)
    total_iters = len(data_loader) * args.epochs
    lr_scheduler = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=total_iters, power=0.9)

    for epoch in range(args.epochs):
        train_one_epoch(model, class_weights, optimizer, data_loader, lr_scheduler, device, epoch)
        acc, iu = evaluate(model, data_loader_test, device, num_classes)
        print(f"global correct: {acc * 100:.1f} IoU: {[round(i, 3) for i in iu.tolist()]} mean IoU: {iu.mean() * 100:.1f}")


def get_args_parser():
    parser = argparse.ArgumentParser(description="PyTorch Segmentation Training")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("-b", "--batch-size", default=16, type=int)
    parser.add_argument("--epochs", default=10, type=int)
    parser.add_argument("--lr", default=0.05, type=float)
    parser.add_argument("--wd", "--weight-decay", default=1e-4, type=float, dest="weight_decay")
    parser.add_argument("--hflip-prob", default=0.5, type=float)
    parser.add_argument("--seed", default=0, type=int)
    return parser


if __name__ == "__main__":
    main(get_args_parser().parse_args())
