"""Topics of short texts with nn.EmbeddingBag, as in the tutorial on text classification; log-softmax and NLLLoss."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

PAD = 0
COMMON = 40
PER_TOPIC = 12
TOPICS = ("world", "sports", "business", "science")
VOCAB_SIZE = 1 + COMMON + PER_TOPIC * len(TOPICS)


class News(Dataset):
    """Of the words of a text a third belongs to its topic, the others are found everywhere."""

    def __init__(self, count, seed, length=16):
        generator = torch.Generator().manual_seed(seed)
        self.labels = torch.randint(0, len(TOPICS), (count,), generator=generator)
        common = torch.randint(0, COMMON, (count, length), generator=generator)
        topical = torch.randint(0, PER_TOPIC, (count, length), generator=generator)
        topical = COMMON + PER_TOPIC * self.labels[:, None] + topical
        from_topic = torch.rand(count, length, generator=generator) < 0.33
        self.tokens = 1 + torch.where(from_topic, topical, common)
        lengths = torch.randint(length // 2, length + 1, (count,), generator=generator)
        self.tokens[torch.arange(length)[None, :] >= lengths[:, None]] = PAD

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.tokens[index], self.labels[index]


class TextClassificationModel(nn.Module):
    def __init__(self, vocab_size, embed_dim, num_class):
        super().__init__()
        self.embedding = nn.EmbeddingBag(vocab_size, embed_dim, mode="mean", padding_idx=PAD)
        self.fc1 = nn.Linear(embed_dim, 32)
        self.fc2 = nn.Linear(32, num_class)
        self.dropout = nn.Dropout(0.1)

    def forward(self, text):
        hidden = torch.relu(self.fc1(self.embedding(text)))
        return F.log_softmax(self.fc2(self.dropout(hidden)), dim=1)


def setup():
    torch.manual_seed(12)
    model = TextClassificationModel(VOCAB_SIZE, embed_dim=32, num_class=len(TOPICS))
    criterion = nn.NLLLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    train_dataloader = DataLoader(News(1500, seed=0), batch_size=64, shuffle=True)
    valid_dataloader = DataLoader(News(400, seed=1), batch_size=100)
    return {
        "model": model,
        "train": train_dataloader,
        "val": valid_dataloader,
        "loss": criterion,
        "optimizer": optimizer,
    }
