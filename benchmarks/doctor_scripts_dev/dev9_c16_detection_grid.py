"""One-object detector with a grid head: objectness focal loss, box L1, class loss; targets are made in the step."""
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

S, C = 4, 6


class DetectionSet(Dataset):
    def __init__(self, train):
        self.src = Shapes(train)

    def __len__(self):
        return len(self.src)

    def __getitem__(self, i):
        img, label = self.src[i]
        return img, {"boxes": self.src.boxes[i][None], "labels": torch.tensor([label]), "image_id": i}


collate = lambda batch: tuple(zip(*batch))


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        block = lambda i, o, s: nn.Sequential(nn.Conv2d(i, o, 3, s, 1, bias=False), nn.BatchNorm2d(o), nn.SiLU())
        self.body = nn.Sequential(block(3, 16, 1), block(16, 32, 2), block(32, 48, 1), block(48, 64, 2), block(64, 64, 1))
        self.head = nn.Conv2d(64, 1 + 4 + C, 1)
        nn.init.constant_(self.head.bias[:1].data, -2.5)

    def forward(self, images, targets=None):
        x = torch.stack(list(images)).sub(0.5).mul(2)
        out = self.head(self.body(x)).permute(0, 2, 3, 1)
        if not self.training:
            return self.decode(out)
        assert targets is not None
        return self.losses(out, targets)

    def losses(self, out, targets):
        B = out.shape[0]
        obj, box = torch.zeros(B, S, S), torch.zeros(B, S, S, 4)
        cls = torch.full((B, S, S), -100)
        for b, t in enumerate(targets):
            for (x1, y1, x2, y2), lab in zip(t["boxes"].tolist(), t["labels"].tolist()):
                cx, cy = (x1 + x2) / 2 * S, (y1 + y2) / 2 * S
                i, j = min(int(cy), S - 1), min(int(cx), S - 1)
                obj[b, i, j], cls[b, i, j] = 1.0, lab
                box[b, i, j] = torch.tensor([cx - j, cy - i, x2 - x1, y2 - y1])
        pos = obj.bool()
        p = out[..., 0].sigmoid()
        pt = torch.where(pos, p, 1 - p)
        focal = (torch.where(pos, 0.75, 0.25) * (1 - pt) ** 2 * F.binary_cross_entropy_with_logits(out[..., 0], obj, reduction="none")).sum() / pos.sum()
        return {"loss_objectness": focal,
                "loss_box": F.smooth_l1_loss(out[..., 1:5].sigmoid()[pos], box[pos], beta=0.1),
                "loss_classifier": F.cross_entropy(out[..., 5:].flatten(0, 2), cls.flatten())}

    def decode(self, out):
        results = []
        for o in out:
            k = int(o[..., 0].argmax())
            i, j = divmod(k, S)
            cx, cy, w, h = o[i, j, 1:5].sigmoid().tolist()
            cx, cy = (cx + j) / S, (cy + i) / S
            results.append({"boxes": torch.tensor([[cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]]),
                            "labels": o[i, j, 5:].argmax()[None], "scores": o[i, j, :1].sigmoid()})
        return results


def iou(a, b):
    wh = (torch.min(a[2:], b[2:]) - torch.max(a[:2], b[:2])).clamp(min=0).prod()
    return float(wh / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - wh))


def evaluate(model, loader):
    model.eval()
    ious, right = [], []
    with torch.no_grad():
        for images, targets in loader:
            for det, t in zip(model(images), targets):
                ious.append(iou(det["boxes"][0], t["boxes"][0]))
                right.append(ious[-1] > 0.5 and int(det["labels"]) == int(t["labels"]))
    return sum(ious) / len(ious), sum(right) / len(right)


if __name__ == "__main__":
    torch.manual_seed(0)
    train_loader = DataLoader(DetectionSet(True), 30, shuffle=True, collate_fn=collate)
    val_loader = DataLoader(DetectionSet(False), 60, collate_fn=collate)
    model = Detector()
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(params, lr=4e-3, weight_decay=5e-4)
    lr_scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=5, gamma=0.3)
    weights = {"loss_objectness": 2.0, "loss_box": 5.0, "loss_classifier": 1.0}
    for epoch in range(9):
        model.train()
        for step, (images, targets) in enumerate(train_loader):
            loss_dict = model(images, targets)
            losses = sum(weights[k] * v for k, v in loss_dict.items())
            optimizer.zero_grad()
            losses.backward()
            optimizer.step()
        lr_scheduler.step()
        m, ap = evaluate(model, val_loader)
        print(f"epoch {epoch} " + " ".join(f"{k} {v.item():.3f}" for k, v in loss_dict.items()) + f" | mIoU {m:.3f} hit@0.5 {ap:.3f}")
