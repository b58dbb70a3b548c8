"""Sorts support tickets into six queues: a small transformer from scratch with the Hugging Face Trainer."""

import random
import tempfile

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments, set_seed

PAD, UNK = 0, 1
MAX_LEN = 48

TOPICS = {
    "billing": "invoice charge payment card amount tax receipt price fee euro".split(),
    "delivery": "parcel courier shipping tracking late address arrived package post van".split(),
    "defect": "broken crack noise battery screen faulty leak smoke button dead".split(),
    "account": "password login email username locked profile reset code verify access".split(),
    "returns": "return refund exchange label size wrong unopened box swap back".split(),
    "praise": "great thanks love happy excellent friendly perfect recommend fast wonderful".split(),
}
FILLER = (
    "hello hi dear team please i we my our the a and but with about since last week today yesterday "
    "still again could you can help need want just have had this that it is was order number item"
).split()


def make_tickets(count, seed):
    rng = random.Random(seed)
    names = list(TOPICS)
    texts, labels = [], []
    for _ in range(count):
        topic = rng.choice(names)
        words = rng.sample(TOPICS[topic], rng.randint(2, 3))
        if rng.random() < 0.5:
            words.append(rng.choice(TOPICS[rng.choice([name for name in names if name != topic])]))
        words += [rng.choice(FILLER) for _ in range(rng.randint(5, 30))]
        rng.shuffle(words)
        texts.append(" ".join(words))
        labels.append(topic)
    return texts, labels


def build_vocab(texts):
    vocab = {"<pad>": PAD, "<unk>": UNK}
    for text in texts:
        for word in text.split():
            vocab.setdefault(word, len(vocab))
    return vocab


def build_label_map(labels):
    return {name: index for index, name in enumerate(dict.fromkeys(labels))}


class TicketDataset(Dataset):
    def __init__(self, texts, labels, vocab, label2id):
        self.rows = [
            {
                "input_ids": [vocab.get(word, UNK) for word in text.split()][:MAX_LEN],
                "label": label2id[label],
            }
            for text, label in zip(texts, labels)
        ]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


def collate(rows):
    longest = max(len(row["input_ids"]) for row in rows)
    input_ids = torch.full((len(rows), longest), PAD)
    for i, row in enumerate(rows):
        input_ids[i, : len(row["input_ids"])] = torch.tensor(row["input_ids"])
    return {
        "input_ids": input_ids,
        "attention_mask": (input_ids != PAD).long(),
        "labels": torch.tensor([row["label"] for row in rows]),
    }


class TicketTransformer(nn.Module):
    def __init__(self, vocab_size, num_labels, dim=64, heads=4, layers=2, dropout=0.1):
        super().__init__()
        self.words = nn.Embedding(vocab_size, dim, padding_idx=PAD)
        self.positions = nn.Embedding(MAX_LEN, dim)
        layer = nn.TransformerEncoderLayer(dim, heads, 2 * dim, dropout, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(dim)
        self.classifier = nn.Linear(dim, num_labels)

    def forward(self, input_ids, attention_mask, labels=None):
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        hidden = self.words(input_ids) + self.positions(positions)
        hidden = self.norm(self.encoder(hidden, src_key_padding_mask=attention_mask == 0))
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        logits = self.classifier((hidden * mask).sum(1) / mask.sum(1))
        if labels is None:
            return {"logits": logits}
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}


def compute_metrics(prediction):
    logits, labels = prediction
    return {"accuracy": float((logits.argmax(-1) == labels).mean())}


set_seed(0)
train_texts, train_labels = make_tickets(3000, seed=0)
valid_texts, valid_labels = make_tickets(500, seed=1)

vocab = build_vocab(train_texts)
label2id = build_label_map(train_labels)
train_set = TicketDataset(train_texts, train_labels, vocab, label2id)
valid_set = TicketDataset(valid_texts, valid_labels, vocab, label2id)

model = TicketTransformer(len(vocab), len(label2id))

args = TrainingArguments(
    output_dir=tempfile.mkdtemp(),
    num_train_epochs=12,
    per_device_train_batch_size=32,
    per_device_eval_batch_size=100,
    learning_rate=1e-3,
    weight_decay=0.01,
    warmup_steps=100,
    lr_scheduler_type="linear",
    eval_strategy="epoch",
    logging_strategy="epoch",
    save_strategy="no",
    report_to="none",
    use_cpu=True,
    disable_tqdm=True,
    dataloader_pin_memory=False,
    remove_unused_columns=False,
    seed=0,
)

trainer = Trainer(
    model=model,
    args=args,
    train_dataset=train_set,
    eval_dataset=valid_set,
    data_collator=collate,
    compute_metrics=compute_metrics,
)
trainer.train()
print("final:", trainer.evaluate())
