import argparse
import random
from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset, RandomSampler, SequentialSampler

from toydata import Shapes


class Compose:
    def __init__(self, transforms):
        self.transforms = transforms

    def __call__(self, image, target):
        for t in self.transforms:
            image, target = t(image, target)
        return image, target


class RandomFlip:
    def __init__(self, flip_prob, dim):
        self.flip_prob, self.dim = flip_prob, dim

    def __call__(self, image, target):
        if random.random() < self.flip_prob:
            image, target = image.flip(self.dim), target.flip(self.dim)
        return image, target


class Normalize:
    def __init__(self, mean, std):
        self.mean, self.std = torch.tensor(mean)[:, None, None], torch.tensor(std)[:, None, None]

    def __call__(self, image, target):
        return (image - self.mean) / self.std, target


class ShapesSegmentation(Dataset):
    def __init__(self, image_set, transforms):
        self.shapes = Shapes(train=image_set == "train", count=600 if image_set == "train" else 150, size=24)
        self.transforms = transforms

    def __len__(self):
        return len(self.shapes)

    def __getitem__(self, index):
        image, mask = self.shapes.images[index], self.shapes.masks[index]
        return self.transforms(image, mask)


class ConvBNReLU(nn.Sequential):
    def __init__(self, cin, cout):
        super().__init__(nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True))


class UNet(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.enc1 = nn.Sequential(ConvBNReLU(3, 16), ConvBNReLU(16, 16))
        self.enc2 = nn.Sequential(ConvBNReLU(16, 32), ConvBNReLU(32, 32))
        self.mid = ConvBNReLU(32, 64)
        self.dec2 = ConvBNReLU(64 + 32, 32)
        self.dec1 = ConvBNReLU(32 + 16, 16)
        self.classifier = nn.Conv2d(16, num_classes, 1)
        self.aux_classifier = nn.Conv2d(64, num_classes, 1)

    def forward(self, x):
        size = x.shape[-2:]
        e1 = self.enc1(x)
        e2 = self.enc2(F.max_pool2d(e1, 2))
        m = self.mid(F.max_pool2d(e2, 2))
        d2 = self.dec2(torch.cat([F.interpolate(m, scale_factor=2), e2], 1))
        d1 = self.dec1(torch.cat([F.interpolate(d2, scale_factor=2), e1], 1))
        result = OrderedDict(out=self.classifier(d1))
        result["aux"] = F.interpolate(self.aux_classifier(m), size=size, mode="bilinear", align_corners=False)
        return result


class ConfusionMatrix:
    def __init__(self, num_classes):
        self.num_classes = num_classes
        self.mat = torch.zeros((num_classes, num_classes), dtype=torch.int64)

    def update(self, a, b):
        n = self.num_classes
        with torch.inference_mode():
            k = (a >= 0) & (a < n)
            inds = n * a[k].to(torch.int64) + b[k]
            self.mat += torch.bincount(inds, minlength=n**2).reshape(n, n)

    def compute(self):
        h = self.mat.float()
        acc_global = torch.diag(h).sum() / h.sum()
        iu = torch.diag(h) / (h.sum(1) + h.sum(0) - torch.diag(h))
        return acc_global, iu

    def __str__(self):
        acc_global, iu = self.compute()
        ious = [f"{i * 100:.1f}" for i in iu.tolist()]
        return f"global correct: {acc_global.item() * 100:.1f} IoU: {ious} mean IoU: {iu.mean().item() * 100:.1f}"


def criterion(inputs, target):
    losses = {name: F.cross_entropy(x, target, ignore_index=255) for name, x in inputs.items()}
    return losses["out"] + 0.5 * losses["aux"]


def evaluate(model, data_loader, num_classes):
    model.eval()
    confmat = ConfusionMatrix(num_classes)
    with torch.inference_mode():
        for image, target in data_loader:
            output = model(image)["out"]
            confmat.update(target.flatten(), output.argmax(1).flatten())
    return confmat


def train_one_epoch(model, optimizer, data_loader, lr_scheduler, epoch):
    model.train()
    for i, (image, target) in enumerate(data_loader):
        loss = criterion(model(image), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        lr_scheduler.step()
        if i % 10 == 0:
            print(f"Epoch: [{epoch}] [{i}/{len(data_loader)}] lr {optimizer.param_groups[0]['lr']:.5f} loss {loss.item():.4f}")


def main(args):
    random.seed(0)
    torch.manual_seed(0)
    normalize = Normalize([0.5, 0.45, 0.5], [0.18, 0.14, 0.18])
    train_set = ShapesSegmentation("train", Compose([RandomFlip(0.5, -1), RandomFlip(0.5, -2), normalize]))
    test_set = ShapesSegmentation("val", normalize)
    data_loader = DataLoader(train_set, args.batch_size, sampler=RandomSampler(train_set), drop_last=True)
    data_loader_test = DataLoader(test_set, batch_size=30, sampler=SequentialSampler(test_set))

    num_classes, model = 4, UNet(num_classes=4)
    params_to_optimize = [
        {"params": [p for n, p in model.named_parameters() if not n.startswith("aux_classifier")]},
        {"params": [p for p in model.aux_classifier.parameters()], "lr": args.lr * 2},
    ]
    optimizer = torch.optim.AdamW(params_to_optimize, lr=args.lr, weight_decay=1e-4)
    total_iters = args.epochs * len(data_loader)
    lr_scheduler = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=total_iters, power=0.9)
    for epoch in range(args.epochs):
        train_one_epoch(model, optimizer, data_loader, lr_scheduler, epoch)
        print(evaluate(model, data_loader_test, num_classes))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", default=7, type=int)
    parser.add_argument("--batch-size", default=24, type=int)
    parser.add_argument("--lr", default=4e-3, type=float)
    main(parser.parse_args())
