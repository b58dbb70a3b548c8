"""Anchor-free detection in the manner of CenterNet: a heatmap of centers with a focal loss, sizes and offsets with L1 at the
centers only; F1 at IoU 0.5."""

import torch
import torch.nn.functional as F
from torch import nn

from toydata import COLORS, shape_mask

SIZE, STRIDE = 32, 2
GRID = SIZE // STRIDE
KINDS = ("square", "disc", "cross")


def make_scenes(count, seed):
    """One to three shapes, each in a quadrant of its own; boxes are (x1, y1, x2, y2) in pixels."""
    g = torch.Generator().manual_seed(seed)
    draw = lambda low, high: int(torch.randint(low, high, (1,), generator=g))  # noqa: E731
    images = torch.full((count, 3, SIZE, SIZE), 0.5)
    boxes, labels = [], []
    for image in images:
        scene_boxes, scene_labels = [], []
        for quadrant in torch.randperm(4, generator=g)[: draw(1, 4)].tolist():
            width, kind, color = draw(8, 14), draw(0, 3), ("red", "blue")[draw(0, 2)]
            top = SIZE // 2 * (quadrant // 2) + draw(0, SIZE // 2 - width + 1)
            left = SIZE // 2 * (quadrant % 2) + draw(0, SIZE // 2 - width + 1)
            mask = shape_mask(KINDS[kind], SIZE, top, left, width)
            image[:, mask] = torch.tensor(COLORS[color])[:, None]
            scene_boxes.append([left, top, left + width, top + width])
            scene_labels.append(kind)
        boxes.append(torch.tensor(scene_boxes).float())
        labels.append(torch.tensor(scene_labels))
    images = (images + 0.05 * torch.randn(images.shape, generator=g)).clamp(0, 1)
    return (images - 0.5) / 0.2, boxes, labels


def encode(boxes, labels):
    """Targets of one scene: heatmap by class, sizes and offsets (in cells), and where the centers are."""
    heat, regress, at = torch.zeros(len(KINDS), GRID, GRID), torch.zeros(4, GRID, GRID), torch.zeros(GRID, GRID)
    axis = torch.arange(GRID)
    for (x1, y1, x2, y2), label in zip((boxes / STRIDE).tolist(), labels.tolist()):
        cx, cy = (x1 + x2) / 2, (y1 + y2) / 2
        column, row = int(cx), int(cy)
        distance = (axis[None, :] - column) ** 2 + (axis[:, None] - row) ** 2
        heat[label] = torch.maximum(heat[label], torch.exp(-distance / 2.0))
        regress[:, row, column] = torch.tensor([x2 - x1, y2 - y1, cx - column, cy - row])
        at[row, column] = 1
    return heat, regress, at


class CenterNet(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        layers, channels = [], 3
        for stride, dilation in ((1, 1), (STRIDE, 1), (1, 1), (1, 2), (1, 2)):
            layers += [nn.Conv2d(channels, width, 3, stride, dilation, dilation, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        self.trunk = nn.Sequential(*layers)
        self.heat = nn.Conv2d(width, len(KINDS), 1)
        self.regress = nn.Conv2d(width, 4, 1)
        nn.init.constant_(self.heat.bias, -2.19)  # centers are rare: begin at one in ten

    def forward(self, images):
        features = self.trunk(images)
        return self.heat(features), self.regress(features)


def focal_loss(logits, heat):
    log_yes, log_no = F.logsigmoid(logits), F.logsigmoid(-logits)
    probability = logits.sigmoid()
    center = (heat == 1).float()
    positive = (1 - probability) ** 2 * log_yes * center
    negative = (1 - heat) ** 4 * probability**2 * log_no * (1 - center)
    return -(positive + negative).sum() / center.sum().clamp(min=1)


def decode(logits, regress, threshold=0.35):
    """Peaks of each heatmap, as lists of (score, label, box)."""
    scores = logits.sigmoid()
    scores = scores * (F.max_pool2d(scores, 3, stride=1, padding=1) == scores)
    found = []
    for score, values in zip(scores, regress):
        scene = []
        for label, row, column in (score > threshold).nonzero().tolist():
            w, h, dx, dy = values[:, row, column].tolist()
            x, y = column + dx, row + dy
            box = torch.tensor([x - w / 2, y - h / 2, x + w / 2, y + h / 2]) * STRIDE
            scene.append((score[label, row, column].item(), label, box))
        found.append(sorted(scene, key=lambda item: -item[0]))
    return found


def iou(a, b):
    overlap = (torch.minimum(a[2:], b[:, 2:]) - torch.maximum(a[:2], b[:, :2])).clamp(min=0).prod(-1)
    return overlap / ((a[2:] - a[:2]).clamp(min=0).prod() + (b[:, 2:] - b[:, :2]).prod(-1) - overlap)


@torch.no_grad()
def f1_score(model, images, boxes, labels):
    model.eval()
    hits = found_count = 0
    for start in range(0, len(images), 100):
        for i, scene in enumerate(decode(*model(images[start : start + 100])), start):
            free = torch.ones(len(boxes[i]))
            for _, label, box in scene:
                overlap = iou(box, boxes[i]) * free * (labels[i] == label)
                best = int(overlap.argmax())
                if overlap[best] >= 0.5:
                    free[best] = 0
                    hits += 1
            found_count += len(scene)
    return 2 * hits / max(found_count + sum(map(len, boxes)), 1)


def main():
    torch.manual_seed(8)
    epochs, batch = 10, 50
    images, boxes, labels = make_scenes(1500, seed=51)
    heat, regress, at = map(torch.stack, zip(*map(encode, boxes, labels)))
    validation = make_scenes(200, seed=52)
    model = CenterNet()
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=1e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs * len(images) // batch)
    for epoch in range(epochs):
        model.train()
        sums = torch.zeros(2)
        for chosen in torch.randperm(len(images)).split(batch):
            logits, values = model(images[chosen])
            mask = at[chosen].unsqueeze(1)
            center_loss = focal_loss(logits, heat[chosen])
            box_loss = ((values - regress[chosen]).abs() * mask).sum() / (4 * mask.sum())
            optimizer.zero_grad()
            (center_loss + box_loss).backward()
            optimizer.step()
            scheduler.step()
            sums += torch.stack([center_loss.detach(), box_loss.detach()]) * len(chosen)
        f1 = f1_score(model, *validation)
        print(f"epoch {epoch}: (center, box) {(sums / len(images)).tolist()}  F1@0.5 {f1:.3f}")


if __name__ == "__main__":
    main()
