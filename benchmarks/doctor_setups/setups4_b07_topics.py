"""Topic classification of short texts, arranged like a fine-tuning script of the transformers examples."""
import random
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.data import DataLoader

LABELS = ["sports", "economy", "travel", "science"]
TOPIC_WORDS = {
    "sports": "match goal team coach league striker season referee".split(),
    "economy": "market bank stock inflation trade budget profit tax".split(),
    "travel": "hotel beach flight island train tour museum luggage".split(),
    "science": "cell planet theory laboratory protein quantum telescope data".split(),
}
COMMON = "the a of in new on with for after said today more people year this has was big small first".split()
PAD = 0


@dataclass
class TrainingArguments:
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    per_device_train_batch_size: int = 32
    gradient_accumulation_steps: int = 2
    warmup_steps: int = 10
    max_grad_norm: float = 1.0
    max_length: int = 28
    seed: int = 42


def load_examples(count, seed):
    rng = random.Random(seed)
    texts, labels = [], []
    for _ in range(count):
        label = rng.choice(LABELS)
        words = [rng.choice(COMMON) for _ in range(rng.randint(6, 20))]
        for _ in range(3):
            words[rng.randrange(len(words))] = rng.choice(TOPIC_WORDS[label])
        texts.append(" ".join(words))
        labels.append(label)
    return texts, labels


def build_vocab():
    words = COMMON + [word for topic in LABELS for word in TOPIC_WORDS[topic]]
    return {word: i + 1 for i, word in enumerate(words)}


def preprocess(texts, labels, vocab, label2id, max_length):
    features = []
    for sentence, label in zip(texts, labels):
        ids = [vocab[word] for word in sentence.split()][:max_length]
        ids = ids + [PAD] * (max_length - len(ids))  # padding="max_length"
        features.append({"input_ids": ids, "label": label2id[label]})
    return features


def data_collator(features):
    input_ids = torch.tensor([f["input_ids"] for f in features], dtype=torch.long)
    return input_ids, torch.tensor([f["label"] for f in features], dtype=torch.long)


class EncoderForSequenceClassification(nn.Module):
    def __init__(self, vocab_size, num_labels, max_length, hidden_size=48):
        super().__init__()
        self.word_embeddings = nn.Embedding(vocab_size, hidden_size, padding_idx=PAD)
        self.position_embeddings = nn.Embedding(max_length, hidden_size)
        layer = nn.TransformerEncoderLayer(hidden_size, 4, 96, dropout=0.1, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(hidden_size)
        self.classifier = nn.Linear(hidden_size, num_labels)

    def forward(self, input_ids):
        attention_mask = input_ids != PAD
        positions = torch.arange(input_ids.size(1), device=input_ids.device)
        hidden = self.word_embeddings(input_ids) + self.position_embeddings(positions)
        hidden = self.norm(self.encoder(hidden, src_key_padding_mask=~attention_mask))
        weights = attention_mask.unsqueeze(-1).float()
        return self.classifier((hidden * weights).sum(1) / weights.sum(1))


class Trainer:
    def __init__(self, args):
        self.args, self.micro_step, self.global_step = args, 0, 0

    def create_optimizer(self, model):
        params = [p for p in model.parameters() if p.requires_grad]
        return torch.optim.AdamW(params, lr=self.args.learning_rate, weight_decay=self.args.weight_decay)

    def training_step(self, model, batch, optimizer, loss_fn):
        model.train()
        input_ids, labels = batch
        loss = loss_fn(model(input_ids), labels)
        (loss / self.args.gradient_accumulation_steps).backward()
        self.micro_step += 1
        if self.micro_step % self.args.gradient_accumulation_steps == 0:
            nn.utils.clip_grad_norm_(model.parameters(), self.args.max_grad_norm)
            for group in optimizer.param_groups:
                group["lr"] = self.args.learning_rate * min(1.0, (self.global_step + 1) / self.args.warmup_steps)
            optimizer.step()
            optimizer.zero_grad()
            self.global_step += 1
        return loss.detach()


def setup():
    args = TrainingArguments()
    torch.manual_seed(args.seed)
    vocab = build_vocab()
    label2id = {name: i for i, name in enumerate(sorted(LABELS))}
    train_set = preprocess(*load_examples(1400, seed=1), vocab, label2id, args.max_length)
    eval_set = preprocess(*load_examples(300, seed=2), vocab, label2id, args.max_length)
    train = DataLoader(train_set, batch_size=args.per_device_train_batch_size, shuffle=True, collate_fn=data_collator, drop_last=True)
    val = DataLoader(eval_set, batch_size=100, collate_fn=data_collator)
    model = EncoderForSequenceClassification(len(vocab) + 1, len(LABELS), args.max_length)
    trainer = Trainer(args)
    return dict(model=model, train=train, val=val, loss=nn.CrossEntropyLoss(), optimizer=trainer.create_optimizer(model), step=trainer.training_step)
