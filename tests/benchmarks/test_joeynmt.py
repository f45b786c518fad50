"""What JoeyNMT is given and what is read of its log; a script that prints one stands for it."""

import stat

import pytest
import yaml

from normlab.benchmarks.joeynmt import BASELINE, JoeyNMT, Normlab, training_times
from normlab.errors import UserError
from normlab.runs import components
from normlab.runs.config import check

# Its lines are those of JoeyNMT 2.3, dates left out.
FAKE = """#!/bin/sh
test "$1" = -c && exit 0
case "$3" in
train)
  echo "Epoch   1, Step:       10, Batch Loss:     5.1, Tokens per Sec:      900, Lr: 0.1"
  echo "Epoch   1, Step:       20, Batch Loss:     4.1, Tokens per Sec:     1000, Lr: 0.1" >&2
  echo "Evaluation result (greedy): bleu:   1.00, loss:   6.81, ppl: 907.87, acc:   0.08" ;;
test)
  echo "Generation took 52.4988[sec]."
  echo "Generation took 40.0702[sec]."
  cp "$(dirname "$4")/test.tgt" "$6.test" ;;
esac
"""


@pytest.fixture
def joey(tiny_config, tmp_path):
    python = tmp_path / "python"
    python.write_text(FAKE)
    python.chmod(python.stat().st_mode | stat.S_IEXEC)
    config = check(tiny_config("norm=layernorm", "data.max_length=100"))
    task = components.build_task(config)
    made = JoeyNMT(python, tmp_path / "joey", config, task.encoded)
    made.references = next(iter(task.corpus.test.values())).tgt
    return made


def test_it_reads_our_subwords_and_our_model(joey):
    assert joey.train("t", 20, 10) == ([900.0, 1000.0], [6.81])
    config = yaml.safe_load((joey.folder / "t.yaml").read_text())
    assert config["model"]["encoder"]["hidden_size"] == joey.config.model["d_model"]
    assert config["training"]["batch_size"] == joey.config.data["batch_tokens"]
    (joey.folder / "t").mkdir()
    seconds, outputs = joey.translate("t", beam=5)
    assert seconds == 40.0702  # the test set's, which comes after the dev set's
    assert outputs == list(joey.references)  # ids as words, and back


def test_a_round_starts_every_system_once(joey, monkeypatch):
    ours = Normlab(joey.folder, [])
    monkeypatch.setattr(ours, "train", lambda name, precision, steps, every: ([1, 4000, 4000], []))
    times = training_times(joey, ours, rounds=3)
    assert times[BASELINE] == [1.0] * 3  # seconds per 1,000 tokens, the first interval left out
    assert times["normlab, fp32"] == times["normlab, bf16"] == [0.25] * 3


def test_an_environment_without_it_is_named(joey, tmp_path):
    python = tmp_path / "other"
    python.write_text("#!/bin/sh\necho 'No module named joeynmt' >&2\nexit 1\n")
    python.chmod(0o755)
    with pytest.raises(UserError, match="has no JoeyNMT .*No module named joeynmt"):
        JoeyNMT(python, tmp_path / "x", joey.config, None)
