"""Where is the shape? Regression of one box an image, with Accelerate."""

import argparse

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes


def parse_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--num_train_epochs", type=int, default=18)
    parser.add_argument("--per_device_train_batch_size", type=int, default=50)
    parser.add_argument("--learning_rate", type=float, default=2e-3)
    parser.add_argument("--weight_decay", type=float, default=1e-3)
    parser.add_argument("--image_size", type=int, default=24)
    parser.add_argument("--num_images", type=int, default=1250)
    parser.add_argument("--seed", type=int, default=3)
    return parser.parse_args()


class BoxDataset(Dataset):
    """Images as a decoder gives them (height, width, channels; bytes) and boxes from 0 to 1."""

    def __init__(self, pixels, boxes, augment):
        self.pixels, self.boxes, self.augment = pixels, boxes, augment

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, index):
        image = torch.from_numpy(self.pixels[index])
        image = image.permute(2, 0, 1).float() / 127.5 - 1
        box = self.boxes[index]
        if self.augment and torch.rand(()) < 0.5:
            image = image.flip(-1)
            box = torch.stack([1 - box[2], box[1], 1 - box[0], box[3]])
        return {"pixel_values": image, "boxes": box}


class BoxRegressor(nn.Module):
    def __init__(self, image_size, mean, std):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 16, 3, stride=1, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3, stride=2, padding=1),
            nn.ReLU(),
        )
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(32 * (image_size // 4) ** 2, 64),
            nn.ReLU(),
            nn.Linear(64, 4),
        )

    def forward(self, pixel_values, boxes=None):
        scores = self.head(self.backbone(pixel_values))
        loss = None
        if boxes is not None:
            loss = F.smooth_l1_loss(scores, (boxes - self.mean) / self.std)
        return loss, scores * self.std + self.mean


def box_iou(a, b):
    low, high = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    inter = (high - low).clamp(min=0).prod(1)
    area_a = (a[:, 2:] - a[:, :2]).clamp(min=0).prod(1)
    area_b = (b[:, 2:] - b[:, :2]).prod(1)
    return inter / (area_a + area_b - inter)


def load_data(args):
    shapes = Shapes(train=True, count=args.num_images, size=args.image_size)
    pixels = [(image.permute(1, 2, 0) * 255).byte().contiguous().numpy() for image in shapes.images]
    boxes = torch.stack(shapes.boxes)
    order = np.random.default_rng(args.seed).permutation(args.num_images)
    train_ids, eval_ids = order[:1000], order[1000:]
    train_dataset = BoxDataset([pixels[i] for i in train_ids], boxes[train_ids], augment=True)
    eval_dataset = BoxDataset([pixels[i] for i in eval_ids], boxes[eval_ids], augment=False)
    return train_dataset, eval_dataset


def main():
    args = parse_args()
    accelerator = Accelerator(cpu=True)
    set_seed(args.seed)

    train_dataset, eval_dataset = load_data(args)
    train_dataloader = DataLoader(train_dataset, shuffle=True, batch_size=args.per_device_train_batch_size)
    eval_dataloader = DataLoader(eval_dataset, batch_size=125)

    model = BoxRegressor(args.image_size, train_dataset.boxes.mean(0), train_dataset.boxes.std(0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate, weight_decay=args.weight_decay)
    lr_scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", factor=0.2, patience=1)
    model, optimizer, train_dataloader, eval_dataloader = accelerator.prepare(
        model, optimizer, train_dataloader, eval_dataloader
    )

    best_iou = 0.0
    for epoch in range(args.num_train_epochs):
        model.train()
        total_loss = 0.0
        for batch in train_dataloader:
            loss, _ = model(**batch)
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            total_loss += loss.detach().item()

        model.eval()
        ious = []
        for batch in eval_dataloader:
            with torch.no_grad():
                _, predicted = model(batch["pixel_values"])
            predicted, truth = accelerator.gather_for_metrics((predicted, batch["boxes"]))
            ious.append(box_iou(predicted, truth))
        mean_iou = torch.cat(ious).mean().item()
        lr_scheduler.step(mean_iou)
        best_iou = max(best_iou, mean_iou)
        accelerator.print(
            f"epoch {epoch}: train_loss {total_loss / len(train_dataloader):.4f}, mean IoU {mean_iou:.4f}, "
            f"lr {optimizer.param_groups[0]['lr']:.1e}"
        )
    accelerator.print(f"best mean IoU: {best_iou:.4f}")


if __name__ == "__main__":
    main()
