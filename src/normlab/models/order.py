"""Order embeddings, the paper's retrieval model (Tables 7, 8): a GRU over sentences, with any norm.

Vendrov et al. 2016: a caption is more general than its image, and lies nearer to the origin in
every dimension. Captions are read by a GRU, with the norm on its four pre-activations (norms of
the paper's appendix); images are feature vectors mapped linearly, or sentences of another language
with a GRU of their own. Embeddings have length 1 and no negative entry.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from normlab.devices import move
from normlab.models.dropout import Dropout
from normlab.models.gru import GRU
from normlab.models.network import Network, Role
from normlab.norms.base import NormFactory, outside_norms, position_wise
from normlab.types import Count, Fraction


class Sentences(NamedTuple):
    """Word ids with padding after each sentence."""

    words: Tensor  # (batch, len) int64
    lengths: Tensor  # (batch,) int64, 1 at least

    def to(self, device: torch.device) -> "Sentences":
        """Returns these sentences on `device`."""
        return Sentences(move(self.words, device), move(self.lengths, device))


class OrderEmbedding(Network):
    """Embeds captions and what they describe in one space of `d_hidden` dimensions.

    `vocab` is the captions' number of words; what they describe has `target_vocab` words, or else
    `features` numbers. `norm(dim)` makes a normalisation layer. Dropout acts on word embeddings;
    the paper has none.
    """

    def __init__(
        self,
        vocab: int,
        target_vocab: int | None,
        features: int | None,
        norm: NormFactory,
        d_embedding: Count,
        d_hidden: Count,
        dropout: Fraction,
    ):
        super().__init__()
        norm = position_wise(norm)  # a step of the recurrence sees one position
        self.caption = SentenceEncoder(vocab, d_embedding, d_hidden, dropout, norm)
        self.target: nn.Module
        if target_vocab is not None:
            self.target = SentenceEncoder(target_vocab, d_embedding, d_hidden, dropout, norm)
        else:
            self.target = nn.Linear(features or 0, d_hidden)

    def embed_captions(self, captions: Sentences) -> Tensor:
        """Returns embeddings (batch, d_hidden) of captions."""
        return positive(self.caption(captions))

    def embed_targets(self, targets: Any) -> Tensor:
        """Returns embeddings (batch, d_hidden) of Sentences, or of vectors (batch, features)."""
        return positive(self.target(targets))

    def roles(self) -> dict[str, Role]:
        """Returns the role of every weight matrix: embeddings, input, recurrent or features."""
        roles = {}
        for name, module in outside_norms(self):
            if isinstance(module, nn.Embedding):
                roles[f"{name}.weight"] = Role("embeddings")
            elif isinstance(module, nn.Linear) and name == "target":
                roles[f"{name}.weight"] = Role("features")
            elif isinstance(module, nn.Linear):  # a GRU's side: three matrices
                side = name.rpartition(".")[2]
                roles[f"{name}.weight"] = Role(side, blocks=3, orthogonal=side == "recurrent")
        return roles

    def compile_steps(self) -> None:
        """Compiles the time steps: whole loops would be unrolled anew for each length."""
        for module in self.modules():
            if isinstance(module, SentenceEncoder):
                module.step = torch.compile(module.step, dynamic=True)  # type: ignore[method-assign]


class SentenceEncoder(nn.Module):
    """Word embeddings and a GRU; a sentence is the state after its last word."""

    def __init__(self, vocab: int, d_embedding: int, d_hidden: int, dropout: float, norm: Any):
        super().__init__()
        self.embedding = nn.Embedding(vocab, d_embedding)
        self.dropout = Dropout(dropout)
        self.gru = GRU(d_embedding, d_hidden, norm, bias="input")

    def forward(self, sentences: Sentences) -> Tensor:
        """Returns states (batch, d_hidden)."""
        words, lengths = sentences
        x = self.dropout(self.embedding(words.t()))  # (len, batch, d_embedding)
        gates, candidate = self.gru.read(x)  # (len, batch, ...)
        weights = self.gru.recurrent_weights()
        h = torch.zeros(len(words), self.gru.d_hidden, dtype=weights[0].dtype, device=words.device)
        states = []
        for at in zip(gates.unbind(0), candidate.unbind(0), strict=True):
            h = self.step(h, at, weights)
            states.append(h)
        # Padding comes after the sentence: no state up to its last word has seen it.
        last = (lengths - 1)[None, :, None].expand(1, -1, h.shape[-1])
        return torch.stack(states).gather(0, last)[0]

    def step(
        self, h: Tensor, x: tuple[Tensor, Tensor], weights: tuple[Tensor, Tensor | None]
    ) -> Tensor:
        """Returns the state (batch, d_hidden) after `h` and one word."""
        return self.gru(h, x, *weights)


def positive(x: Tensor) -> Tensor:
    """Returns |x| / ||x||, rows (..., d) of length 1 without negative entries."""
    return F.normalize(x.float(), dim=-1).abs()
