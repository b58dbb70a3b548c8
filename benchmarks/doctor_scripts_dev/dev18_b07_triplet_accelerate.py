"""Learn an embedding of hand-stamped glyphs with triplets and retrieve glyphs of alphabets never seen (Accelerate)."""

import copy

import torch
import torch.nn as nn
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader, Dataset

EPOCHS = 10
BATCH_SIZE = 64
LR = 1e-3
MARGIN = 0.3
EMA_DECAY = 0.95
CANVAS, CELL = 20, 3


def stamp_glyphs(num_classes, per_class, seed):
    """Each class is a pattern of 4 x 4 cells, stamped anywhere on the canvas, with other ink each time."""
    generator = torch.Generator().manual_seed(seed)
    patterns = (torch.rand(num_classes, 4, 4, generator=generator) > 0.5).float()
    patterns = patterns.repeat_interleave(CELL, 1).repeat_interleave(CELL, 2)
    side = 4 * CELL
    images, labels = [], []
    for label in range(num_classes):
        for _ in range(per_class):
            top, left = torch.randint(0, CANVAS - side + 1, (2,), generator=generator).tolist()
            image = torch.zeros(1, CANVAS, CANVAS)
            image[0, top : top + side, left : left + side] = patterns[label]
            image = image * (0.6 + 0.4 * torch.rand((), generator=generator))
            images.append((image + 0.15 * torch.randn(image.shape, generator=generator)).clamp(0, 1))
            labels.append(label)
    return torch.stack(images), torch.tensor(labels)


class TripletDataset(Dataset):
    def __init__(self, images, labels):
        self.images, self.labels = images, labels
        self.members = {c: torch.nonzero(labels == c).flatten() for c in labels.unique().tolist()}

    def __len__(self):
        return len(self.images)

    def augment(self, image):
        image = image * (0.8 + 0.4 * torch.rand(()))
        return image + torch.randn_like(image) * 0.05

    def pick(self, label):
        members = self.members[label]
        return self.images[members[torch.randint(len(members), ())]]

    def __getitem__(self, index):
        label = int(self.labels[index])
        other = (label + int(torch.randint(1, len(self.members), ()))) % len(self.members)
        anchor, positive, negative = self.images[index], self.pick(label), self.pick(other)
        return self.augment(anchor), self.augment(positive), self.augment(negative)


class EmbeddingNet(nn.Module):
    def __init__(self, dim=64, width=24):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, width, 5, padding=2, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(2 * width, 4 * width, 3, padding=1, bias=False),
            nn.BatchNorm2d(4 * width),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.projection = nn.Linear(4 * width, dim)

    def forward(self, x):
        return F.normalize(self.projection(self.features(x)), dim=1)


class EMA:
    def __init__(self, model, decay):
        self.model, self.decay = copy.deepcopy(model).eval(), decay

    @torch.no_grad()
    def update(self, model):
        for average, value in zip(self.model.parameters(), model.parameters()):
            average.lerp_(value, 1 - self.decay)
        for average, value in zip(self.model.buffers(), model.buffers()):
            average.copy_(value)


@torch.no_grad()
def retrieval(model, loader, accelerator):
    """Recall at 1 and mean average precision, each image asking for the others of its class."""
    model.eval()
    embeddings, labels = [], []
    for images, targets in loader:
        embeddings.append(accelerator.gather_for_metrics(model(images)))
        labels.append(accelerator.gather_for_metrics(targets))
    embeddings, labels = torch.cat(embeddings), torch.cat(labels)
    distance = torch.cdist(embeddings, embeddings)
    distance.fill_diagonal_(float("inf"))
    ranking = distance.argsort(dim=1)
    hits = (labels[ranking] == labels[:, None]).float()
    recall = hits[:, 0].mean().item()
    hits = hits[:, :-1]
    precision = hits.cumsum(1) / torch.arange(1, hits.shape[1] + 1)
    average_precision = (precision * hits).sum(1) / hits.sum(1)
    return recall, average_precision.mean().item()


def main():
    set_seed(21)
    accelerator = Accelerator(cpu=True)
    train_images, train_labels = stamp_glyphs(100, 12, seed=1)
    val_images, val_labels = stamp_glyphs(20, 15, seed=2)
    train_loader = DataLoader(TripletDataset(train_images, train_labels), BATCH_SIZE, shuffle=True, drop_last=True)
    val_loader = DataLoader(torch.utils.data.TensorDataset(val_images, val_labels), 100)

    model = EmbeddingNet()
    optimizer = torch.optim.Adam(model.parameters(), lr=LR)
    model, optimizer, train_loader, val_loader = accelerator.prepare(model, optimizer, train_loader, val_loader)
    ema = EMA(accelerator.unwrap_model(model), EMA_DECAY)
    criterion = nn.TripletMarginLoss(margin=MARGIN)

    for epoch in range(1, EPOCHS + 1):
        model.train()
        total, batches = 0.0, 0
        for anchor, positive, negative in train_loader:
            optimizer.zero_grad()
            za, zp, zn = model(torch.cat([anchor, positive, negative])).chunk(3)
            loss = criterion(za, zp, zn)
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            ema.update(accelerator.unwrap_model(model))
            total, batches = total + loss.item(), batches + 1
        if epoch % 2 == 0:
            recall, mean_ap = retrieval(ema.model, val_loader, accelerator)
            accelerator.print(f"epoch {epoch:2d}  loss {total / batches:.4f}  R@1 {recall:.4f}  mAP {mean_ap:.4f}")


if __name__ == "__main__":
    main()
