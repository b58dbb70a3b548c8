"""Train a small transformer tagger for names (BIO tags) with the Hugging Face Trainer."""
import argparse
import copy
import random

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import Dataset
from transformers import PretrainedConfig, PreTrainedModel, Trainer, TrainerCallback, TrainingArguments, set_seed
from transformers.modeling_outputs import TokenClassifierOutput

TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG", "I-ORG"]
TAG2ID = {t: i for i, t in enumerate(TAGS)}
SPECIAL = ["<pad>", "<unk>", "<s>", "</s>"]
TEMPLATES = [
    "mr PER said on DAY that ORG corp would leave LOC", "she met PER in LOC last DAY",
    "shares of ORG rose after PER left the board", "the mayor of LOC thanked PER and the ORG team",
    "in LOC the ORG group opened a plant", "PER , who works for ORG , flew to LOC on DAY",
    "workers at ORG near LOC went on strike", "dr PER and mrs PER moved from LOC to LOC",
    "ORG bought ORG for NUM million", "the road from LOC was closed on DAY", "on DAY PER beat PER by NUM points",
    "nobody at the office knew why it rained for NUM days", "the weather on DAY was worse than before",
]
DAYS = "monday tuesday wednesday thursday friday saturday sunday".split()
FILLERS = "well however indeed today meanwhile again perhaps still".split()
NAMES = [a + b + c for a in ("ba", "do", "ki", "lu", "me") for b in ("ra", "to", "vi", "zu", "ne") for c in "nsrlkt"]


def make_corpus(n, seed):
    rng = random.Random(seed)
    corpus = {}
    while len(corpus) < n:
        words, tags = [], []
        for slot in rng.choice(TEMPLATES).split():
            if rng.random() < 0.08:
                words, tags = words + [rng.choice(FILLERS)], tags + ["O"]
            if slot in ("PER", "LOC", "ORG"):
                length = rng.choice([1, 1, 2])
                words += [rng.choice(NAMES) for _ in range(length)]
                tags += [f"B-{slot}"] + [f"I-{slot}"] * (length - 1)
            else:
                words.append({"DAY": rng.choice(DAYS), "NUM": str(rng.randint(2, 99))}.get(slot, slot))
                tags.append("O")
        corpus[" ".join(words)] = (words, tags)
    return rng.sample(list(corpus.values()), n)


def build_vocab(examples, min_freq=2):
    counts = {}
    for words, _ in examples:
        for w in words:
            counts[w] = counts.get(w, 0) + 1
    return {w: i for i, w in enumerate(SPECIAL + sorted(w for w, c in counts.items() if c >= min_freq))}


class TagDataset(Dataset):
    def __init__(self, examples, vocab, word_drop=0.0):
        self.examples, self.vocab, self.word_drop = examples, vocab, word_drop

    def __len__(self):
        return len(self.examples)

    def __getitem__(self, i):
        words, tags = self.examples[i]
        if self.word_drop > 0:
            kept = [j for j, t in enumerate(tags) if t != "O" or random.random() >= self.word_drop]
            words, tags = [words[j] for j in kept], [tags[j] for j in kept]
        ids = [self.vocab.get(w, self.vocab["<unk>"]) for w in words]
        labels = [TAG2ID[t] for t in tags]
        return {"input_ids": [self.vocab["<s>"]] + ids + [self.vocab["</s>"]], "labels": [-100] + labels + [-100]}


class TaggingCollator:
    def __init__(self, pad_id, label_pad=-100):
        self.pad_id, self.label_pad = pad_id, label_pad

    def __call__(self, features):
        longest = max(len(f["input_ids"]) for f in features)
        def pad(rows, value):
            return torch.tensor([r + [value] * (longest - len(r)) for r in rows])
        input_ids, labels = pad([f["input_ids"] for f in features], self.pad_id), [f["labels"] for f in features]
        return {"input_ids": input_ids, "attention_mask": (input_ids != self.pad_id).long(),
                "labels": pad(labels, self.label_pad)}


class TaggerConfig(PretrainedConfig):
    model_type = "mini-tagger"

    def __init__(self, vocab_size=100, hidden=64, heads=4, layers=2, max_len=64, dropout=0.1, n_tags=7, **kwargs):
        self.vocab_size, self.hidden, self.heads, self.layers = vocab_size, hidden, heads, layers
        self.max_len, self.dropout, self.n_tags = max_len, dropout, n_tags
        super().__init__(**kwargs)


class Block(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.heads = cfg.heads
        d = cfg.hidden
        self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.proj = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.mlp = nn.Sequential(nn.Linear(d, 2 * d), nn.GELU(), nn.Linear(2 * d, d))
        self.drop = nn.Dropout(cfg.dropout)

    def forward(self, x, attn_mask):
        b, t, d = x.size()
        q, k, v = self.qkv(self.norm1(x)).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask)
        x = x + self.drop(self.proj(y.transpose(1, 2).reshape(b, t, d)))
        return x + self.drop(self.mlp(self.norm2(x)))


class MiniTagger(PreTrainedModel):
    config_class = TaggerConfig

    def __init__(self, config):
        super().__init__(config)
        self.tok = nn.Embedding(config.vocab_size, config.hidden)
        self.pos = nn.Embedding(config.max_len, config.hidden)
        self.blocks = nn.ModuleList([Block(config) for _ in range(config.layers)])
        self.norm = nn.LayerNorm(config.hidden)
        self.classifier = nn.Linear(config.hidden, config.n_tags)
        self.post_init()

    def _init_weights(self, module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.05)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def forward(self, input_ids=None, attention_mask=None, labels=None):
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        x = self.tok(input_ids) + self.pos(positions)[None]
        attn_mask = attention_mask.bool()[:, None, None, :]
        for block in self.blocks:
            x = block(x, attn_mask)
        logits = self.classifier(self.norm(x))
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits.view(-1, logits.shape[-1]), labels.view(-1), ignore_index=-100)
        return TokenClassifierOutput(loss=loss, logits=logits)


def extract_spans(tags):
    """(type, start, end) of every entity in one sentence of BIO tags."""
    spans, start, kind = [], None, None
    for i, tag in enumerate(list(tags) + ["O"]):
        if start is not None and tag != f"I-{kind}":
            spans.append((kind, start, i))
            start, kind = None, None
        if tag.startswith("B-"):
            start, kind = i, tag[2:]
    return spans


def compute_metrics(eval_pred):
    logits, labels = eval_pred
    preds, mask = logits.argmax(axis=-1), labels != -100
    gold, found = set(), set()
    for s, (p_row, l_row, m_row) in enumerate(zip(preds, labels, mask)):
        gold.update((s, *span) for span in extract_spans([TAGS[t] for t in l_row[m_row]]))
        found.update((s, *span) for span in extract_spans([TAGS[t] for t in p_row[m_row]]))
    tp = len(gold & found)
    precision, recall = tp / max(len(found), 1), tp / max(len(gold), 1)
    return {"token_acc": float((preds == labels)[mask].mean()), "precision": precision, "recall": recall,
            "f1": 2 * precision * recall / max(precision + recall, 1e-9)}


class KeepBest(TrainerCallback):
    def __init__(self):
        self.best, self.state = -1.0, None

    def on_evaluate(self, args, state, control, metrics=None, model=None, **kwargs):
        if "eval_f1" in metrics and metrics["eval_f1"] > self.best:
            self.best, self.state = metrics["eval_f1"], copy.deepcopy(model.state_dict())
        print(f"step {state.global_step} " + " ".join(
            f"{k} {v:.4f}" for k, v in metrics.items() if k.split("_")[-1] in ("loss", "acc", "f1")))

    def on_train_end(self, args, state, control, model=None, **kwargs):
        model.load_state_dict(self.state)


def make_optimizer(model, lr, weight_decay):
    decay = [p for n, p in model.named_parameters() if p.ndim > 1]
    rest = [p for n, p in model.named_parameters() if p.ndim <= 1]
    return torch.optim.AdamW([{"params": decay}, {"params": rest, "weight_decay": 0.0}],
                             lr, (0.9, 0.98), 1e-8, weight_decay)


def main():
    parser = argparse.ArgumentParser()
    for name, default in (("lr", 2e-3), ("epochs", 8), ("batch-size", 32), ("seed", 13)):
        parser.add_argument("--" + name, type=type(default), default=default)
    args = parser.parse_args()
    set_seed(args.seed)

    examples = make_corpus(2400, args.seed)
    train, val, test = examples[:1600], examples[1600:2000], examples[2000:]
    vocab = build_vocab(train)
    model = MiniTagger(TaggerConfig(vocab_size=len(vocab), n_tags=len(TAGS)))
    total_steps = -(-len(train) // args.batch_size) * args.epochs
    warmup_steps = int(0.1 * total_steps)
    optimizer = make_optimizer(model, args.lr, 0.01)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: min(
        (s + 1) / warmup_steps, (total_steps - s) / max(1, total_steps - warmup_steps)))
    training_args = TrainingArguments(
        output_dir="mini_tagger", num_train_epochs=args.epochs, per_device_train_batch_size=args.batch_size,
        per_device_eval_batch_size=100, eval_strategy="epoch", save_strategy="no", logging_strategy="no",
        report_to="none", use_cpu=True, disable_tqdm=True, seed=args.seed, max_grad_norm=1.0)
    trainer = Trainer(
        model=model, args=training_args, data_collator=TaggingCollator(vocab["<pad>"]),
        train_dataset=TagDataset(train, vocab, word_drop=0.1), eval_dataset=TagDataset(val, vocab),
        compute_metrics=compute_metrics, callbacks=[KeepBest()], optimizers=(optimizer, scheduler))
    trainer.train()
    scores = trainer.evaluate(TagDataset(test, vocab), metric_key_prefix="test")
    print("FINAL " + " ".join(f"{k} {scores['test_' + k]:.4f}" for k in ("loss", "token_acc", "precision", "recall", "f1")))


if __name__ == "__main__":
    main()
