"""Fill rectangular holes in pictures of shapes: a small U-Net, trained with Accelerate, judged by its moving average."""

import argparse
import copy
import math

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import DataLoader, Dataset

import toydata


def draw_hole(size, generator=None):
    height, width = torch.randint(4, 8, (2,), generator=generator).tolist()
    top = int(torch.randint(0, size - height + 1, (1,), generator=generator))
    left = int(torch.randint(0, size - width + 1, (1,), generator=generator))
    mask = torch.zeros(1, size, size)
    mask[:, top : top + height, left : left + width] = 1
    return mask


class HoleDataset(Dataset):
    """Pictures from -1 to 1 with a hole each: another one in every epoch for training, fixed ones for validation."""

    def __init__(self, train, size=16):
        self.images = torch.stack(toydata.Shapes(train=train, size=size).images) * 2 - 1
        self.size = size
        self.masks = None
        if not train:
            generator = torch.Generator().manual_seed(1234)
            self.masks = [draw_hole(size, generator) for _ in range(len(self.images))]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        mask = draw_hole(self.size) if self.masks is None else self.masks[index]
        return {"image": self.images[index], "mask": mask}


def block(inputs, outputs, stride=1):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1), nn.GroupNorm(8, outputs), nn.SiLU()
    )


class HoleNet(nn.Module):
    def __init__(self, width=24):
        super().__init__()
        self.enter = nn.Sequential(block(4, width), block(width, width))
        self.down1 = block(width, 2 * width, stride=2)
        self.down2 = nn.Sequential(block(2 * width, 2 * width, stride=2), block(2 * width, 2 * width))
        self.up1 = block(4 * width, 2 * width)
        self.up2 = block(3 * width, width)
        self.out = nn.Sequential(
            nn.Conv2d(width, 3, 3, padding=1),
        )

    def forward(self, x):
        full = self.enter(x)
        half = self.down1(full)
        quarter = self.down2(half)
        half = self.up1(torch.cat([half, F.interpolate(quarter, scale_factor=2.0)], dim=1))
        full = self.up2(torch.cat([full, F.interpolate(half, scale_factor=2.0)], dim=1))
        return self.out(full)


def make_inputs(image, mask):
    return torch.cat([image * (1 - mask), mask], dim=1)


def inpainting_loss(prediction, image, mask):
    error = (prediction - image).abs()
    hole = (error * mask).sum() / (3 * mask.sum())
    valid = (error * (1 - mask)).sum() / (3 * (1 - mask).sum())
    return 6 * hole + valid


@torch.no_grad()
def update_ema(ema, net, decay):
    for averaged, current in zip(ema.parameters(), net.parameters()):
        averaged.mul_(decay).add_(current, alpha=1 - decay)


@torch.no_grad()
def evaluate(net, loader):
    net.eval()
    squared, pixels = 0.0, 0.0
    for batch in loader:
        image, mask = batch["image"], batch["mask"]
        restored = net(make_inputs(image, mask)).clamp(-1, 1)
        squared += (((restored - image) ** 2) * mask).sum().item()
        pixels += 3 * mask.sum().item()
    return 10 * math.log10(4 / (squared / pixels))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--num_epochs", type=int, default=10)
    parser.add_argument("--train_batch_size", type=int, default=30)
    parser.add_argument("--learning_rate", type=float, default=1e-3)
    parser.add_argument("--ema_decay", type=float, default=0.98)
    parser.add_argument("--max_grad_norm", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=5)
    args = parser.parse_args()

    accelerator = Accelerator(cpu=True)
    set_seed(args.seed)

    train_loader = DataLoader(HoleDataset(train=True), batch_size=args.train_batch_size, shuffle=True)
    valid_loader = DataLoader(HoleDataset(train=False), batch_size=120)

    net = HoleNet()
    ema = copy.deepcopy(net).requires_grad_(False)
    optimizer = torch.optim.AdamW(net.parameters(), lr=args.learning_rate)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.num_epochs * len(train_loader))
    net, optimizer, train_loader, valid_loader, scheduler = accelerator.prepare(
        net, optimizer, train_loader, valid_loader, scheduler
    )

    for epoch in range(args.num_epochs):
        net.train()
        total = 0.0
        for batch in train_loader:
            image, mask = batch["image"], batch["mask"]
            prediction = net(make_inputs(image, mask))
            loss = inpainting_loss(prediction, image, mask)
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(net.parameters(), args.max_grad_norm)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            update_ema(ema, accelerator.unwrap_model(net), args.ema_decay)
            total += loss.detach().item()
        psnr = evaluate(ema, valid_loader)
        accelerator.print(f"epoch {epoch}: loss {total / len(train_loader):.4f}, PSNR in holes {psnr:.2f} dB")


if __name__ == "__main__":
    main()
