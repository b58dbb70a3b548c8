"""A small CLIP: colored shapes and their captions, trained with Accelerate."""

import math

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import shape_mask

COLORS = {
    "red": (0.9, 0.2, 0.1),
    "green": (0.1, 0.8, 0.2),
    "blue": (0.1, 0.2, 0.9),
    "yellow": (0.9, 0.9, 0.1),
    "white": (1.0, 1.0, 1.0),
    "black": (0.0, 0.0, 0.0),
}
KINDS = ["square", "disc", "cross"]
PLACES = ["top left", "top right", "bottom left", "bottom right"]
CONCEPTS = [(c, k, p) for c in COLORS for k in KINDS for p in PLACES]
TEMPLATES = [
    "a photo of a {c} {k} in the {p}",
    "a {c} {k} at the {p}",
    "{p} there is a {k} which is {c}",
]
WORDS = sorted({w for t in TEMPLATES for c, k, p in CONCEPTS for w in t.format(c=c, k=k, p=p).split()})
VOCAB = {word: i + 1 for i, word in enumerate(WORDS)}  # 0 pads
MAX_LENGTH = 12


def tokenize(text):
    ids = [VOCAB[word] for word in text.split()]
    return torch.tensor(ids + [0] * (MAX_LENGTH - len(ids)))


class CaptionedShapes(Dataset):
    def __init__(self, count, seed, size=24):
        g = torch.Generator().manual_seed(seed)
        self.images, self.tokens, self.concepts = [], [], []
        for _ in range(count):
            concept = int(torch.randint(len(CONCEPTS), (), generator=g))
            c, k, p = CONCEPTS[concept]
            half = size // 2
            width = int(torch.randint(9, 13, (), generator=g))
            top, left = torch.randint(0, half - width + 1, (2,), generator=g).tolist()
            mask = shape_mask(k, size, top + half * ("bottom" in p), left + half * ("right" in p), width)
            image = torch.full((3, size, size), 0.5)
            image[:, mask] = torch.tensor(COLORS[c])[:, None]
            image = (image + 0.05 * torch.randn(image.shape, generator=g)).clamp(0, 1)
            template = TEMPLATES[int(torch.randint(len(TEMPLATES), (), generator=g))]
            self.images.append((image - 0.5) / 0.25)
            self.tokens.append(tokenize(template.format(c=c, k=k, p=p)))
            self.concepts.append(concept)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return {"image": self.images[i], "tokens": self.tokens[i], "concept": self.concepts[i]}


class ImageEncoder(nn.Module):
    def __init__(self, dim):
        super().__init__()
        channels = [3, 16, 32, 64]
        self.conv = nn.Sequential(
            *[
                nn.Sequential(nn.Conv2d(a, b, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU())
                for a, b in zip(channels, channels[1:])
            ]
        )
        self.project = nn.Linear(64 * 9, dim)

    def forward(self, x):
        return self.project(self.conv(x).flatten(1))


class TextEncoder(nn.Module):
    def __init__(self, dim, width=64):
        super().__init__()
        self.embed = nn.Embedding(len(VOCAB) + 1, width, padding_idx=0)
        self.mlp = nn.Sequential(nn.Linear(width, 128), nn.ReLU(), nn.Linear(128, dim))

    def forward(self, tokens):
        mask = (tokens != 0).unsqueeze(-1)
        mean = (self.embed(tokens) * mask).sum(1) / mask.sum(1)
        return self.mlp(mean)


class CLIP(nn.Module):
    def __init__(self, dim=48):
        super().__init__()
        self.visual, self.text = ImageEncoder(dim), TextEncoder(dim)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, images, tokens):
        return F.normalize(self.visual(images), dim=-1), F.normalize(self.text(tokens), dim=-1), self.logit_scale.exp()


def contrastive_loss(image, text, scale, concepts):
    """Symmetric cross-entropy; pairs with the same meaning share the target mass."""
    same = (concepts[:, None] == concepts[None, :]).float()
    target = same / same.sum(1, keepdim=True)
    logits = scale * image @ text.T
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


@torch.no_grad()
def zero_shot(accelerator, model, loader):
    model.eval()
    prompts = torch.stack([tokenize(TEMPLATES[0].format(c=c, k=k, p=p)) for c, k, p in CONCEPTS])
    text = F.normalize(accelerator.unwrap_model(model).text(prompts.to(accelerator.device)), dim=-1)
    top1, top5, total = 0, 0, 0
    for batch in loader:
        image = F.normalize(accelerator.unwrap_model(model).visual(batch["image"]), dim=-1)
        ranked, truth = accelerator.gather_for_metrics(((image @ text.T).topk(5).indices, batch["concept"]))
        top1 += (ranked[:, 0] == truth).sum().item()
        top5 += (ranked == truth[:, None]).any(1).sum().item()
        total += len(truth)
    return top1 / total, top5 / total


def main():
    set_seed(0)
    accelerator = Accelerator(cpu=True)
    train_loader = DataLoader(CaptionedShapes(3000, seed=1), batch_size=100, shuffle=True, drop_last=True)
    val_loader = DataLoader(CaptionedShapes(600, seed=2), batch_size=200)
    model = CLIP()
    decay = [p for p in model.parameters() if p.ndim >= 2]
    rest = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}], lr=2e-3)
    epochs = 10
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=epochs * len(train_loader))
    model, optimizer, train_loader, val_loader, scheduler = accelerator.prepare(
        model, optimizer, train_loader, val_loader, scheduler
    )
    for epoch in range(epochs):
        model.train()
        total = 0.0
        for batch in train_loader:
            image, text, scale = model(batch["image"], batch["tokens"])
            loss = contrastive_loss(image, text, scale, batch["concept"])
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()
            scheduler.step()
            with torch.no_grad():
                accelerator.unwrap_model(model).logit_scale.clamp_(max=math.log(100))
            total += loss.item()
        top1, top5 = zero_shot(accelerator, model, val_loader)
        accelerator.print(f"epoch {epoch}: loss {total / len(train_loader):.4f}, zero-shot top-1 {top1:.3f}, top-5 {top5:.3f}")


if __name__ == "__main__":
    main()
