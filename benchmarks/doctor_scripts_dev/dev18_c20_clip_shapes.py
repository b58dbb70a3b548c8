"""Contrastive image-text pretraining (CLIP) on captioned shapes, with zero-shot classification.

Captions that are word for word equal within a batch count as positives of each other (UniCL).
"""
import random

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import NAMES, Shapes

CFG = dict(embed_dim=48, width=24, text_dim=48, batch_size=64, epochs=12, lr=2e-3, weight_decay=0.02,
           temperature=0.1, seed=0)
CONTEXT = 10


def describe(name, box):
    cx, cy = (box[0] + box[2]).item() / 2, (box[1] + box[3]).item() / 2
    horizontal = "left" if cx < 0.5 else "right"
    vertical = "top" if cy < 0.5 else "bottom"
    return f"a {name} at the {vertical} {horizontal}"


class Tokenizer:
    def __init__(self, texts):
        words = sorted({w for t in texts for w in t.split()})
        self.index = {w: i + 2 for i, w in enumerate(words)}

    def __len__(self):
        return len(self.index) + 2

    def __call__(self, text):
        ids = [self.index.get(w, 1) for w in text.split()][:CONTEXT]
        return torch.tensor(ids + [0] * (CONTEXT - len(ids)))


class CaptionedShapes(Dataset):
    def __init__(self, train, count):
        self.shapes = Shapes(train=train, count=count)
        self.captions = [describe(n, b) for n, b in zip(self.shapes.names, self.shapes.boxes)]
        self.tokenizer = None

    def __len__(self):
        return len(self.shapes)

    def __getitem__(self, i):
        image, target = self.shapes[i]
        return (image - 0.5) / 0.25, self.tokenizer(self.captions[i]), target


class ImageEncoder(nn.Module):
    def __init__(self, width, embed_dim):
        super().__init__()

        def block(cin, cout):
            return nn.Sequential(nn.Conv2d(cin, cout, 3, padding=1), nn.GroupNorm(4, cout), nn.GELU(), nn.MaxPool2d(2))

        self.trunk = nn.Sequential(block(3, width), block(width, 2 * width), nn.Flatten())
        self.proj = nn.Sequential(nn.Linear(2 * width * 16, 96), nn.GELU(), nn.Linear(96, embed_dim))

    def forward(self, x):
        return F.normalize(self.proj(self.trunk(x)), dim=-1)


class TextEncoder(nn.Module):
    def __init__(self, vocab, dim, embed_dim):
        super().__init__()
        self.token = nn.Embedding(vocab, dim, padding_idx=0)
        self.position = nn.Parameter(0.02 * torch.randn(CONTEXT, dim))
        self.layer = nn.TransformerEncoderLayer(dim, 4, 2 * dim, dropout=0.0, batch_first=True, norm_first=True)
        self.norm = nn.LayerNorm(dim)
        self.proj = nn.Linear(dim, embed_dim)

    def forward(self, ids):
        pad = ids == 0
        x = self.layer(self.token(ids) + self.position, src_key_padding_mask=pad)
        keep = (~pad).unsqueeze(-1).float()
        pooled = (self.norm(x) * keep).sum(1) / keep.sum(1)
        return F.normalize(self.proj(pooled), dim=-1)


class CLIP(nn.Module):
    def __init__(self, vocab, cfg):
        super().__init__()
        self.visual = ImageEncoder(cfg["width"], cfg["embed_dim"])
        self.textual = TextEncoder(vocab, cfg["text_dim"], cfg["embed_dim"])
        self.logit_scale = nn.Parameter(torch.tensor(np.log(1 / cfg["temperature"]), dtype=torch.float32))

    def forward(self, images, ids):
        return self.visual(images), self.textual(ids), self.logit_scale.exp().clamp(max=100)


def contrastive_loss(image_features, text_features, scale, ids):
    logits = scale * image_features @ text_features.t()
    same = (ids[:, None] == ids[None, :]).all(-1).float()
    targets = same / same.sum(dim=1, keepdim=True)
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.t(), targets)) / 2


@torch.no_grad()
def evaluate(model, loader, tokenizer, captions):
    """Zero-shot accuracy over the six names, and how often the true caption ranks first among all captions."""
    model.eval()
    corners = [f"{v} {h}" for v in ("top", "bottom") for h in ("left", "right")]
    prompts = torch.stack([tokenizer(f"a {name} at the {c}") for name in NAMES for c in corners])
    classifier = F.normalize(model.textual(prompts).view(len(NAMES), len(corners), -1).mean(1), dim=-1)
    gallery_ids = torch.stack([tokenizer(c) for c in captions])
    gallery = model.textual(gallery_ids)
    zero_shot, recall, count = 0, 0, 0
    for images, ids, target in loader:
        features = model.visual(images)
        zero_shot += ((features @ classifier.t()).argmax(1) == target).sum().item()
        first = gallery_ids[(features @ gallery.t()).argmax(1)]
        recall += (first == ids).all(1).sum().item()
        count += len(target)
    return zero_shot / count, recall / count


def main():
    random.seed(CFG["seed"])
    torch.manual_seed(CFG["seed"])
    train_set, val_set = CaptionedShapes(True, 2400), CaptionedShapes(False, 400)
    tokenizer = train_set.tokenizer = val_set.tokenizer = Tokenizer(train_set.captions)
    captions = sorted(set(train_set.captions))
    train_loader = DataLoader(train_set, batch_size=CFG["batch_size"], shuffle=True, drop_last=True)
    val_loader = DataLoader(val_set, batch_size=200)

    model = CLIP(len(tokenizer), CFG)
    decay = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": CFG["weight_decay"]}, {"params": rest, "weight_decay": 0.0}], lr=CFG["lr"]
    )
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, CFG["lr"], CFG["epochs"] * len(train_loader), pct_start=0.1)

    for epoch in range(CFG["epochs"]):
        model.train()
        total = 0.0
        for images, ids, _ in train_loader:
            image_features, text_features, scale = model(images, ids)
            loss = contrastive_loss(image_features, text_features, scale, ids)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            scheduler.step()
            total += loss.item()
        zero_shot, recall = evaluate(model, val_loader, tokenizer, captions)
        print(f"epoch {epoch + 1:2d} loss {total / len(train_loader):.4f} zero-shot acc {zero_shot:.3f} caption R@1 {recall:.3f}")


if __name__ == "__main__":
    main()
