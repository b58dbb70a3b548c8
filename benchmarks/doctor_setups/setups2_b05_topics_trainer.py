"""Topic classification of short token sequences with a small encoder; the step follows transformers' Trainer."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

PAD, CLS, OFFSET = 0, 1, 2


@dataclass
class ModelConfig:
    vocab_size: int = 62
    hidden_size: int = 32
    num_heads: int = 4
    num_layers: int = 2
    hidden_dropout_prob: float = 0.1
    num_labels: int = 4


@dataclass
class TrainingArguments:
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    warmup_ratio: float = 0.03
    num_train_epochs: int = 20
    per_device_train_batch_size: int = 32
    max_grad_norm: float = 1.0


class TopicDataset(Dataset):
    """Documents of 8 to 24 tokens: most of them from the 15 words of their topic, the rest from anywhere."""

    def __init__(self, size, seed):
        g = torch.Generator().manual_seed(seed)
        self.examples = []
        for _ in range(size):
            label = int(torch.randint(0, 4, (1,), generator=g))
            length = int(torch.randint(8, 25, (1,), generator=g))
            anywhere = torch.randint(0, 60, (length,), generator=g)
            topical = 15 * label + torch.randint(0, 15, (length,), generator=g)
            is_topical = torch.rand(length, generator=g) < 0.6
            tokens = torch.where(is_topical, topical, anywhere) + OFFSET
            self.examples.append({"input_ids": [CLS] + tokens.tolist(), "label": label})

    def __len__(self):
        return len(self.examples)

    def __getitem__(self, index):
        return self.examples[index]


class DataCollatorWithPadding:
    def __call__(self, features):
        longest = max(len(f["input_ids"]) for f in features)
        input_ids = [f["input_ids"] + [PAD] * (longest - len(f["input_ids"])) for f in features]
        return torch.tensor(input_ids), torch.tensor([f["label"] for f in features])


class EncoderForSequenceClassification(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=PAD)
        self.position_embeddings = nn.Embedding(32, config.hidden_size)
        nn.init.normal_(self.position_embeddings.weight, std=0.02)
        layer = nn.TransformerEncoderLayer(
            config.hidden_size, config.num_heads, 2 * config.hidden_size,
            dropout=config.hidden_dropout_prob, batch_first=True, norm_first=True,
        )
        self.encoder = nn.TransformerEncoder(layer, config.num_layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(config.hidden_size)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)

    def forward(self, input_ids):
        attention_mask = input_ids != PAD
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        hidden = self.word_embeddings(input_ids) + self.position_embeddings(positions)
        hidden = self.norm(self.encoder(hidden, src_key_padding_mask=~attention_mask))
        return self.classifier(self.dropout(hidden[:, 0]))  # [CLS]


class Trainer:
    def __init__(self, args, num_update_steps_per_epoch):
        self.args = args
        self.num_training_steps = args.num_train_epochs * num_update_steps_per_epoch
        self.num_warmup_steps = int(args.warmup_ratio * self.num_training_steps)

    def lr_lambda(self, step):
        if step < self.num_warmup_steps:
            return (step + 1) / self.num_warmup_steps
        return max(0.0, (self.num_training_steps - step) / (self.num_training_steps - self.num_warmup_steps))

    def training_step(self, model, batch, optimizer, loss):
        model.train()
        for group in optimizer.param_groups:
            step = group.setdefault("global_step", 0)
            group["lr"] = self.args.learning_rate * self.lr_lambda(step)
            group["global_step"] = step + 1
        tr_loss = loss(model(batch[0]), batch[1])
        tr_loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), self.args.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        return tr_loss.detach()


def setup():
    args, config = TrainingArguments(), ModelConfig()
    torch.manual_seed(42)
    collator = DataCollatorWithPadding()
    train = DataLoader(TopicDataset(1600, seed=0), args.per_device_train_batch_size, shuffle=True, collate_fn=collator)
    val = DataLoader(TopicDataset(300, 1), 64, collate_fn=collator)
    model = EncoderForSequenceClassification(config)
    trainer = Trainer(args, num_update_steps_per_epoch=len(train))
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate, weight_decay=args.weight_decay)
    return {"model": model, "train": train, "val": val, "loss": nn.CrossEntropyLoss(),
            "optimizer": optimizer, "step": trainer.training_step}
