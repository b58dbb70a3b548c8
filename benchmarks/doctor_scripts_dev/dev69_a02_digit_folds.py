# Digit Recognizer - 5 fold CNN baseline

# ====================================================
# Library
# ====================================================
import copy
import random

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import StratifiedKFold, train_test_split
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler


class CFG:
    seed = 2021
    n_fold = 5
    epochs = 40
    batch_size = 32
    lr = 2e-3
    weight_decay = 1e-4
    factor = 0.3
    patience = 3
    es_patience = 10
    n_classes = 10
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


seed_everything(CFG.seed)

# ====================================================
# Data
# ====================================================
digits = load_digits()
X = digits.images.astype(np.float32)
y = digits.target.astype(np.int64)

X_all, X_test, y_all, y_test = train_test_split(
    X, y, test_size=0.25, stratify=y, random_state=CFG.seed)

# long-tailed train set as in the competition, the test set stays balanced
rng = np.random.RandomState(CFG.seed)
keep = rng.rand(len(y_all)) < 0.78 ** y_all
X_train, y_train = X_all[keep], y_all[keep]
print('train', X_train.shape, np.bincount(y_train), 'test', X_test.shape)


class DigitDataset(Dataset):
    def __init__(self, images, labels=None, augment=False):
        self.images = images / 16.0
        self.labels = labels
        self.augment = augment

    def __len__(self):
        return len(self.images)

    def __getitem__(self, idx):
        img = self.images[idx]
        if self.augment:
            img = self.random_shift(img)
            img = img + np.random.normal(0, 0.1, img.shape)
        img = torch.tensor(img, dtype=torch.float32).unsqueeze(0)
        if self.labels is None:
            return img
        return img, self.labels[idx]

    @staticmethod
    def random_shift(img):
        dy, dx = np.random.randint(-1, 2, size=2)
        padded = np.pad(img, 1)
        return padded[1 + dy:9 + dy, 1 + dx:9 + dx]


def make_sampler(labels):
    class_weights = 1.0 / np.bincount(labels, minlength=CFG.n_classes)
    sample_weights = class_weights[labels]
    return WeightedRandomSampler(sample_weights, num_samples=len(labels), replacement=True)


# ====================================================
# Model
# ====================================================
class DigitNet(nn.Module):
    def __init__(self, n_classes=CFG.n_classes):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(32)
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(32 * 2 * 2, n_classes)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        x = F.max_pool2d(F.relu(self.bn2(self.conv2(x))), 2)
        x = self.drop(x.flatten(1))
        return self.head(x)


# ====================================================
# Helper functions
# ====================================================
def train_fn(loader, model, criterion, optimizer):
    model.train()
    losses = []
    for images, labels in loader:
        images, labels = images.to(CFG.device), labels.to(CFG.device)
        optimizer.zero_grad()
        loss = criterion(model(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return np.mean(losses)


def valid_fn(loader, model):
    model.eval()
    probs, targets = [], []
    with torch.no_grad():
        for images, labels in loader:
            logits = model(images.to(CFG.device))
            probs.append(logits.softmax(1).cpu().numpy())
            targets.append(labels.numpy())
    probs = np.concatenate(probs)
    targets = np.concatenate(targets)
    score = f1_score(targets, probs.argmax(1), average='macro')
    return score, probs


def inference(loader, model):
    model.eval()
    preds = []
    with torch.no_grad():
        for images in loader:
            preds.append(model(images.to(CFG.device)).softmax(1).cpu().numpy())
    return np.concatenate(preds)


# ====================================================
# Train loop
# ====================================================
oof = np.zeros((len(y_train), CFG.n_classes))
test_preds = np.zeros((len(X_test), CFG.n_classes))
fold_scores = []

test_loader = DataLoader(DigitDataset(X_test), batch_size=64, shuffle=False)
skf = StratifiedKFold(n_splits=CFG.n_fold, shuffle=True, random_state=CFG.seed)

for fold, (trn_idx, val_idx) in enumerate(skf.split(X_train, y_train)):
    train_ds = DigitDataset(X_train[trn_idx], y_train[trn_idx], augment=True)
    valid_ds = DigitDataset(X_train[val_idx], y_train[val_idx])
    train_loader = DataLoader(train_ds, batch_size=CFG.batch_size, drop_last=True,
                              sampler=make_sampler(y_train[trn_idx]))
    valid_loader = DataLoader(valid_ds, batch_size=CFG.batch_size, shuffle=False)

    model = DigitNet().to(CFG.device)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=CFG.lr, weight_decay=CFG.weight_decay)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode='max', factor=CFG.factor, patience=CFG.patience)

    best_score, best_state, counter = -1.0, None, 0
    for epoch in range(CFG.epochs):
        train_loss = train_fn(train_loader, model, criterion, optimizer)
        score, _ = valid_fn(valid_loader, model)
        scheduler.step(score)

        if score > best_score:
            best_score, counter = score, 0
            best_state = copy.deepcopy(model.state_dict())
        else:
            counter += 1
            if counter >= CFG.es_patience:
                break

    print(f'fold {fold} epochs {epoch + 1} train_loss {train_loss:.4f} best f1 {best_score:.4f}')
    fold_scores.append(best_score)
    model.load_state_dict(best_state)
    _, oof[val_idx] = valid_fn(valid_loader, model)
    test_preds += inference(test_loader, model) / CFG.n_fold

# ====================================================
# Result
# ====================================================
print(f'CV  : mean f1 {np.mean(fold_scores):.4f} +- {np.std(fold_scores):.4f}')
print(f'OOF : f1 {f1_score(y_train, oof.argmax(1), average="macro"):.4f}')
print(f'TEST: f1 {f1_score(y_test, test_preds.argmax(1), average="macro"):.4f} '
      f'acc {accuracy_score(y_test, test_preds.argmax(1)):.4f}')
