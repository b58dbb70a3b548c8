# %% [markdown]
# # Bone age, baseline CNN (months from small X-rays)

# %%
import numpy as np
import torch
import torch.nn as nn
from sklearn.model_selection import train_test_split
from torch.utils.data import DataLoader, Dataset


# %%
class CFG:
    seed = 2020
    img_size = 24
    n_images = 1000
    batch_size = 32
    lr = 1e-3
    weight_decay = 1e-5
    noise_std = 0.05
    max_grad_norm = 5.0


# %%
def load_xrays(n, size, seed):
    """Bones that grow with age: the shaft becomes longer and the head wider. Returns uint8 images and ages in months."""
    rng = np.random.default_rng(seed)
    ages = rng.uniform(12, 216, n)
    yy, xx = np.mgrid[:size, :size]
    images = np.zeros((n, size, size), dtype=np.uint8)
    for i, age in enumerate(ages):
        cy, cx = size / 2 + rng.uniform(-2, 2), size / 2 + rng.uniform(-2, 2)
        radius = 2 + 5 * age / 216
        half = 4 + 6 * age / 216
        bone = ((yy - cy) ** 2 + (xx - cx) ** 2 < radius**2) | ((abs(xx - cx) < 1.5) & (abs(yy - cy) < half))
        image = 0.15 + rng.uniform(0.5, 0.7) * bone + 0.05 * rng.standard_normal((size, size))
        images[i] = (image.clip(0, 1) * 255).astype(np.uint8)
    return images, ages.astype(np.float32)


# %%
class BoneAgeDataset(Dataset):
    def __init__(self, images, ages, age_mean, age_std, train=True):
        self.images, self.ages, self.train = images, ages, train
        self.age_mean, self.age_std = age_mean, age_std

    def __len__(self):
        return len(self.images)

    def __getitem__(self, idx):
        image = torch.from_numpy(self.images[idx]).float().unsqueeze(0) / 255.0
        if self.train:
            if torch.rand(1).item() < 0.5:
                image = image.flip(-1)
            image = image + CFG.noise_std * torch.randn_like(image)
        image = (image - 0.3) / 0.25
        label = (self.ages[idx] - self.age_mean) / self.age_std
        return image, torch.tensor(label, dtype=torch.float32)


# %%
class BoneAgeModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        )
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(32 * 4, 32),
            nn.ReLU(),
            nn.Linear(32, 1),
        )

    def forward(self, x):
        x = self.pool(self.backbone(x))
        return self.head(x).squeeze(1)


# %%
def train_fn(model, batch, optimizer, criterion):
    model.train()
    images, labels = batch
    preds = model(images)
    loss = criterion(preds, labels)
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), CFG.max_grad_norm)
    optimizer.step()
    return loss


# %%
def setup():
    torch.manual_seed(CFG.seed)
    images, ages = load_xrays(CFG.n_images, CFG.img_size, CFG.seed)
    train_idx, valid_idx = train_test_split(np.arange(len(ages)), test_size=0.2, random_state=CFG.seed)
    age_mean, age_std = ages[train_idx].mean(), ages[train_idx].std()
    train_ds = BoneAgeDataset(images[train_idx], ages[train_idx], age_mean, age_std, train=True)
    valid_ds = BoneAgeDataset(images[valid_idx], ages[valid_idx], age_mean, age_std, train=False)
    model = BoneAgeModel()
    return {
        "model": model,
        "train": DataLoader(train_ds, batch_size=CFG.batch_size, shuffle=True, drop_last=True),
        "val": DataLoader(valid_ds, batch_size=100, shuffle=False),
        "loss": nn.SmoothL1Loss(),
        "optimizer": torch.optim.Adam(model.parameters(), lr=CFG.lr, weight_decay=CFG.weight_decay),
        "step": train_fn,
        "task": "regress",
    }
