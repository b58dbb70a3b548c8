"""Multi-task learning with learned task weights (Kendall et al.): masks, boxes and class names from one U-Net."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes


@dataclass
class Config:
    train_count: int = 1200
    val_count: int = 240
    batch_size: int = 32
    epochs: int = 14
    lr: float = 2e-3
    seed: int = 3


class MultiTaskShapes(Dataset):
    def __init__(self, train, count, flip):
        self.shapes = Shapes(train=train, count=count)
        self.flip = flip

    def __len__(self):
        return len(self.shapes)

    def __getitem__(self, index):
        image, label = self.shapes[index]
        mask, box = self.shapes.masks[index], self.shapes.boxes[index]
        if self.flip and torch.rand(()) < 0.5:
            image, mask = image.flip(-1), mask.flip(-1)
            left, top, right, bottom = box.unbind()
            box = torch.stack([1 - right, top, 1 - left, bottom])
        return (image - 0.5) / 0.2, mask, box, label


def block(inputs, outputs):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class MultiTaskUNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc1 = block(3, 16)
        self.enc2 = block(16, 32)
        self.bottom = block(32, 48)
        self.up2 = nn.ConvTranspose2d(48, 32, 2, stride=2)
        self.dec2 = block(64, 32)
        self.up1 = nn.ConvTranspose2d(32, 16, 2, stride=2)
        self.dec1 = block(32, 16)
        self.seg_head = nn.Conv2d(16, 4, 1)
        self.shared = nn.Sequential(nn.Flatten(), nn.Linear(48 * 16, 64), nn.ReLU())
        self.cls_head = nn.Linear(64, 6)
        self.box_head = nn.Linear(64, 4)
        # log of the variance of each task: learned, and so part of the parameters
        self.log_vars = nn.Parameter(torch.zeros(3))

    def forward(self, x):
        e1 = self.enc1(x)
        e2 = self.enc2(F.max_pool2d(e1, 2))
        b = self.bottom(F.max_pool2d(e2, 2))
        d2 = self.dec2(torch.cat([self.up2(b), e2], 1))
        d1 = self.dec1(torch.cat([self.up1(d2), e1], 1))
        shared = self.shared(b)
        return self.seg_head(d1), self.box_head(shared).sigmoid(), self.cls_head(shared)


def dice_loss(logits, masks):
    probabilities = logits.softmax(1)
    truth = F.one_hot(masks, 4).permute(0, 3, 1, 2).float()
    overlap = (probabilities * truth).sum((0, 2, 3))
    total = (probabilities + truth).sum((0, 2, 3))
    return 1 - ((2 * overlap + 1) / (total + 1)).mean()


def multitask_loss(model, outputs, masks, boxes, labels):
    seg, box, cls = outputs
    losses = torch.stack([
        F.cross_entropy(seg, masks) + dice_loss(seg, masks),
        F.smooth_l1_loss(box, boxes, beta=0.1),
        F.cross_entropy(cls, labels),
    ])  # fmt: skip
    return (torch.exp(-model.log_vars) * losses + 0.5 * model.log_vars).sum(), losses.detach()


def box_iou(a, b):
    width = (torch.minimum(a[:, 2], b[:, 2]) - torch.maximum(a[:, 0], b[:, 0])).clamp(min=0)
    height = (torch.minimum(a[:, 3], b[:, 3]) - torch.maximum(a[:, 1], b[:, 1])).clamp(min=0)
    area = lambda r: (r[:, 2] - r[:, 0]).clamp(min=0) * (r[:, 3] - r[:, 1]).clamp(min=0)  # noqa: E731
    inter = width * height
    return inter / (area(a) + area(b) - inter).clamp(min=1e-6)


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    confusion = torch.zeros(16, dtype=torch.long)
    iou, correct, count = 0.0, 0, 0
    for images, masks, boxes, labels in loader:
        seg, box, cls = model(images)
        confusion += torch.bincount((masks * 4 + seg.argmax(1)).flatten(), minlength=16)
        iou += box_iou(box, boxes).sum().item()
        correct += (cls.argmax(1) == labels).sum().item()
        count += len(labels)
    matrix = confusion.view(4, 4).float()
    mean_iou = (matrix.diag() / (matrix.sum(0) + matrix.sum(1) - matrix.diag()).clamp(min=1)).mean().item()
    return mean_iou, iou / count, correct / count


def main(cfg=Config()):
    torch.manual_seed(cfg.seed)
    train_loader = DataLoader(MultiTaskShapes(True, cfg.train_count, flip=True), cfg.batch_size, shuffle=True, drop_last=True)
    val_loader = DataLoader(MultiTaskShapes(False, cfg.val_count, flip=False), 120)
    model = MultiTaskUNet()
    optimizer = torch.optim.Adam(model.parameters(), lr=cfg.lr)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=cfg.epochs, eta_min=5e-5)
    for epoch in range(cfg.epochs):
        model.train()
        sums = torch.zeros(3)
        for images, masks, boxes, labels in train_loader:
            loss, parts = multitask_loss(model, model(images), masks, boxes, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            sums += parts
        scheduler.step()
        mean_iou, box, accuracy = evaluate(model, val_loader)
        seg_l, box_l, cls_l = (sums / len(train_loader)).tolist()
        print(f"epoch {epoch + 1:2d} seg {seg_l:.3f} box {box_l:.4f} cls {cls_l:.3f} | val mIoU {mean_iou:.3f} box IoU {box:.3f} acc {accuracy:.3f}")


if __name__ == "__main__":
    main()
