# %% [markdown]
# ## Leaf disease starter: small CNN + 5 folds + OneCycle

# %%
import os
import random

import numpy as np
import torch
import torch.nn as nn
from scipy.ndimage import zoom
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import StratifiedGroupKFold
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader, Dataset


class CFG:
    seed = 42
    size = 20
    n_plants = 90
    n_test_plants = 40
    shots = 6
    num_classes = 4
    class_prob = [0.35, 0.3, 0.2, 0.15]
    n_fold = 5
    epochs = 12
    batch_size = 32
    max_lr = 4e-3
    weight_decay = 1e-3


def seed_everything(seed):
    random.seed(seed)
    os.environ['PYTHONHASHSEED'] = str(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


# %%
def photograph(leaf, label, rng):
    """0 healthy, 1 spots, 2 streaks, 3 rust patch"""
    s = CFG.size
    img = leaf * rng.uniform(0.85, 1.15) + rng.normal(0, 0.12, leaf.shape)
    yy, xx = np.mgrid[:s, :s]
    mark = np.zeros((s, s))
    if label == 1:
        for cy, cx in rng.integers(2, s - 2, (4, 2)):
            mark = np.maximum(mark, ((yy - cy) ** 2 + (xx - cx) ** 2 <= 2))
    elif label == 2:
        for offset in rng.integers(-s // 2, s // 2, 2):
            mark = np.maximum(mark, np.abs(yy - xx - offset) < 1)
    elif label == 3:
        cy, cx = rng.integers(4, s - 4, 2)
        r = np.sqrt((yy - cy) ** 2 + (xx - cx) ** 2)
        mark = (np.abs(r - 3.5) < 0.8).astype(float)
    img[1] -= 0.45 * mark
    img[0] += 0.25 * mark
    return img.astype(np.float32)


def make_plants(n_plants, rng):
    images, labels, plants = [], [], []
    for plant in range(n_plants):
        label = rng.choice(CFG.num_classes, p=CFG.class_prob)
        leaf = zoom(rng.normal(0.5, 0.35, (3, 5, 5)), (1, CFG.size / 5, CFG.size / 5), order=1)
        for _ in range(CFG.shots):
            images.append(photograph(leaf, label, rng))
            labels.append(label)
            plants.append(plant)
    return {'image': np.stack(images), 'label': np.array(labels), 'plant': np.array(plants)}


class LeafDataset(Dataset):
    def __init__(self, images, labels=None, mean=0., std=1., augment=False):
        self.images = (images - mean) / std
        self.labels = labels
        self.augment = augment

    def __len__(self):
        return len(self.images)

    def __getitem__(self, idx):
        image = self.images[idx]
        if self.augment and random.random() < 0.5:
            image = np.transpose(image, (0, 2, 1))
        image = torch.from_numpy(np.ascontiguousarray(image)).float()
        if self.labels is None:
            return image
        return image, torch.tensor(self.labels[idx]).long()


class LeafNet(nn.Module):
    def __init__(self):
        super().__init__()
        layers, cin = [], 3
        for cout in (16, 32, 64):
            layers += [nn.Conv2d(cin, cout, 3, padding=1), nn.BatchNorm2d(cout), nn.ReLU(), nn.MaxPool2d(2)]
            cin = cout
        self.features = nn.Sequential(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten())
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(cin, CFG.num_classes))

    def forward(self, x):
        return self.head(self.features(x))


# %%
def train_fn(loader, model, criterion, optimizer, scheduler):
    model.train()
    losses = []
    for images, labels in loader:
        optimizer.zero_grad()
        loss = criterion(model(images), labels)
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
    return np.mean(losses)


def inference_fn(loader, model):
    model.eval()
    preds = []
    for images in loader:
        with torch.no_grad():
            preds.append(model(images).softmax(1).numpy())
    return np.concatenate(preds)


def get_score(y_true, probs):
    y_pred = probs.argmax(1)
    return accuracy_score(y_true, y_pred), f1_score(y_true, y_pred, average='macro')


def train_loop(train, trn_idx, val_idx, fold):
    trn_images, trn_labels = train['image'][trn_idx], train['label'][trn_idx]
    mean = trn_images.mean((0, 2, 3), keepdims=True)[0]
    std = trn_images.std((0, 2, 3), keepdims=True)[0]
    train_loader = DataLoader(LeafDataset(trn_images, trn_labels, mean, std, augment=True),
                              batch_size=CFG.batch_size, shuffle=True, drop_last=True)
    valid_loader = DataLoader(LeafDataset(train['image'][val_idx], None, mean, std), batch_size=128, shuffle=False)

    model = LeafNet()
    optimizer = torch.optim.AdamW(model.parameters(), lr=CFG.max_lr, weight_decay=CFG.weight_decay)
    scheduler = OneCycleLR(optimizer, CFG.max_lr, epochs=CFG.epochs, steps_per_epoch=len(train_loader))
    criterion = nn.CrossEntropyLoss()
    for epoch in range(CFG.epochs):
        avg_loss = train_fn(train_loader, model, criterion, optimizer, scheduler)
    preds = inference_fn(valid_loader, model)
    acc, f1 = get_score(train['label'][val_idx], preds)
    print(f'fold {fold}  loss {avg_loss:.4f}  acc {acc:.4f}  f1 {f1:.4f}')
    return preds, (model, mean, std)


# %%
seed_everything(CFG.seed)
rng = np.random.default_rng(CFG.seed)
train = make_plants(CFG.n_plants, rng)
test = make_plants(CFG.n_test_plants, rng)

oof = np.zeros((len(train['label']), CFG.num_classes))
fitted = []
skf = StratifiedGroupKFold(n_splits=CFG.n_fold, shuffle=True, random_state=CFG.seed)
for fold, (trn_idx, val_idx) in enumerate(skf.split(train['image'], train['label'], train['plant'])):
    oof[val_idx], model = train_loop(train, trn_idx, val_idx, fold)
    fitted.append(model)
print('CV   acc {:.4f}  f1 {:.4f}'.format(*get_score(train['label'], oof)))

# %%
test_preds = np.zeros((len(test['label']), CFG.num_classes))
for model, mean, std in fitted:
    test_loader = DataLoader(LeafDataset(test['image'], None, mean, std), batch_size=128)
    test_preds += inference_fn(test_loader, model) / len(fitted)
print('test acc {:.4f}  f1 {:.4f}'.format(*get_score(test['label'], test_preds)))
