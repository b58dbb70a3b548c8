"""Show and tell: captions of colored shapes, a small CNN encoder and an LSTM decoder with teacher forcing."""

import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

SPECIAL = ["<pad>", "<start>", "<end>"]


class AverageMeter:
    sum, count = 0.0, 0

    def update(self, val, n=1):
        self.sum += val * n
        self.count += n

    @property
    def avg(self):
        return self.sum / max(self.count, 1)


def describe(name, box):
    x, y = ((box[0] + box[2]) / 2).item(), ((box[1] + box[3]) / 2).item()
    words = ["a"] + name.split()
    if abs(y - 0.5) > 0.12:
        words += ["at", "the", "top" if y < 0.5 else "bottom"]
    if abs(x - 0.5) > 0.12:
        words += ["on", "the", "left" if x < 0.5 else "right"]
    return words


class CaptionDataset(Dataset):
    def __init__(self, split, count, word_map=None):
        self.shapes = Shapes(train=split == "TRAIN", count=count, size=24)
        captions = [describe(n, b) for n, b in zip(self.shapes.names, self.shapes.boxes)]
        if word_map is None:
            word_map = {w: i for i, w in enumerate(SPECIAL + sorted(set(sum(captions, []))))}
        self.word_map = word_map
        start, end = word_map["<start>"], word_map["<end>"]
        self.captions = [torch.tensor([start] + [word_map[w] for w in caption] + [end]) for caption in captions]

    def __len__(self):
        return len(self.captions)

    def __getitem__(self, i):
        return (self.shapes.images[i] - 0.5) / 0.2, self.captions[i]


def collate(batch):
    imgs, caps = zip(*batch)
    caplens = torch.tensor([len(c) for c in caps])
    return torch.stack(imgs), pad_sequence(caps, batch_first=True, padding_value=0), caplens


class Encoder(nn.Module):
    def __init__(self, encoded_dim=96):
        super().__init__()
        layers = []
        for c_in, c_out in ((3, 16), (16, 32)):
            layers += [nn.Conv2d(c_in, c_out, 3, padding=1), nn.BatchNorm2d(c_out), nn.ReLU(), nn.MaxPool2d(2)]
        self.cnn = nn.Sequential(*layers)
        self.proj = nn.Linear(32 * 6 * 6, encoded_dim)
        self.fine_tune()

    def forward(self, images):
        return F.relu(self.proj(self.cnn(images).flatten(1)))

    def fine_tune(self, fine_tune=True):
        for p in self.parameters():
            p.requires_grad = fine_tune


class Decoder(nn.Module):
    def __init__(self, vocab_size, encoder_dim=96, embed_dim=32, hidden_dim=96):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embed_dim, padding_idx=0)
        self.init_h = nn.Linear(encoder_dim, hidden_dim)
        self.init_c = nn.Linear(encoder_dim, hidden_dim)
        self.lstm = nn.LSTM(embed_dim, hidden_dim, batch_first=True)
        self.fc = nn.Linear(hidden_dim, vocab_size)

    def init_state(self, encoder_out):
        return self.init_h(encoder_out).unsqueeze(0), self.init_c(encoder_out).unsqueeze(0)

    def forward(self, encoder_out, tokens):
        hidden, _ = self.lstm(self.embedding(tokens), self.init_state(encoder_out))
        return self.fc(hidden)

    @torch.no_grad()
    def greedy(self, encoder_out, start, max_len):
        state = self.init_state(encoder_out)
        token = torch.full((len(encoder_out), 1), start)
        result = []
        for _ in range(max_len):
            hidden, state = self.lstm(self.embedding(token), state)
            token = self.fc(hidden).argmax(-1)
            result.append(token)
        return torch.cat(result, dim=1)


def train(train_loader, encoder, decoder, criterion, optimizer, grad_clip):
    encoder.train(), decoder.train()
    losses = AverageMeter()
    for imgs, caps, caplens in train_loader:
        caplens, sort_ind = caplens.sort(descending=True)
        imgs, caps = imgs[sort_ind], caps[sort_ind]
        scores = decoder(encoder(imgs), caps[:, :-1])
        targets = caps[:, 1:]
        loss = criterion(scores.flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([*encoder.parameters(), *decoder.parameters()], grad_clip)
        optimizer.step()
        losses.update(loss.item(), int((caplens - 1).sum()))
    return losses.avg


@torch.no_grad()
def validate(val_loader, encoder, decoder, word_map):
    encoder.eval(), decoder.eval()
    exact = AverageMeter()
    for imgs, caps, caplens in val_loader:
        said = decoder.greedy(encoder(imgs), word_map["<start>"], caps.size(1) - 1)
        targets = caps[:, 1:]
        right = ((said == targets) | (targets == word_map["<pad>"])).all(dim=1).float()
        exact.update(right.mean().item(), len(imgs))
    return exact.avg


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=3e-3)
    args = parser.parse_args()
    torch.manual_seed(1)
    train_set = CaptionDataset("TRAIN", 960)
    word_map = train_set.word_map
    val_set = CaptionDataset("VAL", 200, word_map)
    train_loader = DataLoader(train_set, args.batch_size, shuffle=True, collate_fn=collate)
    val_loader = DataLoader(val_set, args.batch_size, collate_fn=collate)
    encoder, decoder = Encoder(), Decoder(len(word_map))
    criterion = nn.CrossEntropyLoss(ignore_index=word_map["<pad>"])
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=args.lr)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.85)
    for epoch in range(args.epochs):
        loss = train(train_loader, encoder, decoder, criterion, optimizer, grad_clip=5.0)
        scheduler.step()
        exact = validate(val_loader, encoder, decoder, word_map)
        print(f"Epoch: [{epoch}]\tLoss {loss:.4f}\tExact captions {exact:.3f}")


if __name__ == "__main__":
    main()
