# Translate French number words to digits with a tiny T5 and the Seq2SeqTrainer.
import tempfile
from dataclasses import dataclass

import numpy as np
import torch
import transformers
from torch.utils.data import Dataset
from transformers import (
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    T5Config,
    T5ForConditionalGeneration,
    set_seed,
)

transformers.logging.set_verbosity_error()
set_seed(13)

UNITS = ("zéro un deux trois quatre cinq six sept huit neuf dix onze douze treize "
         "quatorze quinze seize").split()
TENS = {2: "vingt", 3: "trente", 4: "quarante", 5: "cinquante", 6: "soixante"}


def below_hundred(n):
    if n == 0:
        return []
    if n <= 16:
        return [UNITS[n]]
    if n < 20:
        return ["dix", UNITS[n - 10]]
    t, u = divmod(n, 10)
    if t == 7:
        return ["soixante"] + (["et"] if u == 1 else []) + below_hundred(n - 60)
    if t >= 8:
        return ["quatre", "vingt"] + below_hundred(n - 80)
    return [TENS[t]] + (["et", "un"] if u == 1 else below_hundred(u))


def french(n):
    words = []
    k, n = divmod(n, 1000)
    if k:
        words += ([UNITS[k]] if k > 1 else []) + ["mille"]
    h, n = divmod(n, 100)
    if h:
        words += ([UNITS[h]] if h > 1 else []) + ["cent"]
    return words + below_hundred(n)


PAD, EOS = 0, 1
SOURCE_WORDS = UNITS[1:] + list(TENS.values()) + ["et", "cent", "mille"]
VOCAB = {w: i for i, w in enumerate(["<pad>", "</s>"] + SOURCE_WORDS + list("0123456789"))}
INV_VOCAB = {i: w for w, i in VOCAB.items()}


class NumberDataset(Dataset):
    def __init__(self, numbers):
        self.numbers = [int(n) for n in numbers]

    def __len__(self):
        return len(self.numbers)

    def __getitem__(self, idx):
        n = self.numbers[idx]
        return {
            "input_ids": [VOCAB[w] for w in french(n)] + [EOS],
            "labels": [VOCAB[c] for c in str(n)] + [EOS],
        }


@dataclass
class Collator:
    label_pad_token_id: int = -100

    def __call__(self, features):
        src = max(len(f["input_ids"]) for f in features)
        tgt = max(len(f["labels"]) for f in features)
        input_ids = torch.full((len(features), src), PAD)
        labels = torch.full((len(features), tgt), self.label_pad_token_id)
        for i, f in enumerate(features):
            input_ids[i, :len(f["input_ids"])] = torch.tensor(f["input_ids"])
            labels[i, :len(f["labels"])] = torch.tensor(f["labels"])
        batch = {"input_ids": input_ids, "attention_mask": (input_ids != PAD).long(), "labels": labels}
        return batch


def to_text(ids):
    out = []
    for t in ids:
        if t == EOS:
            break
        if t != PAD:
            out.append(INV_VOCAB[int(t)])
    return "".join(out)


def compute_metrics(eval_pred):
    preds, labels = eval_pred
    preds = np.where(preds == -100, PAD, preds)
    labels = np.where(labels == -100, PAD, labels)
    hyps, refs = [to_text(p) for p in preds], [to_text(l) for l in labels]
    exact = np.mean([h == r for h, r in zip(hyps, refs)])
    digits = sum(len(r) for r in refs)
    right = sum(a == b for h, r in zip(hyps, refs) for a, b in zip(h, r))
    return {"exact_match": float(exact), "digit_acc": right / digits}


numbers = np.random.default_rng(0).permutation(np.arange(1, 10000))
train_numbers, val_numbers, test_numbers = numbers[:3500], numbers[3500:4000], numbers[4000:5000]
train_dataset, val_dataset, test_dataset = map(NumberDataset, (train_numbers, val_numbers, test_numbers))

config = T5Config(
    vocab_size=len(VOCAB), d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4,
    dropout_rate=0.05, decoder_start_token_id=PAD, pad_token_id=PAD, eos_token_id=EOS,
    relative_attention_num_buckets=16, relative_attention_max_distance=32,
)
model = T5ForConditionalGeneration(config)
print(f"{sum(p.numel() for p in model.parameters()):,} parameters")

training_args = Seq2SeqTrainingArguments(
    output_dir=tempfile.mkdtemp(),
    per_device_train_batch_size=96,
    per_device_eval_batch_size=250,
    num_train_epochs=6,
    learning_rate=4e-3,
    weight_decay=0.01,
    warmup_steps=30,
    lr_scheduler_type="linear",
    eval_strategy="steps",
    eval_steps=84,
    logging_steps=42,
    save_strategy="no",
    predict_with_generate=True,
    generation_max_length=8,
    report_to="none",
    use_cpu=True,
    disable_tqdm=True,
    seed=13,
)

trainer = Seq2SeqTrainer(
    model=model,
    args=training_args,
    train_dataset=train_dataset,
    eval_dataset=val_dataset,
    data_collator=Collator(),
    compute_metrics=compute_metrics,
)
trainer.train()

metrics = trainer.evaluate(test_dataset, metric_key_prefix="test")
print({k: round(v, 4) for k, v in metrics.items() if k in ("test_loss", "test_exact_match", "test_digit_acc")})
