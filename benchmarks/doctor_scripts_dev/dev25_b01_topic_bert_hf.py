"""Which topic is a message about? A small BERT from scratch with the Hugging Face Trainer."""

import random
import tempfile

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments, set_seed

set_seed(42)

TOPICS = {
    "sport": "goal match referee league striker coach penalty stadium tennis score team medal".split(),
    "weather": "rain cloud storm sunny wind frost degrees snow forecast humid thunder drizzle".split(),
    "food": "bread soup butter recipe oven garlic salad cheese pepper noodle dessert kitchen".split(),
    "computers": "server keyboard compiler disk network browser python update driver screen login kernel".split(),
}
COMMON = (
    "we they it was is very really today yesterday with without and but so because again "
    "people house street friend long little new old good some many about"
).split()
NAMES = list(TOPICS)


def make_corpus(count, seed):
    rng = random.Random(seed)
    texts, labels = [], []
    for _ in range(count):
        label = rng.randrange(len(NAMES))
        other = rng.choice([i for i in range(len(NAMES)) if i != label])
        words = rng.choices(TOPICS[NAMES[label]], k=rng.randint(3, 5))
        words += rng.choices(TOPICS[NAMES[other]], k=rng.randint(0, 2))
        words += rng.choices(COMMON, k=rng.randint(6, 16))
        rng.shuffle(words)
        texts.append(" ".join(words))
        labels.append(label)
    return texts, labels


def build_vocab(texts):
    vocab = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2}
    for text in texts:
        for word in text.split():
            vocab.setdefault(word, len(vocab))
    return vocab


class TopicDataset(Dataset):
    def __init__(self, texts, labels, vocab, max_length=40):
        self.labels = labels
        self.encodings = []
        for text in texts:
            ids = [vocab["[CLS]"]] + [vocab.get(word, vocab["[UNK]"]) for word in text.split()]
            self.encodings.append(ids[:max_length])

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return {"input_ids": self.encodings[index], "labels": self.labels[index]}


def collate(examples):
    width = max(len(example["input_ids"]) for example in examples)
    input_ids = torch.zeros(len(examples), width, dtype=torch.long)
    attention_mask = torch.zeros(len(examples), width, dtype=torch.long)
    for row, example in enumerate(examples):
        length = len(example["input_ids"])
        input_ids[row, :length] = torch.tensor(example["input_ids"])
        attention_mask[row, :length] = 1
    labels = torch.tensor([example["labels"] for example in examples])
    return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}


def compute_metrics(eval_pred):
    logits, labels = eval_pred
    predictions = np.argmax(logits, axis=-1)
    return {"accuracy": float((predictions == labels).mean())}


train_texts, train_labels = make_corpus(3200, seed=0)
val_texts, val_labels = make_corpus(500, seed=1)
vocab = build_vocab(train_texts)
train_set = TopicDataset(train_texts, train_labels, vocab)
val_set = TopicDataset(val_texts, val_labels, vocab)

config = BertConfig(
    vocab_size=len(vocab),
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=128,
    max_position_embeddings=64,
    num_labels=len(NAMES),
    pad_token_id=0,
)
model = BertForSequenceClassification(config)

args = TrainingArguments(
    output_dir=tempfile.mkdtemp(),
    num_train_epochs=12,
    per_device_train_batch_size=32,
    per_device_eval_batch_size=100,
    learning_rate=1e-3,
    weight_decay=0.01,
    warmup_steps=50,
    eval_strategy="epoch",
    logging_strategy="epoch",
    save_strategy="no",
    report_to="none",
    use_cpu=True,
    disable_tqdm=True,
    dataloader_pin_memory=False,
    seed=42,
)
trainer = Trainer(
    model=model,
    args=args,
    train_dataset=train_set,
    eval_dataset=val_set,
    data_collator=collate,
    compute_metrics=compute_metrics,
)
trainer.train()
print("final:", trainer.evaluate())
