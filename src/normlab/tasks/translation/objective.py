"""What a translation model is trained for: the cross entropy of each target token."""

from typing import Any

import torch
from torch import Tensor, nn

from normlab.models.seq2seq import Seq2Seq
from normlab.tasks.task import Sums
from normlab.tasks.translation.batching import Batch
from normlab.tasks.translation.loss import token_loss


class TranslationObjective(nn.Module):
    """Forward pass and label-smoothed cross entropy at the real target positions of a batch."""

    def __init__(self, model: Seq2Seq, label_smoothing: float):
        super().__init__()
        self.model, self.label_smoothing = model, label_smoothing

    def forward(self, batch: Batch) -> Sums:
        """Returns two sums over the batch's target tokens, in nats: `loss`, smoothed, and `nll`."""
        features = self._features(batch.src, batch.src_lengths, batch.tgt_in, batch.positions)
        weight, bias = self.model.output_layer()
        loss, nll = token_loss(features, weight, bias, batch.labels, self.label_smoothing)
        count = len(batch.labels)
        return {"loss": (loss, count), "nll": (nll, count)}

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compiles the time steps of a recurrent model, of any other its encoder and decoder.

        The loss is a kernel of its own.
        """
        if hasattr(self.model, "compile_steps"):
            self.model.compile_steps()
        else:
            self._features = torch.compile(self._features, dynamic=True)  # type: ignore[method-assign]

    def _features(
        self, src: Tensor, src_lengths: Tensor, tgt_in: Tensor, positions: Tensor
    ) -> Tensor:
        features = self.model.decode(self.model.encode(src, src_lengths), tgt_in)
        # (batch, tgt_len, width) -> (items, width): no logits are computed for padding
        return features.flatten(0, 1).index_select(0, positions)
