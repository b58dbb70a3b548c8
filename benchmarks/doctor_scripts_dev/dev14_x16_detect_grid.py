"""Anchor-free detection of one or two shapes per picture on a 4x4 grid: objectness, class and box per cell, AP-like recall at IoU 0.5."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import shape_mask

SIZE, CELLS = 32, 4
KINDS = ("square", "disc", "cross")


class Scenes(Dataset):
    def __init__(self, count, seed):
        g = torch.Generator().manual_seed(seed)
        draw = lambda low, high: int(torch.randint(low, high, (), generator=g))
        self.items = []
        for _ in range(count):
            image, boxes, labels = torch.full((3, SIZE, SIZE), 0.4), [], []
            for half in torch.randperm(2, generator=g).tolist()[: draw(1, 3)]:
                width, kind = draw(8, 14), draw(0, 3)
                top, left = draw(0, SIZE - width), draw(16 * half, 16 * half + 17 - width)
                image[:, shape_mask(KINDS[kind], SIZE, top, left, width)] = torch.rand(3, 1, generator=g) * 0.5 + 0.5
                boxes.append([left, top, left + width, top + width])
                labels.append(kind)
            image += 0.05 * torch.randn(image.shape, generator=g)
            self.items.append((image - 0.45, {"boxes": torch.tensor(boxes).float(), "labels": torch.tensor(labels)}))

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


def collate_fn(batch):
    images, targets = zip(*batch)
    return torch.stack(images), list(targets)


def encode(targets):
    """Lists of boxes -> dense maps; a shape belongs to the cell of its center."""
    step = SIZE / CELLS
    obj = torch.zeros(len(targets), CELLS, CELLS)
    cls = torch.full((len(targets), CELLS, CELLS), -100)
    box = torch.zeros(len(targets), 4, CELLS, CELLS)
    for n, t in enumerate(targets):
        for b, label in zip(t["boxes"], t["labels"]):
            cx, cy, w = (b[0] + b[2]) / 2, (b[1] + b[3]) / 2, b[2] - b[0]
            i, j = int(cy // step), int(cx // step)
            obj[n, i, j], cls[n, i, j] = 1, label
            box[n, :, i, j] = torch.stack([cx / step - j, cy / step - i, (w / step).log(), ((b[3] - b[1]) / step).log()])
    return obj, cls, box


class GridDetector(nn.Module):
    def __init__(self):
        super().__init__()
        block = lambda i, o: nn.Sequential(nn.Conv2d(i, o, 3, 2, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU())
        self.backbone = nn.Sequential(block(3, 24), block(24, 48), block(48, 64))
        self.neck = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.ReLU())
        self.head = nn.Conv2d(64, 1 + len(KINDS) + 4, 1)
        nn.init.constant_(self.head.bias[:1], -2.0)  # most cells are empty

    def forward(self, images, targets=None):
        out = self.head(self.neck(self.backbone(images)))
        obj, cls, box = out[:, 0], out[:, 1:1 + len(KINDS)], out[:, -4:]
        if targets is None:
            return self.decode(obj, cls, box)
        t_obj, t_cls, t_box = encode(targets)
        inside = t_obj.unsqueeze(1)
        return {"loss_obj": F.binary_cross_entropy_with_logits(obj, t_obj, pos_weight=torch.tensor(3.0)),
                "loss_cls": F.cross_entropy(cls, t_cls, ignore_index=-100),
                "loss_box": (F.smooth_l1_loss(box, t_box, reduction="none", beta=0.2) * inside).sum() / inside.sum()}

    def decode(self, obj, cls, box):
        step, results = SIZE / CELLS, []
        for o, c, b in zip(obj.sigmoid(), cls, box):
            i, j = (o > 0.5).nonzero(as_tuple=True)
            cx, cy = (b[0, i, j] + j) * step, (b[1, i, j] + i) * step
            w, h = b[2, i, j].exp() * step / 2, b[3, i, j].exp() * step / 2
            results.append({"boxes": torch.stack([cx - w, cy - h, cx + w, cy + h], 1), "labels": c[:, i, j].argmax(0)})
        return results


def iou(a, b):
    wh = (torch.min(a[:, None, 2:], b[None, :, 2:]) - torch.max(a[:, None, :2], b[None, :, :2])).clamp(min=0)
    inter, area = wh.prod(-1), lambda x: (x[:, 2:] - x[:, :2]).prod(-1)
    return inter / (area(a)[:, None] + area(b)[None] - inter)


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    hit = found = true = 0
    for images, targets in loader:
        for p, t in zip(model(images), targets):
            found, true = found + len(p["boxes"]), true + len(t["boxes"])
            match = (iou(t["boxes"], p["boxes"]) > 0.5) & (t["labels"][:, None] == p["labels"][None])
            hit += match.any(1).sum().item() if match.numel() else 0
    return hit / true, hit / max(found, 1)


if __name__ == "__main__":
    torch.manual_seed(0)
    train = DataLoader(Scenes(900, 1), 32, shuffle=True, collate_fn=collate_fn)
    val = DataLoader(Scenes(200, 2), 100, collate_fn=collate_fn)
    model = GridDetector()
    optimizer = torch.optim.AdamW(model.parameters(), 4e-3, weight_decay=1e-3)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=10 * len(train))
    for epoch in range(10):
        model.train()
        totals = {}
        for images, targets in train:
            losses = model(images, targets)
            optimizer.zero_grad()
            sum(losses.values()).backward()
            optimizer.step()
            scheduler.step()
            for k, v in losses.items():
                totals[k] = totals.get(k, 0) + v.item() / len(train)
        if epoch % 2 == 1:
            recall, precision = evaluate(model, val)
            print(f"epoch {epoch + 1}", {k: round(v, 3) for k, v in totals.items()}, f"recall {recall:.3f} precision {precision:.3f}")
