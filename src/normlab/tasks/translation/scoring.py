"""Corpus scores of detokenised translations, all by sacreBLEU."""

from collections.abc import Sequence
from typing import NamedTuple, TypedDict, cast


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


class Comparison(NamedTuple):
    """One metric of two systems on one test set; `p` is of a paired bootstrap over sentences."""

    metric: str
    a: float
    b: float
    p: float
    signature: str


def compare(
    a: Sequence[str], b: Sequence[str], references: Sequence[str], samples: int = 1000
) -> list[Comparison]:
    """Returns BLEU and chrF of outputs `a` and `b` with sacreBLEU's paired bootstrap resampling.

    Koehn 2004: resamples sentences, so it tests these outputs, not the seeds or settings behind
    them. Raises ValueError when the counts differ.
    """
    if not len(a) == len(b) == len(references):
        raise ValueError(f"{len(a)} and {len(b)} hypotheses for {len(references)} references")
    from sacrebleu.metrics import BLEU, CHRF
    from sacrebleu.significance import PairedTest

    metrics = {"BLEU": BLEU(references=[references]), "chrF2": CHRF(references=[references])}
    test = PairedTest(
        [("a", a), ("b", b)], metrics, references=None, test_type="bs", n_samples=samples
    )
    signatures, found = test()
    comparisons = []
    for name in metrics:
        of_a, of_b = found[name]
        # sacreBLEU counts gaps larger than the observed one: a gap of 0 would get p near 0.
        p = 1.0 if of_a.score == of_b.score else cast(float, of_b.p_value)
        comparisons.append(Comparison(name, of_a.score, of_b.score, p, str(signatures[name])))
    return comparisons
