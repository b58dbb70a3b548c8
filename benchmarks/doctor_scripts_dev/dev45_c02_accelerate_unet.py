# Semantic segmentation of shapes with Accelerate and a small U-Net.
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

NUM_CLASSES = 4  # ground, square, disc, cross


class SegmentationSet(Dataset):
    def __init__(self, train):
        self.base = Shapes(train=train, count=640 if train else 160, size=24)
        self.train = train

    def __len__(self):
        return len(self.base)

    def __getitem__(self, i):
        image, mask = self.base.images[i], self.base.masks[i]
        image = (image - 0.5) / 0.2
        if self.train and torch.rand(()) < 0.5:
            image, mask = image.flip(2), mask.flip(1)
        if self.train and torch.rand(()) < 0.5:
            image, mask = image.flip(1), mask.flip(0)
        return {"pixel_values": image.contiguous(), "labels": mask.contiguous()}


def block(cin, cout):
    return nn.Sequential(
        nn.Conv2d(cin, cout, 3, padding=1, bias=False),
        nn.BatchNorm2d(cout),
        nn.ReLU(inplace=True),
        nn.Conv2d(cout, cout, 3, padding=1, bias=False),
        nn.BatchNorm2d(cout),
        nn.ReLU(inplace=True),
    )


class SmallUNet(nn.Module):
    def __init__(self, width=12):
        super().__init__()
        self.down1 = block(3, width)
        self.down2 = block(width, 2 * width)
        self.bottom = block(2 * width, 4 * width)
        self.up2 = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2)
        self.merge2 = block(4 * width, 2 * width)
        self.up1 = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.merge1 = block(2 * width, width)
        self.head = nn.Conv2d(width, NUM_CLASSES, 1)

    def forward(self, x):
        a = self.down1(x)
        b = self.down2(F.max_pool2d(a, 2))
        c = self.bottom(F.max_pool2d(b, 2))
        b = self.merge2(torch.cat([self.up2(c), b], dim=1))
        a = self.merge1(torch.cat([self.up1(b), a], dim=1))
        return self.head(a)


def dice_loss(logits, labels, eps=1.0):
    probs = logits.softmax(dim=1)
    onehot = F.one_hot(labels, NUM_CLASSES).permute(0, 3, 1, 2).float()
    overlap = (probs * onehot).sum(dim=(0, 2, 3))
    total = probs.sum(dim=(0, 2, 3)) + onehot.sum(dim=(0, 2, 3))
    return 1 - ((2 * overlap + eps) / (total + eps)).mean()


def evaluate(accelerator, model, loader):
    model.eval()
    confusion = torch.zeros(NUM_CLASSES, NUM_CLASSES, dtype=torch.long)
    for batch in loader:
        with torch.no_grad():
            predictions = model(batch["pixel_values"]).argmax(dim=1)
        predictions, labels = accelerator.gather_for_metrics((predictions, batch["labels"]))
        index = labels.flatten() * NUM_CLASSES + predictions.flatten()
        confusion += torch.bincount(index.cpu(), minlength=NUM_CLASSES**2).view(NUM_CLASSES, NUM_CLASSES)
    hit = confusion.diag().float()
    union = confusion.sum(0) + confusion.sum(1) - confusion.diag()
    return (hit / union.clamp(min=1)).mean().item(), (hit.sum() / confusion.sum()).item()


def main():
    set_seed(7)
    accelerator = Accelerator(cpu=True)
    train_loader = DataLoader(SegmentationSet(True), batch_size=32, shuffle=True, drop_last=True)
    eval_loader = DataLoader(SegmentationSet(False), batch_size=40)
    model = SmallUNet()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-4)
    epochs = 8
    scheduler = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=epochs * len(train_loader) + 1, power=0.9)
    model, optimizer, train_loader, eval_loader = accelerator.prepare(model, optimizer, train_loader, eval_loader)

    for epoch in range(epochs):
        model.train()
        running = 0.0
        for batch in train_loader:
            logits = model(batch["pixel_values"])
            loss = F.cross_entropy(logits, batch["labels"]) + 0.5 * dice_loss(logits, batch["labels"])
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            running += loss.detach()
        miou, accuracy = evaluate(accelerator, model, eval_loader)
        accelerator.print(f"epoch {epoch}: loss {float(running) / len(train_loader):.4f} mIoU {miou:.3f} pixels {accuracy:.3f}")


if __name__ == "__main__":
    main()
