"""Multi-label classification: which digits are on a canvas of four places?"""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.metrics import f1_score
from sklearn.model_selection import train_test_split
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from toydata import draw_digits

SEED = 1234
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
NUM_LABELS = 10


def make_canvases(count, seed):
    """Images of 32 x 32 with one to four digits, and for each the digits that are there as a row of ten 0 or 1."""
    generator = torch.Generator().manual_seed(seed + 1)
    digits, labels = draw_digits(count * 4, seed=seed)
    cells = digits.float().view(count, 4, 16, 16) / 255
    filled = torch.rand(count, 4, generator=generator) > 0.25
    filled[torch.arange(count), torch.randint(0, 4, (count,), generator=generator)] = True
    empty = (0.1 * torch.randn(cells.shape, generator=generator)).clamp(0, 1)
    cells = torch.where(filled[:, :, None, None], cells, empty)
    canvases = cells.view(count, 2, 2, 16, 16).permute(0, 1, 3, 2, 4).reshape(count, 1, 32, 32)
    present = F.one_hot(labels.view(count, 4), NUM_LABELS) * filled[:, :, None]
    return canvases, present.amax(dim=1).float()


class CanvasDataset(Dataset):
    def __init__(self, images, targets, indices, mean, std):
        self.images = images
        self.targets = targets
        self.indices = indices
        self.mean = mean
        self.std = std

    def __len__(self):
        return len(self.indices)

    def __getitem__(self, i):
        index = self.indices[i]
        return (self.images[index] - self.mean) / self.std, self.targets[index]


class MultiLabelCNN(nn.Module):
    def __init__(self, num_labels=NUM_LABELS):
        super().__init__()
        self.block1 = self.make_block(1, 16)
        self.block2 = self.make_block(16, 32)
        self.block3 = self.make_block(32, 64)
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(64, num_labels)

    @staticmethod
    def make_block(in_channels, out_channels):
        return nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, padding=1),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
        )

    def forward(self, x):
        x = self.pool(self.block1(x))
        x = self.pool(self.block2(x))
        x = self.block3(x)
        x = F.adaptive_max_pool2d(x, 1).flatten(1)
        return self.fc(x)


def train_epoch(model, loader, criterion, optimizer):
    model.train()
    losses = []
    sizes = []
    for images, targets in tqdm(loader, leave=False):
        images, targets = images.to(DEVICE), targets.to(DEVICE)
        optimizer.zero_grad()
        logits = model(images)
        loss = criterion(logits, targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        sizes.append(len(images))
    return np.average(losses, weights=sizes)


@torch.no_grad()
def eval_epoch(model, loader, criterion, threshold=0.5):
    model.eval()
    losses, sizes, all_probs, all_targets = [], [], [], []
    for images, targets in loader:
        images, targets = images.to(DEVICE), targets.to(DEVICE)
        logits = model(images)
        losses.append(criterion(logits, targets).item())
        sizes.append(len(images))
        all_probs.append(torch.sigmoid(logits).cpu().numpy())
        all_targets.append(targets.cpu().numpy())
    probs, targets = np.concatenate(all_probs), np.concatenate(all_targets).astype(int)
    preds = (probs > threshold).astype(int)
    macro_f1 = f1_score(targets, preds, average="macro", zero_division=0)
    exact = (preds == targets).all(axis=1).mean()
    return np.average(losses, weights=sizes), macro_f1, exact


def main():
    np.random.seed(SEED)
    torch.manual_seed(SEED)

    images, targets = make_canvases(4200, seed=SEED)
    train_idx, test_idx = train_test_split(np.arange(len(images)), test_size=600, random_state=SEED)
    train_idx, val_idx = train_test_split(train_idx, test_size=600, random_state=SEED)
    mean, std = images[train_idx].mean(), images[train_idx].std()

    train_loader = DataLoader(CanvasDataset(images, targets, train_idx, mean, std), batch_size=32, shuffle=True)
    val_loader = DataLoader(CanvasDataset(images, targets, val_idx, mean, std), batch_size=100)
    test_loader = DataLoader(CanvasDataset(images, targets, test_idx, mean, std), batch_size=100)

    # a digit is missing more often than it is there
    positives = targets[train_idx].sum(dim=0)
    pos_weight = (len(train_idx) - positives) / positives
    print("pos_weight:", [round(w, 2) for w in pos_weight.tolist()])

    model = MultiLabelCNN().to(DEVICE)
    criterion = nn.BCEWithLogitsLoss(pos_weight=pos_weight.to(DEVICE))
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[8, 11], gamma=0.3)

    for epoch in range(13):
        train_loss = train_epoch(model, train_loader, criterion, optimizer)
        val_loss, val_f1, val_exact = eval_epoch(model, val_loader, criterion)
        scheduler.step()
        print(f"Epoch {epoch + 1}: train_loss={train_loss:.4f} val_loss={val_loss:.4f} "
              f"val_macro_f1={val_f1:.4f} val_exact_match={val_exact:.4f}")

    test_loss, test_f1, test_exact = eval_epoch(model, test_loader, criterion)
    print(f"Test: loss={test_loss:.4f} macro_f1={test_f1:.4f} exact_match={test_exact:.4f}")


if __name__ == "__main__":
    main()
