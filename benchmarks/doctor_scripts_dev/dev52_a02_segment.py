import copy
import random
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import nn

from toydata import Shapes


class RandomHorizontalFlip:
    def __init__(self, flip_prob):
        self.flip_prob = flip_prob

    def __call__(self, image, target):
        if random.random() < self.flip_prob:
            image = image.flip(-1)
            target = target.flip(-1)
        return image, target


class RandomCrop:
    def __init__(self, size, padding):
        self.size, self.padding = size, padding

    def __call__(self, image, target):
        p = self.padding
        image = F.pad(image, (p, p, p, p), value=0.5)
        target = F.pad(target, (p, p, p, p), value=255)
        i, j = random.randint(0, 2 * p), random.randint(0, 2 * p)
        return image[:, i : i + self.size, j : j + self.size], target[i : i + self.size, j : j + self.size]


class ShapeSegmentation(torch.utils.data.Dataset):
    def __init__(self, image_set, count, transforms):
        self.source = Shapes(train=image_set == "train", count=count, size=24)
        self.transforms = transforms

    def __len__(self):
        return len(self.source)

    def __getitem__(self, idx):
        image, target = self.source.images[idx], self.source.masks[idx]
        for t in self.transforms:
            image, target = t(image, target)
        return (image - 0.48) / 0.17, target


def conv_bn(cin, cout):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True))


class Backbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.stage1 = nn.Sequential(conv_bn(3, 16), conv_bn(16, 16))
        self.stage2 = nn.Sequential(nn.MaxPool2d(2), conv_bn(16, 32), conv_bn(32, 32))
        self.stage3 = nn.Sequential(nn.MaxPool2d(2), conv_bn(32, 48), conv_bn(48, 48))

    def forward(self, x):
        c1 = self.stage1(x)
        c2 = self.stage2(c1)
        return c1, c2, self.stage3(c2)


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.lateral2, self.lateral1 = conv_bn(48 + 32, 32), conv_bn(32 + 16, 16)

    def forward(self, c1, c2, c3):
        p2 = self.lateral2(torch.cat([F.interpolate(c3, size=c2.shape[-2:]), c2], dim=1))
        return self.lateral1(torch.cat([F.interpolate(p2, size=c1.shape[-2:]), c1], dim=1))


class SegmentationModel(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.backbone = Backbone()
        self.decoder = Decoder()
        self.classifier = nn.Conv2d(16, num_classes, 1)

    def forward(self, x):
        return self.classifier(self.decoder(*self.backbone(x)))


class ConfusionMatrix:
    def __init__(self, num_classes):
        self.num_classes = num_classes
        self.mat = torch.zeros((num_classes, num_classes), dtype=torch.int64)

    def update(self, a, b):
        n = self.num_classes
        k = (a >= 0) & (a < n)
        inds = n * a[k] + b[k]
        self.mat += torch.bincount(inds, minlength=n**2).reshape(n, n)

    def compute(self):
        h = self.mat.float()
        acc_global = torch.diag(h).sum() / h.sum()
        iu = torch.diag(h) / (h.sum(1) + h.sum(0) - torch.diag(h))
        return acc_global.item(), iu


def criterion(output, target):
    return F.cross_entropy(output, target, ignore_index=255)


def train_one_epoch(model, optimizer, data_loader, lr_scheduler, epoch):
    model.train()
    for image, target in data_loader:
        output = model(image)
        loss = criterion(output, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        lr_scheduler.step()
    print(f"Epoch: [{epoch}] last loss: {loss.item():.4f} lr: {optimizer.param_groups[0]['lr']:.5f}")


def evaluate(model, data_loader, num_classes):
    model.eval()
    confmat = ConfusionMatrix(num_classes)
    with torch.inference_mode():
        for image, target in data_loader:
            confmat.update(target.flatten(), model(image).argmax(1).flatten())
    return confmat.compute()


def main(args):
    random.seed(args.seed)
    torch.manual_seed(args.seed)
    dataset = ShapeSegmentation("train", 480, [RandomHorizontalFlip(0.5), RandomCrop(24, 2)])
    dataset_test = ShapeSegmentation("val", 120, [])
    data_loader = torch.utils.data.DataLoader(dataset, batch_size=args.batch_size, shuffle=True, drop_last=True)
    data_loader_test = torch.utils.data.DataLoader(dataset_test, batch_size=args.batch_size)
    model = SegmentationModel(num_classes=4)
    params_to_optimize = [
        {"params": [p for p in model.backbone.parameters() if p.requires_grad]},
        {"params": [p for p in model.decoder.parameters() if p.requires_grad]},
        {"params": [p for p in model.classifier.parameters() if p.requires_grad]},
    ]
    optimizer = torch.optim.SGD(params_to_optimize, lr=args.lr, momentum=0.9, weight_decay=1e-4)
    iters = len(data_loader) * args.epochs
    lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda x: (1 - x / iters) ** 0.9)
    best_miou, best_weights = -1.0, None
    for epoch in range(args.epochs):
        train_one_epoch(model, optimizer, data_loader, lr_scheduler, epoch)
        acc, iu = evaluate(model, data_loader_test, num_classes=4)
        miou = iu.mean().item()
        print(f"global correct: {acc * 100:.1f} IoU: {[f'{i:.2f}' for i in iu.tolist()]} mean IoU: {miou * 100:.1f}")
        if miou > best_miou:
            best_miou, best_weights = miou, copy.deepcopy(model.state_dict())
    model.load_state_dict(best_weights)
    print(f"best mean IoU {best_miou:.3f}")


if __name__ == "__main__":
    main(SimpleNamespace(batch_size=16, epochs=6, lr=0.05, seed=0))
