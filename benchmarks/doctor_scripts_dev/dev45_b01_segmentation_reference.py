import argparse
import datetime
import os
import tempfile
import time
from collections import OrderedDict

import torch
import torch.utils.data
from torch import nn

import toydata


class SegmentationPresetTrain:
    def __init__(self, hflip_prob=0.5, mean=0.5, std=0.2):
        self.hflip_prob, self.mean, self.std = hflip_prob, mean, std

    def __call__(self, image, target):
        if torch.rand(1).item() < self.hflip_prob:
            image = image.flip(-1)
            target = target.flip(-1)
        return (image - self.mean) / self.std, target


class SegmentationPresetEval:
    def __init__(self, mean=0.5, std=0.2):
        self.mean, self.std = mean, std

    def __call__(self, image, target):
        return (image - self.mean) / self.std, target


class ShapeSegmentation(torch.utils.data.Dataset):
    def __init__(self, image_set, transforms):
        self.base = toydata.Shapes(train=image_set == "train", size=24)
        self.transforms = transforms

    def __len__(self):
        return len(self.base)

    def __getitem__(self, idx):
        return self.transforms(self.base.images[idx], self.base.masks[idx])


def conv_bn(cin, cout, stride=1):
    return nn.Sequential(
        nn.Conv2d(cin, cout, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True)
    )


class SmallFCN(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.stem = conv_bn(3, 16)
        self.layer1 = nn.Sequential(conv_bn(16, 32, stride=2), conv_bn(32, 32))
        self.layer2 = nn.Sequential(conv_bn(32, 48, stride=2), conv_bn(48, 48))
        self.fuse1 = conv_bn(48 + 32, 32)
        self.fuse0 = conv_bn(32 + 16, 24)
        self.classifier = nn.Sequential(nn.Dropout(0.1), nn.Conv2d(24, num_classes, 1))

    def forward(self, x):
        c0 = self.stem(x)
        c1 = self.layer1(c0)
        c2 = self.layer2(c1)
        up = nn.functional.interpolate(c2, size=c1.shape[-2:], mode="bilinear", align_corners=False)
        up = self.fuse1(torch.cat([up, c1], dim=1))
        up = nn.functional.interpolate(up, size=c0.shape[-2:], mode="bilinear", align_corners=False)
        up = self.fuse0(torch.cat([up, c0], dim=1))
        result = OrderedDict()
        result["out"] = self.classifier(up)
        return result


class ConfusionMatrix:
    def __init__(self, num_classes):
        self.num_classes = num_classes
        self.mat = torch.zeros((num_classes, num_classes), dtype=torch.int64)

    def update(self, a, b):
        n = self.num_classes
        k = (a >= 0) & (a < n)
        self.mat += torch.bincount(n * a[k] + b[k], minlength=n**2).reshape(n, n)

    def compute(self):
        h = self.mat.float()
        acc_global = torch.diag(h).sum() / h.sum()
        iu = torch.diag(h) / (h.sum(1) + h.sum(0) - torch.diag(h)).clamp(min=1)
        return acc_global.item(), iu


def criterion(inputs, target):
    return nn.functional.cross_entropy(inputs["out"], target)


def evaluate(model, data_loader, device, num_classes):
    model.eval()
    confmat = ConfusionMatrix(num_classes)
    with torch.inference_mode():
        for image, target in data_loader:
            image, target = image.to(device), target.to(device)
            output = model(image)["out"]
            confmat.update(target.flatten(), output.argmax(1).flatten())
    return confmat


def train_one_epoch(model, optimizer, data_loader, lr_scheduler, device, epoch):
    model.train()
    running, seen = 0.0, 0
    for image, target in data_loader:
        image, target = image.to(device), target.to(device)
        output = model(image)
        loss = criterion(output, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        lr_scheduler.step()
        running += loss.item() * len(image)
        seen += len(image)
    print(f"Epoch: [{epoch}] lr {optimizer.param_groups[0]['lr']:.5f} loss {running / seen:.4f}")


def get_args_parser():
    parser = argparse.ArgumentParser(description="Segmentation Training")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("-b", "--batch-size", default=32, type=int)
    parser.add_argument("--epochs", default=8, type=int)
    parser.add_argument("--lr", default=0.05, type=float)
    parser.add_argument("--momentum", default=0.9, type=float)
    parser.add_argument("--wd", default=1e-4, type=float)
    parser.add_argument("--output-dir", default=None)
    return parser


def main(args):
    torch.manual_seed(0)
    device = torch.device(args.device)
    num_classes = 4
    dataset = ShapeSegmentation("train", SegmentationPresetTrain())
    dataset_test = ShapeSegmentation("val", SegmentationPresetEval())
    data_loader = torch.utils.data.DataLoader(dataset, batch_size=args.batch_size, shuffle=True, drop_last=True)
    data_loader_test = torch.utils.data.DataLoader(dataset_test, batch_size=64)

    model = SmallFCN(num_classes).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=args.momentum, weight_decay=args.wd)
    iters_per_epoch = len(data_loader)
    lr_scheduler = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=args.epochs * iters_per_epoch, power=0.9)

    output_dir = args.output_dir or tempfile.mkdtemp()
    start_time = time.time()
    for epoch in range(args.epochs):
        train_one_epoch(model, optimizer, data_loader, lr_scheduler, device, epoch)
        acc_global, iu = evaluate(model, data_loader_test, device, num_classes).compute()
        print(f"  global correct {100 * acc_global:.1f}  IoU {[f'{i:.3f}' for i in iu.tolist()]}  mean {iu.mean():.3f}")
        torch.save({"model": model.state_dict(), "epoch": epoch}, os.path.join(output_dir, "checkpoint.pth"))
    print(f"Training time {datetime.timedelta(seconds=int(time.time() - start_time))}")


if __name__ == "__main__":
    main(get_args_parser().parse_args())
