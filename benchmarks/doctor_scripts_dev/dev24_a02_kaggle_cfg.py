# Colored shapes: simple baseline [train]   (fork it and vote it up :) )

# ==== Library
import os
import random
import tempfile
import time

import numpy as np
import torch
import torch.nn as nn
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import StratifiedKFold
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader, Dataset

from toydata import NAMES, Shapes

OUTPUT_DIR = tempfile.mkdtemp()


# ==== CFG
class CFG:
    seed = 42
    n_fold = 5
    trn_fold = 0
    n_classes = 6
    epochs = 14
    batch_size = 32
    max_lr = 3e-3
    weight_decay = 1e-2
    max_grad_norm = 5.0
    mean = np.array([0.5, 0.5, 0.5], dtype=np.float32)
    std = np.array([0.2, 0.2, 0.2], dtype=np.float32)


CLASS2ID = {name: i for i, name in enumerate(sorted(NAMES))}
device = torch.device("cpu")


def seed_torch(seed=42):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


class AverageMeter:
    def __init__(self):
        self.sum = 0.0
        self.count = 0

    def update(self, val, n=1):
        self.sum += val * n
        self.count += n

    @property
    def avg(self):
        return self.sum / max(self.count, 1)


# ==== Dataset
def read_images(train, count):
    """uint8 images, height x width x RGB, as from PIL"""
    shapes = Shapes(train=train, count=count)
    images = [(image * 255).byte().permute(1, 2, 0).numpy() for image in shapes.images]
    return images, list(shapes.names)


def train_transforms(image):
    if random.random() < 0.5:
        image = image[:, ::-1]
    if random.random() < 0.5:
        image = image[::-1]
    return valid_transforms(image)


def valid_transforms(image):
    image = image.astype(np.float32) / 255.0
    image = (image - CFG.mean) / CFG.std
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


class TrainDataset(Dataset):
    def __init__(self, images, names, transform):
        self.images = images
        self.labels = [CLASS2ID[name] for name in names]
        self.transform = transform

    def __len__(self):
        return len(self.images)

    def __getitem__(self, idx):
        return self.transform(self.images[idx]), torch.tensor(self.labels[idx]).long()


# ==== Model
class Block(nn.Module):
    def __init__(self, inp, out, stride):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(inp, out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(),
            nn.Conv2d(out, out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(out),
        )
        self.skip = nn.Identity() if inp == out else nn.Conv2d(inp, out, 1, stride)

    def forward(self, x):
        return torch.relu(self.conv(x) + self.skip(x))


class CustomModel(nn.Module):
    def __init__(self, n_classes):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.blocks = nn.Sequential(Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2))
        self.fc = nn.Linear(64, n_classes)

    def forward(self, x):
        x = self.blocks(self.stem(x))
        return self.fc(x.mean(dim=(2, 3)))


# ==== Helper functions
def train_fn(train_loader, model, criterion, optimizer, scheduler):
    losses = AverageMeter()
    model.train()
    for images, labels in train_loader:
        images, labels = images.to(device), labels.to(device)
        logits = model(images)
        loss = criterion(logits, labels)
        losses.update(loss.item(), labels.size(0))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CFG.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
    return losses.avg


def valid_fn(valid_loader, model, criterion):
    losses = AverageMeter()
    model.eval()
    preds, targets = [], []
    for images, labels in valid_loader:
        images, labels = images.to(device), labels.to(device)
        with torch.no_grad():
            logits = model(images)
        losses.update(criterion(logits, labels).item(), labels.size(0))
        preds.append(logits.softmax(1).numpy())
        targets.append(labels.numpy())
    return losses.avg, np.concatenate(preds), np.concatenate(targets)


# ==== Train loop
def train_loop(images, names, fold):
    print(f"========== fold: {fold} training ==========")
    skf = StratifiedKFold(n_splits=CFG.n_fold, shuffle=True, random_state=CFG.seed)
    trn_idx, val_idx = list(skf.split(np.zeros(len(names)), names))[fold]
    train_dataset = TrainDataset([images[i] for i in trn_idx], [names[i] for i in trn_idx], train_transforms)
    valid_dataset = TrainDataset([images[i] for i in val_idx], [names[i] for i in val_idx], valid_transforms)
    train_loader = DataLoader(train_dataset, batch_size=CFG.batch_size, shuffle=True, drop_last=True)
    valid_loader = DataLoader(valid_dataset, batch_size=CFG.batch_size * 2, shuffle=False)

    model = CustomModel(CFG.n_classes).to(device)
    optimizer = AdamW(model.parameters(), lr=CFG.max_lr, weight_decay=CFG.weight_decay)
    scheduler = OneCycleLR(optimizer, CFG.max_lr, epochs=CFG.epochs, steps_per_epoch=len(train_loader))
    criterion = nn.CrossEntropyLoss()

    best_score = 0.0
    path = os.path.join(OUTPUT_DIR, f"fold{fold}_best.pth")
    for epoch in range(CFG.epochs):
        start = time.time()
        avg_loss = train_fn(train_loader, model, criterion, optimizer, scheduler)
        avg_val_loss, preds, targets = valid_fn(valid_loader, model, criterion)
        score = accuracy_score(targets, preds.argmax(1))
        f1 = f1_score(targets, preds.argmax(1), average="macro")
        print(f"Epoch {epoch+1} - train: {avg_loss:.4f}  val: {avg_val_loss:.4f}  time: {time.time() - start:.0f}s")
        print(f"Epoch {epoch+1} - Accuracy: {score:.4f}  F1: {f1:.4f}")
        if score > best_score:
            best_score = score
            print(f"Epoch {epoch+1} - Save Best Score: {best_score:.4f} Model")
            torch.save({"model": model.state_dict(), "preds": torch.tensor(preds)}, path)
    model.load_state_dict(torch.load(path)["model"])
    return model, criterion


if __name__ == "__main__":
    seed_torch(CFG.seed)
    images, names = read_images(train=True, count=1500)
    model, criterion = train_loop(images, names, CFG.trn_fold)

    # inference on the images of the private leaderboard
    test_images, test_names = read_images(train=False, count=300)
    test_dataset = TrainDataset(test_images, test_names, valid_transforms)
    _, preds, targets = valid_fn(DataLoader(test_dataset, batch_size=64), model, criterion)
    print(f"Private LB: {accuracy_score(targets, preds.argmax(1)):.4f}")
