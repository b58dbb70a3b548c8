"""Which animals does a story mention? Several labels a text, batches of similar length, the Trainer of transformers."""
import random
import tempfile

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import f1_score
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from torch.utils.data import DataLoader, Dataset
from transformers import Trainer, TrainingArguments, set_seed

import toydata

ANIMALS = ["cat", "dog", "bird", "fish"]


def build_stories(seed=3):
    sentences = [s.strip() for s in toydata.text(60000, seed=seed).split(".\n")][:-1]
    rng, stories, start = random.Random(seed), [], 0
    while start + 5 <= len(sentences):
        n = rng.randint(2, 5)
        stories.append(" . ".join(sentences[start : start + n]))
        start += n
    stories = list(dict.fromkeys(stories))
    rng.shuffle(stories)
    return stories


class StoryDataset(Dataset):
    def __init__(self, stories, vocab):
        self.ids, self.labels = [], []
        for story in stories:
            words = story.split()
            self.ids.append(torch.tensor([vocab.get(w, vocab["<unk>"]) for w in words]))
            self.labels.append(torch.tensor([float(animal in words) for animal in ANIMALS]))

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, i):
        return {"input_ids": self.ids[i], "labels": self.labels[i]}


def collate(features):
    ids = [f["input_ids"] for f in features]
    return {
        "input_ids": pad_sequence(ids, batch_first=True, padding_value=0),
        "lengths": torch.tensor([len(row) for row in ids]),
        "labels": torch.stack([f["labels"] for f in features]),
    }


class LengthBuckets:
    """Batches of texts of about the same length, others in each epoch, in random order."""

    def __init__(self, lengths, batch_size, seed):
        self.lengths, self.batch_size, self.seed, self.passes = lengths, batch_size, seed, 0

    def __len__(self):
        return (len(self.lengths) + self.batch_size - 1) // self.batch_size

    def __iter__(self):
        rng = random.Random(self.seed + self.passes)
        self.passes += 1
        order = list(range(len(self.lengths)))
        rng.shuffle(order)
        batches, size = [], self.batch_size
        for start in range(0, len(order), 8 * size):
            pool = sorted(order[start : start + 8 * size], key=lambda i: self.lengths[i])
            batches += [pool[i : i + size] for i in range(0, len(pool), size)]
        rng.shuffle(batches)
        return iter(batches)


class LabelAttentionTagger(nn.Module):
    """A bidirectional GRU; each label looks for its own words."""

    def __init__(self, vocab_size, n_labels=len(ANIMALS), width=32):
        super().__init__()
        self.embed = nn.Embedding(vocab_size, width, padding_idx=0)
        self.encoder = nn.GRU(width, width, batch_first=True, bidirectional=True)
        self.query = nn.Linear(2 * width, n_labels, bias=False)
        self.weight = nn.Parameter(0.1 * torch.randn(n_labels, 2 * width))
        self.bias = nn.Parameter(torch.zeros(n_labels))

    def forward(self, input_ids, lengths, labels=None):
        total = input_ids.size(1)
        packed = pack_padded_sequence(self.embed(input_ids), lengths.cpu(), batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.encoder(packed)[0], batch_first=True, total_length=total)
        keep = torch.arange(total, device=input_ids.device)[None, :] < lengths[:, None]
        scores = self.query(states).masked_fill(~keep[:, :, None], float("-inf"))
        context = scores.softmax(dim=1).transpose(1, 2) @ states
        logits = (context * self.weight).sum(-1) + self.bias
        if labels is None:
            return {"logits": logits}
        return {"loss": F.binary_cross_entropy_with_logits(logits, labels), "logits": logits}


class BucketTrainer(Trainer):
    def get_train_dataloader(self):
        lengths = [len(row) for row in self.train_dataset.ids]
        buckets = LengthBuckets(lengths, self.args.per_device_train_batch_size, self.args.seed)
        return DataLoader(self.train_dataset, batch_sampler=buckets, collate_fn=self.data_collator)


def compute_metrics(eval_pred):
    logits, labels = eval_pred
    predictions = (logits > 0).astype(int)
    return {
        "micro_f1": f1_score(labels.astype(int), predictions, average="micro"),
        "all_right": float(np.mean((predictions == labels).all(axis=1))),
    }


def main():
    set_seed(0)
    stories = build_stories()
    cut = int(0.8 * len(stories))
    words = sorted({word for story in stories[:cut] for word in story.split()})
    vocab = {word: i for i, word in enumerate(["<pad>", "<unk>"] + words)}
    train_dataset, eval_dataset = StoryDataset(stories[:cut], vocab), StoryDataset(stories[cut:], vocab)

    args = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        num_train_epochs=7,
        per_device_train_batch_size=16,
        per_device_eval_batch_size=64,
        learning_rate=6e-3,
        lr_scheduler_type="cosine",
        warmup_steps=20,
        weight_decay=0.01,
        eval_strategy="epoch",
        logging_strategy="epoch",
        save_strategy="no",
        label_names=["labels"],
        remove_unused_columns=False,
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = BucketTrainer(
        model=LabelAttentionTagger(len(vocab)),
        args=args,
        data_collator=collate,
        train_dataset=train_dataset,
        eval_dataset=eval_dataset,
        compute_metrics=compute_metrics,
    )
    trainer.train()
    print(trainer.evaluate())


if __name__ == "__main__":
    main()
