import torch
import torch.nn as nn
from toydata import Shapes
from torch.utils.data import DataLoader, Dataset


class BasicDataset(Dataset):
    def __init__(self, train):
        self.base, self.train = Shapes(train=train), train

    def __len__(self):
        return len(self.base)

    def __getitem__(self, idx):
        image, mask = self.base.images[idx], (self.base.masks[idx] > 0).float().unsqueeze(0)
        if self.train and torch.rand(()) < 0.5:
            image, mask = torch.rot90(image, 1, (1, 2)), torch.rot90(mask, 1, (1, 2))
        return {"image": image, "mask": mask}


class DoubleConv(nn.Sequential):
    def __init__(self, i, o):
        super().__init__(nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU(inplace=True),
                         nn.Conv2d(o, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU(inplace=True))  # fmt: skip


class UNet(nn.Module):
    def __init__(self, n_channels=3, n_classes=1):
        super().__init__()
        self.inc, self.down = DoubleConv(n_channels, 12), DoubleConv(12, 24)
        self.pool, self.up = nn.MaxPool2d(2), nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        self.conv, self.outc = DoubleConv(36, 12), nn.Conv2d(12, n_classes, 1)

    def forward(self, x):
        x1 = self.inc(x)
        x2 = self.up(self.down(self.pool(x1)))
        return self.outc(self.conv(torch.cat([x1, x2], dim=1)))


def dice_loss(input, target, epsilon=1e-6):
    probs = torch.sigmoid(input)
    inter = 2 * (probs * target).sum(dim=(1, 2, 3))
    sets_sum = probs.sum(dim=(1, 2, 3)) + target.sum(dim=(1, 2, 3))
    return 1 - ((inter + epsilon) / (sets_sum + epsilon)).mean()


torch.manual_seed(0)
train_loader = DataLoader(BasicDataset(True), batch_size=24, shuffle=True)
val_loader = DataLoader(BasicDataset(False), batch_size=24, drop_last=True)
model = UNet()
optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3, weight_decay=1e-8, momentum=0.9, foreach=True)
criterion = nn.BCEWithLogitsLoss()
for epoch in range(1, 4):
    model.train()
    for batch in train_loader:
        images, true_masks = batch["image"], batch["mask"]
        masks_pred = model(images)
        loss = criterion(masks_pred, true_masks) + dice_loss(masks_pred, true_masks)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()
    score = 0.0
    with torch.no_grad():
        for batch in val_loader:
            score += 1 - dice_loss(model(batch["image"]), batch["mask"]).item()
    print(epoch, loss.item(), score / len(val_loader))
