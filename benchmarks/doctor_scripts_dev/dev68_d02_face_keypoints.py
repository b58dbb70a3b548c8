"""Facial landmark regression on rendered clips: 5 points, small conv net, errors in pixels."""
import copy
import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

SEED = 42
SIZE = 40
NUM_SUBJECTS = 200
FRAMES_PER_SUBJECT = 8
EPOCHS = 24
BATCH_SIZE = 16
ACCUM_STEPS = 4
LR = 0.05
MAX_SHIFT = 3

# left/right as seen in the image
LANDMARKS = ["left_eye", "right_eye", "nose", "mouth_left", "mouth_right"]
FLIP_ORDER = [1, 0, 2, 4, 3]


def gaussian(xx, yy, point, sigma):
    return np.exp(-((xx - point[0]) ** 2 + (yy - point[1]) ** 2) / (2 * sigma ** 2))


def segment_distance(xx, yy, a, b):
    ab = b - a
    t = (((xx - a[0]) * ab[0] + (yy - a[1]) * ab[1]) / (ab @ ab)).clip(0, 1)
    return np.hypot(xx - a[0] - t * ab[0], yy - a[1] - t * ab[1])


def render_clips(rng):
    """Every subject is one short clip: same face and background, other pose in every frame.
    A clip is labelled by one annotator, whose clicks have a habit of their own."""
    yy, xx = np.mgrid[:SIZE, :SIZE].astype(np.float64)
    images, points, subjects = [], [], []
    for subject in range(NUM_SUBJECTS):
        e, h = rng.uniform(4, 6.5), rng.uniform(3, 5.5)
        m, v = rng.uniform(2.5, 5.5), rng.uniform(4.5, 8)
        nose = [rng.uniform(-0.7, 0.7), rng.uniform(-0.5, 2.0)]
        shape = np.array([[-e, -h], [e, -h], nose, [-m, v], [m, v]])
        habit = rng.normal(0, 0.7, shape.shape)
        axes = rng.uniform(9, 11), rng.uniform(11.5, 14)
        skin, eye = rng.uniform(0.45, 0.8), rng.uniform(0.8, 1.6)
        freq, phase = rng.uniform(-0.5, 0.5, 2), rng.uniform(0, 2 * np.pi)
        background = 0.25 + 0.2 * np.sin(freq[0] * xx + freq[1] * yy + phase)
        for _ in range(FRAMES_PER_SUBJECT):
            angle, scale = math.radians(rng.normal(0, 10)), rng.uniform(0.85, 1.1)
            rot = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
            centre = SIZE / 2 + rng.uniform(-4, 4, 2)
            kp = shape @ rot.T + centre
            u, w = np.einsum("ij,jhw->ihw", np.linalg.inv(rot), np.stack([xx - centre[0], yy - centre[1]]))
            face = 1 / (1 + np.exp(-12 * (1 - np.hypot(u / axes[0], w / axes[1]))))
            img = background * (1 - face) + skin * face
            img -= 0.4 * sum(gaussian(xx, yy, p, eye * scale) for p in kp[:2])
            img += 0.2 * gaussian(xx, yy, kp[2], 1.2 * scale)
            img -= 0.3 * np.exp(-segment_distance(xx, yy, kp[3], kp[4]) ** 2 / 1.5)
            img = img * rng.uniform(0.8, 1.2) + rng.normal(0, 0.04, img.shape)
            images.append((img.clip(0, 1) * 255).astype(np.uint8))
            points.append(kp + habit)
            subjects.append(subject)
    return np.stack(images), np.stack(points).astype(np.float32), np.array(subjects)


def split_indices(subjects, seed):
    """80/10/10 split by subject, so that no clip is in two parts."""
    ids = np.random.RandomState(seed).permutation(np.unique(subjects))
    parts = np.split(ids, [int(0.8 * len(ids)), int(0.9 * len(ids))])
    return [np.flatnonzero(np.isin(subjects, part)) for part in parts]


class LandmarkDataset(Dataset):
    def __init__(self, images, points, stats, train=False):
        self.images = torch.from_numpy(images).unsqueeze(1)
        self.points = torch.from_numpy(points)
        self.stats = stats
        self.train = train

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        img = self.images[i].float() / 255
        kp = self.points[i].clone()
        if self.train:
            if torch.rand(1).item() < 0.5:
                img = img.flip(-1)
                kp = kp[FLIP_ORDER]
                kp[:, 0] = SIZE - 1 - kp[:, 0]
            dx, dy = torch.randint(-MAX_SHIFT, MAX_SHIFT + 1, (2,)).tolist()
            img = F.pad(img, [MAX_SHIFT] * 4, mode="replicate")
            top, left = MAX_SHIFT - dy, MAX_SHIFT - dx
            img = img[:, top:top + SIZE, left:left + SIZE]
            kp = kp + torch.tensor([dx, dy])
            img = img * (0.9 + 0.2 * torch.rand(1))
        img = (img - self.stats["img_mean"]) / self.stats["img_std"]
        kp = (kp - self.stats["kp_mean"]) / self.stats["kp_std"]
        return img, kp.flatten()


def conv_block(c_in, c_out):
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, 3, stride=2, padding=1, bias=False),
        nn.GroupNorm(8, c_out),
        nn.ReLU(inplace=True),
        nn.Conv2d(c_out, c_out, 3, padding=1, bias=False),
        nn.GroupNorm(8, c_out),
        nn.ReLU(inplace=True),
    )


class LandmarkNet(nn.Module):
    def __init__(self, num_points):
        super().__init__()
        self.features = nn.Sequential(conv_block(1, 16), conv_block(16, 32), conv_block(32, 64))
        self.fc1 = nn.Linear(64 * 5 * 5, 128)
        self.fc2 = nn.Linear(128, 2 * num_points)

    def forward(self, x):
        x = self.features(x).flatten(1)
        x = F.relu(self.fc1(x))
        return self.fc2(x)


@torch.no_grad()
def evaluate(model, loader, stats):
    """Mean absolute error in pixels, and mean point error over the distance of the eyes (NME)."""
    model.eval()
    preds, targets = [], []
    for img, target in loader:
        preds.append(model(img).view(len(img), -1, 2) * stats["kp_std"] + stats["kp_mean"])
        targets.append(target.view(len(img), -1, 2) * stats["kp_std"] + stats["kp_mean"])
    pred, target = torch.cat(preds), torch.cat(targets)
    mae = (pred - target).abs().mean().item()
    interocular = (target[:, 0] - target[:, 1]).norm(dim=-1, keepdim=True)
    nme = ((pred - target).norm(dim=-1) / interocular).mean().item()
    return mae, nme


def main():
    torch.manual_seed(SEED)
    images, points, subjects = render_clips(np.random.default_rng(SEED))
    train_idx, val_idx, test_idx = split_indices(subjects, SEED)
    stats = {
        "img_mean": float(images[train_idx].mean() / 255),
        "img_std": float(images[train_idx].std() / 255),
        "kp_mean": torch.from_numpy(points[train_idx].mean(0)),
        "kp_std": torch.from_numpy(points[train_idx].std(0)),
    }
    train_set = LandmarkDataset(images[train_idx], points[train_idx], stats, train=True)
    train_loader = DataLoader(train_set, BATCH_SIZE, shuffle=True, drop_last=True)
    val_loader = DataLoader(LandmarkDataset(images[val_idx], points[val_idx], stats), 80)
    test_loader = DataLoader(LandmarkDataset(images[test_idx], points[test_idx], stats), 80)
    baseline = np.abs(points[test_idx] - points[train_idx].mean(0)).mean()
    print(f"{len(train_set)} train frames, mean shape baseline: {baseline:.2f} px")

    model = LandmarkNet(len(LANDMARKS))
    criterion = nn.SmoothL1Loss()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9, nesterov=True, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="min", factor=0.3, patience=2)

    best_mae, best_state = float("inf"), None
    for epoch in range(EPOCHS):
        model.train()
        running = 0.0
        optimizer.zero_grad()
        for step, (img, target) in enumerate(train_loader):
            loss = criterion(model(img), target)
            (loss / ACCUM_STEPS).backward()
            if (step + 1) % ACCUM_STEPS == 0:
                nn.utils.clip_grad_norm_(model.parameters(), 5.0)
                optimizer.step()
                optimizer.zero_grad()
            running += loss.item()
        val_mae, val_nme = evaluate(model, val_loader, stats)
        scheduler.step(val_mae)
        if val_mae < best_mae:
            best_mae, best_state = val_mae, copy.deepcopy(model.state_dict())
        print(f"[{epoch + 1:02d}/{EPOCHS}] loss {running / len(train_loader):.4f}  val MAE {val_mae:.3f} px  "
              f"NME {val_nme:.4f}  lr {optimizer.param_groups[0]['lr']:.5f}")

    model.load_state_dict(best_state)
    test_mae, test_nme = evaluate(model, test_loader, stats)
    print(f"best val MAE {best_mae:.3f} px | test MAE {test_mae:.3f} px  NME {test_nme:.4f}")


if __name__ == "__main__":
    main()
