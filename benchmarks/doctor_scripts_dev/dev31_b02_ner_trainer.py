"""Named entity tagging with a small BERT from scratch and the Hugging Face Trainer."""

import random
import tempfile

import torch
from torch.utils.data import Dataset
from transformers import BertConfig, BertForTokenClassification, Trainer, TrainingArguments, set_seed

FIRST = "anna peter maria james laura david nina oscar emma felix ruth simon clara hugo irene".split()
LAST = "smith miller brown garcia novak weber rossi tanaka olsen dubois kowalski meyer".split()
CITY = "berlin madrid oslo vienna lisbon cairo lima quito dublin prague tokyo athens".split()
FIRM = "acme globex initech umbrella stark wayne hooli vandelay soylent cyberdyne".split()
SHARED = "jordan paris austin florence lincoln chelsea hudson madison sydney carter".split()

TEMPLATES = [
    "PER lives in LOC and works for ORG",
    "yesterday PER travelled from LOC to LOC",
    "shares of ORG fell after PER resigned",
    "the office of ORG in LOC was closed",
    "PER told PER that ORG will move to LOC",
    "analysts at ORG expect good results this year",
    "heavy rain in LOC stopped the train to LOC",
    "PER and PER founded ORG near LOC ten years ago",
    "the mayor of LOC met PER on monday",
    "ORG bought a part of ORG for two million",
    "according to PER the weather in LOC is good",
    "a letter from PER arrived in LOC this morning",
]
OPENINGS = ["", "", "last week", "it is said that", "as we reported", "in the end"]

# in alphabetical order: B-LOC is 0, O is the last
TAGS = sorted(["O"] + [f"{prefix}-{kind}" for prefix in "BI" for kind in ("PER", "LOC", "ORG")])
TAG_TO_ID = {tag: i for i, tag in enumerate(TAGS)}
PAD, UNK, CLS, SEP = range(4)
MAX_LENGTH = 32


def make_entity(kind, rng):
    if kind == "PER":
        words = [rng.choice(FIRST + SHARED)]
        if rng.random() < 0.5:
            words.append(rng.choice(LAST))
    elif kind == "LOC":
        words = [rng.choice(CITY + SHARED)]
        if rng.random() < 0.3:
            words.insert(0, rng.choice(["new", "port", "lake"]))
    else:
        words = [rng.choice(FIRM + SHARED)]
        if rng.random() < 0.5:
            words.append(rng.choice(["inc", "group", "motors", "bank"]))
    return words, [f"B-{kind}"] + [f"I-{kind}"] * (len(words) - 1)


def make_sentences(count, seed):
    rng = random.Random(seed)
    sentences, known = [], set()
    while len(sentences) < count:
        words, tags = [], []
        for piece in (rng.choice(OPENINGS) + " " + rng.choice(TEMPLATES)).split():
            if piece in ("PER", "LOC", "ORG"):
                entity_words, entity_tags = make_entity(piece, rng)
                words += entity_words
                tags += entity_tags
            else:
                words.append(piece)
                tags.append("O")
        if tuple(words) not in known:
            known.add(tuple(words))
            sentences.append((words, tags))
    return sentences


def build_vocabulary(sentences):
    vocabulary = {"[PAD]": PAD, "[UNK]": UNK, "[CLS]": CLS, "[SEP]": SEP}
    for words, _ in sentences:
        for word in words:
            vocabulary.setdefault(word, len(vocabulary))
    return vocabulary


class NerDataset(Dataset):
    def __init__(self, sentences, vocabulary):
        self.examples = []
        for words, tags in sentences:
            ids = [CLS] + [vocabulary.get(word, UNK) for word in words] + [SEP]
            labels = [-100] + [TAG_TO_ID[tag] for tag in tags] + [-100]
            self.examples.append({"input_ids": ids, "labels": labels})

    def __len__(self):
        return len(self.examples)

    def __getitem__(self, index):
        return self.examples[index]


def collate(examples):
    batch = {"input_ids": [], "attention_mask": [], "labels": []}
    for example in examples:
        length = len(example["input_ids"])
        pad = MAX_LENGTH - length
        batch["input_ids"].append(example["input_ids"] + [PAD] * pad)
        batch["attention_mask"].append([1] * length + [0] * pad)
        batch["labels"].append(example["labels"] + [-100] * pad)
    return {name: torch.tensor(rows) for name, rows in batch.items()}


def spans(tags):
    """Entities of a list of tags as (start, end, kind)."""
    found, start, kind = [], None, None
    for i, tag in enumerate(tags + ["O"]):
        if start is not None and tag != f"I-{kind}":
            found.append((start, i, kind))
            start = None
        if tag.startswith("B-"):
            start, kind = i, tag[2:]
    return set(found)


def compute_metrics(prediction):
    predicted, labels = prediction.predictions.argmax(axis=-1), prediction.label_ids
    right = total = hits = guessed = wanted = 0
    for row, truth in zip(predicted, labels):
        keep = truth != -100
        right += int((row[keep] == truth[keep]).sum())
        total += int(keep.sum())
        guess = spans([TAGS[i] for i in row[keep]])
        gold = spans([TAGS[i] for i in truth[keep]])
        hits += len(guess & gold)
        guessed += len(guess)
        wanted += len(gold)
    f1 = 2 * hits / max(guessed + wanted, 1)
    return {"accuracy": right / total, "f1": f1}


def main():
    torch.set_num_threads(1)
    set_seed(0)
    sentences = make_sentences(2700, seed=0)
    train_sentences, val_sentences = sentences[:2300], sentences[2300:]
    vocabulary = build_vocabulary(train_sentences)
    train_set = NerDataset(train_sentences, vocabulary)
    val_set = NerDataset(val_sentences, vocabulary)

    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=64,
        pad_token_id=PAD,
        id2label=dict(enumerate(TAGS)),
        label2id=TAG_TO_ID,
    )
    model = BertForTokenClassification(config)
    arguments = TrainingArguments(
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
        disable_tqdm=True,
        use_cpu=True,
        seed=0,
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=train_set,
        eval_dataset=val_set,
        data_collator=collate,
        compute_metrics=compute_metrics,
    )
    trainer.train()
    result = trainer.evaluate()
    print(f"validation f1 {result['eval_f1']:.3f}, accuracy {result['eval_accuracy']:.3f}")


if __name__ == "__main__":
    main()
