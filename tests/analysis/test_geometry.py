"""Angles to the uniform vector, written out and on a tiny model."""

import math
from types import SimpleNamespace

import pytest
import torch

from normlab.analysis import geometry
from normlab.errors import UserError
from normlab.models.rnnsearch import RNNSearch
from normlab.models.transformer import Transformer
from normlab.norms import LayerNorm, RMSNorm

CPU = torch.device("cpu")


class Batch(SimpleNamespace):
    def to(self, device):
        return self


def batch(padding=0):
    def padded(rows):
        return torch.tensor(
            [row + [0] * (max(map(len, rows)) + padding - len(row)) for row in rows]
        )

    tgt_out = padded([[7, 8, 2], [9, 2]])
    return Batch(
        src=padded([[5, 6, 2], [9, 2]]),
        src_lengths=torch.tensor([3, 2]),
        tgt_in=padded([[1, 7, 8], [1, 9]]),
        tgt_out=tgt_out,
        positions=tgt_out.flatten().nonzero()[:, 0],
    )


def make(norm, placement="pre"):
    torch.manual_seed(0)
    return Transformer(
        12,
        norm,
        d_model=8,
        d_ff=12,
        heads=2,
        encoder_layers=1,
        decoder_layers=1,
        dropout=0.5,
        attention_dropout=0.0,
        norm_placement=placement,
        share_embeddings=True,
        max_length=16,
    )


def test_opposite_vectors_lie_along_the_same_line():
    x = torch.tensor([[3.0, 1.0], [-3.0, -1.0]])
    found = geometry.of_vectors(x, x)
    assert found["angle_before"].tolist() == pytest.approx([26.565, 26.565], abs=1e-3)


def test_the_quantities_written_out():
    x, y = torch.tensor([[3.0, 1.0]]), torch.tensor([[1.0, -1.0]])
    found = {key: value.item() for key, value in geometry.of_vectors(x, y).items()}
    assert found == pytest.approx(
        {
            "cos_before": 4 / math.sqrt(20),
            "cos_after": 0,
            "angle_before": math.degrees(math.atan(1 / 2)),
            "angle_after": 90,
            "length_before": math.sqrt(10),
            "length_after": math.sqrt(2),
            "rotation": math.degrees(math.acos(2 / math.sqrt(20))),
            "offset": 2.0,
        }
    )


def test_chance_is_what_random_directions_have():
    x = torch.randn(20000, 64, generator=torch.Generator().manual_seed(1))
    found = geometry.of_vectors(x, x)["cos_before"].mean().item()
    assert found == pytest.approx(geometry.chance(64), rel=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("placement", ["pre", "post"])
def test_layernorm_makes_vectors_orthogonal_to_the_uniform_one_and_rmsnorm_turns_none(placement):
    found = geometry.geometry(make(LayerNorm, placement), [batch], CPU)
    assert len(found) == (7 if placement == "pre" else 5)
    for of in found.values():
        assert of["cos_after"] == pytest.approx(0, abs=1e-6)
        assert of["angle_after"] == pytest.approx(90, abs=1e-4)
        assert of["rotation"] > 0.01 and of["width"] == 8 and of["count"] == 5
    for of in geometry.geometry(make(RMSNorm, placement), [batch], CPU).values():
        assert of["rotation"] == pytest.approx(0, abs=1e-3)
        assert of["cos_after"] == pytest.approx(of["cos_before"], abs=1e-6)


def test_padding_counts_nowhere_and_no_hook_stays():
    model = make(RMSNorm)
    plain = geometry.geometry(model, [batch], CPU)
    padded = geometry.geometry(model, [lambda: batch(padding=2)], CPU)
    for name, of in plain.items():
        assert padded[name] == pytest.approx(of, rel=1e-4, abs=1e-4)
    assert not any(module._forward_hooks for module in model.modules())


def test_the_table_names_the_norms_and_chance():
    lines = geometry.table(geometry.geometry(make(LayerNorm), [batch], CPU)).split("\n")
    assert lines[2].startswith("| encoder.0.self_residual.norm | ")
    assert lines[-1] == f"|cos| of a random direction to 1: {geometry.chance(8):.3g} at width 8."


def test_recurrent_models_are_refused():
    model = RNNSearch(
        12, LayerNorm, d_embedding=4, d_hidden=4, dropout=0.0, share_embeddings=True, max_length=9
    )
    with pytest.raises(UserError, match="geometry is measured in a Transformer"):
        geometry.geometry(model, [batch], CPU)
