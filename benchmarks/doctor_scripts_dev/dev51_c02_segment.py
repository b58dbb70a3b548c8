"""Reference script: semantic segmentation of shapes (background, square, disc, cross)."""
import argparse
import os
import random
import tempfile

import torch
import torch.nn.functional as F
from torch import nn

import toydata


class Compose:
    def __init__(self, transforms):
        self.transforms = transforms

    def __call__(self, image, target):
        for t in self.transforms:
            image, target = t(image, target)
        return image, target


class RandomFlip:
    """Mirrors image and mask together, along either axis."""

    def __init__(self, flip_prob=0.5):
        self.flip_prob = flip_prob

    def __call__(self, image, target):
        for dim in (-1, -2):
            if random.random() < self.flip_prob:
                image, target = image.flip(dim), target.flip(dim)
        return image, target


class Normalize:
    def __call__(self, image, target):
        return (image - 0.5) / 0.25, target


class ShapesSegmentation(torch.utils.data.Dataset):
    def __init__(self, image_set, transforms):
        shapes = toydata.Shapes(train=image_set == "train")
        self.images, self.masks, self.transforms = shapes.images, shapes.masks, transforms

    def __len__(self):
        return len(self.images)

    def __getitem__(self, idx):
        return self.transforms(self.images[idx], self.masks[idx])


class ConfusionMatrix:
    def __init__(self, num_classes):
        self.num_classes, self.mat = num_classes, torch.zeros(num_classes, num_classes, dtype=torch.int64)

    def update(self, a, b):
        n = self.num_classes
        self.mat += torch.bincount(n * a + b, minlength=n * n).reshape(n, n)

    def compute(self):
        h = self.mat.float()
        acc_global = h.diag().sum() / h.sum()
        iu = h.diag() / (h.sum(1) + h.sum(0) - h.diag())
        return acc_global, iu

    def __str__(self):
        acc_global, iu = self.compute()
        listed = [f"{i:.1f}" for i in (iu * 100).tolist()]
        return f"global correct: {acc_global.item() * 100:.1f}  IoU: {listed}  mean IoU: {iu.mean().item() * 100:.1f}"


def conv_gn_relu(inp, out, stride=1):
    return nn.Sequential(nn.Conv2d(inp, out, 3, stride, 1, bias=False), nn.GroupNorm(4, out), nn.ReLU(inplace=True))


class SmallUNet(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.enc1 = nn.Sequential(conv_gn_relu(3, 16), conv_gn_relu(16, 16))
        self.enc2 = nn.Sequential(conv_gn_relu(16, 24, 2), conv_gn_relu(24, 24))
        self.enc3 = nn.Sequential(conv_gn_relu(24, 32, 2), conv_gn_relu(32, 32))
        self.dec2 = conv_gn_relu(32 + 24, 24)
        self.dec1 = conv_gn_relu(24 + 16, 16)
        self.classifier = nn.Conv2d(16, num_classes, 1)

    def forward(self, x):
        a = self.enc1(x)
        b = self.enc2(a)
        c = self.enc3(b)
        b = self.dec2(torch.cat([F.interpolate(c, scale_factor=2), b], dim=1))
        a = self.dec1(torch.cat([F.interpolate(b, scale_factor=2), a], dim=1))
        return self.classifier(a)


def criterion(logits, target, eps=1.0):
    """Cross entropy plus soft Dice, whose sums go over the whole batch."""
    probs = logits.softmax(dim=1)
    onehot = F.one_hot(target, logits.size(1)).permute(0, 3, 1, 2).to(probs.dtype)
    intersection = (probs * onehot).sum((0, 2, 3))
    cardinality = (probs + onehot).sum((0, 2, 3))
    dice = (2 * intersection + eps) / (cardinality + eps)
    return F.cross_entropy(logits, target) + (1 - dice.mean())


def train_one_epoch(model, optimizer, data_loader, lr_scheduler, epoch, args):
    model.train()
    running, seen = 0.0, 0
    optimizer.zero_grad()
    for step, (image, target) in enumerate(data_loader):
        loss = criterion(model(image), target)
        (loss / args.accumulate).backward()
        if (step + 1) % args.accumulate == 0:
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            lr_scheduler.step()
            optimizer.zero_grad()
        running, seen = running + loss.item() * len(image), seen + len(image)
    print(f"Epoch: [{epoch}]  lr: {optimizer.param_groups[0]['lr']:.5f}  loss: {running / seen:.4f}")


def evaluate(model, data_loader, num_classes):
    model.eval()
    confmat = ConfusionMatrix(num_classes)
    with torch.inference_mode():
        for image, target in data_loader:
            confmat.update(target.flatten(), model(image).argmax(1).flatten())
    return confmat


def main(args):
    random.seed(args.seed)
    torch.manual_seed(args.seed)
    dataset = ShapesSegmentation("train", Compose([RandomFlip(), Normalize()]))
    dataset_test = ShapesSegmentation("val", Compose([Normalize()]))
    data_loader = torch.utils.data.DataLoader(dataset, batch_size=args.batch_size, shuffle=True, drop_last=True)
    data_loader_test = torch.utils.data.DataLoader(dataset_test, batch_size=40)

    model = SmallUNet(args.num_classes)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=1e-4)
    total = args.epochs * (len(data_loader) // args.accumulate)
    lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda it: (1 - min(it, total) / total) ** 0.9)

    for epoch in range(args.epochs):
        train_one_epoch(model, optimizer, data_loader, lr_scheduler, epoch, args)
        print(evaluate(model, data_loader_test, args.num_classes))
        torch.save({"model": model.state_dict(), "epoch": epoch}, os.path.join(args.output_dir, "checkpoint.pth"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("-b", "--batch-size", default=14, type=int)
    parser.add_argument("--accumulate", default=2, type=int, help="batches per optimizer step")
    parser.add_argument("--epochs", default=8, type=int)
    parser.add_argument("--lr", default=4e-3, type=float)
    parser.add_argument("--num-classes", default=4, type=int)
    parser.add_argument("--seed", default=0, type=int)
    parser.add_argument("--output-dir", default=tempfile.mkdtemp(), type=str)
    main(parser.parse_args())
