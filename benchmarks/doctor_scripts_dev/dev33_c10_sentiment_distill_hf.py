"""Sentiment with negations: a two-layer BERT from scratch, then a one-layer student distilled from it, in HF Trainers."""

import random
import tempfile

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import Dataset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments, set_seed

OPENERS = ["honestly", "overall", "to be fair", "in short", "well"]
NOUNS = ["film", "meal", "hotel", "game", "book", "phone", "concert", "service"]
ADVERBS = ["", "really", "quite", "so"]
GOOD = ["good", "great", "lovely", "superb", "pleasant", "brilliant", "charming", "nice"]
BAD = ["bad", "awful", "boring", "dreadful", "poor", "terrible", "weak", "nasty"]
TAILS = ["", "again", "this time", "for me"]


def make_reviews(count, seed):
    rng = random.Random(seed)
    reviews = {}
    while len(reviews) < count:  # no sentence twice
        positive, negated = rng.random() < 0.5, rng.random() < 0.35
        words = [rng.choice(OPENERS), "the", rng.choice(NOUNS), "was", "not" if negated else "", rng.choice(ADVERBS)]
        words += [rng.choice(GOOD if positive else BAD), rng.choice(TAILS)]
        reviews[" ".join(" ".join(words).split())] = int(positive != negated)
    return list(reviews.items())


class Reviews(Dataset):
    def __init__(self, reviews, vocabulary):
        self.items = [([1] + [vocabulary[word] for word in text.split()], label) for text, label in reviews]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        ids, label = self.items[index]
        return {"input_ids": ids, "labels": label}


def collate(rows):
    longest = max(len(row["input_ids"]) for row in rows)
    ids = torch.tensor([row["input_ids"] + [0] * (longest - len(row["input_ids"])) for row in rows])
    labels = torch.tensor([row["labels"] for row in rows])
    return {"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": labels}


def compute_metrics(prediction):
    return {"accuracy": float((np.argmax(prediction.predictions, axis=-1) == prediction.label_ids).mean())}


def make_bert(vocabulary_size, layers):
    config = BertConfig(
        vocab_size=vocabulary_size,
        hidden_size=64,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=16,
        initializer_range=0.1,
        pad_token_id=0,
        num_labels=2,
    )
    return BertForSequenceClassification(config)


def make_arguments(folder, epochs, **options):
    return TrainingArguments(
        output_dir=folder,
        num_train_epochs=epochs,
        per_device_train_batch_size=32,
        per_device_eval_batch_size=200,
        learning_rate=1e-3,
        warmup_steps=60,
        lr_scheduler_type="cosine",
        weight_decay=0.01,
        max_grad_norm=1.0,
        eval_strategy="epoch",
        logging_strategy="epoch",
        save_strategy="no",
        report_to="none",
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        disable_tqdm=True,
        use_cpu=True,
        **options,
    )


class DistillationTrainer(Trainer):
    def __init__(self, *args, teacher, temperature=2.0, hard_share=0.5, **kwargs):
        super().__init__(*args, **kwargs)
        self.teacher = teacher.eval().requires_grad_(False)
        self.temperature, self.hard_share = temperature, hard_share

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        outputs = model(**inputs)
        with torch.no_grad():
            wanted = self.teacher(**inputs).logits
        t = self.temperature
        soft = F.kl_div(
            F.log_softmax(outputs.logits / t, dim=-1), F.softmax(wanted / t, dim=-1), reduction="batchmean"
        )
        loss = self.hard_share * outputs.loss + (1 - self.hard_share) * t * t * soft
        return (loss, outputs) if return_outputs else loss


def main():
    torch.set_num_threads(1)
    set_seed(5)
    reviews = make_reviews(3800, seed=0)
    words = sorted({word for text, _ in reviews for word in text.split()})
    vocabulary = {word: i + 2 for i, word in enumerate(words)}  # 0 pads, 1 begins
    shared = {
        "train_dataset": Reviews(reviews[:3200], vocabulary),
        "eval_dataset": Reviews(reviews[3200:], vocabulary),
        "data_collator": collate,
        "compute_metrics": compute_metrics,
    }
    with tempfile.TemporaryDirectory() as folder:
        teacher = make_bert(len(vocabulary) + 2, layers=2)
        trainer = Trainer(model=teacher, args=make_arguments(folder, 6), **shared)
        trainer.train()
        print("teacher", trainer.evaluate()["eval_accuracy"])

        student = make_bert(len(vocabulary) + 2, layers=1)
        distiller = DistillationTrainer(model=student, args=make_arguments(folder, 8), teacher=teacher, **shared)
        distiller.train()
        print("student", distiller.evaluate()["eval_accuracy"])


if __name__ == "__main__":
    main()
