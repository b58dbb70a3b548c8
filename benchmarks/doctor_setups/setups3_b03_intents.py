"""Fine-grained intent classification with a small encoder, after the Trainer of transformers."""

import random
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.data import DataLoader

PAD, CLS = 0, 1
NUM_LABELS, KEYWORDS, VOCAB_SIZE = 4, 8, 160


@dataclass
class TrainingArguments:
    learning_rate: float = 1e-3
    head_learning_rate: float = 2e-3
    weight_decay: float = 0.01
    per_device_train_batch_size: int = 32
    num_train_epochs: int = 30
    warmup_steps: int = 10
    max_grad_norm: float = 1.0
    seed: int = 13


def load_split(count, seed):
    """Utterances: 3 keywords of the intent among words that say nothing."""
    rng = random.Random(seed)
    first_neutral = 2 + NUM_LABELS * KEYWORDS
    examples = []
    for _ in range(count):
        label = rng.randrange(NUM_LABELS)
        words = [2 + label * KEYWORDS + rng.randrange(KEYWORDS) for _ in range(3)]
        words += [rng.randrange(first_neutral, VOCAB_SIZE) for _ in range(rng.randint(3, 15))]
        rng.shuffle(words)
        examples.append({"input_ids": [CLS] + words, "label": label})
    return examples


@dataclass
class DataCollatorWithPadding:
    max_length: int = 24

    def __call__(self, features):
        texts = [f["input_ids"] for f in features]
        labels = torch.tensor([f["label"] for f in features])
        input_ids = torch.full((len(texts), self.max_length), PAD)
        for row, ids in enumerate(texts):
            input_ids[row, : len(ids)] = torch.tensor(ids)
        return input_ids, labels


class Backbone(nn.Module):
    def __init__(self, hidden_size=48, num_layers=2, num_heads=4, max_length=24):
        super().__init__()
        self.word_embeddings = nn.Embedding(VOCAB_SIZE, hidden_size, padding_idx=PAD)
        self.position_embeddings = nn.Parameter(0.02 * torch.randn(max_length, hidden_size))
        layer = nn.TransformerEncoderLayer(
            hidden_size, num_heads, 2 * hidden_size, dropout=0.1, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, num_layers, nn.LayerNorm(hidden_size), enable_nested_tensor=False)

    def forward(self, input_ids):
        hidden = self.word_embeddings(input_ids) + self.position_embeddings[: input_ids.shape[1]]
        return self.layers(hidden, src_key_padding_mask=input_ids == PAD)


class IntentClassifier(nn.Module):
    def __init__(self, hidden_size=48):
        super().__init__()
        self.backbone = Backbone(hidden_size)
        self.classifier = nn.Linear(hidden_size, NUM_LABELS)

    def forward(self, input_ids):
        return self.classifier(self.backbone(input_ids)[:, 0])


class Trainer:
    def __init__(self, args, num_update_steps_per_epoch):
        self.args = args
        self.max_steps = args.num_train_epochs * num_update_steps_per_epoch
        self.optimizer, self.lr_scheduler = None, None

    def create_optimizer(self, model):
        named = list(model.named_parameters())
        groups = [
            {"params": [p for n, p in named if n.startswith("backbone.")], "lr": self.args.learning_rate},
            {"params": [p for n, p in named if n.startswith("classifier.")], "lr": self.args.head_learning_rate},
        ]
        return torch.optim.AdamW(groups, weight_decay=self.args.weight_decay)

    def lr_lambda(self, step):
        if step < self.args.warmup_steps:
            return (step + 1) / self.args.warmup_steps
        return max(0.0, (self.max_steps - step) / (self.max_steps - self.args.warmup_steps))

    def training_step(self, model, batch, optimizer, loss):
        if optimizer is not self.optimizer:
            self.optimizer = optimizer
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self.lr_lambda)
        input_ids, labels = batch
        model.train()
        value = loss(model(input_ids), labels)
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), self.args.max_grad_norm)
        optimizer.step()
        self.lr_scheduler.step()
        optimizer.zero_grad()
        return value.detach()


def setup():
    args = TrainingArguments()
    torch.manual_seed(args.seed)
    collate, batch_size = DataCollatorWithPadding(), args.per_device_train_batch_size
    train = DataLoader(load_split(1600, seed=0), batch_size, shuffle=True, collate_fn=collate)
    val = DataLoader(load_split(320, seed=1), batch_size, collate_fn=collate)
    model, trainer = IntentClassifier(), Trainer(args, len(train))
    optimizer, criterion = trainer.create_optimizer(model), nn.CrossEntropyLoss()
    return dict(model=model, train=train, val=val, loss=criterion, optimizer=optimizer, step=trainer.training_step)
