# Ticket routing with a small BERT trained from scratch by the Trainer
import random
import tempfile

import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import Dataset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments, set_seed

LABELS = ["billing", "delivery", "login", "praise"]
SHARE = [0.52, 0.12, 0.12, 0.24]
KEYS = {
    "billing": ["invoice", "charged", "refund", "payment"],
    "delivery": ["parcel", "courier", "arrived", "shipping"],
    "login": ["password", "account", "locked", "email"],
    "praise": ["great", "thanks", "love", "perfect"],
}
FILLER = "i my the was to a and not it for with this please when on is you at today again".split()


def make_tickets(n, seed):
    rng = random.Random(seed)
    texts, labels = [], []
    for _ in range(n):
        label = rng.choices(LABELS, weights=SHARE)[0]
        other = rng.choice([l for l in LABELS if l != label])
        words = rng.choices(FILLER, k=rng.randint(3, 16)) + rng.choices(KEYS[label], k=2)
        if rng.random() < 0.5:
            words.append(rng.choice(KEYS[other]))
        rng.shuffle(words)
        texts.append(" ".join(words))
        labels.append(label)
    return texts, labels


class WordTokenizer:
    def __init__(self, texts, specials=("[PAD]", "[CLS]", "[UNK]")):
        words = list(dict.fromkeys(w for t in texts for w in t.split()))
        self.vocab = {w: i for i, w in enumerate(list(specials) + words)}
        self.pad_token_id, self.cls_token_id, self.unk_token_id = 0, 1, 2

    def __len__(self):
        return len(self.vocab)

    def __call__(self, text, max_length=24):
        ids = [self.cls_token_id] + [self.vocab.get(w, self.unk_token_id) for w in text.split()]
        return ids[:max_length]


class TicketDataset(Dataset):
    def __init__(self, texts, labels, tokenizer, label2id):
        self.encodings = [tokenizer(t) for t in texts]
        self.labels = [label2id[l] for l in labels]

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, idx):
        return {"input_ids": self.encodings[idx], "labels": self.labels[idx]}


class PadCollator:
    def __init__(self, tokenizer):
        self.pad = tokenizer.pad_token_id

    def __call__(self, features):
        longest = max(len(f["input_ids"]) for f in features)
        input_ids = torch.tensor([f["input_ids"] + [self.pad] * (longest - len(f["input_ids"])) for f in features])
        return {
            "input_ids": input_ids,
            "attention_mask": (input_ids != self.pad).long(),
            "labels": torch.tensor([f["labels"] for f in features]),
        }


class WeightedTrainer(Trainer):
    def __init__(self, *args, class_weights=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.class_weights = class_weights

    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = nn.functional.cross_entropy(outputs.logits, labels, weight=self.class_weights)
        inputs["labels"] = labels
        return (loss, outputs) if return_outputs else loss


def compute_metrics(eval_pred):
    logits, labels = eval_pred
    preds = np.argmax(logits, axis=-1)
    recalls = [(preds[labels == k] == k).mean() for k in np.unique(labels)]
    return {"accuracy": float((preds == labels).mean()), "balanced": float(np.mean(recalls))}


def main():
    set_seed(5)
    train_texts, train_labels = make_tickets(900, seed=1)
    test_texts, test_labels = make_tickets(300, seed=2)
    tokenizer = WordTokenizer(train_texts)
    label2id = {l: i for i, l in enumerate(LABELS)}
    train_dataset = TicketDataset(train_texts, train_labels, tokenizer, label2id)
    eval_dataset = TicketDataset(test_texts, test_labels, tokenizer, label2id)

    counts = np.bincount(train_dataset.labels, minlength=len(LABELS))
    class_weights = torch.tensor(counts.sum() / (len(LABELS) * counts), dtype=torch.float)

    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=48, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=96, max_position_embeddings=32, num_labels=len(LABELS), pad_token_id=0,
    )
    model = BertForSequenceClassification(config)

    training_args = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        num_train_epochs=6,
        per_device_train_batch_size=16,
        per_device_eval_batch_size=64,
        learning_rate=2e-3,
        warmup_steps=20,
        weight_decay=0.01,
        eval_strategy="epoch",
        save_strategy="no",
        logging_steps=50,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        seed=5,
    )
    trainer = WeightedTrainer(
        model=model,
        args=training_args,
        train_dataset=train_dataset,
        eval_dataset=eval_dataset,
        data_collator=PadCollator(tokenizer),
        compute_metrics=compute_metrics,
        class_weights=class_weights,
    )
    trainer.train()
    metrics = trainer.evaluate()
    print(f"test accuracy {metrics['eval_accuracy']:.4f}  balanced {metrics['eval_balanced']:.4f}")


if __name__ == "__main__":
    main()
