"""Token classification: a BiLSTM tagger behind a small Trainer."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from torch.utils.data import DataLoader, Dataset

LABELS = ["O", "PER", "LOC", "ORG"]


@dataclass
class TrainingArguments:
    per_device_train_batch_size: int = 16
    gradient_accumulation_steps: int = 2
    learning_rate: float = 5e-3
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    seed: int = 42


class TaggingDataset(Dataset):
    """Words 1 to 30 (0 is padding). Words above 12 are names, and what they name depends on the word before."""

    def __init__(self, count, seed):
        generator = torch.Generator().manual_seed(seed)
        self.examples = []
        for _ in range(count):
            length = int(torch.randint(4, 25, (1,), generator=generator))
            words = torch.randint(1, 31, (length,), generator=generator).tolist()
            tags = [self.tag(before, word) for before, word in zip([12] + words[:-1], words)]
            self.examples.append({"input_ids": words, "labels": tags})

    @staticmethod
    def tag(before, word):
        if word <= 12:
            return 0
        if before <= 4:
            return 1
        if before <= 8:
            return 2
        return 3 if word > 21 else 0

    def __len__(self):
        return len(self.examples)

    def __getitem__(self, index):
        return self.examples[index]


@dataclass
class DataCollatorForTokenClassification:
    pad_token_id: int = 0
    label_pad_token_id: int = -100

    def __call__(self, features):
        ids = [torch.tensor(f["input_ids"]) for f in features]
        labels = [torch.tensor(f["labels"]) for f in features]
        return (
            pad_sequence(ids, batch_first=True, padding_value=self.pad_token_id),
            pad_sequence(labels, batch_first=True, padding_value=self.label_pad_token_id),
        )


class BiLSTMForTokenClassification(nn.Module):
    def __init__(self, vocab_size=31, hidden_size=32, num_labels=len(LABELS)):
        super().__init__()
        self.embeddings = nn.Embedding(vocab_size, hidden_size, padding_idx=0)
        self.encoder = nn.LSTM(hidden_size, hidden_size, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(0.1)
        self.classifier = nn.Linear(2 * hidden_size, num_labels)

    def forward(self, input_ids):
        lengths = (input_ids != 0).sum(dim=1).clamp(min=1).cpu()
        packed = pack_padded_sequence(self.embeddings(input_ids), lengths, batch_first=True, enforce_sorted=False)
        hidden, _ = pad_packed_sequence(self.encoder(packed)[0], batch_first=True, total_length=input_ids.size(1))
        return self.classifier(self.dropout(hidden))


def compute_loss(logits, labels):
    return nn.functional.cross_entropy(logits.transpose(1, 2), labels, ignore_index=-100)


class Trainer:
    def __init__(self, args):
        self.args = args
        self.micro_step = 0

    def create_optimizer(self, params):
        params = [p for p in params if p.requires_grad]
        return torch.optim.AdamW(params, lr=self.args.learning_rate, weight_decay=self.args.weight_decay)

    def training_step(self, model, batch, optimizer, loss_fn):
        model.train()
        input_ids, labels = batch
        loss = loss_fn(model(input_ids), labels)
        (loss / self.args.gradient_accumulation_steps).backward()
        self.micro_step += 1
        if self.micro_step % self.args.gradient_accumulation_steps == 0:
            nn.utils.clip_grad_norm_(model.parameters(), self.args.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
        return loss.detach()


def setup():
    args = TrainingArguments()
    torch.manual_seed(args.seed)
    collator = DataCollatorForTokenClassification()
    model = BiLSTMForTokenClassification()
    trainer = Trainer(args)
    return {
        "model": model,
        "train": DataLoader(TaggingDataset(800, seed=0), args.per_device_train_batch_size, shuffle=True, collate_fn=collator),
        "val": DataLoader(TaggingDataset(200, seed=1), batch_size=32, collate_fn=collator),
        "loss": compute_loss,
        "optimizer": trainer.create_optimizer(model.parameters()),
        "step": trainer.training_step,
    }
