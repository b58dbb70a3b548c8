"""Segmentation of shapes with a small U-Net, after torchvision's references/segmentation."""
from types import SimpleNamespace

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes


class RandomHorizontalFlip:
    def __init__(self, flip_prob):
        self.flip_prob = flip_prob

    def __call__(self, image, target):
        if torch.rand(()) < self.flip_prob:
            image = image.flip(-1)
            target = target.flip(-1)
        return image, target


class Normalize:
    def __init__(self, mean, std):
        self.mean, self.std = torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)

    def __call__(self, image, target):
        return (image - self.mean) / self.std, target


class ShapeMasks(Dataset):
    def __init__(self, image_set, transforms):
        self.shapes = Shapes(train=image_set == "train")
        self.transforms = transforms

    def __len__(self):
        return len(self.shapes)

    def __getitem__(self, index):
        image, target = self.shapes.images[index], self.shapes.masks[index]
        for transform in self.transforms:
            image, target = transform(image, target)
        return image, target


def conv_block(inp, out):
    return nn.Sequential(
        nn.Conv2d(inp, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True),
        nn.Conv2d(out, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    def __init__(self, num_classes, width=12):
        super().__init__()
        self.down1, self.down2 = conv_block(3, width), conv_block(width, 2 * width)
        self.bottom = conv_block(2 * width, 4 * width)
        self.up2 = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2)
        self.dec2 = conv_block(4 * width, 2 * width)
        self.up1 = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.dec1 = conv_block(2 * width, width)
        self.classifier = nn.Conv2d(width, num_classes, 1)

    def forward(self, x):
        s1 = self.down1(x)
        s2 = self.down2(F.max_pool2d(s1, 2))
        x = self.bottom(F.max_pool2d(s2, 2))
        x = self.dec2(torch.cat([s2, self.up2(x)], dim=1))
        x = self.dec1(torch.cat([s1, self.up1(x)], dim=1))
        return self.classifier(x)


class FocalDiceLoss(nn.Module):
    def __init__(self, gamma=2.0, ignore_index=255):
        super().__init__()
        self.gamma, self.ignore_index = gamma, ignore_index

    def forward(self, logits, target):
        valid = (target != self.ignore_index).float()
        ce = F.cross_entropy(logits, target, ignore_index=self.ignore_index, reduction="none")
        focal = ((1 - torch.exp(-ce)) ** self.gamma * ce).sum() / valid.sum().clamp(min=1)

        classes = logits.shape[1]
        probs = logits.softmax(dim=1) * valid.unsqueeze(1)
        onehot = F.one_hot(target.clamp(max=classes - 1), classes).permute(0, 3, 1, 2) * valid.unsqueeze(1)
        overlap = (probs * onehot).sum(dim=(0, 2, 3))
        dice = (2 * overlap + 1) / (probs.sum(dim=(0, 2, 3)) + onehot.sum(dim=(0, 2, 3)) + 1)
        return focal + (1 - dice.mean())


class TrainOneIteration:
    def __init__(self, args, iters_per_epoch):
        self.args, self.iters_per_epoch, self.lr_scheduler = args, iters_per_epoch, None

    def __call__(self, model, batch, optimizer, criterion):
        if self.lr_scheduler is None or self.lr_scheduler.optimizer is not optimizer:
            total = self.iters_per_epoch * self.args.epochs
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda x: max(0.0, 1 - x / total) ** 0.9)
        image, target = batch
        loss = criterion(model(image), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        self.lr_scheduler.step()
        return loss


def setup():
    torch.manual_seed(3)
    args = SimpleNamespace(epochs=30, batch_size=32, lr=0.05, momentum=0.9, weight_decay=1e-4)
    normalize = Normalize([0.5, 0.5, 0.5], [0.2, 0.2, 0.2])
    dataset = ShapeMasks("train", [RandomHorizontalFlip(0.5), normalize])
    dataset_test = ShapeMasks("val", [normalize])
    data_loader = DataLoader(dataset, batch_size=args.batch_size, shuffle=True, drop_last=True)
    data_loader_test = DataLoader(dataset_test, batch_size=args.batch_size)
    model = UNet(num_classes=4)
    criterion = FocalDiceLoss(gamma=2.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=args.momentum, weight_decay=args.weight_decay)
    return dict(model=model, train=data_loader, val=data_loader_test, loss=criterion, optimizer=optimizer,
                step=TrainOneIteration(args, len(data_loader)), task="segment")
