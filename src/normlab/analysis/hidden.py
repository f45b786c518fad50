"""Hidden statistics (Table 5): the decoder's hidden-to-hidden pre-activations by target position.

The paper does not say which of a GRU's pre-activations it means, nor whether before or after the
norm. Here is each: first and second transition (gru1, gru2), gates and candidate, before the norm
(U h, with GRU2's bias) and after it. A model that can be measured has a method `hidden_to_hidden`.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from normlab import markdown
from normlab.errors import UserError
from normlab.models.seq2seq import Seq2Seq

POSITIONS = ("1", "2", "3", "4", "all")  # of the target, from 1


def measurable(model: Seq2Seq) -> bool:
    """Returns whether the model has a recurrent decoder that can be measured."""
    return hasattr(model, "hidden_to_hidden")


@torch.inference_mode()
def hidden_statistics(
    model: Seq2Seq, batches: Iterable[Callable[[], Any]], device: torch.device
) -> dict[str, float]:
    """Returns `hidden/<where>/mean_<position>` and `.../std_<position>` over `batches`.

    <where> is gru1 or gru2, gates or candidate, before or after, as in gru1_gates_before. The
    decoder reads the reference, without dropout; position 1 sees the initial state. Mean and
    (population) standard deviation are over sentences that have the position and over units.
    Leaves `model` in evaluation mode. Raises UserError for a model without a recurrent decoder.
    """
    if not measurable(model):
        raise UserError(
            f"Table 5 needs a recurrent decoder, and {type(model).__name__} has none: choose a run "
            "of model=rnnsearch."
        )
    model.eval()
    taps = {where: _Tap(device) for where in model.hidden_to_hidden()}
    hooks = [
        norm.register_forward_hook(taps[where]) for where, norm in model.hidden_to_hidden().items()
    ]
    try:
        # Compiled code was made without the hooks and would pass them by.
        with torch.compiler.set_stance("force_eager"):
            for make in batches:
                batch = make().to(device)
                real = torch.zeros(batch.tgt_out.numel(), dtype=torch.bool, device=device)
                real[batch.positions] = True
                for tap in taps.values():
                    tap.start(real.view_as(batch.tgt_out))
                model.decode(model.encode(batch.src, batch.src_lengths), batch.tgt_in)
    finally:
        for hook in hooks:
            hook.remove()
    return {
        f"hidden/{where}_{side}/{name}_{position}": value
        for where, tap in taps.items()
        for side, sums in (("before", tap.before), ("after", tap.after))
        for name, position, value in _moments(sums)
    }


def table(statistics: dict[str, float]) -> str:
    """Returns what `hidden_statistics` gives as a Markdown table, a row for each <where>."""
    columns = [f"{name}_{position}" for name in ("mean", "std") for position in POSITIONS]
    rows = []
    for where in dict.fromkeys(key.split("/")[1] for key in statistics):
        values = [statistics.get(f"hidden/{where}/{column}", math.nan) for column in columns]
        rows.append([where, *(f"{value:.2f}" for value in values)])
    return "\n".join(markdown.table(["where", *columns], rows))


class _Tap:
    """A forward hook on a norm that is called once for each target position, in order."""

    def __init__(self, device: torch.device):
        # number, sum and sum of squares of the elements, for each of POSITIONS
        self.before = torch.zeros(len(POSITIONS), 3, dtype=torch.float64, device=device)
        self.after = torch.zeros_like(self.before)

    def start(self, real: Tensor) -> None:
        """Begins a batch; `real` (batch, tgt_len) says where there is a token."""
        self._real, self._position = real, 0

    def __call__(self, module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        real = self._real[:, self._position]
        for sums, x in ((self.before, inputs[0]), (self.after, output)):
            values = x[real].double()  # (sentences, width)
            count = torch.tensor(float(values.numel()), device=sums.device)
            moments = torch.stack((count.double(), values.sum(), values.square().sum()))
            sums[-1] += moments
            if self._position < len(POSITIONS) - 1:
                sums[self._position] += moments
        self._position += 1


def _moments(sums: Tensor) -> list[tuple[str, str, float]]:
    found = []
    for position, (count, total, squares) in zip(POSITIONS, sums.tolist(), strict=True):
        if count:
            mean = total / count
            variance = max(squares / count - mean * mean, 0.0)
            found += [("mean", position, mean), ("std", position, math.sqrt(variance))]
    return found
