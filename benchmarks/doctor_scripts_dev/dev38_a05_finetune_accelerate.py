"""Pretrain a small backbone on color pictures, then fine-tune it on a small set of negatives (Accelerate)."""

import os
import tempfile

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset

from toydata import Shapes

FREEZE_EPOCHS = 3
FINETUNE_EPOCHS = 14
LR_BACKBONE = 5e-4
LR_HEAD = 5e-3


def block(inputs, outputs):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


class Backbone(nn.Sequential):
    out_features = 48

    def __init__(self):
        super().__init__(
            block(3, 16), nn.MaxPool2d(2), block(16, 32), nn.MaxPool2d(2), block(32, 48),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )


class Classifier(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.backbone = Backbone()
        self.head = nn.Linear(Backbone.out_features, num_classes)

    def forward(self, pixel_values):
        return self.head(self.backbone(pixel_values))


def eval_transform(image):
    return (image - 0.5) / 0.2


def train_transform(image):
    if torch.rand(()) < 0.5:
        image = image.flip(2)
    top, left = torch.randint(0, 5, (2,)).tolist()
    image = F.pad(image, (2, 2, 2, 2), value=0.5)[:, top : top + 16, left : left + 16].clone()
    if torch.rand(()) < 0.5:  # random erasing
        top, left = torch.randint(0, 11, (2,)).tolist()
        image[:, top : top + 6, left : left + 6] = 0.5
    return eval_transform(image)


class Negatives(Dataset):
    """Square, disc or cross, in pictures whose colors are inverted."""

    def __init__(self, transform, count=550):
        source = Shapes(train=False, count=count)
        self.images = [1 - image for image in source.images]
        self.labels = [target % 3 for target in source.targets]
        self.transform = transform

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.transform(self.images[index]), self.labels[index]


def pretrain(path, epochs=12):
    loader = DataLoader(Shapes(train=True, count=1200, transform=eval_transform), batch_size=48, shuffle=True)
    model = Classifier(num_classes=6)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    model.train()
    for epoch in range(epochs):
        total = 0.0
        for images, labels in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(labels)
        print(f"pretraining epoch {epoch}: loss {total / len(loader.dataset):.3f}")
    torch.save(model.state_dict(), path)


def finetune(path):
    accelerator = Accelerator(cpu=True)
    train_full, valid_full = Negatives(train_transform), Negatives(eval_transform)
    order = torch.randperm(len(train_full)).tolist()
    train_set, valid_set = Subset(train_full, order[:400]), Subset(valid_full, order[400:])
    train_loader = DataLoader(train_set, batch_size=25, shuffle=True)
    valid_loader = DataLoader(valid_set, batch_size=75)

    model = Classifier(num_classes=6)
    checkpoint = torch.load(path, map_location="cpu")
    backbone = {name[len("backbone."):]: value for name, value in checkpoint.items() if name.startswith("backbone.")}
    model.backbone.load_state_dict(backbone)
    model.head = nn.Linear(Backbone.out_features, 3)
    optimizer = torch.optim.AdamW([
        {"params": model.backbone.parameters(), "lr": LR_BACKBONE},
        {"params": model.head.parameters(), "lr": LR_HEAD},
    ], weight_decay=1e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=FINETUNE_EPOCHS * len(train_loader))
    model, optimizer, train_loader, valid_loader, scheduler = accelerator.prepare(
        model, optimizer, train_loader, valid_loader, scheduler)

    for epoch in range(FINETUNE_EPOCHS):
        for parameter in accelerator.unwrap_model(model).backbone.parameters():
            parameter.requires_grad_(epoch >= FREEZE_EPOCHS)
        model.train()
        for images, labels in train_loader:
            loss = F.cross_entropy(model(images), labels)
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), 2.0)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()

        model.eval()
        correct = total = 0
        for images, labels in valid_loader:
            with torch.no_grad():
                predictions = model(images).argmax(dim=-1)
            predictions, labels = accelerator.gather_for_metrics((predictions, labels))
            correct += (predictions == labels).sum().item()
            total += labels.numel()
        accelerator.print(f"epoch {epoch}: accuracy {correct / total:.3f}")


def main():
    set_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "pretrained.pt")
        pretrain(path)
        finetune(path)


if __name__ == "__main__":
    main()
