"""Topics of short news with an embedding bag, as in the text classification tutorial."""

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset

PAD, TOPICS, TOPIC_WORDS, COMMON = 0, 4, 25, 60
VOCAB = 1 + COMMON + TOPICS * TOPIC_WORDS
LR = 2.0
CLIP = 1.0
BATCH_SIZE = 32


class News(Dataset):
    """Each word is a common one, or (with 50 %) one of the topic."""

    def __init__(self, count, seed):
        g = torch.Generator().manual_seed(seed)
        self.documents = []
        for _ in range(count):
            topic = int(torch.randint(0, TOPICS, (1,), generator=g))
            length = int(torch.randint(12, 30, (1,), generator=g))
            common = torch.randint(1, 1 + COMMON, (length,), generator=g)
            special = 1 + COMMON + topic * TOPIC_WORDS + torch.randint(0, TOPIC_WORDS, (length,), generator=g)
            chosen = torch.rand(length, generator=g) < 0.5
            self.documents.append((torch.where(chosen, special, common), topic))

    def __len__(self):
        return len(self.documents)

    def __getitem__(self, index):
        return self.documents[index]


def collate_batch(batch):
    longest = max(len(words) for words, _ in batch)
    text = torch.full((len(batch), longest), PAD, dtype=torch.int64)
    for row, (words, _) in enumerate(batch):
        text[row, : len(words)] = words
    return text, torch.tensor([topic for _, topic in batch], dtype=torch.int64)


class TextClassificationModel(nn.Module):
    def __init__(self, vocab_size, embed_dim, num_class):
        super().__init__()
        self.embedding = nn.EmbeddingBag(vocab_size, embed_dim, mode="mean", padding_idx=PAD)
        self.fc = nn.Linear(embed_dim, num_class)
        self.init_weights()

    def init_weights(self):
        initrange = 0.5
        self.embedding.weight.data.uniform_(-initrange, initrange)
        self.fc.weight.data.uniform_(-initrange, initrange)
        self.fc.bias.data.zero_()

    def forward(self, text):
        return self.fc(self.embedding(text))


def train_step(model, batch, optimizer, criterion):
    text, label = batch
    optimizer.zero_grad()
    loss = criterion(model(text), label)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
    optimizer.step()
    return loss


def setup():
    torch.manual_seed(0)
    model = TextClassificationModel(VOCAB, 32, TOPICS)
    return {
        "model": model,
        "train": DataLoader(News(1600, seed=0), batch_size=BATCH_SIZE, shuffle=True, collate_fn=collate_batch),
        "val": DataLoader(News(300, seed=1), batch_size=100, collate_fn=collate_batch),
        "loss": nn.CrossEntropyLoss(),
        "optimizer": torch.optim.SGD(model.parameters(), lr=LR),
        "step": train_step,
    }
