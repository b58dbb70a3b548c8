"""CelebA-style attribute classification on generated portraits: many binary labels per image, rare ones too."""
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.metrics import average_precision_score, balanced_accuracy_score
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

ATTRIBUTES = ["Wearing_Hat", "Eyeglasses", "Smiling", "Blond_Hair", "Beard", "Pale_Skin", "Earring_Left", "Earring_Right"]
FREQUENCY = np.array([0.10, 0.20, 0.50, 0.25, 0.15, 0.35, 0.15, 0.15])
PER_PERSON = np.array([0, 0, 0, 1, 1, 1, 1, 1], dtype=bool)
FLIPPED = [0, 1, 2, 3, 4, 5, 7, 6]
N_PERSONS, N_PICTURES, SIZE = 300, 9, 32
EPOCHS, BATCH_SIZE, LR, WEIGHT_DECAY = 12, 64, 3e-3, 0.05


def draw_portrait(attr, look, rng):
    hat, glasses, smiling, blond, beard, pale, ear_left, ear_right = attr
    yy, xx = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
    cx, cy, r = 16 + rng.uniform(-2, 2), 17 + rng.uniform(-1.5, 1.5), rng.uniform(8, 10)
    dx, dy = xx - cx, yy - cy
    img = np.kron(look["wall"], np.ones((8, 8, 1), dtype=np.float32))
    hair = np.array([0.65, 0.55, 0.25] if blond else [0.3, 0.2, 0.12]) + look["tint"]
    skin = np.array([0.85, 0.72, 0.65] if pale else [0.72, 0.53, 0.42]) + look["tint"]
    img[(dx / (r + 2)) ** 2 + ((dy + 1) / (1.2 * r + 1)) ** 2 < 1] = hair
    face = (dx / r) ** 2 + ((dy - 1) / (1.1 * r)) ** 2 < 1
    img[face] = skin
    if beard:
        img[face & (dy > 0.45 * r)] = 0.6 * skin + 0.4 * np.array([0.2, 0.15, 0.1])
    eye = 3.0 if glasses else 1.3
    for side in (-1, 1):
        img[(np.abs(dx - side * 0.45 * r) < eye * 0.7) & (np.abs(dy + 2) < eye * 0.6)] = 0.15
    bend = 0.15 if smiling else 0.0
    img[(np.abs(dy - 0.6 * r + bend * dx ** 2 - 1.5 * smiling) < 0.9) & (np.abs(dx) < 5)] = [0.6, 0.15, 0.2]
    if hat:
        img[(dy < -0.75 * r) & (np.abs(dx) < r + 1) & (dy > -1.5 * r)] = rng.uniform(0, 1, 3)
    for present, side in ((ear_left, -1), (ear_right, 1)):
        if present:
            img[(np.abs(dx - side * (r + 0.5)) < 1.6) & (np.abs(dy - 4) < 1.6)] = [0.9, 0.8, 0.2]
    img = img * rng.uniform(0.8, 1.1) + rng.normal(0, 0.12, img.shape)
    return np.clip(img, 0, 1).astype(np.float32)


def make_portraits(rng):
    images, attrs, person = [], [], []
    for p in range(N_PERSONS):
        traits = rng.random(8) < FREQUENCY
        look = {"wall": rng.uniform(0, 1, (4, 4, 3)).astype(np.float32), "tint": rng.normal(0, 0.06, 3)}
        for _ in range(N_PICTURES):
            attr = np.where(PER_PERSON, traits, rng.random(8) < FREQUENCY)
            images.append(draw_portrait(attr, look, rng))
            attrs.append(attr)
            person.append(p)
    return np.stack(images).transpose(0, 3, 1, 2), np.stack(attrs).astype(np.float32), np.array(person)


def partition(groups, fractions, rng):
    ids = rng.permutation(np.unique(groups))
    cuts = np.cumsum([int(f * len(ids)) for f in fractions])
    return [np.flatnonzero(np.isin(groups, part)) for part in np.split(ids, cuts)]


class AttributeNet(nn.Module):
    """A small CNN; each attribute looks at the picture through its own attention map."""

    def __init__(self, n_attr):
        super().__init__()
        layers, widths = [], [3, 16, 32, 64]
        for ni, no in zip(widths[:-1], widths[1:]):
            layers += [nn.Conv2d(ni, no, 3, padding=1, bias=False), nn.BatchNorm2d(no), nn.ReLU(inplace=True)]
            layers += [nn.MaxPool2d(2)] if no < 64 else []
        self.features = nn.Sequential(*layers)
        self.attention = nn.Conv2d(64, n_attr, 1)
        self.weight = nn.Parameter(torch.randn(n_attr, 64) * 0.1)
        self.bias = nn.Parameter(torch.zeros(n_attr))

    def forward(self, x):
        f = self.features(x)
        att = self.attention(f).flatten(2).softmax(dim=-1)
        pooled = torch.einsum("bap,bcp->bac", att, f.flatten(2))
        return (pooled * self.weight).sum(-1) + self.bias


def augment(x, y):
    flip = torch.rand(len(x)) < 0.5
    x = torch.where(flip[:, None, None, None], x.flip(-1), x)
    y = torch.where(flip[:, None], y[:, FLIPPED], y)
    dx, dy = torch.randint(-2, 3, (2,)).tolist()
    return F.pad(x, (2, 2, 2, 2), mode="replicate")[..., 2 + dy:2 + dy + SIZE, 2 + dx:2 + dx + SIZE], y


@torch.no_grad()
def predict(model, loader):
    model.eval()
    logits, targets = zip(*[(model(x), y) for x, y in loader])
    return torch.cat(logits).sigmoid().numpy(), torch.cat(targets).numpy()


def evaluate(probs, targets):
    preds = probs > 0.5
    rows = []
    for j in range(len(ATTRIBUTES)):
        t = targets[:, j]
        rows.append((average_precision_score(t, probs[:, j]), balanced_accuracy_score(t, preds[:, j])))
    return np.array(rows)


def main():
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    images, attrs, person = make_portraits(rng)
    train_idx, val_idx, test_idx = partition(person, (0.6, 0.2), rng)

    mean = images[train_idx].mean(axis=(0, 2, 3), keepdims=True)
    std = images[train_idx].std(axis=(0, 2, 3), keepdims=True)
    images, attrs = torch.from_numpy((images - mean) / std), torch.from_numpy(attrs)
    train_set, val_set, test_set = [TensorDataset(images[i], attrs[i]) for i in (train_idx, val_idx, test_idx)]

    # pictures with a rare attribute are drawn more often, pos_weight balances what is left
    train_attrs = attrs[train_idx]
    rarity = 1.0 / train_attrs.mean(0)
    sample_weight = (train_attrs * rarity).amax(1).clamp(min=1.0).sqrt()
    sampler = WeightedRandomSampler(sample_weight, num_samples=len(train_set), replacement=True)
    pos_rate = (sample_weight[:, None] * train_attrs).sum(0) / sample_weight.sum()
    pos_weight = (1 - pos_rate) / pos_rate

    train_loader = DataLoader(train_set, batch_size=BATCH_SIZE, sampler=sampler, drop_last=True)
    val_loader, test_loader = DataLoader(val_set, batch_size=256), DataLoader(test_set, batch_size=256)

    model = AttributeNet(len(ATTRIBUTES))
    criterion = nn.BCEWithLogitsLoss(pos_weight=pos_weight)
    decay = [p for n, p in model.named_parameters() if p.ndim > 1]
    no_decay = [p for n, p in model.named_parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": WEIGHT_DECAY},
                                   {"params": no_decay, "weight_decay": 0.0}], lr=LR)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=LR, total_steps=EPOCHS * len(train_loader))

    best_map, best_state = 0.0, None
    for epoch in range(EPOCHS):
        model.train()
        total = 0.0
        for x, y in train_loader:
            x, y = augment(x, y)
            loss = criterion(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            total += loss.item()
        val_map, val_bacc = evaluate(*predict(model, val_loader)).mean(0)
        print(f"epoch {epoch + 1:2d} loss {total / len(train_loader):.4f} val mAP {val_map:.4f} bal. acc {val_bacc:.4f}")
        if val_map > best_map:
            best_map, best_state = val_map, {k: v.clone() for k, v in model.state_dict().items()}

    model.load_state_dict(best_state)
    scores = evaluate(*predict(model, test_loader))
    print(f"{'attribute':15s} {'AP':>7s} {'bal.acc':>8s}")
    for name, (ap, bacc) in zip(ATTRIBUTES + ["mean"], np.vstack([scores, scores.mean(0)])):
        print(f"{name:15s} {ap:7.4f} {bacc:8.4f}")


if __name__ == "__main__":
    main()
