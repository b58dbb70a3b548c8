"""Small ResNet on colored shapes: config, registry of transforms, engine."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

cfg = dict(
    seed=0,
    model=dict(width=12, num_classes=6),
    data=dict(batch_size=64, mean=0.5, std=0.25, cutout_length=4),
    optim=dict(lr=0.05, momentum=0.9, weight_decay=5e-4, nesterov=True),
    schedule=dict(decay_epochs=12, gamma=0.1),
    label_smoothing=0.1,
)

class Cutout:
    def __init__(self, length):
        self.length = length

    def __call__(self, img):
        h, w = img.shape[1:]
        y, x = int(torch.randint(h, (1,))), int(torch.randint(w, (1,)))
        half = self.length // 2
        img = img.clone()
        img[:, max(0, y - half) : y + half, max(0, x - half) : x + half] = 0.0
        return img

def build_transform(data_cfg, is_train):
    def transform(img):
        img = (img - data_cfg["mean"]) / data_cfg["std"]
        if is_train:
            if torch.rand(()) < 0.5:
                img = img.flip(-1)
            img = Cutout(data_cfg["cutout_length"])(img)
        return img

    return transform

def build_class_to_idx(names):
    return {name: i for i, name in enumerate(sorted(set(names)))}

class NamedShapes(Dataset):
    def __init__(self, source, class_to_idx, transform):
        self.images, self.transform = source.images, transform
        self.targets = [class_to_idx[name] for name in source.names]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.transform(self.images[index]), self.targets[index]

class BasicBlock(nn.Module):
    def __init__(self, in_planes, planes, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(in_planes, planes, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_planes != planes:
            self.shortcut = nn.Sequential(nn.Conv2d(in_planes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))

class ResNet(nn.Module):
    def __init__(self, width, num_classes):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = BasicBlock(width, width)
        self.layer2 = BasicBlock(width, 2 * width, stride=2)
        self.fc = nn.Linear(2 * width, num_classes)
        for m in (m for m in self.modules() if isinstance(m, nn.Conv2d)):
            nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer2(self.layer1(x))
        return self.fc(x.mean(dim=(2, 3)))

class Engine:
    def __init__(self, schedule, steps_per_epoch):
        self.gamma = schedule["gamma"]
        self.step_size = schedule["decay_epochs"] * steps_per_epoch
        self.scheduler = None

    def train_step(self, model, batch, optimizer, criterion):
        if self.scheduler is None or self.scheduler.optimizer is not optimizer:
            self.scheduler = torch.optim.lr_scheduler.StepLR(optimizer, self.step_size, gamma=self.gamma)
        model.train()
        images, targets = batch
        loss = criterion(model(images), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        self.scheduler.step()
        return loss

def setup():
    torch.manual_seed(cfg["seed"])
    train_src, val_src = Shapes(train=True), Shapes(train=False)
    class_to_idx = build_class_to_idx(train_src.names)
    train_set = NamedShapes(train_src, class_to_idx, build_transform(cfg["data"], True))
    val_set = NamedShapes(val_src, class_to_idx, build_transform(cfg["data"], False))
    loader = DataLoader(train_set, batch_size=cfg["data"]["batch_size"], shuffle=True, drop_last=True)
    model = ResNet(**cfg["model"])
    return {
        "model": model,
        "train": loader,
        "val": DataLoader(val_set, batch_size=120),
        "loss": nn.CrossEntropyLoss(label_smoothing=cfg["label_smoothing"]),
        "optimizer": torch.optim.SGD(model.parameters(), **cfg["optim"]),
        "step": Engine(cfg["schedule"], len(loader)).train_step,
    }
