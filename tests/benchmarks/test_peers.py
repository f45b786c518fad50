"""What other toolkits are given and what is read of their logs; a script stands for each."""

import json
import stat

import pytest
import torch
import yaml

from normlab.benchmarks import peers
from normlab.benchmarks.eole import Eole
from normlab.benchmarks.joeynmt import JoeyNMT
from normlab.benchmarks.peers import Normlab, benchmark, training_times
from normlab.errors import UserError
from normlab.runs import components
from normlab.runs.config import parse_config

# Its lines are those of JoeyNMT 2.3, dates left out.
JOEYNMT = """#!/bin/sh
test "$1" = -c && exit 0
case "$2 $3" in
"joeynmt train")
  echo "Epoch   1, Step:       10, Batch Loss:     5.1, Tokens per Sec:      900, Lr: 0.1"
  echo "Epoch   1, Step:       20, Batch Loss:     4.1, Tokens per Sec:     1000, Lr: 0.1" >&2
  echo "Evaluation result (greedy): bleu:   1.00, loss:   6.81, ppl: 907.87, acc:   0.08" ;;
"joeynmt test")
  echo "Generation took 52.4988[sec]."
  echo "Generation took 40.0702[sec]."
  cp "$(dirname "$4")/test.tgt" "$6.test" ;;
normlab.benchmarks.joeynmt_search*)
  test -d "$PYTHONPATH/normlab" || exit 1
  echo "Generation took 30.5[sec]."
  cp "$(dirname "$3")/test.tgt" "$5.test" ;;
esac
"""
# Its lines are those of eole 0.6.4, dates and what is not read left out.
EOLE = """#!/bin/sh
here=$(dirname "$0")
case "$3" in
train)
  echo "Step 10/   20; xent: 8.64; lr: 1.00e-04; bsz: 1679/1905/125; 712/808 tok/s;     24 sec;"
  echo "Step 20/   20; xent: 8.46; lr: 1.00e-04; bsz: 1647/1831/124; 2109/2344 tok/s;   31 sec;"
  echo "Validation perplexity: 4369.06" >&2 ;;
predict)
  echo "Step 0 time (s): 0.17"
  echo "Enc/Step 0 tokens / sec: 88496.1"
  echo "Subsequent prediction time including all (s): 3.01"
  echo "Decode time (first to last token, s): 2.512301"
  cp "$here/eole/test.tgt" "$here/eole/t.output" ;;
*)
  test "$2" = ctranslate2.converters.eole_ct2 && echo "$5" > "$here/converted"
  test -e "$here/reply" && cp "$here/reply" "$here/eole/t_ct2.json" ;;
esac
exit 0
"""


def script(path, text):
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IEXEC)
    return path


@pytest.fixture
def task(tiny_config):
    config = parse_config(tiny_config("norm=layernorm", "data.max_length=100"))
    return config, components.build_task(config)


@pytest.fixture
def joey(task, tmp_path):
    config, built = task
    return JoeyNMT(script(tmp_path / "python", JOEYNMT), tmp_path / "joey", config, built.encoded)


@pytest.fixture
def eole(task, tmp_path):
    config, built = task
    return Eole(script(tmp_path / "python", EOLE), tmp_path / "eole", config, built.encoded)


def references(task):
    return list(next(iter(task[1].corpus.test.values())).tgt)


def test_joeynmt_reads_our_subwords_and_our_model(joey, task):
    speeds, (loss,) = joey.train("t", "fp32", 20, 10)
    assert speeds == [900.0, 1000.0]
    # it logs KL(smoothed label || model), which is 0 for a model that says the smoothed label
    words = task[1].encoded.tokenizer.get_vocab_size() + 4
    label = torch.full((words,), 0.1 / (words - 2))
    label[0], label[1] = 0.9, 0.0  # the word; padding
    entropy = torch.special.entr(label).sum().item()
    assert loss == pytest.approx(6.81 + entropy, abs=1e-4)
    config = yaml.safe_load((joey.folder / "t.yaml").read_text())
    assert config["model"]["encoder"]["hidden_size"] == joey.config.model["d_model"]
    assert config["training"]["batch_size"] == joey.config.data["batch_tokens"]
    (joey.folder / "t").mkdir()
    found = joey.translate("t", beam=5)
    assert list(found) == ["JoeyNMT", "JoeyNMT's model, normlab's search"]
    # the test set's time, which comes after the dev set's; ids as words, and back
    assert found["JoeyNMT"] == (40.0702, references(task))
    assert found["JoeyNMT's model, normlab's search"] == (30.5, references(task))


def test_eole_reads_our_subwords_and_our_model(eole, task, tmp_path):
    speeds, losses = eole.train("t", "bf16", 20, 10)
    assert speeds == [808.0, 2344.0] and losses == [pytest.approx(8.3823, abs=1e-4)]
    config = yaml.safe_load((eole.folder / "t.yaml").read_text())
    assert config["model"]["hidden_size"] == eole.config.model["d_model"]
    assert config["model"]["layer_norm"] == "standard"
    training = config["training"]
    assert training["compute_dtype"] == "bf16" and training["use_amp"]
    width, warmup = config["model"]["hidden_size"], training["warmup_steps"]
    peak = training["learning_rate"] / (width * warmup) ** 0.5  # noam at step `warmup`
    assert peak == pytest.approx(eole.config.schedule["lr"])
    lines = (eole.folder / "test.tgt").read_text().split("\n")[:-1]
    (tmp_path / "reply").write_text(json.dumps({"seconds": 1.5, "lines": lines}))
    found = eole.translate("t", beam=5)
    assert found["eole"] == (pytest.approx(3.18), references(task))
    assert found["eole's model, CTranslate2"] == (1.5, references(task))
    assert (tmp_path / "converted").read_text() == f"{eole.folder}/t\n"
    search = yaml.safe_load((eole.folder / "t.predict.yaml").read_text())
    assert search["beam_size"] == 5 and search["alpha"] == 0.6


def test_a_peer_that_computes_nan_is_not_timed(eole, monkeypatch):
    monkeypatch.setattr("normlab.benchmarks.eole.run", lambda _: "Validation perplexity: nan\n")
    with pytest.raises(UserError, match=r"t.yaml: eole's loss is not finite"):
        eole.train("t", "fp32", 20, 10)


def test_a_round_starts_every_system_once(eole, monkeypatch):
    ours = Normlab(eole.folder / "ours", [])
    monkeypatch.setattr(ours, "train", lambda name, precision, steps, every: ([1, 4000, 4000], []))
    monkeypatch.setattr(eole, "train", lambda *_, dev: ([1, 1000, 1000], []))
    times = training_times(eole, ours, rounds=3)
    assert times["eole, fp32"] == times["eole, bf16"] == [1.0] * 3  # s per 1,000 tokens
    assert times["normlab, fp32"] == times["normlab, bf16"] == [0.25] * 3


def test_the_benchmark_says_losses_and_bleu_of_every_way_to_decode(joey, task, monkeypatch):
    ours = Normlab(joey.folder / "ours", [])
    monkeypatch.setattr(ours, "train", lambda *_: ([1.0, 2.0], [6.5]))
    monkeypatch.setattr(peers, "load_translator", lambda *_, **__: lambda texts, beam: (texts, []))
    (joey.folder / "trained").mkdir()
    found = benchmark(joey, ours, task[1], rounds=2, steps=20)
    decoding = found["records"][1]["times"]
    assert list(decoding) == ["JoeyNMT", "JoeyNMT's model, normlab's search", "normlab"]
    assert decoding["JoeyNMT"] == [40.0702] * 2
    notes = " ".join(found["notes"])
    assert "Label-smoothed dev loss per token after 20 steps: JoeyNMT, fp32 " in notes
    assert "normlab, fp32 6.50" in notes
    assert "beam 5: JoeyNMT 100.0, JoeyNMT's model, normlab's search 100.0" in notes


def test_numbers_of_an_earlier_benchmark_are_never_read(tmp_path):
    (tmp_path / "fp32_0").mkdir()
    with pytest.raises(UserError, match="earlier benchmark: delete it first"):
        Normlab(tmp_path, [])


@pytest.mark.parametrize(("kind", "package"), [(JoeyNMT, "joeynmt"), (Eole, "eole")])
def test_an_environment_without_it_is_named(kind, package, task, tmp_path):
    python = script(tmp_path / "other", "#!/bin/sh\necho 'No module named x' >&2\nexit 1\n")
    config, built = task
    with pytest.raises(UserError, match=f"has no {package}.*No module named x"):
        kind(python, tmp_path / "x", config, built.encoded)


def test_a_norm_that_a_toolkit_lacks_is_refused(tiny_config, tmp_path):
    config = parse_config(tiny_config("norm=prmsnorm"))
    python = script(tmp_path / "python", EOLE)
    with pytest.raises(UserError, match="norm=prmsnorm: eole is compared with norm=layernorm"):
        Eole(python, tmp_path / "x", config, None)
    with pytest.raises(UserError, match="LayerNorm only: norm=layernorm, not prmsnorm"):
        JoeyNMT(python, tmp_path / "x", config, None)
