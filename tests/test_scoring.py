"""Scores come from sacreBLEU, with the signature, and never from unequal counts."""

import pytest
import sacrebleu

from normlab.scoring import score

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
