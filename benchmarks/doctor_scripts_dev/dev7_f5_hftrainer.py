"""Text classification with Hugging Face's Trainer; a tiny BERT from scratch, no downloads.

Customer messages have to go to one of four desks.  The messages come from templates, so that
the script needs no data set; word order and negation matter ("not the invoice but the parcel").
"""
import random
import re
import tempfile
from collections import Counter

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainerCallback, TrainingArguments, set_seed

DESKS = ['billing', 'shipping', 'returns', 'technical']
WORDS = {
    'billing': 'invoice payment refund charge card receipt price subscription fee amount'.split(),
    'shipping': 'parcel delivery courier address tracking shipment box package driver depot'.split(),
    'returns': 'return exchange size label defect replacement warranty colour swap damaged'.split(),
    'technical': 'login password app screen error update crash battery cable reset'.split(),
}
OPENERS = ['hello', 'hi there', 'good morning', 'dear team', 'hey', 'to whom it may concern', 'hello again']
FILLERS = ('please could you help me with this as soon as possible since i have been waiting for days and nobody '
           'answered my last mail thanks a lot best regards from your customer').split()


def make_message(rng):
    desk, other = rng.sample(DESKS, 2)
    a, b, c = rng.choice(WORDS[desk]), rng.choice(WORDS[other]), rng.choice(WORDS[desk])
    body = rng.choice([f'it is not about the {b} but about the {a}', f'my question is about the {a} not the {b}',
                       f'the {b} was fine yet the {a} is wrong', f'there is trouble with the {a} and the {c}',
                       f'the {a} is wrong although the {b} was fine', f'something about the {a} , not the {b}'])
    filler = ' '.join(rng.choices(FILLERS, k=rng.randint(2, 12)))
    return f'{rng.choice(OPENERS)} , {body} , {filler}', desk


def split_words(text):
    return re.findall(r"[a-z]+|,", text.lower())


class Tokenizer:
    """Whole words: [PAD] 0, [UNK] 1, [CLS] 2, [SEP] 3."""

    def __init__(self, texts, max_length=32):
        counts = Counter(w for t in texts for w in split_words(t))
        self.vocab = {w: i + 4 for i, (w, _) in enumerate(counts.most_common())}
        self.max_length = max_length

    def __call__(self, text):
        ids = [self.vocab.get(w, 1) for w in split_words(text)][:self.max_length - 2]
        return [2] + ids + [3]


class MessageDataset(Dataset):
    def __init__(self, texts, labels, tokenizer, label2id):
        self.encodings = [tokenizer(t) for t in texts]
        self.labels = [label2id[name] for name in labels]

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return {'input_ids': self.encodings[i], 'labels': self.labels[i]}


def collate(features):
    width = max(len(f['input_ids']) for f in features)
    ids = torch.zeros(len(features), width, dtype=torch.long)
    mask = torch.zeros(len(features), width, dtype=torch.long)
    for row, f in enumerate(features):
        n = len(f['input_ids'])
        ids[row, :n] = torch.tensor(f['input_ids'])
        mask[row, :n] = 1
    labels = torch.tensor([f['labels'] for f in features])
    return {'input_ids': ids, 'attention_mask': mask, 'labels': labels}


def compute_metrics(eval_pred):
    logits, labels = eval_pred
    preds = np.argmax(logits, axis=-1)
    f1 = []
    for k in range(len(DESKS)):
        tp = ((preds == k) & (labels == k)).sum()
        f1.append(2 * tp / max(1, (preds == k).sum() + (labels == k).sum()))
    return {'accuracy': float((preds == labels).mean()), 'macro_f1': float(np.mean(f1))}


class Report(TrainerCallback):
    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        print('epoch %.0f' % (state.epoch or 0), {k: round(v, 4) for k, v in metrics.items()
                                                  if k in ('eval_loss', 'eval_accuracy', 'eval_macro_f1')})


def main():
    set_seed(5)
    rng = random.Random(5)
    pairs = list(dict.fromkeys(make_message(rng) for _ in range(2400)))
    texts, labels = zip(*pairs)
    cut = int(0.8 * len(pairs))

    tokenizer = Tokenizer(texts[:cut])
    label2id = {name: i for i, name in enumerate(DESKS)}
    train_dataset = MessageDataset(texts[:cut], labels[:cut], tokenizer, label2id)
    eval_dataset = MessageDataset(texts[cut:], labels[cut:], tokenizer, label2id)

    config = BertConfig(vocab_size=len(tokenizer.vocab) + 4, hidden_size=64, num_hidden_layers=2,
                        num_attention_heads=4, intermediate_size=128, max_position_embeddings=40,
                        num_labels=len(DESKS), pad_token_id=0)
    model = BertForSequenceClassification(config)

    with tempfile.TemporaryDirectory() as out:
        training_args = TrainingArguments(
            output_dir=out,
            num_train_epochs=6,
            per_device_train_batch_size=32,
            per_device_eval_batch_size=64,
            learning_rate=1e-3,
            weight_decay=0.01,
            warmup_steps=60,
            lr_scheduler_type='linear',
            eval_strategy='epoch',
            save_strategy='epoch',
            save_total_limit=1,
            load_best_model_at_end=True,
            metric_for_best_model='accuracy',
            logging_steps=50,
            use_cpu=True,
            disable_tqdm=True,
            report_to=[],
        )
        trainer = Trainer(
            model=model,
            args=training_args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            data_collator=collate,
            compute_metrics=compute_metrics,
            callbacks=[Report()],
        )
        trainer.train()
        print('final', {k: v for k, v in trainer.evaluate().items() if 'acc' in k or 'f1' in k})


if __name__ == '__main__':
    main()
