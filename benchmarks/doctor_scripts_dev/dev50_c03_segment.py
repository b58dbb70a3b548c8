import torch
import torch.nn as nn
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader, Dataset

import toydata

NUM_LABELS = 4
CONFIG = {"num_epochs": 11, "batch_size": 16, "accumulate": 2, "lr": 4e-3, "seed": 7, "size": 24}


class SegmentationShapes(Dataset):
    def __init__(self, train, count, size):
        shapes = toydata.Shapes(train=train, count=count, size=size)
        self.pixel_values = (torch.stack(shapes.images) - 0.5) / 0.2
        self.labels = torch.stack(shapes.masks)
        self.augment = train

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, idx):
        image, mask = self.pixel_values[idx], self.labels[idx]
        if self.augment:
            if torch.rand(()) < 0.5:
                image, mask = image.flip(-1), mask.flip(-1)
            if torch.rand(()) < 0.5:
                image, mask = image.flip(-2), mask.flip(-2)
            if torch.rand(()) < 0.5:
                image, mask = image.transpose(-1, -2), mask.transpose(-1, -2)
        return {"pixel_values": image.contiguous(), "labels": mask.contiguous()}


def block(c_in, c_out):
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(c_out),
        nn.ReLU(),
        nn.Conv2d(c_out, c_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(c_out),
        nn.ReLU(),
    )


class TinyUNet(nn.Module):
    def __init__(self, width=12):
        super().__init__()
        self.down1, self.down2, self.middle = block(3, width), block(width, width * 2), block(width * 2, width * 4)
        self.up2 = nn.ConvTranspose2d(width * 4, width * 2, 2, stride=2)
        self.merge2 = block(width * 4, width * 2)
        self.up1 = nn.ConvTranspose2d(width * 2, width, 2, stride=2)
        self.merge1 = block(width * 2, width)
        self.classifier = nn.Conv2d(width, NUM_LABELS, 1)

    def forward(self, x):
        first = self.down1(x)
        second = self.down2(F.max_pool2d(first, 2))
        deep = self.middle(F.max_pool2d(second, 2))
        x = self.merge2(torch.cat([self.up2(deep), second], dim=1))
        x = self.merge1(torch.cat([self.up1(x), first], dim=1))
        return self.classifier(x)


def soft_dice(logits, labels, eps=1.0):
    probs = logits.softmax(dim=1)
    truth = F.one_hot(labels, NUM_LABELS).permute(0, 3, 1, 2).to(probs.dtype)
    overlap = (probs * truth).sum(dim=(0, 2, 3))
    sizes = probs.sum(dim=(0, 2, 3)) + truth.sum(dim=(0, 2, 3))
    return ((2 * overlap + eps) / (sizes + eps)).mean()


def segmentation_loss(logits, labels):
    return F.cross_entropy(logits, labels) + 1 - soft_dice(logits, labels)


@torch.no_grad()
def mean_iou(model, loader):
    model.eval()
    confusion = torch.zeros(NUM_LABELS * NUM_LABELS)
    for batch in loader:
        predicted = model(batch["pixel_values"]).argmax(dim=1)
        pairs = batch["labels"] * NUM_LABELS + predicted
        confusion += torch.bincount(pairs.flatten().cpu(), minlength=NUM_LABELS**2)
    confusion = confusion.view(NUM_LABELS, NUM_LABELS)
    hit = confusion.diag()
    return hit / (confusion.sum(0) + confusion.sum(1) - hit)


def training_function(config):
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=config["accumulate"])
    set_seed(config["seed"])
    train_set = SegmentationShapes(True, 480, config["size"])
    eval_set = SegmentationShapes(False, 160, config["size"])
    train_loader = DataLoader(train_set, batch_size=config["batch_size"], shuffle=True, drop_last=True)
    eval_loader = DataLoader(eval_set, batch_size=40)

    model = TinyUNet()
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"], weight_decay=1e-3)
    updates = config["num_epochs"] * len(train_loader) // config["accumulate"]
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=updates)
    model, optimizer, train_loader, eval_loader, scheduler = accelerator.prepare(
        model, optimizer, train_loader, eval_loader, scheduler
    )

    for epoch in range(config["num_epochs"]):
        model.train()
        running = 0.0
        for batch in train_loader:
            with accelerator.accumulate(model):
                logits = model(batch["pixel_values"])
                loss = segmentation_loss(logits, batch["labels"])
                accelerator.backward(loss)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
            running += loss.detach()
        iou = mean_iou(model, eval_loader)
        accelerator.print(f"epoch {epoch}: loss {float(running) / len(train_loader):.4f} mIoU {iou.mean():.3f}")
    accelerator.print("IoU of each label:", [round(value, 3) for value in iou.tolist()])


if __name__ == "__main__":
    torch.set_num_threads(1)
    training_function(CONFIG)
