# Keypoints of a bent stick figure: head (a disc), joint (the bend) and tail (a ring).
# Each keypoint has a map; a softmax over its positions is its distribution, the mean of that is the prediction.
import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

SIZE, STRIDE, POINTS = 32, 2, 3


def segment_distance(y, x, a, b):
    ab = b - a
    t = ((x - a[0]) * ab[0] + (y - a[1]) * ab[1]) / (ab @ ab)
    t = np.clip(t, 0, 1)
    return np.hypot(x - a[0] - t * ab[0], y - a[1] - t * ab[1])


def make_figures(count, seed):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE].astype(float)
    images = np.zeros((count, 1, SIZE, SIZE), dtype=np.float32)
    points = np.zeros((count, POINTS, 2), dtype=np.float32)
    for i in range(count):
        joint = rng.uniform(12, 20, 2)
        angle = rng.uniform(0, 2 * math.pi)
        bend = angle + rng.uniform(1.2, 2.6) * rng.choice([-1, 1])
        head = joint + rng.uniform(7, 9) * np.array([math.cos(angle), math.sin(angle)])
        tail = joint + rng.uniform(7, 9) * np.array([math.cos(bend), math.sin(bend)])
        image = np.zeros((SIZE, SIZE))
        for end in (head, tail):
            image = np.maximum(image, 0.6 * (segment_distance(y, x, joint, end) < 0.9))
        from_head = np.hypot(x - head[0], y - head[1])
        from_tail = np.hypot(x - tail[0], y - tail[1])
        image[from_head < 2.6] = 1.0
        image[from_tail < 3.0] = 0.0
        image[(from_tail >= 1.5) & (from_tail < 3.0)] = 1.0
        images[i, 0] = image + 0.05 * rng.standard_normal(image.shape)
        points[i] = np.stack([head, joint, tail])  # (x, y) in pixels
    return torch.from_numpy(images), torch.from_numpy(points)


def make_model(width=32):
    def unit(inputs, outputs, dilation=1):
        return [
            nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        ]

    return nn.Sequential(
        *unit(1, width // 2),
        nn.MaxPool2d(2),
        *unit(width // 2, width),
        *unit(width, width, dilation=2),
        *unit(width, width),
        nn.Conv2d(width, POINTS, 1),
    )


cells = (torch.arange(SIZE // STRIDE) + 0.5) * STRIDE - 0.5  # centers of the map's cells, in pixels


def target_maps(points, sigma=1.5):
    dx = cells[None, None, None, :] - points[:, :, 0, None, None]
    dy = cells[None, None, :, None] - points[:, :, 1, None, None]
    maps = torch.exp(-(dx**2 + dy**2) / (2 * sigma**2)).flatten(2)
    return maps / maps.sum(dim=2, keepdim=True)


def decode(logits):
    probability = logits.flatten(2).softmax(dim=2).view_as(logits)
    x = (probability.sum(dim=2) * cells).sum(dim=2)
    y = (probability.sum(dim=3) * cells).sum(dim=2)
    return torch.stack([x, y], dim=2)


def make_trainer(model, images, points, learning_rate, weight_decay, noise_std, batch_size, epochs):
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=weight_decay)
    per_epoch = math.ceil(len(images) / batch_size)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * per_epoch)

    def step(x, target):
        x = x + noise_std * torch.randn_like(x)
        log_probability = F.log_softmax(model(x).flatten(2), dim=2)
        loss = -(target * log_probability).sum(dim=2).mean()
        loss.backward()
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        return loss.item()

    def epoch():
        model.train()
        losses = []
        for chosen in torch.randperm(len(images)).split(batch_size):
            losses.append(step(images[chosen], target_maps(points[chosen])))
        return sum(losses) / len(losses)

    return epoch


def make_evaluator(model, images, points):
    @torch.no_grad()
    def evaluate():
        model.eval()
        found = torch.cat([decode(model(batch)) for batch in images.split(100)])
        distance = (found - points).norm(dim=2)
        return distance.mean().item(), (distance < 1.5).float().mean().item()

    return evaluate


torch.manual_seed(5)
torch.set_num_threads(1)
images, points = make_figures(1500, seed=5)

order = torch.randperm(len(images))
valid_ids = order[1200:]
train_ids = order[:1200]
mean, std = images[train_ids].mean(), images[train_ids].std()
images = (images - mean) / std

EPOCHS = 10
model = make_model()
train_epoch = make_trainer(
    model, images[train_ids], points[train_ids],
    learning_rate=3e-3, weight_decay=1e-6, noise_std=0.1, batch_size=16, epochs=EPOCHS,
)
evaluate = make_evaluator(model, images[valid_ids], points[valid_ids])

for number in range(EPOCHS):
    loss = train_epoch()
    error, pck = evaluate()
    print(f"epoch {number}: loss {loss:.3f}, mean error {error:.2f} px, PCK@1.5 {pck:.3f}")
