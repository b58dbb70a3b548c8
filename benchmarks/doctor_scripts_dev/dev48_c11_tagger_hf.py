"""Tag each character of sentences without spaces with the kind of word it belongs to, with the Hugging Face Trainer.

"thecatseesthemouse." -> det det det noun noun noun verb verb verb verb det2 det2 det2 obj ...
"""

import random
import tempfile

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments, set_seed

from toydata import text

TAGS = ["det", "noun", "verb", "det2", "obj", "end"]
MAX_LENGTH = 24
PAD, IGNORE = 0, -100


def unique_sentences():
    """The grammar repeats itself, so sentences are made unique before they are split."""
    sentences = {tuple(line.split()) for line in text(length=20000).split("\n")}
    sentences = sorted(s for s in sentences if len(s) == len(TAGS))
    random.Random(0).shuffle(sentences)
    return sentences


class TaggedSentences(Dataset):
    def __init__(self, sentences, vocabulary):
        self.rows = []
        for words in sentences:
            ids = [vocabulary[ch] for word in words for ch in word]
            tags = [tag for tag, word in enumerate(words) for _ in word]
            self.rows.append({"input_ids": ids, "labels": tags})

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


def collate(features):
    """Every batch is filled up to the same length, so that predictions of all batches can be put together."""
    ids = torch.full((len(features), MAX_LENGTH), PAD)
    labels = torch.full((len(features), MAX_LENGTH), IGNORE)
    for row, feature in enumerate(features):
        n = len(feature["input_ids"])
        ids[row, :n] = torch.tensor(feature["input_ids"])
        labels[row, :n] = torch.tensor(feature["labels"])
    return {"input_ids": ids, "labels": labels}


class Tagger(nn.Module):
    """Both directions: a tagger may look at all of its sentence."""

    def __init__(self, vocab_size, width=40):
        super().__init__()
        self.embed = nn.Embedding(vocab_size, width, padding_idx=PAD)
        self.rnn = nn.GRU(width, width, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(0.1)
        self.out = nn.Linear(2 * width, len(TAGS))

    def forward(self, input_ids, labels=None):
        hidden, _ = self.rnn(self.embed(input_ids))
        return {"logits": self.out(self.dropout(hidden))}


class TaggerTrainer(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        labels = inputs["labels"]
        outputs = model(input_ids=inputs["input_ids"])
        loss = nn.functional.cross_entropy(
            outputs["logits"].transpose(1, 2), labels, ignore_index=IGNORE, label_smoothing=0.02
        )
        # when it evaluates, Trainer takes all that is not named "loss" for predictions
        outputs = {"loss": loss, "logits": outputs["logits"]}
        return (loss, outputs) if return_outputs else loss


def compute_metrics(prediction):
    guess = prediction.predictions.argmax(-1)
    real = prediction.label_ids != IGNORE
    right = (guess == prediction.label_ids) & real
    whole = (right | ~real).all(axis=1)
    return {"char_accuracy": float(right.sum() / real.sum()), "sentence_accuracy": float(np.mean(whole))}


def main():
    set_seed(17)
    sentences = unique_sentences()
    letters = sorted({ch for words in sentences for word in words for ch in word})
    vocabulary = {ch: i + 1 for i, ch in enumerate(letters)}
    cut = int(0.8 * len(sentences))
    train_set = TaggedSentences(sentences[:cut], vocabulary)
    eval_set = TaggedSentences(sentences[cut:], vocabulary)
    print(f"{len(train_set)} sentences to train with, {len(eval_set)} to evaluate with")

    args = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        num_train_epochs=14,
        per_device_train_batch_size=16,
        per_device_eval_batch_size=64,
        learning_rate=6e-3,
        weight_decay=0.01,
        logging_steps=30,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        remove_unused_columns=False,
        seed=17,
    )
    trainer = TaggerTrainer(
        model=Tagger(len(vocabulary) + 1),
        args=args,
        data_collator=collate,
        train_dataset=train_set,
        eval_dataset=eval_set,
        compute_metrics=compute_metrics,
    )
    trainer.train()
    print(trainer.evaluate())


if __name__ == "__main__":
    main()
