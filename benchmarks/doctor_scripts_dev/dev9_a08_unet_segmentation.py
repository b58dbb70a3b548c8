import logging
import random
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn, optim
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes


@dataclass
class Config:
    epochs: int = 12
    batch_size: int = 16
    lr: float = 1.5e-3
    n_classes: int = 4
    size: int = 24
    val_batch: int = 40


class ShapeSegmentation(Dataset):
    def __init__(self, train: bool, cfg: Config):
        base = Shapes(train, count=640 if train else 120, size=cfg.size)
        self.images, self.masks, self.train, self.size = base.images, base.masks, train, cfg.size

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        image, mask = self.images[i].clone(), self.masks[i].clone()
        if self.train:
            if random.random() < 0.5:
                image = image.flip(-1)
                mask = mask.flip(-1)
            if random.random() < 0.5:
                image, mask = image.transpose(-1, -2), mask.transpose(-1, -2)
            factor = random.uniform(1.0, 1.5)
            big = round(self.size * factor)
            image = F.interpolate(image[None], size=(big, big), mode="bilinear", align_corners=False)[0]
            mask = F.interpolate(mask[None, None].float(), size=(big, big), mode="nearest")[0, 0].long()
            top, left = random.randint(0, big - self.size), random.randint(0, big - self.size)
            image = image[:, top:top + self.size, left:left + self.size]
            mask = mask[top:top + self.size, left:left + self.size]
        return {"image": image.contiguous(), "mask": mask.contiguous()}


class DoubleConv(nn.Sequential):
    def __init__(self, cin, cout):
        super().__init__(
            nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True),
            nn.Conv2d(cout, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True))


class UNet(nn.Module):
    def __init__(self, n_channels, n_classes, w=12):
        super().__init__()
        self.inc, self.down1, self.down2 = DoubleConv(n_channels, w), DoubleConv(w, 2 * w), DoubleConv(2 * w, 4 * w)
        self.up1, self.conv1 = nn.ConvTranspose2d(4 * w, 2 * w, 2, stride=2), DoubleConv(4 * w, 2 * w)
        self.up2, self.conv2 = nn.ConvTranspose2d(2 * w, w, 2, stride=2), DoubleConv(2 * w, w)
        self.outc = nn.Conv2d(w, n_classes, 1)

    def forward(self, x):
        x1 = self.inc(x)
        x2 = self.down1(F.max_pool2d(x1, 2))
        x3 = self.down2(F.max_pool2d(x2, 2))
        x = self.conv1(torch.cat([x2, self.up1(x3)], dim=1))
        x = self.conv2(torch.cat([x1, self.up2(x)], dim=1))
        return self.outc(x)


def dice_coeff(prob: Tensor, target: Tensor, epsilon: float = 1e-6) -> Tensor:
    inter = 2 * (prob * target).sum(dim=(-1, -2))
    sets_sum = prob.sum(dim=(-1, -2)) + target.sum(dim=(-1, -2))
    return ((inter + epsilon) / (sets_sum + epsilon)).mean()


def dice_loss(logits: Tensor, target: Tensor, n_classes: int) -> Tensor:
    onehot = F.one_hot(target, n_classes).permute(0, 3, 1, 2).float()
    prob = F.softmax(logits, dim=1)
    # classes as rows of the batch's pixels: absent classes of one image do no harm
    return 1 - dice_coeff(prob.transpose(0, 1).flatten(1, 2), onehot.transpose(0, 1).flatten(1, 2))


@torch.inference_mode()
def evaluate(net, loader, n_classes):
    net.eval()
    confusion = torch.zeros(n_classes, n_classes)
    for batch in loader:
        pred = net(batch["image"]).argmax(dim=1)
        index = batch["mask"] * n_classes + pred
        confusion += torch.bincount(index.flatten(), minlength=n_classes ** 2).view(n_classes, n_classes)
    net.train()
    iou = confusion.diag() / (confusion.sum(0) + confusion.sum(1) - confusion.diag()).clamp(min=1)
    return iou


def train_model(cfg: Config):
    train_loader = DataLoader(ShapeSegmentation(True, cfg), batch_size=cfg.batch_size, shuffle=True)
    val_loader = DataLoader(ShapeSegmentation(False, cfg), batch_size=cfg.val_batch, shuffle=False, drop_last=True)
    model = UNet(3, cfg.n_classes)
    logging.info(f"{sum(p.numel() for p in model.parameters())} parameters, {len(train_loader.dataset)} images")
    optimizer = optim.RMSprop(model.parameters(), lr=cfg.lr, alpha=0.99, eps=1e-4, weight_decay=1e-8)
    scheduler = optim.lr_scheduler.ReduceLROnPlateau(optimizer, "max", factor=0.3, patience=1)
    criterion = nn.CrossEntropyLoss()
    for epoch in range(1, cfg.epochs + 1):
        model.train()
        epoch_loss = 0.0
        for batch in train_loader:
            images, true_masks = batch["image"], batch["mask"]
            assert images.shape[1] == 3
            masks_pred = model(images)
            loss = criterion(masks_pred, true_masks)
            loss += dice_loss(masks_pred, true_masks, cfg.n_classes)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 2.0)
            optimizer.step()
            epoch_loss += loss.item()
        iou = evaluate(model, val_loader, cfg.n_classes)
        scheduler.step(iou.mean())
        logging.info(f"Epoch {epoch}: loss {epoch_loss / len(train_loader):.3f}")
        print(f"epoch {epoch} mIoU {iou.mean():.4f} per class {[round(v, 3) for v in iou.tolist()]}")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    random.seed(0)
    torch.manual_seed(0)
    train_model(Config())
