# Multi-label images, Kaggle notebook: baseline v7 (mobilenet-ish, BCE, grad accumulation)
import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import Dataset, DataLoader

from toydata import shape_mask


class CFG:
    seed = 2024
    size = 24
    n_train, n_valid = 1400, 300
    target_cols = ["red_square", "red_cross", "blue_disc", "green_cross"]
    colors = [(230, 40, 30), (230, 40, 30), (30, 50, 230), (40, 210, 60)]
    kinds = ["square", "cross", "disc", "cross"]
    batch_size = 32
    accum = 2
    lr = 3e-3
    weight_decay = 1e-3


# ====== data ======
def make_images(n, seed):
    """uint8 images N x H x W x 3 as cv2.imread would give them, multi-hot labels N x 4"""
    rng = np.random.RandomState(seed)
    images = np.full((n, CFG.size, CFG.size, 3), 128, dtype=np.float32)
    labels = (rng.rand(n, len(CFG.target_cols)) < 0.4).astype(np.float32)
    for i in range(n):
        for j in rng.permutation(len(CFG.target_cols)):
            if labels[i, j]:
                width = rng.randint(7, 10)
                top, left = rng.randint(0, CFG.size - width + 1, 2)
                mask = shape_mask(CFG.kinds[j], CFG.size, int(top), int(left), int(width)).numpy()
                images[i][mask] = CFG.colors[j]
    images += rng.randn(*images.shape) * 12
    return images.clip(0, 255).astype(np.uint8), labels


class TrainDataset(Dataset):
    def __init__(self, images, labels, flip=False):
        self.images, self.labels, self.flip = images, labels, flip

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, idx):
        image = self.images[idx].astype(np.float32) / 255.0
        if self.flip and np.random.rand() < 0.5:
            image = image[:, ::-1]
        image = (image - 0.5) / 0.25
        image = np.ascontiguousarray(image.transpose(2, 0, 1))
        return torch.from_numpy(image).float(), torch.tensor(self.labels[idx])


# ====== model ======
class DWConv(nn.Module):
    def __init__(self, inp, out, stride=1):
        super().__init__()
        self.dw = nn.Conv2d(inp, inp, 3, stride, 1, groups=inp, bias=False)
        self.bn1 = nn.BatchNorm2d(inp)
        self.pw = nn.Conv2d(inp, out, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.act = nn.ReLU6()

    def forward(self, x):
        x = self.act(self.bn1(self.dw(x)))
        return self.act(self.bn2(self.pw(x)))


class CustomModel(nn.Module):
    def __init__(self, n_targets):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 24, 3, 1, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU6())
        self.blocks = nn.Sequential(DWConv(24, 32, 2), DWConv(32, 48), DWConv(48, 64, 2), DWConv(64, 64))
        self.pool = nn.AdaptiveMaxPool2d(1)
        self.fc = nn.Linear(64, n_targets)

    def forward(self, x):
        x = self.blocks(self.stem(x))
        x = self.pool(x).flatten(1)
        output = self.fc(x)
        return output


# ====== helper ======
class TrainFn:
    def __init__(self):
        self.step = 0

    def __call__(self, model, batch, optimizer, criterion):
        images, labels = batch
        y_preds = model(images)
        loss = criterion(y_preds, labels)
        (loss / CFG.accum).backward()
        if (self.step + 1) % CFG.accum == 0:
            optimizer.step()
            optimizer.zero_grad()
        self.step += 1
        return loss


def setup():
    torch.manual_seed(CFG.seed)
    np.random.seed(CFG.seed)
    train_ds = TrainDataset(*make_images(CFG.n_train, seed=1), flip=True)
    valid_ds = TrainDataset(*make_images(CFG.n_valid, seed=2))
    train_loader = DataLoader(train_ds, batch_size=CFG.batch_size, shuffle=True, drop_last=True)
    valid_loader = DataLoader(valid_ds, batch_size=CFG.batch_size * 2, shuffle=False)
    model = CustomModel(len(CFG.target_cols))
    optimizer = torch.optim.AdamW(model.parameters(), lr=CFG.lr, weight_decay=CFG.weight_decay)
    criterion = nn.BCEWithLogitsLoss()
    return {"model": model, "train": train_loader, "val": valid_loader, "loss": criterion, "optimizer": optimizer, "step": TrainFn()}
