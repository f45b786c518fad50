"""The attentive reader, the paper's question answering model (Table 6), with any norm.

Hermann et al. 2015: two bidirectional LSTMs read document and query, attention by the query weighs
the document's words, and document and query together say which entity fills the query's gap. The
norm stands in the LSTMs, in three places (lstm.py).
"""

import torch
from torch import Tensor, nn

from normlab.models.dropout import Dropout
from normlab.models.lstm import LSTM
from normlab.models.network import Network, Role
from normlab.norms.base import NormFactory, outside_norms, position_wise
from normlab.types import Count, Fraction


class AttentiveReader(Network):
    """Logits of `entities` markers for a document and a query, ids in [0, vocab); 0 is padding.

    `norm(dim)` makes a normalisation layer. Dropout acts on word embeddings and before the answer's
    layer. forget: where the bias of the forget gates starts.
    """

    def __init__(
        self,
        vocab: int,
        entities: int,
        norm: NormFactory,
        d_embedding: Count,
        d_hidden: Count,
        dropout: Fraction,
        forget: float,
    ):
        super().__init__()
        norm = position_wise(norm)  # a step of the recurrence sees one position
        self.embedding = nn.Embedding(vocab, d_embedding)
        self.dropout = Dropout(dropout)
        self.document = Bidirectional(d_embedding, d_hidden, norm, forget)
        self.query = Bidirectional(d_embedding, d_hidden, norm, forget)
        size = 2 * d_hidden
        self.key = nn.Linear(size, size)
        self.asked = nn.Linear(size, size, bias=False)
        self.score = nn.Linear(size, 1, bias=False)
        self.from_document = nn.Linear(size, size)
        self.from_query = nn.Linear(size, size, bias=False)
        self.answer = nn.Linear(size, entities)

    def forward(
        self, document: Tensor, document_lengths: Tensor, query: Tensor, query_lengths: Tensor
    ) -> Tensor:
        """Returns logits (batch, entities) for documents and queries (batch, len) with lengths."""
        x = self.dropout(self.embedding(document.t()))  # (len, batch, d_embedding)
        states, _ = self.document(x, document_lengths)  # (batch, len, 2 * d_hidden)
        _, asked = self.query(self.dropout(self.embedding(query.t())), query_lengths)
        compared = torch.tanh(self.key(states) + self.asked(asked)[:, None])
        scores = self.score(compared)[..., 0].float()  # (batch, len)
        padding = torch.arange(states.shape[1], device=x.device) >= document_lengths[:, None]
        weights = scores.masked_fill(padding, float("-inf")).softmax(-1)
        found = (weights[:, None].to(states.dtype) @ states)[:, 0]  # (batch, 2 * d_hidden)
        joint = torch.tanh(self.from_document(found) + self.from_query(asked))
        return self.answer(self.dropout(joint))

    def roles(self) -> dict[str, Role]:
        """Returns the role of every weight matrix.

        `input` and `recurrent` are the LSTMs', `attention` and `score` the attention's, `output`
        what makes the answer's features, `softmax` the answer's layer.
        """
        kinds = {
            "key": "attention",
            "asked": "attention",
            "score": "score",
            "from_document": "output",
            "from_query": "output",
            "answer": "softmax",
        }
        roles = {}
        for name, module in outside_norms(self):
            if isinstance(module, nn.Embedding):
                roles[f"{name}.weight"] = Role("embeddings")
            elif isinstance(module, nn.Linear):
                side = name.rpartition(".")[2]  # of an LSTM: its matrices are of four gates
                lstm = Role(side, blocks=4, orthogonal=side == "recurrent")
                role = Role(kinds[name]) if name in kinds else lstm
                roles[f"{name}.weight"] = role
        return roles

    def compile_steps(self) -> None:
        """Compiles the time steps: whole loops would be unrolled anew for each length."""
        for encoder in (self.document, self.query):
            encoder.step = torch.compile(encoder.step, dynamic=True)  # type: ignore[method-assign]


class Bidirectional(nn.Module):
    """Two LSTMs over a sequence, one from each end."""

    def __init__(self, d_input: int, d_hidden: int, norm: NormFactory, forget: float):
        super().__init__()
        self.d_hidden = d_hidden
        self.ahead = LSTM(d_input, d_hidden, norm, forget)
        self.back = LSTM(d_input, d_hidden, norm, forget)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Returns states (batch, len, 2 * d_hidden) of `x` (len, batch, d_input), and the last.

        The last (batch, 2 * d_hidden) are those of each direction at its end. The backward one
        reads each sequence from its own last position, so that padding comes after it in both.
        """
        position = torch.arange(len(x), device=x.device)[:, None]
        real = position < lengths  # (len, batch)
        mirror = torch.where(real, lengths - 1 - position, position)[:, :, None]  # own inverse
        mirrored = x.gather(0, mirror.expand(-1, -1, x.shape[-1]))
        inputs = self.ahead.read(x), self.back.read(mirrored)
        weights = self.ahead.recurrent.weight, self.back.recurrent.weight
        zero = torch.zeros(x.shape[1], self.d_hidden, dtype=weights[0].dtype, device=x.device)
        ahead = back = (zero, zero)
        states = []
        for x_ahead, x_back in zip(*(i.unbind(0) for i in inputs), strict=True):
            ahead, back = self.step(ahead, back, x_ahead, x_back, weights)
            states.append(torch.cat((ahead[0], back[0]), dim=-1))
        both = torch.stack(states)  # (len, batch, 2 * d_hidden)
        last = both.gather(0, (lengths - 1)[None, :, None].expand(1, -1, both.shape[-1]))[0]
        forward, backward = both.chunk(2, dim=-1)
        backward = backward.gather(0, mirror.expand_as(backward))
        return torch.cat((forward, backward), dim=-1).transpose(0, 1), last

    def step(
        self,
        ahead: tuple[Tensor, Tensor],
        back: tuple[Tensor, Tensor],
        x_ahead: Tensor,
        x_back: Tensor,
        weights: tuple[Tensor, Tensor],
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Returns the next states of both directions."""
        return (
            self.ahead(ahead, x_ahead, weights[0]),
            self.back(back, x_back, weights[1]),
        )
