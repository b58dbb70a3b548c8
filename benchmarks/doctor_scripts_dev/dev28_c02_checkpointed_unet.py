# # Segmenting shapes with little memory
# A U-Net whose blocks are recomputed in the backward pass. Cells of a notebook, one after the other.
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

from toydata import Shapes

torch.manual_seed(11)
torch.set_num_threads(1)
CLASSES = 4

# ## Data
def tensors(train):
    shapes = Shapes(train=train, count=720 if train else 160, size=32)
    images = (torch.stack(shapes.images) - 0.5) / 0.25
    return TensorDataset(images, torch.stack(shapes.masks))


train_loader = DataLoader(tensors(True), batch_size=12, shuffle=True)
valid_loader = DataLoader(tensors(False), batch_size=40)


# ## Network
class Block(nn.Module):
    def __init__(self, a, b):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(a, b, 3, padding=1), nn.GroupNorm(4, b), nn.GELU(),
            nn.Conv2d(b, b, 3, padding=1), nn.GroupNorm(4, b), nn.GELU(),
        )

    def forward(self, x):
        if self.training:
            return checkpoint(self.layers, x, use_reentrant=False)
        return self.layers(x)


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down1, self.down2, self.middle = Block(3, 12), Block(12, 24), Block(24, 48)
        self.drop = nn.Dropout2d(0.1)
        self.up2, self.up1 = Block(48 + 24, 24), Block(24 + 12, 12)
        self.head = nn.Conv2d(12, CLASSES, 1)

    def forward(self, x):
        a = self.down1(x)
        b = self.down2(F.max_pool2d(a, 2))
        c = self.drop(self.middle(F.max_pool2d(b, 2)))
        b = self.up2(torch.cat([F.interpolate(c, scale_factor=2, mode="nearest"), b], 1))
        a = self.up1(torch.cat([F.interpolate(b, scale_factor=2, mode="nearest"), a], 1))
        return self.head(a)


def dice_loss(logits, target):
    """One minus the soft overlap; the background is left to the cross entropy."""
    probability = logits.softmax(1)[:, 1:]
    truth = F.one_hot(target, CLASSES).permute(0, 3, 1, 2)[:, 1:].float()
    overlap = 2 * (probability * truth).sum((0, 2, 3))
    size = probability.sum((0, 2, 3)) + truth.sum((0, 2, 3))
    return 1 - ((overlap + 1) / (size + 1)).mean()


def flip_together(images, masks):
    """Flips both in the same way; a cross, a square and a disc stay what they are."""
    if torch.rand(()) < 0.5:
        images, masks = images.flip(3), masks.flip(2)
    if torch.rand(()) < 0.5:
        images, masks = images.flip(2), masks.flip(1)
    return images, masks


model = UNet()
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-3)
epochs = 10
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs * len(train_loader))

# ## Training
for epoch in range(epochs):
    model.train()
    losses = []
    for images, masks in train_loader:
        images, masks = flip_together(images, masks)
        logits = model(images)
        loss = F.cross_entropy(logits, masks) + 0.5 * dice_loss(logits, masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())

    model.eval()
    confusion = torch.zeros(CLASSES, CLASSES)
    with torch.no_grad():
        for images, masks in valid_loader:
            guess = model(images).argmax(1)
            confusion += torch.bincount((masks * CLASSES + guess).flatten(), minlength=CLASSES**2).view(CLASSES, CLASSES)
    hit = confusion.diag()
    iou = hit / (confusion.sum(0) + confusion.sum(1) - hit).clamp(min=1)
    print(f"epoch {epoch}: loss {sum(losses) / len(losses):.4f}, IoU {[round(v, 3) for v in iou.tolist()]}, mean {iou.mean():.4f}")
