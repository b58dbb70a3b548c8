import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset
from toydata import Shapes


class BoxDataset(Dataset):
    def __init__(self, train):
        self.shapes, self.train = Shapes(train=train), train

    def __len__(self):
        return len(self.shapes)

    def __getitem__(self, i):
        image, label = self.shapes[i]
        box = self.shapes.boxes[i].clone()
        if self.train and torch.rand(()) < 0.5:
            image = image.flip(-1)
            box[[0, 2]] = 1 - box[[2, 0]]
        return image, {"boxes": box, "labels": torch.tensor(label)}


def collate_fn(batch):
    images, targets = zip(*batch)
    return torch.stack(images), list(targets)


class Detector(nn.Module):
    def __init__(self, num_classes=6):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 16, 3, 1, 1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, 2, 1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3, 2, 1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.cls_head = nn.Linear(512, num_classes)
        self.box_head = nn.Linear(512, 4)

    def forward(self, images, targets=None):
        features = self.backbone(images)
        logits, boxes = self.cls_head(features), self.box_head(features).sigmoid()
        if targets is None:
            return [{"boxes": b, "labels": l.argmax()} for b, l in zip(boxes, logits)]
        gt_labels = torch.stack([t["labels"] for t in targets])
        gt_boxes = torch.stack([t["boxes"] for t in targets])
        return {
            "loss_classifier": F.cross_entropy(logits, gt_labels),
            "loss_box_reg": F.smooth_l1_loss(boxes, gt_boxes, beta=0.1),
        }


def box_iou(a, b):
    lt, rb = torch.maximum(a[:2], b[:2]), torch.minimum(a[2:], b[2:])
    inter = (rb - lt).clamp(min=0).prod()
    return inter / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - inter)


def train_one_epoch(model, optimizer, data_loader, epoch):
    model.train()
    for images, targets in data_loader:
        loss_dict = model(images, targets)
        losses = sum(loss for loss in loss_dict.values())
        optimizer.zero_grad()
        losses.backward()
        optimizer.step()
    print(f"Epoch: [{epoch}]", {k: round(v.item(), 4) for k, v in loss_dict.items()})


@torch.inference_mode()
def evaluate(model, data_loader):
    model.eval()
    ious, right = [], []
    for images, targets in data_loader:
        for output, target in zip(model(images), targets):
            ious.append(box_iou(output["boxes"], target["boxes"]))
            right.append(output["labels"] == target["labels"])
    print(f"mean IoU {torch.stack(ious).mean():.3f}, labels right {torch.stack(right).float().mean():.3f}")


def main():
    torch.manual_seed(0)
    data_loader = DataLoader(BoxDataset(True), batch_size=32, shuffle=True, collate_fn=collate_fn)
    data_loader_test = DataLoader(BoxDataset(False), batch_size=32, shuffle=False, collate_fn=collate_fn)
    model = Detector()
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(params, lr=2e-3)
    lr_scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=5, gamma=0.1)
    for epoch in range(6):
        train_one_epoch(model, optimizer, data_loader, epoch)
        lr_scheduler.step()
        evaluate(model, data_loader_test)


if __name__ == "__main__":
    main()
