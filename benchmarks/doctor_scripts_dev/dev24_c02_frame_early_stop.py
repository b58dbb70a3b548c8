# Shape classification from a data frame of ids and labels, with early stopping and a checkpoint of the best epoch.
import os
import random
import tempfile

import numpy as np
import pandas as pd
import torch
import torch.nn as nn
from sklearn.metrics import classification_report
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import LabelEncoder
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from toydata import Shapes

SEED = 42
BATCH_SIZE = 64
EPOCHS = 40
PATIENCE = 10
LR = 1e-3


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    os.environ["PYTHONHASHSEED"] = str(seed)


seed_everything(SEED)
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

# ---------------------------------------------------------------- data
source = Shapes(train=True, count=4000)
images = np.stack([(image.permute(1, 2, 0) * 255).byte().numpy() for image in source.images])
df = pd.DataFrame({"image_id": np.arange(len(images)), "label": source.names})
encoder = LabelEncoder()
df["target"] = encoder.fit_transform(df["label"])
print(df["label"].value_counts())

train_df, rest_df = train_test_split(df, test_size=0.3, stratify=df["target"], random_state=SEED)
val_df, test_df = train_test_split(rest_df, test_size=0.5, stratify=rest_df["target"], random_state=SEED)

train_pixels = images[train_df["image_id"].values].astype(np.float32) / 255.0
MEAN = train_pixels.mean(axis=(0, 1, 2))
STD = train_pixels.std(axis=(0, 1, 2))


class ShapeDataset(Dataset):
    def __init__(self, frame, images, augment=False):
        self.ids = frame["image_id"].values
        self.targets = frame["target"].values
        self.images = images
        self.augment = augment

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, idx):
        image = self.images[self.ids[idx]].astype(np.float32) / 255.0
        image = (image - MEAN) / STD
        if self.augment:
            if random.random() < 0.5:
                image = image[:, ::-1]
            if random.random() < 0.5:
                image = image[::-1]
        image = np.ascontiguousarray(image.transpose(2, 0, 1))
        return torch.from_numpy(image), int(self.targets[idx])


train_loader = DataLoader(ShapeDataset(train_df, images, augment=True), batch_size=BATCH_SIZE, shuffle=True)
val_loader = DataLoader(ShapeDataset(val_df, images), batch_size=256, shuffle=False)
test_loader = DataLoader(ShapeDataset(test_df, images), batch_size=256, shuffle=False)


# ---------------------------------------------------------------- model
def conv_block(inputs, outputs):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


model = nn.Sequential(
    conv_block(3, 16), nn.MaxPool2d(2),
    conv_block(16, 32), nn.MaxPool2d(2),
    conv_block(32, 64), nn.AdaptiveAvgPool2d(1),
    nn.Flatten(), nn.Linear(64, len(encoder.classes_)),
).to(device)

criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=LR)
scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="min", factor=0.5, patience=3)


def train_one_epoch(epoch):
    model.train()
    total_loss, correct, seen = 0.0, 0, 0
    for x, y in tqdm(train_loader, desc=f"epoch {epoch}", leave=False):
        x, y = x.to(device), y.to(device)
        optimizer.zero_grad()
        logits = model(x)
        loss = criterion(logits, y)
        loss.backward()
        optimizer.step()
        total_loss += loss.item() * x.size(0)
        correct += (logits.argmax(1) == y).sum().item()
        seen += x.size(0)
    return total_loss / seen, correct / seen


def evaluate(loader):
    model.eval()
    total_loss, labels, preds = 0.0, [], []
    with torch.no_grad():
        for x, y in loader:
            x, y = x.to(device), y.to(device)
            logits = model(x)
            total_loss += criterion(logits, y).item() * x.size(0)
            preds.extend(logits.argmax(1).cpu().tolist())
            labels.extend(y.cpu().tolist())
    accuracy = float(np.mean(np.array(preds) == np.array(labels)))
    return total_loss / len(labels), accuracy, labels, preds


# ---------------------------------------------------------------- training
history = {"train_loss": [], "train_acc": [], "val_loss": [], "val_acc": []}
checkpoint = os.path.join(tempfile.mkdtemp(), "best.pt")
best_loss, bad_epochs = float("inf"), 0

for epoch in range(1, EPOCHS + 1):
    train_loss, train_acc = train_one_epoch(epoch)
    val_loss, val_acc, _, _ = evaluate(val_loader)
    scheduler.step(val_loss)
    for key, value in zip(history, (train_loss, train_acc, val_loss, val_acc)):
        history[key].append(value)
    print(f"Epoch {epoch:02d} | train loss {train_loss:.4f} acc {train_acc:.4f} | "
          f"val loss {val_loss:.4f} acc {val_acc:.4f}")
    if val_loss < best_loss:
        best_loss, bad_epochs = val_loss, 0
        torch.save(model.state_dict(), checkpoint)
    else:
        bad_epochs += 1
        if bad_epochs >= PATIENCE:
            print(f"Early stopping at epoch {epoch}")
            break

model.load_state_dict(torch.load(checkpoint, map_location=device))
test_loss, test_acc, labels, preds = evaluate(test_loader)
print(f"Test loss {test_loss:.4f} acc {test_acc:.4f}")
print(classification_report(labels, preds, target_names=list(encoder.classes_)))
