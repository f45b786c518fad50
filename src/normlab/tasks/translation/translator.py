"""From a trained model to sentences."""

from dataclasses import dataclass

import torch
from tokenizers import Tokenizer

from normlab import distributed
from normlab.devices import autocast
from normlab.errors import UserError
from normlab.models.seq2seq import Seq2Seq
from normlab.tasks.translation import search
from normlab.tasks.translation.batching import EncodedBitext, collate, eval_batches
from normlab.tasks.translation.encoding import encode_bitext, truncate
from normlab.tasks.translation.tokenizer import BOS, EOS, decode

# Nothing is kept for a backward pass, and a step has one position of each sentence: more sentences
# than in training fill the matrices better (1.4 times as fast on two cores, 2+2 layers, beam 5).
MORE = 8


@torch.inference_mode()
def translate(
    model: Seq2Seq,
    tokenizer: Tokenizer,
    data: EncodedBitext,
    *,
    beam: int,
    length_penalty: float,
    batch_tokens: int,
    device: torch.device,
) -> list[str]:
    """Returns the detokenised translation of every source sentence of `data`, in its order.

    A translation has at most twice the source's tokens plus ten. `batch_tokens` are the padded
    tokens of a training batch; here sentences of similar length share a batch of at most MORE times
    as many, all beams and processes included. Several processes share the batches and have
    the same result.
    """
    model.eval()
    found: dict[int, str] = {}
    most = max(1, MORE * batch_tokens // (beam * distributed.world_size()))
    batches = eval_batches(data.src_lengths, data.tgt_lengths, batch_tokens=most)
    for indices in distributed.share(batches):
        batch = collate(data, indices).to(device)
        state = model.initial_state(model.encode(batch.src, batch.src_lengths))
        limits = (2 * batch.src_lengths + 10).clamp(max=model.max_length)
        outputs = search.beam(model.step, state, limits, BOS, EOS, beam, length_penalty)
        found |= zip(indices.tolist(), decode(tokenizer, outputs), strict=True)
    everybody = {i: text for one in distributed.gather(found) for i, text in one.items()}
    return [everybody[i] for i in range(len(data))]


@dataclass
class Translator:
    """A trained model with its subwords: sentences in, sentences out."""

    model: Seq2Seq
    tokenizer: Tokenizer
    device: torch.device
    max_length: int  # of a source sentence, in subwords; longer ones are cut
    beam: int
    length_penalty: float
    batch_tokens: int
    precision: str  # fp32 or bf16

    def __call__(
        self, sentences: list[str], beam: int | None = None
    ) -> tuple[list[str], list[int]]:
        """Returns a translation of each sentence, in order, and the numbers of those cut (from 0).

        A translation is one line: line ends in it are spaces; that of a blank line is empty. `beam`
        stands for the usual one. Raises UserError for a text in place of a list, a beam below 1.
        """
        beam = self.beam if beam is None else beam
        if beam < 1:
            raise UserError(f"beam={beam} must be 1 or more.")
        if isinstance(sentences, str):  # whose letters would be the sentences
            raise UserError(f"give a list of sentences, as in [{sentences[:40]!r}].")
        written = [i for i, sentence in enumerate(sentences) if sentence.strip()]
        texts = [sentences[i] for i in written]
        encoded = encode_bitext(self.tokenizer, texts, [""] * len(texts))
        lengths = encoded.src_lengths.tolist()
        cut = [i for i, n in zip(written, lengths, strict=True) if n > self.max_length]
        data, _ = truncate(encoded, self.max_length)
        with autocast(self.precision, self.device):
            translations = translate(
                self.model,
                self.tokenizer,
                data,
                beam=beam,
                length_penalty=self.length_penalty,
                batch_tokens=self.batch_tokens,
                device=self.device,
            )
        lines = [""] * len(sentences)
        for i, text in zip(written, translations, strict=True):
            lines[i] = one_line(text)
        return lines, cut

    def warning(self, cut: list[int]) -> str:
        """Returns which lines were cut, in words; "" for none."""
        lines = ", ".join(str(i + 1) for i in cut[:10]) + ", ..." * (len(cut) > 10)
        return f"cut to {self.max_length} subwords: line {lines}" if cut else ""


def one_line(text: str) -> str:
    """Returns `text` with line ends as spaces: outputs are stored with a sentence on each line."""
    return text.replace("\r", " ").replace("\n", " ")
