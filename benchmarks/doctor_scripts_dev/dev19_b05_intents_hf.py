"""What does the customer want? A small DistilBERT from scratch, with the Hugging Face Trainer."""

import random
import tempfile

import numpy as np
import torch
from transformers import (
    DistilBertConfig,
    DistilBertForSequenceClassification,
    Trainer,
    TrainingArguments,
    set_seed,
)

PHRASES = {
    "alarm": ["set an alarm", "wake me up", "ring the bell", "start a timer"],
    "lights": ["switch the lamp", "dim the lights", "brighten this room", "light the hall"],
    "music": ["play some jazz", "start the radio", "put on a song", "play my album"],
    "table": ["book a table", "reserve two seats", "find a restaurant", "order some dinner"],
    "weather": ["tell the weather", "say if it rains", "check the forecast", "read the temperature"],
}
FILLERS = "well so hey now today tonight here just really maybe ok there then again soon later".split()
PAD, UNK, CLS = 0, 1, 2


def make_split(count, seed):
    rng = random.Random(seed)
    texts, labels = [], []
    for _ in range(count):
        wanted, other = rng.sample(sorted(PHRASES), 2)
        parts = ["please " + rng.choice(PHRASES[wanted])]
        if rng.random() < 0.5:
            parts.insert(rng.randint(0, 1), "do not " + rng.choice(PHRASES[other]))
        words = " and ".join(parts).split()
        words = rng.choices(FILLERS, k=rng.randint(0, 6)) + words + rng.choices(FILLERS, k=rng.randint(0, 6))
        texts.append(" ".join(words))
        labels.append(wanted)
    return texts, labels


class WordTokenizer:
    def __init__(self, texts):
        words = sorted({word for text in texts for word in text.split()})
        self.vocab = {word: i + 3 for i, word in enumerate(words)}

    def __len__(self):
        return len(self.vocab) + 3

    def __call__(self, text, max_length=32):
        return ([CLS] + [self.vocab.get(word, UNK) for word in text.split()])[:max_length]


def encode(texts, labels, tokenizer, label2id):
    return [{"input_ids": tokenizer(t), "label": label2id[n]} for t, n in zip(texts, labels)]


def collate(features):
    longest = max(len(f["input_ids"]) for f in features)
    input_ids = torch.full((len(features), longest), PAD)
    for row, f in zip(input_ids, features):
        row[: len(f["input_ids"])] = torch.tensor(f["input_ids"])
    attention_mask = (input_ids != PAD).long()
    labels = torch.tensor([f["label"] for f in features])
    return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}


def compute_metrics(eval_pred):
    predictions = np.argmax(eval_pred.predictions, axis=-1)
    return {"accuracy": float((predictions == eval_pred.label_ids).mean())}


def main():
    set_seed(3)
    train_texts, train_labels = make_split(2400, seed=0)
    valid_texts, valid_labels = make_split(500, seed=1)
    seen = set(train_texts)
    valid_texts, valid_labels = zip(*[p for p in zip(valid_texts, valid_labels) if p[0] not in seen])

    tokenizer = WordTokenizer(train_texts)
    label2id = {name: i for i, name in enumerate(sorted(set(train_labels)))}
    train_set = encode(train_texts, train_labels, tokenizer, label2id)
    valid_set = encode(valid_texts, valid_labels, tokenizer, label2id)

    config = DistilBertConfig(
        vocab_size=len(tokenizer), max_position_embeddings=32, dim=64, n_layers=2, n_heads=4, hidden_dim=128,
        num_labels=len(label2id), pad_token_id=PAD, label2id=label2id, id2label={i: n for n, i in label2id.items()},
    )
    model = DistilBertForSequenceClassification(config)

    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        num_train_epochs=12,
        per_device_train_batch_size=32,
        per_device_eval_batch_size=100,
        learning_rate=1e-3,
        warmup_steps=50,
        weight_decay=0.01,
        eval_strategy="epoch",
        logging_strategy="epoch",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        seed=3,
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=train_set,
        eval_dataset=valid_set,
        data_collator=collate,
        compute_metrics=compute_metrics,
    )
    trainer.train()
    print("final", {k: round(v, 4) for k, v in trainer.evaluate().items() if k in ("eval_loss", "eval_accuracy")})


if __name__ == "__main__":
    main()
