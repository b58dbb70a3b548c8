"""Topics of short texts with an EmbeddingBag (after PyTorch's text classification tutorial)."""

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset

PAD, VOCAB, TOPICS = 0, 241, 4
MAX_LEN = 24


class TopicTexts(Dataset):
    """Words 1-80 occur in all texts; each topic has 40 words of its own, and now and then borrows some."""

    def __init__(self, count, seed):
        generator = torch.Generator().manual_seed(seed)
        self.labels = torch.randint(0, TOPICS, (count,), generator=generator)
        lengths = torch.randint(10, MAX_LEN + 1, (count, 1), generator=generator)
        common = torch.randint(1, 81, (count, MAX_LEN), generator=generator)
        own = 81 + 40 * self.labels[:, None] + torch.randint(0, 40, (count, MAX_LEN), generator=generator)
        other = torch.randint(81, VOCAB, (count, MAX_LEN), generator=generator)
        kind = torch.rand(count, MAX_LEN, generator=generator)
        words = torch.where(kind < 0.4, own, torch.where(kind < 0.5, other, common))
        self.words = words.masked_fill(torch.arange(MAX_LEN)[None, :] >= lengths, PAD)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.words[index], self.labels[index]


class TextClassificationModel(nn.Module):
    def __init__(self, vocab_size, embed_dim, num_class):
        super().__init__()
        self.embedding = nn.EmbeddingBag(vocab_size, embed_dim, mode="mean", padding_idx=PAD)
        self.fc = nn.Linear(embed_dim, num_class)
        self.log_softmax = nn.LogSoftmax(dim=1)
        self.init_weights()

    def init_weights(self):
        initrange = 0.5
        self.embedding.weight.data.uniform_(-initrange, initrange)
        self.embedding.weight.data[PAD] = 0
        self.fc.weight.data.uniform_(-initrange, initrange)
        self.fc.bias.data.zero_()

    def forward(self, text):
        return self.log_softmax(self.fc(self.embedding(text)))


def build_optimizer(model):
    return torch.optim.Adam(model.parameters(), lr=1e-2)


def make_step(max_norm):
    def step(model, batch, optimizer, criterion):
        text, label = batch
        optimizer.zero_grad()
        loss = criterion(model(text), label)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        optimizer.step()
        return loss

    return step


def setup():
    torch.manual_seed(13)
    train = DataLoader(TopicTexts(1800, seed=0), batch_size=32, shuffle=True)
    val = DataLoader(TopicTexts(400, seed=1), batch_size=100)
    model = TextClassificationModel(VOCAB, 32, TOPICS)
    return {
        "model": model,
        "train": train,
        "val": val,
        "loss": nn.NLLLoss(),
        "optimizer": build_optimizer(model),
        "step": make_step(max_norm=1.0),
    }
