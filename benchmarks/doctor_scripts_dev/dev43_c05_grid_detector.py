# One-stage detector on mosaics of four tiles, of which some are empty. One prediction per 4 x 4 pixel cell.
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import NAMES, Shapes

TILE, GRID, PRIOR = 16, 8, 0.25


class Mosaics(Dataset):
    def __init__(self, train, count, seed):
        tiles = Shapes(train=train, size=TILE)
        generator = torch.Generator().manual_seed(seed)
        self.items = []
        for _ in range(count):
            canvas = (0.5 + 0.08 * torch.randn(3, 2 * TILE, 2 * TILE, generator=generator)).clamp(0, 1)
            present = torch.rand(4, generator=generator) < 0.65
            present[int(torch.randint(0, 4, (1,), generator=generator))] = True
            boxes, labels = [], []
            for place in present.nonzero().flatten().tolist():
                row, col = divmod(place, 2)
                pick = int(torch.randint(0, len(tiles), (1,), generator=generator))
                image, label = tiles[pick]
                canvas[:, row * TILE : (row + 1) * TILE, col * TILE : (col + 1) * TILE] = image
                boxes.append((tiles.boxes[pick] + torch.tensor([col, row, col, row])) / 2)
                labels.append(label)
            self.items.append(((canvas - 0.5) / 0.2, torch.stack(boxes), torch.tensor(labels)))

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        image, boxes, labels = self.items[index]
        return image, {"boxes": boxes, "labels": labels}


def collate(batch):
    images, targets = zip(*batch)
    return torch.stack(images), list(targets)


def conv(cin, cout, stride=1):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, stride, 1, bias=False), nn.BatchNorm2d(cout), nn.LeakyReLU(0.1))


class Detector(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.body = nn.Sequential(conv(3, 16), conv(16, 32, 2), conv(32, 32), conv(32, 64, 2), conv(64, 64))
        self.head = nn.Conv2d(64, 1 + 4 + classes, 1)
        with torch.no_grad():
            self.head.bias[0] = -3.0

    def forward(self, x):
        return self.head(self.body(x))


def decode(raw):
    row, col = torch.meshgrid(torch.arange(GRID), torch.arange(GRID), indexing="ij")
    cx, cy = (col + raw[:, 1].sigmoid()) / GRID, (row + raw[:, 2].sigmoid()) / GRID
    w, h = PRIOR * raw[:, 3].clamp(max=3).exp(), PRIOR * raw[:, 4].clamp(max=3).exp()
    return torch.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], dim=-1)


def area(boxes):
    return (boxes[..., 2] - boxes[..., 0]).clamp(min=0) * (boxes[..., 3] - boxes[..., 1]).clamp(min=0)


def iou_and_giou(a, b):
    inner = area(torch.cat([torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])], dim=-1))
    hull = area(torch.cat([torch.minimum(a[..., :2], b[..., :2]), torch.maximum(a[..., 2:], b[..., 2:])], dim=-1))
    union = area(a) + area(b) - inner
    iou = inner / union.clamp(min=1e-9)
    return iou, iou - (hull - union) / hull.clamp(min=1e-9)


def detection_loss(raw, targets):
    image = torch.cat([torch.full((len(t["labels"]),), i) for i, t in enumerate(targets)])
    boxes, labels = torch.cat([t["boxes"] for t in targets]), torch.cat([t["labels"] for t in targets])
    cell = ((boxes[:, :2] + boxes[:, 2:]) / 2 * GRID).long().clamp(max=GRID - 1)
    col, row = cell[:, 0], cell[:, 1]

    logits, wanted = raw[:, 0], torch.zeros_like(raw[:, 0])
    wanted[image, row, col] = 1.0
    hard = (wanted - logits.sigmoid()).abs().pow(2)
    objectness = (hard * F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")).sum() / len(boxes)
    _, giou = iou_and_giou(decode(raw)[image, row, col], boxes)
    naming = F.cross_entropy(raw[image, 5:, row, col], labels)
    return 2 * objectness + 2 * (1 - giou).mean() + naming


def detections(raw, limit=0.1, overlap=0.5):
    for boxes, maps in zip(decode(raw), raw):
        chance, label = maps[5:].softmax(dim=0).max(dim=0)
        score = (maps[0].sigmoid() * chance).flatten()
        boxes, label = boxes.reshape(-1, 4), label.flatten()
        kept = []
        for i in score.argsort(descending=True).tolist():
            if score[i] < limit:
                break
            if not kept or iou_and_giou(boxes[i].expand(len(kept), 4), boxes[kept])[0].max() < overlap:
                kept.append(i)
        yield boxes[kept], label[kept], score[kept]


def average_precision(hits, scores, total):
    hits = torch.tensor(hits)[torch.tensor(scores).argsort(descending=True)]
    precision = hits.cumsum(0) / torch.arange(1, len(hits) + 1)
    return float((precision.flip(0).cummax(0).values.flip(0) * hits).sum() / max(total, 1))


@torch.no_grad()
def mean_average_precision(model, loader):
    model.eval()
    hits, scores, total = ([[] for _ in NAMES] for _ in range(3))
    for images, targets in loader:
        for (boxes, labels, confidence), target in zip(detections(model(images)), targets):
            free = [True] * len(target["labels"])
            for name in target["labels"].tolist():
                total[name].append(1)
            for box, name, score in zip(boxes, labels.tolist(), confidence.tolist()):
                overlap = iou_and_giou(box.expand_as(target["boxes"]), target["boxes"])[0]
                overlap = overlap * (target["labels"] == name) * torch.tensor(free)
                best = int(overlap.argmax())
                hits[name].append(float(overlap[best] >= 0.5))
                scores[name].append(score)
                if overlap[best] >= 0.5:
                    free[best] = False
    results = [average_precision(h, s, len(t)) if h else 0.0 for h, s, t in zip(hits, scores, total)]
    return sum(results) / len(results)


def main():
    torch.manual_seed(5)
    train_loader = DataLoader(Mosaics(True, 480, 100), 16, shuffle=True, collate_fn=collate)
    val_loader = DataLoader(Mosaics(False, 120, 200), 40, collate_fn=collate)
    model, epochs = Detector(len(NAMES)), 9
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=5e-3, total_steps=epochs * len(train_loader))
    for epoch in range(epochs):
        model.train()
        running = 0.0
        for images, targets in train_loader:
            loss = detection_loss(model(images), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            running += loss.item() / len(train_loader)
        print(f"epoch {epoch + 1}: loss {running:.3f}, mAP@0.5 {mean_average_precision(model, val_loader):.3f}")


if __name__ == "__main__":
    main()
