# %% [markdown]
# # Which symbols are in the picture? Multi-label baseline, BCE, AMP scaler
# %%
import numpy as np
import torch
import torch.nn as nn
from sklearn.model_selection import train_test_split
from torch.utils.data import DataLoader, Dataset

from toydata import shape_mask


class CFG:
    seed = 2023
    size = 24
    num_images = 1400
    batch_size = 32
    lr = 0.05
    momentum = 0.9
    weight_decay = 1e-4
    max_grad_norm = 5.0
    tags = ["square", "disc", "cross", "blue_disc", "blue_square"]
    rates = [0.45, 0.35, 0.25, 0.2, 0.15]


# %%
def make_data(rng):
    """(N, H, W, 3) uint8 images and (N, 5) tags"""
    labels = (rng.random((CFG.num_images, len(CFG.tags))) < CFG.rates).astype(np.float32)
    images = np.full((CFG.num_images, CFG.size, CFG.size, 3), 128, np.float32)
    for i in range(len(images)):
        for tag in np.flatnonzero(labels[i]):
            kind = CFG.tags[tag].split("_")[-1]
            color = (20, 50, 230) if CFG.tags[tag].startswith("blue") else (230, 50, 20)
            width = int(rng.integers(6, 9))
            top, left = rng.integers(0, CFG.size - width + 1, 2)
            images[i][shape_mask(kind, CFG.size, int(top), int(left), width).numpy()] = color
    images += rng.normal(0, 12, images.shape)
    return images.clip(0, 255).astype(np.uint8), labels


class TagDataset(Dataset):
    def __init__(self, images, labels, train=False):
        self.images, self.labels, self.train = images, labels, train

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        image = torch.from_numpy(self.images[i]).permute(2, 0, 1).float() / 255
        image = (image - 0.48) / 0.2
        if self.train and torch.rand(()) < 0.5:
            image = image.flip(-1)
        return image, torch.from_numpy(self.labels[i])


# %%
class TagModel(nn.Module):
    def __init__(self, num_tags):
        super().__init__()
        layers, cin = [], 3
        for cout in (16, 32, 48):
            layers += [nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU()]
            if cout < 48:
                layers.append(nn.MaxPool2d(2))
            cin = cout
        self.encoder = nn.Sequential(*layers)
        self.pool = nn.AdaptiveMaxPool2d(1)
        self.fc = nn.Linear(cin, num_tags)

    def forward(self, images):
        return self.fc(self.pool(self.encoder(images)).flatten(1))


def get_pos_weight(labels):
    pos = labels.sum(0)
    neg = len(labels) - pos
    return torch.from_numpy(neg / pos).float()


# %%
def make_train_fn():
    scaler = torch.amp.GradScaler("cpu")  # same code path as on the GPU

    def train_fn(model, batch, optimizer, criterion):
        model.train()
        images, labels = batch
        optimizer.zero_grad()
        loss = criterion(model(images), labels)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), CFG.max_grad_norm)
        scaler.step(optimizer)
        scaler.update()
        return loss

    return train_fn


# %%
def setup():
    torch.manual_seed(CFG.seed)
    rng = np.random.default_rng(CFG.seed)
    images, labels = make_data(rng)
    order = rng.permutation(len(images))
    images, labels = images[order], labels[order]
    train_idx, valid_idx = train_test_split(np.arange(len(images)), test_size=0.2, random_state=CFG.seed)
    train_loader = DataLoader(TagDataset(images[train_idx], labels[train_idx], train=True), CFG.batch_size,
                              shuffle=True, drop_last=True)
    valid_loader = DataLoader(TagDataset(images[valid_idx], labels[valid_idx]), 70)
    model = TagModel(len(CFG.tags))
    criterion = nn.BCEWithLogitsLoss(pos_weight=get_pos_weight(labels[train_idx]))
    optimizer = torch.optim.SGD(model.parameters(), lr=CFG.lr, momentum=CFG.momentum, nesterov=True,
                                weight_decay=CFG.weight_decay)
    return dict(model=model, train=train_loader, val=valid_loader, loss=criterion, optimizer=optimizer,
                step=make_train_fn())
