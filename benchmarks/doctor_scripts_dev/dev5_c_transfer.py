# -*- coding: utf-8 -*-
"""
Transfer Learning Tutorial
==========================
A small ConvNet is pretrained on six kinds of filled shapes. Its backbone is then
used for a new task with few pictures (five kinds of outlined signs): first as a
fixed feature extractor, afterwards finetuned with a smaller learning rate.
"""
import os
import tempfile
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset


@dataclass
class Config:
    seed: int = 11
    pretrain_size: int = 1800
    pretrain_epochs: int = 5
    target_size: int = 240
    val_size: int = 600
    head_epochs: int = 8
    finetune_epochs: int = 20
    head_lr: float = 2e-3
    backbone_lr: float = 3e-4
    batch_size: int = 32
    dtype: torch.dtype = torch.float32


SOURCE = ['disk', 'square', 'triangle', 'plus', 'cross', 'bars']
TARGET = ['ring', 'frame', 'tee', 'ell', 'zed']


def picture(kind, rng, size=24):
    yy, xx = np.mgrid[:size, :size].astype(float)
    r = rng.uniform(5, 7)
    dy, dx = yy - rng.uniform(8, size - 8), xx - rng.uniform(8, size - 8)
    rad, box = np.hypot(dy, dx), np.maximum(abs(dy), abs(dx))
    thick = 1.3
    top, bottom, left = abs(dy + r) < thick, abs(dy - r) < thick, abs(dx + r) < thick
    mask = {
        'disk': rad < r, 'square': box < r * 0.9, 'triangle': (abs(dy) < r) & (abs(dx) < (dy + r) / 2),
        'plus': (box < r) & (np.minimum(abs(dy), abs(dx)) < 2),
        'cross': (box < r) & (np.minimum(abs(dy - dx), abs(dy + dx)) < 2),
        'bars': (box < r) & (np.floor(dy / 2) % 2 == 0),
        'ring': abs(rad - r) < thick, 'frame': abs(box - r) < thick,
        'tee': (box < r + thick) & (top | (abs(dx) < thick)),
        'ell': (box < r + thick) & (bottom | left),
        'zed': (box < r + thick) & (top | bottom | (abs(dx + dy) < thick)),
    }[kind]
    img = rng.normal(90, 34, (size, size)) + mask * rng.uniform(50, 100)
    return img.clip(0, 255).astype(np.uint8)


def make_images(kinds, n, seed):
    rng = np.random.RandomState(seed)
    labels = rng.randint(len(kinds), size=n)
    images = np.stack([picture(kinds[y], rng) for y in labels])
    return torch.from_numpy(images).unsqueeze(1), torch.from_numpy(labels)


def preprocess(images):
    """What the backbone was trained with; every picture has to go through it."""
    return (images.float() / 255.0 - 0.38) / 0.16


def make_backbone():
    def layer(i, o):
        return nn.Sequential(nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU(), nn.MaxPool2d(2))
    return nn.Sequential(layer(1, 16), layer(16, 32), layer(32, 64), nn.AdaptiveMaxPool2d(1), nn.Flatten())


class Classifier(nn.Module):
    def __init__(self, backbone, num_classes):
        super().__init__()
        self.backbone = backbone
        self.fc = nn.Linear(64, num_classes)
        self.frozen = False

    def freeze(self):
        self.frozen = True
        for p in self.backbone.parameters():
            p.requires_grad = False

    def unfreeze(self):
        self.frozen = False
        for p in self.backbone.parameters():
            p.requires_grad = True

    def train(self, mode=True):
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def forward(self, x):
        return self.fc(self.backbone(x))


def run_epoch(model, loader, cfg, optimizer=None):
    model.train(optimizer is not None)
    criterion = nn.CrossEntropyLoss()
    running_loss, running_corrects = 0.0, 0
    for inputs, labels in loader:
        inputs = inputs.to(cfg.dtype)
        with torch.set_grad_enabled(optimizer is not None):
            outputs = model(inputs).float()
            loss = criterion(outputs, labels)
            if optimizer is not None:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        running_loss += loss.item() * inputs.size(0)
        running_corrects += (outputs.argmax(1) == labels).sum().item()
    return running_loss / len(loader.dataset), running_corrects / len(loader.dataset)


def train_model(model, loaders, optimizer, num_epochs, cfg, title):
    acc = 0.0
    for epoch in range(num_epochs):
        train_loss, train_acc = run_epoch(model, loaders['train'], cfg, optimizer)
        val_loss, acc = run_epoch(model, loaders['val'], cfg)
        print(f'[{title}] {epoch + 1}/{num_epochs}  train {train_loss:.4f} {train_acc:.3f}  val {val_loss:.4f} {acc:.4f}')
    return acc


def pretrain(cfg, path):
    loaders = {'train': DataLoader(TensorDataset(*prepare(SOURCE, cfg.pretrain_size, 1)), cfg.batch_size, shuffle=True),
               'val': DataLoader(TensorDataset(*prepare(SOURCE, cfg.val_size, 2)), 200)}
    model = Classifier(make_backbone(), len(SOURCE)).to(cfg.dtype)
    train_model(model, loaders, torch.optim.AdamW(model.parameters(), lr=3e-3), cfg.pretrain_epochs, cfg, 'pretrain')
    torch.save(model.state_dict(), path)


def prepare(kinds, n, seed):
    images, labels = make_images(kinds, n, seed)
    return preprocess(images), labels


def main():
    cfg = Config()
    torch.manual_seed(cfg.seed)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'shapes.pth')
        pretrain(cfg, path)
        checkpoint = torch.load(path)

    backbone = make_backbone()
    state = {k.removeprefix('backbone.'): v for k, v in checkpoint.items() if k.startswith('backbone.')}
    backbone.load_state_dict(state)

    train_x, train_y = make_images(TARGET, cfg.target_size, 3)
    val_x, val_y = make_images(TARGET, cfg.val_size, 4)
    train_x, val_x = preprocess(train_x), preprocess(val_x)
    loaders = {'train': DataLoader(TensorDataset(train_x, train_y), cfg.batch_size, shuffle=True),
               'val': DataLoader(TensorDataset(val_x, val_y), 200)}

    model = Classifier(backbone, len(TARGET)).to(cfg.dtype)

    # 1. ConvNet as fixed feature extractor
    model.freeze()
    optimizer = torch.optim.AdamW(model.fc.parameters(), lr=cfg.head_lr)
    acc_head = train_model(model, loaders, optimizer, cfg.head_epochs, cfg, 'head')

    # 2. Finetuning the whole ConvNet, the backbone with a smaller rate
    model.unfreeze()
    optimizer.add_param_group({'params': list(model.backbone.parameters()), 'lr': cfg.backbone_lr})
    acc = train_model(model, loaders, optimizer, cfg.finetune_epochs, cfg, 'finetune')
    print(f'feature extractor: {acc_head:.4f}  finetuned: {acc:.4f}')


if __name__ == '__main__':
    main()
