"""Corpus scores of detokenised translations, all by sacreBLEU."""

from collections.abc import Sequence
from typing import TypedDict


class Scores(TypedDict):
    """One test set's scores; BLEU and chrF in percent, `signature` says how BLEU was computed."""

    bleu: float
    chrf: float
    signature: str
    chrf_signature: str
    sentences: int


def score(hypotheses: Sequence[str], references: Sequence[str]) -> Scores:
    """Returns SacreBLEU (13a, mixed case) and chrF2 of one hypothesis and reference a sentence.

    Raises ValueError when the counts differ: sacreBLEU would truncate silently.
    """
    if len(hypotheses) != len(references):
        raise ValueError(f"{len(hypotheses)} hypotheses for {len(references)} references")
    if not hypotheses:
        raise ValueError("no sentences to score")
    from sacrebleu.metrics import BLEU, CHRF  # here, because it costs start-up time

    bleu, chrf = BLEU(), CHRF()
    bleu_score = bleu.corpus_score(hypotheses, [references]).score
    chrf_score = chrf.corpus_score(hypotheses, [references]).score
    return Scores(
        bleu=bleu_score,
        chrf=chrf_score,
        signature=str(bleu.get_signature()),  # exists only after scoring
        chrf_signature=str(chrf.get_signature()),
        sentences=len(hypotheses),
    )
