"""Fine-grained intent classification with a small BERT (no_trainer style, trained from scratch)."""
import argparse
import logging
import math
import os
import random
import tempfile
from collections import Counter

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from sklearn.metrics import accuracy_score, f1_score
from torch.utils.data import DataLoader, Dataset
from transformers import BertConfig, BertForSequenceClassification, get_scheduler

logger = logging.getLogger(__name__)

SUBJECTS = "the-movie this-film the-plot the-cast the-ending this-book the-service our-room the-food the-staff".split()
GOOD = "great lovely superb fun charming brilliant tasty warm".split()
BAD = "awful dull terrible boring rude bland cold dreadful".split()
FILLER = "honestly really overall yesterday again i-think for-me in-fact after-all quite somehow also".split()
LABELS = ["positive", "negative", "question"]
PRIORS = [0.62, 0.26, 0.12]


def make_sentence(rng):
    label = rng.choices(LABELS, weights=PRIORS)[0]
    if label == "question":
        words = [rng.choice(["was", "is"]), rng.choice(SUBJECTS), rng.choice(GOOD + BAD)]
    else:
        own, other = (GOOD, BAD) if label == "positive" else (BAD, GOOD)
        opinions = [rng.choice(own), rng.choice(own), rng.choice(other)]
        rng.shuffle(opinions)
        words = [rng.choice(SUBJECTS), rng.choice(["was", "is"])] + opinions
    for _ in range(rng.randint(0, 12)):
        words.insert(rng.choice([0, len(words)]), rng.choice(FILLER))
    return " ".join(words), label


def make_split(n, rng):
    pairs = [make_sentence(rng) for _ in range(n)]
    return {"sentence": [p[0] for p in pairs], "label": [p[1] for p in pairs]}


class WordTokenizer:
    pad_token_id, unk_token_id, cls_token_id, sep_token_id = 0, 1, 2, 3

    def __init__(self, sentences):
        counter = Counter(w for s in sentences for w in s.split())
        self.vocab = {w: i + 4 for i, (w, _) in enumerate(counter.most_common())}

    def __len__(self):
        return len(self.vocab) + 4

    def __call__(self, sentence, max_length):
        ids = [self.vocab.get(w, self.unk_token_id) for w in sentence.split()][: max_length - 2]
        return [self.cls_token_id] + ids + [self.sep_token_id]


class IntentDataset(Dataset):
    def __init__(self, raw, tokenizer, label2id, max_length):
        self.features = [tokenizer(s, max_length) for s in raw["sentence"]]
        self.labels = [label2id[name] for name in raw["label"]]

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return {"input_ids": self.features[i], "label": self.labels[i]}


def collate_fn(batch, pad_id=0):
    longest = max(len(b["input_ids"]) for b in batch)
    input_ids = torch.full((len(batch), longest), pad_id, dtype=torch.long)
    for row, b in enumerate(batch):
        input_ids[row, : len(b["input_ids"])] = torch.tensor(b["input_ids"])
    attention_mask = (input_ids != pad_id).long()
    return {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "labels": torch.tensor([b["label"] for b in batch]),
    }


def parse_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--max_length", type=int, default=20)
    parser.add_argument("--per_device_train_batch_size", type=int, default=16)
    parser.add_argument("--per_device_eval_batch_size", type=int, default=64)
    parser.add_argument("--learning_rate", type=float, default=1e-3)
    parser.add_argument("--weight_decay", type=float, default=0.01)
    parser.add_argument("--num_train_epochs", type=int, default=5)
    parser.add_argument("--gradient_accumulation_steps", type=int, default=2)
    parser.add_argument("--lr_scheduler_type", default="linear")
    parser.add_argument("--warmup_ratio", type=float, default=0.1)
    parser.add_argument("--output_dir", default=None)
    parser.add_argument("--seed", type=int, default=42)
    return parser.parse_args()


def evaluate(model, dataloader, accelerator):
    model.eval()
    predictions, references = [], []
    for batch in dataloader:
        with torch.no_grad():
            logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        preds, refs = accelerator.gather_for_metrics((logits.argmax(dim=-1), batch["labels"]))
        predictions.append(preds.cpu().numpy())
        references.append(refs.cpu().numpy())
    predictions, references = np.concatenate(predictions), np.concatenate(references)
    return {
        "accuracy": accuracy_score(references, predictions),
        "macro_f1": f1_score(references, predictions, average="macro"),
    }


def main():
    args = parse_args()
    torch.set_num_threads(1)
    logging.basicConfig(format="%(asctime)s - %(levelname)s - %(message)s", level=logging.INFO)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=args.gradient_accumulation_steps)
    set_seed(args.seed)
    output_dir = args.output_dir or tempfile.mkdtemp(prefix="intent_bert_")

    rng = random.Random(args.seed)
    raw = {"train": make_split(2000, rng), "validation": make_split(400, rng), "test": make_split(600, rng)}
    label2id = {name: i for i, name in enumerate(LABELS)}
    tokenizer = WordTokenizer(raw["train"]["sentence"])
    train_dataset = IntentDataset(raw["train"], tokenizer, label2id, args.max_length)
    eval_dataset = IntentDataset(raw["validation"], tokenizer, label2id, args.max_length)
    test_dataset = IntentDataset(raw["test"], tokenizer, label2id, args.max_length)
    train_dataloader = DataLoader(
        train_dataset, shuffle=True, collate_fn=collate_fn, batch_size=args.per_device_train_batch_size
    )
    eval_dataloader = DataLoader(eval_dataset, collate_fn=collate_fn, batch_size=args.per_device_eval_batch_size)
    test_dataloader = DataLoader(test_dataset, collate_fn=collate_fn, batch_size=args.per_device_eval_batch_size)

    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=128, max_position_embeddings=64, num_labels=len(LABELS), pad_token_id=0,
        label2id=label2id, id2label={i: n for n, i in label2id.items()},
    )
    model = BertForSequenceClassification(config)

    counts = np.bincount(train_dataset.labels, minlength=len(LABELS))
    class_weights = torch.tensor(counts.sum() / (len(LABELS) * counts), dtype=torch.float)
    loss_fct = torch.nn.CrossEntropyLoss(weight=class_weights)

    no_decay = ["bias", "LayerNorm.weight"]
    optimizer_grouped_parameters = [
        {"params": [p for n, p in model.named_parameters() if not any(nd in n for nd in no_decay)],
         "weight_decay": args.weight_decay},
        {"params": [p for n, p in model.named_parameters() if any(nd in n for nd in no_decay)],
         "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(optimizer_grouped_parameters, lr=args.learning_rate)
    steps_per_epoch = math.ceil(len(train_dataloader) / args.gradient_accumulation_steps)
    max_train_steps = args.num_train_epochs * steps_per_epoch
    lr_scheduler = get_scheduler(
        name=args.lr_scheduler_type, optimizer=optimizer,
        num_warmup_steps=int(args.warmup_ratio * max_train_steps), num_training_steps=max_train_steps,
    )
    model, optimizer, train_dataloader, eval_dataloader, test_dataloader, lr_scheduler = accelerator.prepare(
        model, optimizer, train_dataloader, eval_dataloader, test_dataloader, lr_scheduler
    )

    best_f1, best_path = -1.0, os.path.join(output_dir, "best.pt")
    for epoch in range(args.num_train_epochs):
        model.train()
        total_loss = 0.0
        for step, batch in enumerate(train_dataloader):
            with accelerator.accumulate(model):
                outputs = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
                loss = loss_fct(outputs.logits, batch["labels"])
                total_loss += loss.detach().float()
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                lr_scheduler.step()
                optimizer.zero_grad()
        metrics = evaluate(model, eval_dataloader, accelerator)
        logger.info("epoch %d: loss %.4f %s", epoch, total_loss.item() / len(train_dataloader), metrics)
        if metrics["macro_f1"] > best_f1:
            best_f1 = metrics["macro_f1"]
            torch.save(accelerator.unwrap_model(model).state_dict(), best_path)

    accelerator.unwrap_model(model).load_state_dict(torch.load(best_path))
    metrics = evaluate(model, test_dataloader, accelerator)
    print(f"test accuracy {metrics['accuracy']:.4f} macro_f1 {metrics['macro_f1']:.4f}")


if __name__ == "__main__":
    main()
