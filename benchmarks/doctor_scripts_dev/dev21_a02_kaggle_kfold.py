# # Shapes: PyTorch starter [training]
# Stratified K-fold, small CNN, albumentations-like transforms, out-of-fold score.

# %%
import os
import random
import tempfile

import numpy as np
import torch
import torch.nn as nn
from sklearn.metrics import accuracy_score
from sklearn.model_selection import StratifiedKFold
from torch.optim import Adam
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import DataLoader, Dataset

from toydata import NAMES, Shapes

# %%
class CFG:
    seed = 42
    size = 20
    target_size = 6
    n_fold = 3
    trn_fold = [0, 1, 2]
    epochs = 10
    batch_size = 32
    lr = 2e-3
    min_lr = 1e-5
    weight_decay = 1e-6

OUTPUT_DIR = tempfile.mkdtemp()
device = torch.device("cpu")
torch.set_num_threads(1)

def seed_torch(seed=42):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)

seed_torch(CFG.seed)

# %%
# "train.csv" and the folder of images; as cv2 does it, imread gives uint8 of H x W x BGR
_shapes = Shapes(train=True, count=1500, size=CFG.size)
FILES = {f"{i:05d}.png": (image.flip(0).permute(1, 2, 0).numpy() * 255).astype(np.uint8)
         for i, image in enumerate(_shapes.images)}
train_names = np.array(list(FILES))
train_labels = np.array([NAMES.index(name) for name in _shapes.names])

def imread(name):
    return FILES[name].copy()

def bgr2rgb(image):
    return np.ascontiguousarray(image[:, :, ::-1])

folds = np.zeros(len(train_names), dtype=int)
skf = StratifiedKFold(n_splits=CFG.n_fold, shuffle=True, random_state=CFG.seed)
for n, (_, val_index) in enumerate(skf.split(train_names, train_labels)):
    folds[val_index] = n

# %%
class HorizontalFlip:
    def __init__(self, p=0.5):
        self.p = p

    def __call__(self, image):
        return image[:, ::-1] if random.random() < self.p else image

class CoarseDropout:
    def __init__(self, hole=6, p=0.5):
        self.hole, self.p = hole, p

    def __call__(self, image):
        if random.random() < self.p:
            image = image.copy()
            y = random.randint(0, image.shape[0] - self.hole)
            x = random.randint(0, image.shape[1] - self.hole)
            image[y:y + self.hole, x:x + self.hole] = 127
        return image

class Normalize:
    def __init__(self, mean, std):
        self.mean, self.std = np.array(mean, np.float32), np.array(std, np.float32)

    def __call__(self, image):
        return (image.astype(np.float32) / 255 - self.mean) / self.std

class ToTensorV2:
    def __call__(self, image):
        return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))

class Compose:
    def __init__(self, transforms):
        self.transforms = transforms

    def __call__(self, image):
        for transform in self.transforms:
            image = transform(image)
        return {"image": image}

def get_transforms(*, data):
    normalize = Normalize(mean=[0.49, 0.45, 0.49], std=[0.2, 0.15, 0.2])
    if data == "train":
        return Compose([HorizontalFlip(p=0.5), CoarseDropout(hole=5, p=0.7), normalize, ToTensorV2()])
    return Compose([normalize, ToTensorV2()])

class TrainDataset(Dataset):
    def __init__(self, names, labels, transform=None):
        self.names, self.labels, self.transform = names, labels, transform

    def __len__(self):
        return len(self.names)

    def __getitem__(self, idx):
        image = imread(self.names[idx])
        image = bgr2rgb(image)
        image = self.transform(image=image)["image"]
        return image, torch.tensor(self.labels[idx]).long()

class ValidDataset(TrainDataset):
    def __getitem__(self, idx):
        image = bgr2rgb(imread(self.names[idx]))
        return self.transform(image=image)["image"], torch.tensor(self.labels[idx]).long()

# %%
class CustomModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24), nn.ReLU(inplace=True), nn.MaxPool2d(2),
            nn.Conv2d(24, 48, 3, padding=1, bias=False), nn.BatchNorm2d(48), nn.ReLU(inplace=True), nn.MaxPool2d(2),
            nn.Conv2d(48, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Linear(64, CFG.target_size)

    def forward(self, x):
        return self.fc(self.dropout(self.features(x)))

def train_fn(train_loader, model, criterion, optimizer):
    total = 0.0
    model.train()
    for images, labels in train_loader:
        images, labels = images.to(device), labels.to(device)
        outputs = model(images)
        loss = criterion(outputs, labels)
        total += loss.item() / len(train_loader)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return total

def valid_fn(valid_loader, model, criterion):
    total = 0.0
    model.eval()
    preds = []
    for images, labels in valid_loader:
        images, labels = images.to(device), labels.to(device)
        with torch.no_grad():
            y_preds = model(images)
        total += criterion(y_preds, labels).item() * labels.size(0)
        preds.append(y_preds.softmax(1).numpy())
    return total / len(valid_loader.dataset), np.concatenate(preds)

# %%
def train_loop(fold):
    print(f"========== fold: {fold} training ==========")
    trn_idx, val_idx = np.where(folds != fold)[0], np.where(folds == fold)[0]
    train_dataset = TrainDataset(train_names[trn_idx], train_labels[trn_idx], transform=get_transforms(data="train"))
    valid_dataset = ValidDataset(train_names[val_idx], train_labels[val_idx], transform=get_transforms(data="valid"))
    train_loader = DataLoader(train_dataset, batch_size=CFG.batch_size, shuffle=True, drop_last=True)
    valid_loader = DataLoader(valid_dataset, batch_size=CFG.batch_size * 2, shuffle=False)

    model = CustomModel()
    optimizer = Adam(model.parameters(), lr=CFG.lr, weight_decay=CFG.weight_decay)
    scheduler = CosineAnnealingLR(optimizer, T_max=CFG.epochs, eta_min=CFG.min_lr)
    criterion = nn.CrossEntropyLoss()

    best_score = -np.inf
    path = os.path.join(OUTPUT_DIR, f"fold{fold}_best.pth")
    for epoch in range(CFG.epochs):
        avg_loss = train_fn(train_loader, model, criterion, optimizer)
        avg_val_loss, preds = valid_fn(valid_loader, model, criterion)
        scheduler.step()
        score = accuracy_score(train_labels[val_idx], preds.argmax(1))
        print(f"Epoch {epoch + 1} - avg_train_loss: {avg_loss:.4f}  avg_val_loss: {avg_val_loss:.4f}  "
              f"Accuracy: {score:.4f}")
        if score > best_score:
            best_score = score
            torch.save({"model": model.state_dict(), "preds": torch.from_numpy(preds)}, path)

    return val_idx, torch.load(path)["preds"].numpy()

# %%
oof = np.zeros((len(train_names), CFG.target_size))
for fold in CFG.trn_fold:
    index, fold_preds = train_loop(fold)
    oof[index] = fold_preds
    print(f"========== fold: {fold} result: {accuracy_score(train_labels[index], fold_preds.argmax(1)):.4f}")
print(f"========== CV: {accuracy_score(train_labels, oof.argmax(1)):.4f}")
