"""Translation as a task: what the trainer asks for, put together from this folder."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from normlab.analysis import geometry, hidden
from normlab.files import write_text
from normlab.models.seq2seq import Seq2Seq
from normlab.tasks.task import Metric, Sample, Task, mean_losses
from normlab.tasks.translation.batching import (
    Batch,
    EncodedBitext,
    collate,
    epoch_batches,
    eval_batches,
    padding_fraction,
)
from normlab.tasks.translation.corpora import Bitext, Corpus
from normlab.tasks.translation.encoding import encode_corpus
from normlab.tasks.translation.objective import TranslationObjective
from normlab.tasks.translation.scoring import score
from normlab.tasks.translation.translator import one_line, translate
from normlab.types import Count, Few, Fraction, Penalty

log = logging.getLogger(__name__)


class Translation(Task):
    """Learns to translate `corpus`, encoded as subwords; chosen by dev BLEU.

    vocab_size, max_length, eval_max_length, cache_dir: see encoding.py. batch_tokens: padded tokens
    of the longer side in a batch; pool: sentences shuffled together (batching.py). label_smoothing:
    share of the target probability spread over the vocabulary. hidden_stats: dev evaluations
    measure hidden vectors, of RNNSearch as in Table 5, of a Transformer as analysis/geometry.py.
    eval_beam, beam, length_penalty: of dev evaluations, of the test, of both (search.py).
    """

    item = "target tokens"
    metric = Metric("dev/bleu", higher_is_better=True, worst=0.0)
    placeholders = MappingProxyType({"vocab": 8})

    def __init__(
        self,
        corpus: Corpus,
        *,
        seed: int,
        vocab_size: Count,
        max_length: Count,
        eval_max_length: Count,
        cache_dir: str,
        batch_tokens: Count,
        pool: Count,
        label_smoothing: Fraction,
        hidden_stats: bool,
        eval_beam: Few,
        beam: Few,
        length_penalty: Penalty,
    ):
        self.corpus = corpus
        self.encoded = encode_corpus(
            corpus,
            vocab_size=vocab_size,
            max_length=max_length,
            eval_max_length=eval_max_length,
            cache_dir=cache_dir,
        )
        self.seed, self.batch_tokens, self.pool = seed, batch_tokens, pool
        self.label_smoothing, self.hidden_stats = label_smoothing, hidden_stats
        self.eval_beam, self.beam, self.length_penalty = eval_beam, beam, length_penalty
        self.tokenizer = self.encoded.tokenizer
        self.dev_translations: list[str] = []  # of the last evaluation

    @property
    def model_arguments(self) -> dict[str, Any]:
        """Returns the size of the vocabulary."""
        return {"vocab": self.tokenizer.get_vocab_size()}

    def objective(self, model: Seq2Seq) -> TranslationObjective:
        """Returns the cross entropy of `model`, a Seq2Seq.

        Raises UserError if `hidden_stats` cannot be measured in it: now, not at the first
        evaluation.
        """
        if self.hidden_stats and not hidden.measurable(model):
            geometry.check(model)
        return TranslationObjective(model, self.label_smoothing)

    def batches(
        self, epoch: int, *, rank: int = 0, world_size: int = 1
    ) -> Sequence[Callable[[], Batch]]:
        """Returns the epoch's batches of sentences of similar length."""
        train = self.encoded.train
        indices = epoch_batches(
            train.src_lengths,
            train.tgt_lengths,
            batch_tokens=self.batch_tokens,
            pool=self.pool,
            seed=self.seed,
            epoch=epoch,
        )
        if epoch == 0:
            padding = padding_fraction(indices, train)
            log.info("%d batches per epoch, %.1f %% padding.", len(indices), 100 * padding)
        return [partial(collate, train, batch, rank, world_size) for batch in indices]

    def evaluate(self, objective: TranslationObjective, device: torch.device) -> dict[str, float]:
        """Returns dev loss and NLL in nats per token, BLEU and chrF, and `hidden/*` if wanted."""
        dev = self.encoded.dev
        losses = mean_losses(objective, self.dev_batches(), device)
        bitext = self.corpus.dev
        self.dev_translations = self._translate(objective, bitext, dev, self.eval_beam, device)
        scores = score(self.dev_translations, bitext.tgt)
        metrics = {f"dev/{name}": value for name, value in losses.items()}
        metrics |= {"dev/bleu": scores["bleu"], "dev/chrf": scores["chrf"]}
        if self.hidden_stats:
            metrics |= self.hidden_statistics(objective.model, device)
        return metrics

    def samples(self, count: int) -> list[Sample]:
        """Returns the first `count` dev sentences with their references and translations."""
        dev = self.corpus.dev
        made = [one_line(text) for text in self.dev_translations[:count]]
        return list(map(Sample, dev.src, dev.tgt, made))

    def hidden_statistics(self, model: Seq2Seq, device: torch.device) -> dict[str, float]:
        """Returns Table 5's statistics or the geometry on the dev set, keys as in metrics.jsonl."""
        if hidden.measurable(model):
            return hidden.hidden_statistics(model, self.dev_batches(), device)
        return geometry.metrics(geometry.geometry(model, self.dev_batches(), device))

    @property
    def test_sets(self) -> list[str]:
        """Returns the names of the corpus's test sets."""
        return list(self.corpus.test)

    def test(
        self, objective: TranslationObjective, device: torch.device, run_dir: Path
    ) -> dict[str, dict[str, Any]]:
        """Returns BLEU and chrF of each test set; stores hypotheses and references."""
        results: dict[str, dict[str, Any]] = {}
        for name, bitext in self.corpus.test.items():
            data = self.encoded.test[name]
            outputs = self._translate(objective, bitext, data, self.beam, device)
            hypotheses = [one_line(text) for text in outputs]
            results[name] = {**score(hypotheses, bitext.tgt)}
            for kind, lines in (("hypotheses", hypotheses), ("references", bitext.tgt)):
                write_text(run_dir / kind / f"{name}.txt", "".join(line + "\n" for line in lines))
            scores = results[name]
            log.info("%s: BLEU %.2f, chrF %.2f", name, scores["bleu"], scores["chrf"])
        return results

    def contents(self) -> dict[str, Any]:
        """Returns hashes and numbers of sentences, those dropped or cut, and the subwords' hash."""
        return self.encoded.contents

    def guessing(self) -> tuple[str, float]:
        """Returns the dev NLL of guessing each subword by its frequency in training."""
        size = self.tokenizer.get_vocab_size()
        counts = np.bincount(self.encoded.train.tgt_ids, minlength=size) + 1.0  # none impossible
        log_p = np.log(counts / counts.sum())
        return "dev/nll", float(-log_p[self.encoded.dev.tgt_ids].mean())

    def save(self, run_dir: Path) -> None:
        """Stores the subwords."""
        write_text(run_dir / "tokenizer.json", self.tokenizer.to_str())

    def _translate(
        self,
        objective: TranslationObjective,
        bitext: Bitext,
        data: EncodedBitext,
        beam: int,
        device: torch.device,
    ) -> list[str]:
        translations = translate(
            objective.model,
            self.tokenizer,
            data,
            beam=beam,
            length_penalty=self.length_penalty,
            batch_tokens=self.batch_tokens,
            device=device,
        )
        # That of a blank line is empty, as a Translator's.
        return [
            made if src.strip() else "" for src, made in zip(bitext.src, translations, strict=True)
        ]

    def dev_batches(self) -> list[Callable[[], Batch]]:
        """Returns the batches of the dev set, as functions that make them."""
        data = self.encoded.dev
        order = eval_batches(data.src_lengths, data.tgt_lengths, batch_tokens=self.batch_tokens)
        return [partial(collate, data, indices) for indices in order]
