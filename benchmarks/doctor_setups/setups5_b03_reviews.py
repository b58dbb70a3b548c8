"""Sequence classification of short reviews with a small BERT-like encoder and a Trainer-like step."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

FILLER = "the a this it was and film plot actor scene music really quite then with".split()
LEXICON = [["awful", "boring", "bad", "poor"], ["okay", "average", "plain", "fair"], ["great", "lovely", "good", "superb"]]
VOCAB = {w: i for i, w in enumerate(["[PAD]", "[CLS]", "[UNK]", *FILLER, *sum(LEXICON, [])])}


@dataclass
class TrainingArguments:
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    batch_size: int = 32
    max_grad_norm: float = 1.0
    seed: int = 42


class ReviewDataset(Dataset):
    def __init__(self, size, seed):
        g = torch.Generator().manual_seed(seed)
        self.examples = []
        for _ in range(size):
            label = int(torch.randint(0, 3, (1,), generator=g))
            length = int(torch.randint(4, 22, (1,), generator=g))
            words = [FILLER[int(k)] for k in torch.randint(0, len(FILLER), (length,), generator=g)]
            for place in torch.randperm(length, generator=g)[:2].tolist():
                words[place] = LEXICON[label][int(torch.randint(0, 4, (1,), generator=g))]
            self.examples.append({"text": " ".join(words), "label": label})

    def __len__(self):
        return len(self.examples)

    def __getitem__(self, i):
        example = self.examples[i]
        ids = [VOCAB["[CLS]"]] + [VOCAB.get(w, VOCAB["[UNK]"]) for w in example["text"].split()]
        return {"input_ids": torch.tensor(ids), "label": example["label"]}


def data_collator(features):
    ids = [f["input_ids"] for f in features]
    labels = torch.tensor([f["label"] for f in features])
    input_ids = nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=VOCAB["[PAD]"])
    attention_mask = (input_ids != VOCAB["[PAD]"]).long()
    return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}


class EncoderLayer(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)

    def forward(self, x, mask):
        b, t, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        a = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + self.proj(a.transpose(1, 2).reshape(b, t, d))
        return x + self.mlp(self.norm2(x))


class ReviewForSequenceClassification(nn.Module):
    def __init__(self, dim=48, heads=4, layers=2, num_labels=3, max_len=32):
        super().__init__()
        self.word_embeddings = nn.Embedding(len(VOCAB), dim, padding_idx=VOCAB["[PAD]"])
        self.position_embeddings = nn.Embedding(max_len, dim)
        self.encoder = nn.ModuleList([EncoderLayer(dim, heads) for _ in range(layers)])
        self.norm, self.dropout = nn.LayerNorm(dim), nn.Dropout(0.1)
        self.classifier = nn.Linear(dim, num_labels)
        nn.init.normal_(self.position_embeddings.weight, std=0.1)

    def forward(self, input_ids, attention_mask=None):
        if attention_mask is None:
            attention_mask = (input_ids != VOCAB["[PAD]"]).long()
        extended_mask = (1.0 - attention_mask[:, None, None, :].float()) * -10000.0
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        hidden = self.dropout(self.word_embeddings(input_ids) + self.position_embeddings(positions))
        for layer in self.encoder:
            hidden = layer(hidden, extended_mask)
        logits = self.classifier(self.dropout(self.norm(hidden[:, 0])))
        return logits


class Trainer:
    def __init__(self, args):
        self.args = args

    def create_optimizer(self, model):
        decay = [p for p in model.parameters() if p.ndim >= 2]
        rest = [p for p in model.parameters() if p.ndim < 2]
        groups = [{"params": decay, "weight_decay": self.args.weight_decay}, {"params": rest, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=self.args.learning_rate)

    def training_step(self, model, inputs, optimizer, compute_loss):
        model.train()
        logits = model(inputs["input_ids"], attention_mask=inputs["attention_mask"])
        loss = compute_loss(logits, inputs["labels"])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), self.args.max_grad_norm)
        optimizer.step()
        return loss.detach()


def setup():
    args = TrainingArguments()
    torch.manual_seed(args.seed)
    train = DataLoader(ReviewDataset(1200, seed=1), args.batch_size, shuffle=True, collate_fn=data_collator, drop_last=True)
    val = DataLoader(ReviewDataset(300, seed=2), args.batch_size, collate_fn=data_collator)
    model = ReviewForSequenceClassification()
    trainer, criterion = Trainer(args), nn.CrossEntropyLoss()
    optimizer = trainer.create_optimizer(model)
    return dict(model=model, train=train, val=val, loss=criterion, optimizer=optimizer, step=trainer.training_step)
