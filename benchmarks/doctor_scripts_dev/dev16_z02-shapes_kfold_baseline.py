#!/usr/bin/env python
# coding: utf-8

# # Shapes: CNN baseline, 3 folds
# v4: +flip augmentation, +cosine schedule, CV 0.9x

# In[1]:

import random
import time

import numpy as np
import torch
import torch.nn as nn
from sklearn.metrics import accuracy_score
from sklearn.model_selection import StratifiedKFold
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

# In[2]:

class CFG:
    seed = 2021
    n_fold = 3
    epochs = 9
    size = 16
    batch_size = 32
    lr = 4e-3
    min_lr = 1e-5
    weight_decay = 1e-6
    target_size = 6

device = torch.device("cpu")

def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)

seed_everything(CFG.seed)

def load_train():
    """Same layout as cv2.imread would give us: N x H x W x 3, uint8."""
    raw = Shapes(train=True, count=900, size=CFG.size)
    images = torch.stack(raw.images)
    images = (images.clamp(0, 1) * 255).to(torch.uint8)
    return images.permute(0, 2, 3, 1).contiguous().numpy(), np.array(raw.targets)

class TrainDataset(Dataset):
    def __init__(self, images, labels, transform=None):
        self.images = images
        self.labels = labels
        self.transform = transform

    def __len__(self):
        return len(self.images)

    def __getitem__(self, idx):
        image = self.images[idx].astype(np.float32) / 255.0
        if self.transform:
            image = self.transform(image)
        image = (image - 0.5) / 0.25
        image = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        return image, torch.tensor(self.labels[idx])

def get_transforms(data):
    if data == "train":
        def flip(image):
            if random.random() < 0.5:
                image = image[:, ::-1]
            if random.random() < 0.5:
                image = image[::-1]
            return image
        return flip
    return None

class CustomModel(nn.Module):
    def __init__(self, n_classes):
        super().__init__()

        def conv_bn(i, o, stride):
            return nn.Sequential(nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o), nn.SiLU())

        self.features = nn.Sequential(conv_bn(3, 16, 1), conv_bn(16, 32, 2), conv_bn(32, 64, 1), conv_bn(64, 64, 2))
        self.head = nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, n_classes))

    def forward(self, x):
        return self.head(self.features(x))

class AverageMeter:
    def __init__(self):
        self.sum = self.count = 0

    def update(self, val, n=1):
        self.sum += val * n
        self.count += n

    @property
    def avg(self):
        return self.sum / self.count

# In[5]:

def train_fn(train_loader, model, criterion, optimizer):
    losses = AverageMeter()
    model.train()
    for images, labels in train_loader:
        y_preds = model(images)
        loss = criterion(y_preds, labels)
        losses.update(loss.item(), labels.size(0))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return losses.avg

def valid_fn(valid_loader, model, criterion):
    losses = AverageMeter()
    model.eval()
    preds = []
    for images, labels in valid_loader:
        with torch.no_grad():
            y_preds = model(images)
        losses.update(criterion(y_preds, labels).item(), labels.size(0))
        preds.append(y_preds.softmax(dim=1).numpy())
    return losses.avg, np.concatenate(preds)

def train_loop(images, labels, trn_idx, val_idx, fold):
    print(f"========== fold: {fold} training ==========")
    train_loader = DataLoader(TrainDataset(images[trn_idx], labels[trn_idx], get_transforms("train")),
                              batch_size=CFG.batch_size, shuffle=True, drop_last=True)
    valid_loader = DataLoader(TrainDataset(images[val_idx], labels[val_idx], get_transforms("valid")),
                              batch_size=CFG.batch_size * 2, shuffle=False)

    model = CustomModel(CFG.target_size).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=CFG.lr, weight_decay=CFG.weight_decay)
    scheduler = CosineAnnealingLR(optimizer, T_max=CFG.epochs, eta_min=CFG.min_lr)
    criterion = nn.CrossEntropyLoss()

    for epoch in range(CFG.epochs):
        start = time.time()
        avg_loss = train_fn(train_loader, model, criterion, optimizer)
        avg_val_loss, preds = valid_fn(valid_loader, model, criterion)
        scheduler.step()
        score = accuracy_score(labels[val_idx], preds.argmax(1))
        print(f"Epoch {epoch + 1} - avg_train_loss: {avg_loss:.4f}  avg_val_loss: {avg_val_loss:.4f}  "
              f"accuracy: {score:.4f}  time: {time.time() - start:.0f}s")
    return preds

images, labels = load_train()
oof = np.zeros((len(labels), CFG.target_size), dtype=np.float32)
skf = StratifiedKFold(n_splits=CFG.n_fold, shuffle=True, random_state=CFG.seed)
for fold, (trn_idx, val_idx) in enumerate(skf.split(images, labels)):
    oof[val_idx] = train_loop(images, labels, trn_idx, val_idx, fold)
    print(f"fold {fold} score: {accuracy_score(labels[val_idx], oof[val_idx].argmax(1)):.4f}")

print(f"========== CV: {accuracy_score(labels, oof.argmax(1)):.4f} ==========")
