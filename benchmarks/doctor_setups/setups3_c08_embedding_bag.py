"""News topics with nn.EmbeddingBag, after the text classification tutorial of PyTorch."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

PAD = 0
TOPICS = ["world", "sports", "business", "science"]
KEYWORDS, COMMON = 20, 60  # words of each topic, words of all
VOCAB = 1 + COMMON + KEYWORDS * len(TOPICS)

cfg = {"embed_dim": 32, "batch_size": 64, "optimizer": "adam", "lr": 5e-3, "clip": 1.0}


def write_articles(count, seed):
    generator = torch.Generator().manual_seed(seed)

    def draw(low, high, size):
        return torch.randint(low, high, size, generator=generator)

    articles = []
    for label in draw(0, len(TOPICS), (count,)).tolist():
        length = int(draw(8, 21, (1,)))
        words = draw(1, 1 + COMMON, (length,))
        own = 1 + COMMON + label * KEYWORDS + draw(0, KEYWORDS, (length,))
        about_topic = torch.rand(length, generator=generator) < 0.5
        articles.append((torch.where(about_topic, own, words), label))
    return articles


def collate(batch):
    tokens = pad_sequence([words for words, _ in batch], batch_first=True, padding_value=PAD)
    return tokens, torch.tensor([label for _, label in batch])


class TextClassifier(nn.Module):
    def __init__(self, vocab_size, embed_dim, classes):
        super().__init__()
        self.embedding = nn.EmbeddingBag(vocab_size, embed_dim, mode="mean", padding_idx=PAD)
        self.fc = nn.Linear(embed_dim, classes)
        self.init_weights()

    def init_weights(self, initrange=0.5):
        with torch.no_grad():
            self.embedding.weight.uniform_(-initrange, initrange)
            self.embedding.weight[PAD] = 0
            self.fc.weight.uniform_(-initrange, initrange)
            self.fc.bias.zero_()

    def forward(self, tokens):
        return F.log_softmax(self.fc(self.embedding(tokens)), dim=1)


def build_optimizer(params):
    if cfg["optimizer"] == "sgd":
        return torch.optim.SGD(params, lr=cfg["lr"])
    return torch.optim.Adam(params, lr=cfg["lr"])


def train_step(model, batch, optimizer, loss):
    tokens, labels = batch
    optimizer.zero_grad()
    value = loss(model(tokens), labels)
    value.backward()
    nn.utils.clip_grad_norm_(model.parameters(), cfg["clip"])
    optimizer.step()
    return value.detach()


def setup():
    torch.manual_seed(7)
    model = TextClassifier(VOCAB, cfg["embed_dim"], len(TOPICS))
    return {
        "model": model,
        "train": DataLoader(write_articles(1600, 0), batch_size=cfg["batch_size"], shuffle=True, collate_fn=collate),
        "val": DataLoader(write_articles(400, 1), batch_size=100, collate_fn=collate),
        "loss": nn.NLLLoss(),
        "optimizer": build_optimizer,
        "step": train_step,
    }
