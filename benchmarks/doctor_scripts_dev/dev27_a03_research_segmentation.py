"""train.py of "Tiny U-Nets for Tiny Objects": semantic segmentation of shapes (background, square, disc, cross)."""

import argparse
import dataclasses
import logging
import random

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

logging.basicConfig(level=logging.INFO, format="%(message)s")
log = logging.getLogger("train")


@dataclasses.dataclass
class Config:
    classes: int = 4
    width: int = 12
    epochs: int = 16
    batch_size: int = 32
    lr: float = 1e-3
    weight_decay: float = 1e-2
    plateau_factor: float = 0.1
    plateau_patience: int = 1
    seed: int = 3


class ShapeMasks(Dataset):
    def __init__(self, train: bool):
        self.source = Shapes(train=train)
        self.train = train

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index):
        image, mask = self.source.images[index], self.source.masks[index]
        if self.train and random.random() < 0.5:
            image, mask = image.flip(-1), mask.flip(-1)
        return (image - 0.5) / 0.2, mask


def double_conv(cin, cout):
    return nn.Sequential(
        nn.Conv2d(cin, cout, 3, padding=1, bias=False),
        nn.BatchNorm2d(cout),
        nn.ReLU(inplace=True),
        nn.Conv2d(cout, cout, 3, padding=1, bias=False),
        nn.BatchNorm2d(cout),
        nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    def __init__(self, classes, width):
        super().__init__()
        self.enc1 = double_conv(3, width)
        self.enc2 = double_conv(width, 2 * width)
        self.mid = double_conv(2 * width, 4 * width)
        self.dec2 = double_conv(6 * width, 2 * width)
        self.dec1 = double_conv(3 * width, width)
        self.out = nn.Conv2d(width, classes, 1)
        self.pool = nn.MaxPool2d(2)
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.apply(self.init)

    @staticmethod
    def init(module):
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, x):
        one = self.enc1(x)
        two = self.enc2(self.pool(one))
        mid = self.mid(self.pool(two))
        x = self.dec2(torch.cat([self.up(mid), two], dim=1))
        x = self.dec1(torch.cat([self.up(x), one], dim=1))
        return self.out(x)


def confusion(pred, target, classes):
    return torch.bincount(target.flatten() * classes + pred.flatten(), minlength=classes**2).view(classes, classes)


class Trainer:
    def __init__(self, cfg: Config):
        self.cfg = cfg
        self.model = UNet(cfg.classes, cfg.width)
        self.train_loader = DataLoader(ShapeMasks(True), cfg.batch_size, shuffle=True)
        self.val_loader = DataLoader(ShapeMasks(False), 60)
        self.criterion = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=cfg.lr, weight_decay=cfg.weight_decay)
        self.scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self.optimizer, mode="max", factor=cfg.plateau_factor, patience=cfg.plateau_patience
        )
        self.best_iou, self.best_state = -1.0, None

    def train_epoch(self):
        self.model.train()
        total = 0.0
        for image, mask in self.train_loader:
            loss = self.criterion(self.model(image), mask)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            total += loss.item() * len(image)
        return total / len(self.train_loader.dataset)

    @torch.no_grad()
    def evaluate(self):
        self.model.eval()
        matrix = torch.zeros(self.cfg.classes, self.cfg.classes, dtype=torch.long)
        for image, mask in self.val_loader:
            pred = self.model(image).argmax(dim=1)
            matrix += confusion(pred, mask, self.cfg.classes)
        hit = matrix.diag().float()
        iou = hit / (matrix.sum(0) + matrix.sum(1) - matrix.diag()).clamp(min=1)
        return iou.mean().item()

    def fit(self):
        for epoch in range(1, self.cfg.epochs + 1):
            loss = self.train_epoch()
            iou = self.evaluate()
            self.scheduler.step(iou)
            if iou > self.best_iou:
                self.best_iou = iou
                self.best_state = {k: v.clone() for k, v in self.model.state_dict().items()}
            lr = self.optimizer.param_groups[0]["lr"]
            log.info("epoch %02d | loss %.4f | val mIoU %.4f | lr %.1e", epoch, loss, iou, lr)
        self.model.load_state_dict(self.best_state)
        log.info("best checkpoint: val mIoU %.4f", self.evaluate())


def main():
    parser = argparse.ArgumentParser()
    for field in dataclasses.fields(Config):
        parser.add_argument("--" + field.name.replace("_", "-"), type=type(field.default), default=field.default)
    cfg = Config(**vars(parser.parse_args()))
    random.seed(cfg.seed)
    torch.manual_seed(cfg.seed)
    torch.set_num_threads(1)
    log.info("%s", cfg)
    Trainer(cfg).fit()


if __name__ == "__main__":
    main()
