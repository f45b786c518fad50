"""Conversion: an RMSNorm and a CRMSNorm network with the same logits and translations."""

import json
from functools import partial
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from processes import script

from normlab.analysis import conversion
from normlab.errors import UserError
from normlab.models.transformer import Transformer
from normlab.norms import CRMSNorm, LayerNorm, Norm, RMSNorm
from normlab.runs import job
from normlab.runs.converted import convert_run
from normlab.runs.loaded import load_run, load_translator

SRC = torch.tensor([[5, 6, 7, 8, 2], [9, 10, 2, 0, 0]])
LENGTHS = torch.tensor([5, 3])
TGT = torch.tensor([[1, 11, 12, 13], [1, 14, 15, 16]])
both = pytest.mark.parametrize("to", conversion.KINDS)


def make(norm=LayerNorm, **changes):
    arguments = {
        "d_model": 16,
        "d_ff": 24,
        "heads": 4,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "dropout": 0.1,
        "attention_dropout": 0.0,
        "norm_placement": "pre",
        "share_embeddings": True,
        "max_length": 16,
    }
    return Transformer(20, norm, **arguments | changes).double().eval()


def trained(**changes):
    """Returns a model none of whose parameters is at its start."""
    torch.manual_seed(1)
    model = make(**changes)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter) + 0.1)
    return model


def converted(source, to, **changes):
    norm, model = conversion.arguments(to, conversion.check(source))
    kind = {"prermsnorm": RMSNorm, "precrmsnorm": CRMSNorm}[to]
    own = {key: value for key, value in norm.items() if key in ("eps", "gain", "bias")}
    target = make(partial(kind, **own), **{**changes, **model})
    conversion.convert(source, target)
    return target


def logits(model):
    return F.linear(model.decode(model.encode(SRC, LENGTHS), TGT), *model.output_layer())


@both
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"share_embeddings": False},
        {"tie_softmax": False},
        {"norm": partial(LayerNorm, eps=1e-2, bias=False)},
        {"norm": partial(LayerNorm, gain=False)},
        {"qk_norm": LayerNorm},
    ],
)
def test_the_logits_are_the_same(to, changes):
    source = trained(**changes)
    kept = {key: value for key, value in changes.items() if key not in ("norm", "tie_softmax")}
    target = converted(source, to, **kept)
    # Positions are fp32: their mean is 0 to seven digits, all else to fifteen.
    torch.testing.assert_close(logits(target), logits(source), rtol=1e-5, atol=1e-5)
    state = target.initial_state(target.encode(SRC, LENGTHS))
    first, _ = target.step(TGT[:, 0], state)
    torch.testing.assert_close(first, logits(source)[:, 0], rtol=1e-5, atol=1e-5)
    if "qk_norm" not in changes:
        assert not any(list(m.parameters()) for m in target.modules() if isinstance(m, Norm))


@both
def test_how_far_logits_are_apart_is_in_units_of_their_spread(to):
    source = trained()
    out = torch.tensor([[11, 12, 13, 2], [14, 2, 0, 0]])
    real = out.flatten().nonzero()[:, 0]
    batch = SimpleNamespace(src=SRC, src_lengths=LENGTHS, tgt_in=TGT, tgt_out=out, positions=real)
    assert conversion.logits_apart(source, converted(source, to), [batch, batch]) < 1e-5
    other = trained()
    with torch.no_grad():
        other.tgt_embedding.weight[7] += 1.0  # tied: one logit, and nothing that is read here
    theirs = logits(source).flatten(0, 1)[real]
    gap = (logits(other).flatten(0, 1)[real] - theirs).abs().max() / theirs.std(correction=0)
    found = conversion.logits_apart(source, other, [batch])
    assert found == pytest.approx(gap.item(), rel=1e-6) and found > 0.1


def test_more_than_rounding_between_logits_contradicts_the_claim():
    def row(differ, gap):
        return conversion.Converted("a", 5, gap, {1: 0, 4: differ}, {1: 20.0, 4: 21.0})

    holds, evidence = conversion.claim([row(0, 0.0), row(1, 2e-5)], 1000)
    assert holds and "2e-05" in evidence and "1 of 1000 sentences" in evidence
    holds, _ = conversion.claim([row(0, 0.0), row(0, 2e-4)], 1000)
    assert not holds


def test_the_branch_has_mean_zero_and_one_entry_less():
    source = trained()
    seen = []
    for to in conversion.KINDS:
        target = converted(source, to)
        target.encoder[1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        target.encode(SRC, LENGTHS)
    whole, stored = seen
    torch.testing.assert_close(whole.sum(-1), torch.zeros(2, 5).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(stored, whole[..., :-1], rtol=1e-5, atol=1e-5)


@both
def test_the_source_stays_as_it_is(to):
    source = trained()
    before = {name: value.clone() for name, value in source.state_dict().items()}
    converted(source, to)
    assert all(torch.equal(before[name], value) for name, value in source.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm_placement": "post"}, "only a pre-norm Transformer"),
        ({"norm": RMSNorm}, "has RMSNorm, and only LayerNorm is an RMSNorm in disguise: convert"),
        ({"decoder_norm": RMSNorm}, "has RMSNorm"),
        ({"decoder_norm": partial(LayerNorm, eps=0.1)}, "one eps"),
        ({"main_branch": "zero_mean"}, "the main branch is zero_mean"),
    ],
)
def test_what_cannot_be_converted_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        conversion.check(make(**changes))


@pytest.fixture(scope="module")
def finished(tiny_config, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("source") / "run"
    config = tiny_config("trainer.max_steps=60", "trainer.eval_every=60", "decoding.beam=4")
    assert job.run(config, run_dir, [])["status"] == "completed"
    return run_dir


SENTENCES = ["The dog sleeps.", "A child saw the old house.", "", "We will read two books."]


@pytest.mark.slow
@both
def test_a_converted_run_translates_as_the_source_does(finished, tmp_path, to):
    out = tmp_path / "converted"
    summary = convert_run(finished, to, out)
    assert summary["status"] == "converted" and summary["parameters"] > 0
    ours, theirs = load_run(out, device="cpu").model, load_run(finished, device="cpu").model
    torch.testing.assert_close(logits(ours), logits(theirs), rtol=1e-4, atol=1e-4)
    translations = [load_translator(run, device="cpu")(SENTENCES) for run in (out, finished)]
    assert translations[0] == translations[1]
    assert any(translations[0][0])
    with pytest.raises(UserError, match="holds a run already"):
        convert_run(finished, to, out)
    with pytest.raises(UserError, match="not RMSNorm|not CRMSNorm|converted already"):
        convert_run(out, to, tmp_path / "twice")


@pytest.mark.slow
def test_the_scripts_take_a_converted_run(finished, tmp_path):
    def said_by(name, *arguments, given=""):
        done = script(f"scripts/{name}", *arguments, given=given)
        assert done.returncode == 0, done.stderr
        return done.stdout

    out = tmp_path / "crms"
    said = said_by("convert.py", finished, "--to", "precrmsnorm", "--out", out)
    assert "parameters" in said
    text = "\n".join(SENTENCES) + "\n"
    translated = said_by("translate.py", out, "--device", "cpu", given=text)
    assert translated == said_by("translate.py", finished, "--device", "cpu", given=text)
    (tmp_path / "src").write_text(text, encoding="utf-8")
    pair = ["--src", tmp_path / "src", "--ref", tmp_path / "src", "--device", "cpu"]
    assert said_by("evaluate.py", out, *pair) == said_by("evaluate.py", finished, *pair)
    said = said_by("analyze.py", "--results", tmp_path, "conversion", finished)
    rows = [line for line in said.split("\n") if line.startswith(("| the trained", "| pre"))]
    assert [row.split(" | ")[3] for row in rows] == ["0"] * 3  # greedy; the beam's come later
    assert len({row.split(" | ", 3)[3] for row in rows}) == 1  # as many differ, one BLEU
    claims = json.loads((tmp_path / "followups/analysis.json").read_text())["claims"]
    assert claims["equivalence"]["holds"]
