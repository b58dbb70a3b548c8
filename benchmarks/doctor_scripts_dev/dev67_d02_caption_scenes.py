"""Show-and-tell captioning of toy scenes: CNN encoder, GRU decoder, greedy decoding."""
import math
import random
from collections import Counter

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

SEED, SIZE, MAX_LEN = 7, 32, 14
EPOCHS, BATCH_SIZE, LR, WARMUP_STEPS = 11, 32, 3e-3, 100
PAD, BOS, EOS, UNK = 0, 1, 2, 3
COLORS = {"red": (215, 45, 45), "green": (45, 190, 60), "blue": (50, 70, 215), "yellow": (220, 210, 50)}
SHAPES = ("disc", "square", "cross")
SIZES = {"small": (2.6, 3.6), "large": (5.4, 6.6)}
LAYOUTS = ("alone", "above", "left of")


def draw_object(canvas, rng, cy, cx):
    size, color, shape = rng.choice(list(SIZES)), rng.choice(list(COLORS)), rng.choice(SHAPES)
    radius = rng.uniform(*SIZES[size])
    yy, xx = np.mgrid[:SIZE, :SIZE]
    dy, dx = np.abs(yy - cy), np.abs(xx - cx)
    if shape == "disc":
        inside = dy ** 2 + dx ** 2 <= radius ** 2
    else:
        inside = np.maximum(dy, dx) <= radius
        if shape == "cross":
            inside &= np.minimum(dy, dx) <= radius / 3
    canvas[inside] = COLORS[color]
    return f"a {size} {color} {shape}"


def make_scene(layout, rng):
    canvas = np.full((SIZE, SIZE, 3), rng.uniform(90, 150))
    if layout == "alone":
        caption = draw_object(canvas, rng, *rng.uniform(9, 23, 2))
    else:
        near, far = rng.uniform(7, 9), rng.uniform(23, 25)
        a, b = rng.uniform(11, 21, 2)
        first, second = ((near, a), (far, b)) if layout == "above" else ((a, near), (b, far))
        caption = f"{draw_object(canvas, rng, *first)} {layout} {draw_object(canvas, rng, *second)}"
    canvas += rng.normal(0, 12, canvas.shape)
    return canvas.clip(0, 255).astype(np.uint8), caption


class Vocabulary:
    def __init__(self, captions):
        counts = Counter(word for caption in captions for word in caption.split())
        self.itos = ["<pad>", "<bos>", "<eos>", "<unk>"] + [w for w, _ in counts.most_common()]
        self.stoi = {w: i for i, w in enumerate(self.itos)}

    def encode(self, caption):
        return [BOS] + [self.stoi.get(w, UNK) for w in caption.split()] + [EOS]


def augment(image):
    dy, dx = random.randint(0, 4), random.randint(0, 4)
    image = np.pad(image, ((2, 2), (2, 2), (0, 0)), mode="edge")[dy:dy + SIZE, dx:dx + SIZE]
    return (image * random.uniform(0.9, 1.1)).clip(0, 255)


class CaptionDataset(Dataset):
    def __init__(self, images, captions, vocab, mean, std, train=False):
        self.images, self.captions, self.vocab = images, captions, vocab
        self.mean, self.std, self.train = mean, std, train

    def __len__(self):
        return len(self.captions)

    def __getitem__(self, i):
        image, caption = self.images[i].astype(np.float32), self.captions[i]
        if self.train:
            image = augment(image)
        image = torch.tensor((image - self.mean) / self.std, dtype=torch.float32).permute(2, 0, 1)
        return image, torch.tensor(self.vocab.encode(caption))


def collate(batch):
    images, captions = zip(*batch)
    return torch.stack(images), pad_sequence(captions, batch_first=True, padding_value=PAD)


class Encoder(nn.Module):
    def __init__(self, dim, widths=(24, 48, 64)):
        super().__init__()
        chans = (3,) + widths
        self.blocks = nn.ModuleList([
            nn.Sequential(nn.Conv2d(cin, cout, 3, stride=2, padding=1), nn.BatchNorm2d(cout), nn.ReLU())
            for cin, cout in zip(chans, chans[1:])])
        self.fc = nn.Linear(widths[-1] * 4 * 4, dim)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.fc(x.flatten(1))


class Captioner(nn.Module):
    def __init__(self, vocab_size, dim=128, embed=48, hidden=128, dropout=0.2):
        super().__init__()
        self.encoder = Encoder(dim)
        self.embed = nn.Embedding(vocab_size, embed, padding_idx=PAD)
        self.init_h = nn.Linear(dim, hidden)
        self.rnn = nn.GRU(embed + dim, hidden, batch_first=True)
        self.drop = nn.Dropout(dropout)
        self.out = nn.Linear(hidden, vocab_size)
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.xavier_uniform_(p)

    def decode(self, feats, tokens, h):
        context = feats.unsqueeze(1).expand(-1, tokens.size(1), -1)
        out, h = self.rnn(torch.cat([self.drop(self.embed(tokens)), context], dim=-1), h)
        return self.out(self.drop(out)), h

    def forward(self, images, tokens):
        feats = self.encoder(images)
        return self.decode(feats, tokens, torch.tanh(self.init_h(feats)).unsqueeze(0))[0]

    @torch.no_grad()
    def generate(self, images, max_len=MAX_LEN):
        feats = self.encoder(images)
        h = torch.tanh(self.init_h(feats)).unsqueeze(0)
        result = [torch.full((images.size(0), 1), BOS)]
        for _ in range(max_len):
            logits, h = self.decode(feats, result[-1], h)
            result.append(logits.argmax(-1))
        return torch.cat(result[1:], dim=1)


def strip(ids):
    ids = ids[:ids.index(EOS)] if EOS in ids else ids
    return [i for i in ids if i not in (PAD, BOS)]


def edit_distance(a, b):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        prev, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            prev, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, prev + (x != y))
    return row[-1]


def evaluate(model, loader):
    model.eval()
    exact = errors = words = total = 0
    for images, captions in loader:
        for hyp, ref in zip(model.generate(images).tolist(), captions.tolist()):
            hyp, ref = strip(hyp), strip(ref)
            exact, total = exact + (hyp == ref), total + 1
            errors, words = errors + edit_distance(hyp, ref), words + len(ref)
    return exact / total, errors / words


random.seed(SEED)
torch.manual_seed(SEED)
rng = np.random.default_rng(SEED)
scenes = [make_scene(layout, rng) for layout in LAYOUTS for _ in range(1000)]
order = rng.permutation(len(scenes))
train_scenes, val_scenes = [scenes[i] for i in order[:2000]], [scenes[i] for i in order[2000:]]
(train_images, train_captions), (val_images, val_captions) = zip(*train_scenes), zip(*val_scenes)
vocab = Vocabulary(train_captions)
mean, std = np.stack(train_images).mean((0, 1, 2)), np.stack(train_images).std((0, 1, 2))
train_set = CaptionDataset(train_images, train_captions, vocab, mean, std, train=True)
val_set = CaptionDataset(val_images, val_captions, vocab, mean, std)
train_loader = DataLoader(train_set, batch_size=BATCH_SIZE, shuffle=True, collate_fn=collate)
val_loader = DataLoader(val_set, batch_size=100, collate_fn=collate)

model = Captioner(len(vocab.itos))
optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=1e-3)
total_steps = EPOCHS * len(train_loader)


def lr_lambda(step):
    if step < WARMUP_STEPS:
        return (step + 1) / WARMUP_STEPS
    return 0.5 * (1 + math.cos(math.pi * (step - WARMUP_STEPS) / (total_steps - WARMUP_STEPS)))


scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lr_lambda)
for epoch in range(1, EPOCHS + 1):
    model.train()
    losses = []
    for images, captions in train_loader:
        optimizer.zero_grad()
        logits = model(images, captions[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), captions[:, 1:].flatten(), ignore_index=PAD)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
    exact, wer = evaluate(model, val_loader)
    print(f"epoch {epoch:2d} loss {np.mean(losses):.4f} val exact {exact:.4f} WER {wer:.4f}", flush=True)
