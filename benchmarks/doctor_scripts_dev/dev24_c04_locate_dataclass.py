"""Object localization: one network with two heads, one for the class and one for the bounding box."""

from dataclasses import asdict, dataclass

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import NAMES, Shapes


@dataclass
class Config:
    train_size: int = 2600
    val_size: int = 400
    batch_size: int = 64
    epochs: int = 20
    max_lr: float = 2e-3
    weight_decay: float = 1e-2
    box_weight: float = 10.0
    seed: int = 3
    device: str = "cuda" if torch.cuda.is_available() else "cpu"


class Localizer(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64 * 4 * 4, 128),
            nn.ReLU(),
        )
        self.class_head = nn.Linear(128, num_classes)
        self.box_head = nn.Linear(128, 4)

    def forward(self, x):
        features = self.backbone(x)
        return self.class_head(features), self.box_head(features)


def box_iou(a, b):
    """IoU of pairs of boxes, both N x 4 as left, top, right, bottom."""
    top_left = torch.maximum(a[:, :2], b[:, :2])
    bottom_right = torch.minimum(a[:, 2:], b[:, 2:])
    inter = (bottom_right - top_left).clamp(min=0).prod(dim=1)
    area_a = (a[:, 2:] - a[:, :2]).clamp(min=0).prod(dim=1)
    area_b = (b[:, 2:] - b[:, :2]).clamp(min=0).prod(dim=1)
    return inter / (area_a + area_b - inter).clamp(min=1e-6)


def load(dataset, mean, std):
    images = (torch.stack(dataset.images) - mean) / std
    return images, torch.tensor(dataset.targets), torch.stack(dataset.boxes)


def build_loaders(cfg):
    dataset = Shapes(train=True, count=cfg.train_size + cfg.val_size)
    train_pixels = torch.stack(dataset.images[: cfg.train_size])
    mean = train_pixels.mean(dim=(0, 2, 3)).view(3, 1, 1)
    std = train_pixels.std(dim=(0, 2, 3)).view(3, 1, 1)
    images, labels, boxes = load(dataset, mean, std)
    cut = cfg.train_size
    train_set = TensorDataset(images[:cut], labels[:cut], boxes[:cut])
    val_set = TensorDataset(images[cut:], labels[cut:], boxes[cut:])
    test_set = TensorDataset(*load(Shapes(train=False, count=400), mean, std))
    return (
        DataLoader(train_set, batch_size=cfg.batch_size, shuffle=True),
        DataLoader(val_set, batch_size=200),
        DataLoader(test_set, batch_size=200),
    )


def compute_loss(cfg, logits, pred_boxes, labels, boxes):
    class_loss = F.cross_entropy(logits, labels)
    box_loss = F.smooth_l1_loss(pred_boxes, boxes, beta=0.1)
    return class_loss + cfg.box_weight * box_loss, class_loss, box_loss


@torch.no_grad()
def evaluate(model, loader, cfg):
    model.eval()
    loss_sum, correct, iou_sum, count = 0.0, 0, 0.0, 0
    for images, labels, boxes in loader:
        images, labels, boxes = images.to(cfg.device), labels.to(cfg.device), boxes.to(cfg.device)
        logits, pred_boxes = model(images)
        loss, _, _ = compute_loss(cfg, logits, pred_boxes, labels, boxes)
        loss_sum += loss.item() * len(images)
        correct += (logits.argmax(dim=1) == labels).sum().item()
        iou_sum += box_iou(pred_boxes, boxes).sum().item()
        count += len(images)
    return {"loss": loss_sum / count, "acc": correct / count, "iou": iou_sum / count}


def main():
    cfg = Config()
    print(asdict(cfg))
    torch.manual_seed(cfg.seed)
    train_loader, val_loader, test_loader = build_loaders(cfg)
    model = Localizer(len(NAMES)).to(cfg.device)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters")
    optimizer = torch.optim.AdamW(model.parameters(), lr=cfg.max_lr, weight_decay=cfg.weight_decay)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=cfg.max_lr, epochs=cfg.epochs, steps_per_epoch=len(train_loader)
    )

    for epoch in range(cfg.epochs):
        model.train()
        sums = torch.zeros(3)
        for images, labels, boxes in train_loader:
            images, labels, boxes = images.to(cfg.device), labels.to(cfg.device), boxes.to(cfg.device)
            logits, pred_boxes = model(images)
            loss, class_loss, box_loss = compute_loss(cfg, logits, pred_boxes, labels, boxes)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            scheduler.step()
            sums += torch.stack([loss, class_loss, box_loss]).detach().cpu() * len(images)
        train_loss, train_class, train_box = (sums / len(train_loader.dataset)).tolist()
        val = evaluate(model, val_loader, cfg)
        print(
            f"epoch {epoch + 1:2d}  train {train_loss:.4f} (class {train_class:.4f}, box {train_box:.5f})  "
            f"val {val['loss']:.4f}  acc {val['acc']:.3f}  IoU {val['iou']:.3f}"
        )

    test = evaluate(model, test_loader, cfg)
    print(f"test accuracy {test['acc']:.3f}, mean IoU {test['iou']:.3f}")


if __name__ == "__main__":
    main()
