# %% [markdown]
# # Noisy digits 0-5: frozen backbone + new head (fold 0)

# %%
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.model_selection import StratifiedKFold
from torch.utils.data import DataLoader, Dataset

from toydata import draw_digits


class CFG:
    seed = 2024
    n_fold = 5
    fold = 0
    bs = 32
    lr = 2e-3
    wd = 1e-2
    embed = 48
    source_classes = 10
    names = ["zero", "one", "two", "three", "four", "five"]


def seed_everything(seed):
    np.random.seed(seed)
    torch.manual_seed(seed)


# %% dataset
def encode(names):
    vocab = sorted(set(names))
    return torch.tensor([vocab.index(name) for name in names])


def preprocess(images):
    return (images.float() / 255 - 0.2) / 0.3


class DigitDataset(Dataset):
    def __init__(self, images, names):
        self.x, self.y = preprocess(images), encode(names)

    def __len__(self):
        return len(self.y)

    def __getitem__(self, idx):
        return self.x[idx], self.y[idx]


def load_competition_data():
    images, labels = draw_digits(1200, seed=50, noise=0.25)
    keep = labels < len(CFG.names)
    return images[keep], np.array([CFG.names[i] for i in labels[keep].tolist()])


# %% model
def make_head(n_out):
    return nn.Sequential(nn.Linear(CFG.embed, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, n_out))


class TransferNet(nn.Module):
    def __init__(self, n_out):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(512, CFG.embed), nn.ReLU(),
        )
        self.head = make_head(n_out)

    def forward(self, x):
        features = self.backbone(x)
        return self.head(features)


def pretrained_checkpoint():
    """Stands for the uploaded weights: trained on clean digits, saved from nn.DataParallel."""
    net = TransferNet(CFG.source_classes)
    opt = torch.optim.Adam(net.parameters(), lr=2e-3)
    images, labels = draw_digits(1500, seed=60, noise=0.15)
    x = preprocess(images)
    for _ in range(200):
        idx = torch.randint(0, len(x), (64,))
        loss = F.cross_entropy(net(x[idx]), labels[idx])
        opt.zero_grad()
        loss.backward()
        opt.step()
    return {"state_dict": {"module." + k: v.detach().clone() for k, v in net.state_dict().items()}}


def build_model():
    model = TransferNet(CFG.source_classes)
    checkpoint = pretrained_checkpoint()
    state = {k.replace("module.", ""): v for k, v in checkpoint["state_dict"].items()}
    model.load_state_dict(state, strict=False)
    for p in model.backbone.parameters():
        p.requires_grad = False
    return model


# %% run
def setup():
    seed_everything(CFG.seed)
    images, names = load_competition_data()
    folds = StratifiedKFold(CFG.n_fold, shuffle=True, random_state=CFG.seed).split(np.zeros(len(names)), names)
    trn_idx, val_idx = list(folds)[CFG.fold]
    train_ds = DigitDataset(images[trn_idx], names[trn_idx])
    valid_ds = DigitDataset(images[val_idx], names[val_idx])
    train_dl = DataLoader(train_ds, batch_size=CFG.bs, shuffle=True, drop_last=True)
    valid_dl = DataLoader(valid_ds, batch_size=64)

    model = build_model()
    model.head = make_head(len(CFG.names))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=CFG.lr, weight_decay=CFG.wd)
    return {"model": model, "train": train_dl, "val": valid_dl, "optimizer": optimizer, "task": "classify"}
