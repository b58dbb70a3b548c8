"""Intent classification with a small transformer encoder and a Trainer, after the transformers examples."""

import random
from dataclasses import dataclass
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

LABELS = ["refund", "delivery", "account", "praise"]
KEYWORDS = {
    "refund": "money back return broken charged invoice".split(),
    "delivery": "parcel late courier tracking address shipped".split(),
    "account": "password login email locked profile username".split(),
    "praise": "great thanks lovely perfect happy wonderful".split(),
}
FILLER = "i the my a is was to please hello it and for with order you on this shop today now".split()

@dataclass
class TrainingArguments:
    per_device_train_batch_size: int = 32
    gradient_accumulation_steps: int = 2
    learning_rate: float = 2e-3
    warmup_steps: int = 10
    max_steps: int = 1000
    max_length: int = 20
    seed: int = 42

def make_examples(n, seed):
    rng = random.Random(seed)
    examples = []
    for _ in range(n):
        label = rng.choice(LABELS)
        words = [rng.choice(FILLER) for _ in range(rng.randint(4, 10))]
        for _ in range(rng.randint(2, 3)):
            words.insert(rng.randint(0, len(words)), rng.choice(KEYWORDS[label]))
        examples.append({"text": " ".join(words), "label": label})
    return examples

class Tokenizer:
    pad_token_id, cls_token_id = 0, 1
    def __init__(self):
        self.vocab = {word: i + 2 for i, word in enumerate(FILLER + sum(KEYWORDS.values(), []))}

    def __len__(self):
        return len(self.vocab) + 2

    def __call__(self, text, max_length):
        ids = ([self.cls_token_id] + [self.vocab[word] for word in text.split()])[:max_length]
        return ids + [self.pad_token_id] * (max_length - len(ids))

class IntentDataset(Dataset):
    def __init__(self, examples, tokenizer, max_length, label_list):
        label2id = {label: i for i, label in enumerate(label_list)}
        self.input_ids = torch.tensor([tokenizer(e["text"], max_length) for e in examples])
        self.labels = torch.tensor([label2id[e["label"]] for e in examples])

    def __len__(self):
        return len(self.labels)
    def __getitem__(self, i):
        return self.input_ids[i], self.labels[i]

class EncoderForSequenceClassification(nn.Module):
    def __init__(self, vocab_size, max_length, num_labels, d_model=48, num_layers=2, dropout=0.1):
        super().__init__()
        self.word_embeddings = nn.Embedding(vocab_size, d_model, padding_idx=0)
        self.position_embeddings = nn.Embedding(max_length, d_model)
        layer = nn.TransformerEncoderLayer(d_model, 4, 96, dropout, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, num_layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(d_model)
        self.classifier = nn.Linear(d_model, num_labels)
        nn.init.normal_(self.position_embeddings.weight, std=0.1)

    def forward(self, input_ids):
        attention_mask = input_ids != Tokenizer.pad_token_id
        positions = torch.arange(input_ids.size(1), device=input_ids.device)
        hidden = self.word_embeddings(input_ids) + self.position_embeddings(positions)
        hidden = self.encoder(hidden, src_key_padding_mask=~attention_mask)
        return self.classifier(self.norm(hidden[:, 0]))  # [CLS]

class Trainer:
    def __init__(self, args):
        self.args = args

    def create_optimizer(self, model):
        parameters = [p for p in model.parameters() if p.requires_grad]
        return torch.optim.AdamW(parameters, lr=self.args.learning_rate, weight_decay=0.01)

    def lr_lambda(self, step):
        if step < self.args.warmup_steps:
            return (step + 1) / self.args.warmup_steps
        return max(0.1, 1 - step / self.args.max_steps)

    def training_step(self, model, batch, optimizer, compute_loss):
        state, accumulation = optimizer.param_groups[0], self.args.gradient_accumulation_steps
        micro_step, global_step = state.get("micro_step", 0), state.get("global_step", 0)
        model.train()
        input_ids, labels = batch
        loss = compute_loss(model(input_ids), labels)
        (loss / accumulation).backward()
        if (micro_step + 1) % accumulation == 0:
            for group in optimizer.param_groups:
                group["lr"] = self.args.learning_rate * self.lr_lambda(global_step)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            state["global_step"] = global_step + 1
        state["micro_step"] = micro_step + 1
        return loss.detach()

def setup():
    args = TrainingArguments()
    torch.manual_seed(args.seed)
    tokenizer = Tokenizer()
    train_set = IntentDataset(make_examples(1200, seed=1), tokenizer, args.max_length, LABELS)
    eval_set = IntentDataset(make_examples(300, seed=2), tokenizer, args.max_length, LABELS)
    model = EncoderForSequenceClassification(len(tokenizer), args.max_length, len(LABELS))
    trainer = Trainer(args)
    return {"model": model, "train": DataLoader(train_set, batch_size=args.per_device_train_batch_size, shuffle=True),
        "val": DataLoader(eval_set, batch_size=64),
        "loss": nn.CrossEntropyLoss(), "optimizer": trainer.create_optimizer(model), "step": trainer.training_step}
