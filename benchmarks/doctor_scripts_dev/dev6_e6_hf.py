import os
import random
import tempfile

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import torch
from sklearn.metrics import accuracy_score, f1_score
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn
from torch.utils.data import Dataset
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DataCollatorWithPadding,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
    set_seed,
)

SEED = 13
set_seed(SEED)

TOPICS = {
    "sports": "match goal coach player league season striker defender referee stadium score tournament keeper pitch".split(),
    "cooking": "oven butter garlic recipe simmer flour onion roast sauce pepper dough skillet basil whisk".split(),
    "finance": "shares bond market dividend investor bank interest profit earnings fund broker credit loan asset".split(),
    "travel": "flight hotel beach luggage passport island airport tourist museum train ticket resort guide cruise".split(),
}
FILLER = ("the a of and to in we they it was were is are with for on at by from this that very quite really some "
          "many few new old good bad long short day week year people time place thing said made took came").split()


def make_rows(n, rng):
    rows = []
    for _ in range(n):
        label = rng.choices(list(TOPICS), weights=[3, 3, 2, 2])[0]
        other = rng.choice([t for t in TOPICS if t != label])
        words = rng.choices(FILLER, k=rng.randint(6, 22))
        words += rng.sample(TOPICS[label], 3) + rng.sample(TOPICS[other], 1)
        rng.shuffle(words)
        rows.append((" ".join(words), label))
    return rows


rng = random.Random(SEED)
train_rows = make_rows(1500, rng)
eval_rows = make_rows(400, rng)
label2id = {name: i for i, name in enumerate(TOPICS)}
id2label = {i: name for name, i in label2id.items()}


def build_tokenizer(texts):
    vocab = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3}
    for text in texts:
        for w in text.split():
            vocab.setdefault(w, len(vocab))
    tok = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    tok.pre_tokenizer = pre_tokenizers.Whitespace()
    tok.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return PreTrainedTokenizerFast(tokenizer_object=tok, unk_token="[UNK]", pad_token="[PAD]",
                                   cls_token="[CLS]", sep_token="[SEP]")


tokenizer = build_tokenizer([t for t, _ in train_rows])


class TextDataset(Dataset):
    def __init__(self, rows, mapping):
        texts = [t for t, _ in rows]
        labels = [mapping[name] for _, name in rows]
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        texts = [texts[i] for i in order]
        labels = [labels[i] for i in order]
        self.encodings = tokenizer(texts, truncation=True, max_length=48)
        self.labels = labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, idx):
        item = {k: self.encodings[k][idx] for k in ("input_ids", "attention_mask")}
        item["labels"] = self.labels[idx]
        return item


train_dataset = TextDataset(train_rows, label2id)
eval_dataset = TextDataset(eval_rows, label2id)

config = BertConfig(
    vocab_size=len(tokenizer),
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=128,
    max_position_embeddings=64,
    num_labels=len(label2id),
    label2id=label2id,
    id2label=id2label,
)
model = BertForSequenceClassification(config)

counts = np.bincount(train_dataset.labels, minlength=len(label2id))
class_weights = torch.tensor(counts.sum() / (len(counts) * counts), dtype=torch.float32)


class WeightedTrainer(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        logits = outputs.logits
        loss_fct = nn.CrossEntropyLoss(weight=class_weights)
        loss = loss_fct(logits.view(-1, self.model.config.num_labels), labels.view(-1))
        return (loss, {"loss": loss, "logits": logits}) if return_outputs else loss


def compute_metrics(eval_pred):
    logits, labels = eval_pred
    preds = np.argmax(logits, axis=-1)
    return {
        "accuracy": accuracy_score(labels, preds),
        "f1": f1_score(labels, preds, average="macro"),
    }


args = TrainingArguments(
    output_dir=tempfile.mkdtemp(),
    learning_rate=1e-3,
    per_device_train_batch_size=32,
    per_device_eval_batch_size=100,
    num_train_epochs=5,
    weight_decay=0.01,
    warmup_steps=20,
    lr_scheduler_type="linear",
    eval_strategy="epoch",
    save_strategy="no",
    logging_steps=20,
    report_to="none",
    use_cpu=True,
    disable_tqdm=True,
    seed=SEED,
)

trainer = WeightedTrainer(
    model=model,
    args=args,
    train_dataset=train_dataset,
    eval_dataset=eval_dataset,
    data_collator=DataCollatorWithPadding(tokenizer),
    compute_metrics=compute_metrics,
)

trainer.train()
metrics = trainer.evaluate()
print("FINAL accuracy %.4f f1 %.4f" % (metrics["eval_accuracy"], metrics["eval_f1"]))
