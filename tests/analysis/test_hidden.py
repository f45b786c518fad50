"""Hidden statistics against sums written out."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from processes import script

from normlab.analysis.hidden import hidden_statistics, table
from normlab.errors import UserError
from normlab.models.rnnsearch import RNNSearch
from normlab.models.transformer import Transformer
from normlab.norms import LayerNorm, NoNorm
from normlab.runs.job import run
from normlab.tasks.translation.batching import EncodedBitext, collate, eval_batches

SENTENCES = [([5, 6, 2], [7, 8, 9, 4, 6, 2]), ([9, 2], [4, 2]), ([4, 4, 4, 2], [5, 6, 2])]
CPU = torch.device("cpu")


def bitext():
    arrays = []
    for side in zip(*SENTENCES, strict=True):
        arrays.append(np.array([i for ids in side for i in ids], dtype=np.int32))
        arrays.append(np.cumsum([0, *(len(ids) for ids in side)]))
    return EncodedBitext(*arrays)


def batches(batch_tokens):
    data = bitext()
    order = eval_batches(data.src_lengths, data.tgt_lengths, batch_tokens=batch_tokens)
    return [partial(collate, data, indices) for indices in order]


def make(norm=LayerNorm):
    torch.manual_seed(4)
    return RNNSearch(
        12, norm, d_embedding=4, d_hidden=5, dropout=0.5, share_embeddings=False, max_length=9
    )


def test_statistics_of_both_transitions_written_out():
    model = make().eval()
    seen = {}  # (where, position) -> values
    for src, tgt in SENTENCES:
        memory = model.encode(torch.tensor([src]), torch.tensor([len(src)]))
        state, tokens = memory.s0, [1, *tgt[:-1]]
        for position, token in enumerate(tokens, start=1):
            y = model.gru1.read(model.tgt_embedding(torch.tensor([token])))
            middle = model.gru1(state, y, *model.gru1.recurrent_weights())
            for name, gru, h in (("gru1", model.gru1, state), ("gru2", model.gru2, middle)):
                gates, candidate = gru.recurrent(h).split((10, 5), dim=-1)
                for where, x, norm in (
                    ("gates", gates, gru.recurrent_gates_norm),
                    ("candidate", candidate, gru.recurrent_candidate_norm),
                ):
                    for side, values in (("before", x), ("after", norm(x))):
                        for place in (position, "all"):
                            seen.setdefault((f"{name}_{where}_{side}", place), []).append(values)
            _, state = model.step(
                torch.tensor([token]), model.initial_state(memory)._replace(past=state)
            )
            state = state.past
    statistics = hidden_statistics(model, batches(8), CPU)
    assert len(statistics) == 8 * 2 * 5
    for (where, position), parts in seen.items():
        if position in (1, 2, 3, 4, "all"):
            values = torch.cat(parts).detach().double()
            mean = statistics[f"hidden/{where}/mean_{position}"]
            std = statistics[f"hidden/{where}/std_{position}"]
            assert math.isclose(mean, values.mean(), rel_tol=1e-4, abs_tol=1e-6)
            assert math.isclose(std, values.std(correction=0), rel_tol=1e-4)


def test_without_a_norm_before_is_after():
    statistics = hidden_statistics(make(NoNorm), batches(100), CPU)
    for key, value in statistics.items():
        if "_before/" in key:
            assert statistics[key.replace("_before/", "_after/")] == value


def test_batches_change_nothing_and_no_hook_stays():
    model = make()
    few = hidden_statistics(model, batches(1), CPU)
    many = hidden_statistics(model, batches(100), CPU)
    assert few.keys() == many.keys()
    assert all(math.isclose(few[key], many[key], rel_tol=1e-4, abs_tol=1e-6) for key in few)
    assert not any(module._forward_hooks for module in model.modules())


def test_the_table_has_a_row_for_each_reading():
    lines = table(hidden_statistics(make(), batches(9), CPU)).split("\n")
    assert lines[0].startswith("| where | mean_1 | mean_2 | mean_3 | mean_4 | mean_all | std_1 |")
    assert len(lines) == 2 + 8
    assert lines[2].startswith("| gru1_gates_before | ")


def test_a_transformer_is_refused():
    model = Transformer(
        12, NoNorm, d_model=4, d_ff=4, heads=1, encoder_layers=1, decoder_layers=1, dropout=0.0,
        attention_dropout=0.0, norm_placement="post", share_embeddings=True, max_length=8,
    )  # fmt: skip
    with pytest.raises(
        UserError, match="Table 5 needs a recurrent decoder, and Transformer has none"
    ):
        hidden_statistics(model, batches(9), CPU)


@pytest.mark.slow
@pytest.mark.parametrize("rnn", [False, True], ids=["transformer", "rnnsearch"])
def test_the_command_measures_what_a_model_has(tiny_config, trained, tmp_path, rnn):
    run_dir = trained
    if rnn:
        run_dir = tmp_path / "run"
        run(tiny_config("trainer.max_steps=2", rnn=True), run_dir, [])
    done = script("scripts/analyze.py", "hidden", run_dir)
    assert done.returncode == 0, done.stderr
    assert f"## {run_dir}, best" in done.stdout
    assert ("gru1_gates_after" if rnn else "|cos| to 1 before") in done.stdout
