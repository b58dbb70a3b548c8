"""A tiny CLIP in Lightning: images of one shape and captions such as "a red disc at the top left"."""

import itertools
import math
import random

import lightning as L
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import shape_mask

SIZE = 16
COLORS = {"red": (0.9, 0.2, 0.1), "blue": (0.1, 0.2, 0.9), "green": (0.1, 0.8, 0.2), "yellow": (0.9, 0.9, 0.1)}
KINDS = ("square", "disc", "cross")
MEANINGS = list(itertools.product(COLORS, KINDS, ("top", "bottom"), ("left", "right")))
CAPTIONS = [f"a {color} {kind} at the {row} {column}" for color, kind, row, column in MEANINGS]
WORDS = {word: i for i, word in enumerate(sorted({w for caption in CAPTIONS for w in caption.split()}))}


def tokenize(caption):
    return torch.tensor([WORDS[word] for word in caption.split()])


def draw(meaning, rng):
    color, kind, row, column = meaning
    width = rng.randint(7, 8)
    top = rng.randint(0, 2) if row == "top" else SIZE - width - rng.randint(0, 2)
    left = rng.randint(0, 2) if column == "left" else SIZE - width - rng.randint(0, 2)
    image = torch.full((3, SIZE, SIZE), 0.5)
    image[:, shape_mask(kind, SIZE, top, left, width)] = torch.tensor(COLORS[color])[:, None]
    return image


class CaptionedShapes(Dataset):
    def __init__(self, count, seed, train):
        rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
        self.train = train
        self.caption_ids = [rng.randrange(len(CAPTIONS)) for _ in range(count)]
        images = torch.stack([draw(MEANINGS[i], rng) for i in self.caption_ids])
        self.images = (images + 0.06 * torch.randn(images.shape, generator=generator)).clamp(0, 1)
        self.tokens = [tokenize(CAPTIONS[i]) for i in self.caption_ids]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = self.images[index]
        if self.train:
            image = (image * (0.9 + 0.2 * torch.rand(()))).clamp(0, 1)
        return (image - 0.5) / 0.25, self.tokens[index], self.caption_ids[index]


class ShapesData(L.LightningDataModule):
    def __init__(self, batch_size=32):
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage=None):
        self.train_set = CaptionedShapes(4000, seed=1, train=True)
        self.val_set = CaptionedShapes(600, seed=2, train=False)

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=200)


class ImageEncoder(nn.Sequential):
    def __init__(self, width=64):
        super().__init__(
            nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(32 * 4 * 4, width), nn.ReLU(),
        )  # fmt: skip


class TextEncoder(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.embedding = nn.Embedding(len(WORDS), width)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.ReLU())

    def forward(self, tokens):
        return self.mlp(self.embedding(tokens).sum(dim=1))


class TinyCLIP(L.LightningModule):
    def __init__(self, lr=1e-3, dim=32):
        super().__init__()
        self.lr = lr
        self.image_encoder, self.text_encoder = ImageEncoder(), TextEncoder()
        self.image_projection, self.text_projection = nn.Linear(64, dim), nn.Linear(64, dim)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.1)))

    def encode_image(self, images):
        return F.normalize(self.image_projection(self.image_encoder(images)), dim=-1)

    def encode_text(self, tokens):
        return F.normalize(self.text_projection(self.text_encoder(tokens)), dim=-1)

    def training_step(self, batch, batch_idx):
        images, tokens, caption_ids = batch
        image, text = self.encode_image(images), self.encode_text(tokens)
        scale = self.logit_scale.exp().clamp(max=50)
        logits = scale * (image @ text.T)
        targets = torch.arange(len(images))
        loss = (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def on_validation_epoch_start(self):
        self.right, self.seen = 0, 0
        self.all_captions = self.encode_text(torch.stack([tokenize(c) for c in CAPTIONS]))

    def validation_step(self, batch, batch_idx):
        """Zero-shot: which of all captions lies nearest to the image?"""
        images, _, caption_ids = batch
        nearest = (self.encode_image(images) @ self.all_captions.T).argmax(dim=1)
        self.right += (nearest == caption_ids).sum().item()
        self.seen += len(images)

    def on_validation_epoch_end(self):
        accuracy = self.right / self.seen
        self.log("val_acc", accuracy)
        print(f"epoch {self.current_epoch}: zero-shot accuracy {accuracy:.4f} of {len(CAPTIONS)} captions")

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.lr, weight_decay=1e-3)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=8, gamma=0.3)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}


if __name__ == "__main__":
    torch.set_num_threads(1)
    L.seed_everything(0)
    trainer = L.Trainer(
        max_epochs=24,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(TinyCLIP(), datamodule=ShapesData())
    print({name: round(value.item(), 4) for name, value in trainer.callback_metrics.items()})
