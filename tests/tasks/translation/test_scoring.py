"""Scores come from sacreBLEU, with the signature, and never from unequal counts."""

import shutil

import pytest
import sacrebleu
from processes import script

from normlab.files import read_sealed, write_sealed
from normlab.tasks.translation.scoring import compare, score

REFERENCES = ["Der Hund schläft auf dem Sofa .", "Sie sieht ihn nicht ."]


def test_equals_sacrebleu_and_says_how():
    hypotheses = ["Der Hund schläft auf dem Bett .", "Sie sieht ihn nicht ."]
    scores = score(hypotheses, REFERENCES)
    assert scores["bleu"] == sacrebleu.corpus_bleu(hypotheses, [REFERENCES]).score
    assert scores["chrf"] == sacrebleu.corpus_chrf(hypotheses, [REFERENCES]).score
    assert "tok:13a" in scores["signature"] and "case:mixed" in scores["signature"]
    assert scores["sentences"] == 2


def test_perfect_output_scores_100_and_empty_output_0():
    assert score(REFERENCES, REFERENCES)["bleu"] == pytest.approx(100)
    assert score(["", ""], REFERENCES)["bleu"] == 0


@pytest.mark.parametrize("hypotheses", [[], ["one"], ["a", "b", "c"]])
def test_unequal_counts_are_refused(hypotheses):
    with pytest.raises(ValueError, match="hypotheses for 2 references"):
        score(hypotheses, REFERENCES)


def test_paired_bootstrap_tells_a_real_gap_from_none():
    references = [f"Der Hund Nummer {n} schläft heute auf dem Sofa ." for n in range(40)]
    worse = [f"Der Hund {n} schläft nicht ." for n in range(40)]
    bleu, chrf = compare(references, worse, references, samples=200)
    assert (bleu.metric, chrf.metric) == ("BLEU", "chrF2")
    assert bleu.a == pytest.approx(100) and bleu.b < 50
    assert bleu.b == sacrebleu.corpus_bleu(worse, [references]).score
    assert bleu.p < 0.01 and "bs:200" in bleu.signature
    assert compare(worse, references, references, samples=200)[0].p < 0.01  # in either order
    assert compare(worse, worse, references, samples=200)[0].p == 1
    mixed = [a if n % 2 else b for n, (a, b) in enumerate(zip(references, worse, strict=True))]
    other = [b if n % 2 else a for n, (a, b) in enumerate(zip(references, worse, strict=True))]
    assert compare(mixed, other, references, samples=200)[0].p > 0.3
    with pytest.raises(ValueError, match="hypotheses for 39 references"):
        compare(worse, worse, references[1:])
    with pytest.raises(ValueError, match="39 and 40 hypotheses for 40 references"):
        compare(worse[1:], worse, references)


def test_compare_shows_the_test_sets_two_runs_share(tmp_path):
    for run, dog in (("a", "Hund"), ("b", "Bär")):
        for kind, text in (("hypotheses", f"Ein {dog} schläft auf dem Sofa .\n"),
                           ("references", "Ein Hund schläft auf dem Sofa .\n")):  # fmt: skip
            (tmp_path / run / kind).mkdir(parents=True)
            (tmp_path / run / kind / "test.txt").write_text(text, encoding="utf-8")
    command = ["scripts/compare.py", tmp_path / "a", tmp_path / "b", "--samples=20"]
    done = script(*command)
    assert done.returncode == 0, done.stderr
    assert "| test | BLEU | 100.00 |" in done.stdout and "not seeds" in done.stdout
    (tmp_path / "b" / "references" / "test.txt").write_text("Etwas anderes .\n")
    done = script(*command)
    assert done.returncode == 1 and "different references" in done.stderr


def test_compare_says_in_what_else_the_runs_differ(tmp_path, trained):
    for name in ("a", "b"):
        shutil.copytree(trained, tmp_path / name)
    summary = read_sealed(tmp_path / "b" / "summary.json")
    config = tmp_path / "b" / ".hydra" / "config.yaml"
    config.write_text(config.read_text().replace("beam: 2", "beam: 5"))
    other = {"steps": 13, "contents": {}, "files": {}, "weights": "average"}
    write_sealed(tmp_path / "b" / "summary.json", {**summary, **other})
    done = script("scripts/compare.py", tmp_path / "a", tmp_path / "b", "--samples=20")
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stdout.split("\n") if line.startswith("not like for like")]
    assert "12 steps, B for 13" in said[0] and "other data" in said[1]
    assert "A was tested with its best weights, B with its average ones." in said[2]
    assert "A has decoding.beam=2, B has 5." in said[3]
    assert len(said) == 4
    write_sealed(tmp_path / "b" / "summary.json", {**summary, **other, "task": "cifar10"})
    done = script("scripts/compare.py", tmp_path / "a", tmp_path / "b")
    assert done.returncode == 1 and "b is of task=cifar10: BLEU and chrF are for" in done.stderr
    write_sealed(tmp_path / "b" / "summary.json", {**summary, **other, "status": "interrupted"})
    done = script("scripts/compare.py", tmp_path / "a", tmp_path / "b")
    assert (
        done.returncode == 1 and "b is interrupted: outputs in it are of an earlier" in done.stderr
    )
    write_sealed(
        tmp_path / "b" / "summary.json", {**summary, **other, "status": "failed", "error": "E: x"}
    )
    done = script("scripts/compare.py", tmp_path / "a", tmp_path / "b")
    assert done.returncode == 1 and "b has failed: E: x" in done.stderr
    done = script("scripts/compare.py", tmp_path / "a", tmp_path / "c")
    assert done.returncode == 1 and "c is no run directory." in done.stderr
    done = script("scripts/compare.py", tmp_path / "a", tmp_path)
    assert done.returncode == 1 and "is a folder of runs: name one of them." in done.stderr
