import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset
from toydata import Shapes


class BasicDataset(Dataset):
    def __init__(self, train, augment=False):
        self.data, self.augment = Shapes(train=train, count=400 if train else 100), augment

    def __len__(self):
        return len(self.data)

    def __getitem__(self, idx):
        image, mask = self.data.images[idx], self.data.masks[idx]
        if self.augment and torch.rand(()) < 0.5:
            image = image.flip(-1)
            mask = mask.flip(-1)
        return {"image": image, "mask": mask}


class DoubleConv(nn.Sequential):
    def __init__(self, i, o):
        super().__init__(
            nn.Conv2d(i, o, 3, padding=1, bias=False),
            nn.BatchNorm2d(o),
            nn.ReLU(inplace=True),
            nn.Conv2d(o, o, 3, padding=1, bias=False),
            nn.BatchNorm2d(o),
            nn.ReLU(inplace=True),
        )


class UNet(nn.Module):
    def __init__(self, n_channels=3, n_classes=4):
        super().__init__()
        self.inc, self.down = DoubleConv(n_channels, 16), DoubleConv(16, 32)
        self.up = nn.ConvTranspose2d(32, 16, 2, stride=2)
        self.conv = DoubleConv(32, 16)
        self.outc = nn.Conv2d(16, n_classes, 1)

    def forward(self, x):
        x1 = self.inc(x)
        x2 = self.down(F.max_pool2d(x1, 2))
        return self.outc(self.conv(torch.cat([x1, self.up(x2)], dim=1)))


def dice_loss(probs, target, epsilon=1e-6):
    inter = 2 * (probs * target).sum(dim=(0, 2, 3))
    sets_sum = probs.sum(dim=(0, 2, 3)) + target.sum(dim=(0, 2, 3))
    return 1 - ((inter + epsilon) / (sets_sum + epsilon)).mean()


@torch.no_grad()
def evaluate(net, dataloader):
    net.eval()
    inter, union = torch.zeros(4), torch.zeros(4)
    for batch in dataloader:
        pred = net(batch["image"]).argmax(dim=1)
        for c in range(4):
            inter[c] += ((pred == c) & (batch["mask"] == c)).sum()
            union[c] += ((pred == c) | (batch["mask"] == c)).sum()
    net.train()
    return (inter / union.clamp(min=1)).mean().item()


def train_model(model, epochs=4, batch_size=16, learning_rate=3e-3, gradient_clipping=1.0):
    train_loader = DataLoader(BasicDataset(True, augment=True), shuffle=True, batch_size=batch_size)
    val_loader = DataLoader(BasicDataset(False), shuffle=False, batch_size=batch_size)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=learning_rate, weight_decay=1e-8, momentum=0.5)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, "max", patience=5)
    criterion = nn.CrossEntropyLoss()
    for epoch in range(1, epochs + 1):
        model.train()
        epoch_loss = 0
        for batch in train_loader:
            images, true_masks = batch["image"], batch["mask"]
            masks_pred = model(images)
            loss = criterion(masks_pred, true_masks)
            one_hot = F.one_hot(true_masks, 4).permute(0, 3, 1, 2).float()
            loss = loss + dice_loss(F.softmax(masks_pred, dim=1).float(), one_hot)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), gradient_clipping)
            optimizer.step()
            epoch_loss += loss.item()
        val_score = evaluate(model, val_loader)
        scheduler.step(val_score)
        print(f"Epoch {epoch}: loss {epoch_loss / len(train_loader):.4f} validation IoU {val_score:.4f}")


if __name__ == "__main__":
    torch.manual_seed(0)
    train_model(UNet())
