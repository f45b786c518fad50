"""results/README.md: a summary for everyone, then every claim with its verdict and evidence."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from normlab import markdown
from normlab.reports.claims import BENCHMARK, REGISTERED, Claim
from normlab.reports.experiments import Experiment

PAPER = ("Table", "Figure", "Appendix")  # how the items of the paper itself begin
HEAD = "from", "claim", "verdict", "evidence", "registered", "power, at a true difference", "commit"


def write_index(
    claims: Sequence[Claim], experiments: Sequence[Experiment], root: Path, results: Path
) -> Path:
    """Writes results/README.md: what the claims of all `experiments` have come to.

    It opens with summary.md of folder `root`, for readers outside the field.
    """
    tallies: dict[tuple[bool, bool], list[str]] = {}
    for claim in claims:
        kind = not claim.item.startswith(PAPER), claim.basis == BENCHMARK
        tallies.setdefault(kind, []).append(claim.verdict)
    lines = [
        "# What the paper claims, and what we found",
        "",
        (root / "summary.md").read_text(encoding="utf-8").strip(),
        "",
        *(_tally(*kind, verdicts) for kind, verdicts in sorted(tallies.items())),
        "",
        RULES,
        "",
        *markdown.table(HEAD, [_row(claim) for claim in claims]),
    ]
    if shared := [e for e in experiments if e.runs_of]:
        names = {e.name: e.item for e in experiments}
        lines += [
            "",
            *(
                f"{e.item} rests on the runs of {names[e.runs_of]}: no pair of runs is "
                "counted twice."
                for e in shared
            ),
        ]
    lines += ["", CHANGED]
    path = results / "README.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _tally(beyond: bool, time: bool, verdicts: Sequence[str]) -> str:
    whose = "Beyond them" if beyond else "On the paper's tables and figures"
    what = "time" if time else "quality and theory"
    counts = ", ".join(f"{count} {verdict}" for verdict, count in Counter(verdicts).most_common())
    return f"- {whose}, {what}, {len(verdicts)} claims: {counts}"


def _row(claim: Claim) -> tuple[str, ...]:
    links = ", ".join(f"[{name}]({page})" for name, page in claim.links) + claim.note
    basis = claim.basis or "not registered"
    if basis == REGISTERED:
        protocol = f"[protocol]({claim.links[0][1]}#protocol)"
        basis = f"[`{claim.sha256[:10]}`]({claim.registration}), {protocol}"
    disagrees = f" Disagrees: {claim.disagrees}." if claim.disagrees else ""
    verdict, evidence = f"**{claim.verdict}**", f"{claim.evidence} {links}{disagrees}".strip()
    return claim.item, claim.words, verdict, evidence, basis, claim.power, claim.commit


RULES = """\
*Reproduced*: our test supports the sentence, which may be ours and not the paper's (as are those
of Figure 3 that a small share costs something); *contradicted*: it supports the opposite. Both
hold for the small models that were run only: none was run at scale `paper`, the paper's setting.
Of the claims about time those with the paper's number in brackets are the paper's, those on
torch's operators and on our kernels are ours.

Where runs decide, a claim was registered before them: metric, rule, margin, at least six seeds,
which are paired; `registered` shows how the SHA-256 of all that begins. Claims are tested together
for each sweep, which has a page of its own, so that at most 5 % of sweeps hold a false verdict
(Holm's correction). The p-value after that correction decides; intervals are plain 95 % ones, so
that one may clear its margin where the claim is undecided. A claim of no change ("equal") means: by
less than the margin, which may be a real but small difference. *Power* is how often the rule would
decide if the true difference were the one named and the spread that of the runs named in the
registration: where those are a pilot of two or three seeds (Tables 6, 7 and 10) it rests on little:
RMSNorm against LayerNorm spread 18 times as far in the runs of Table 6 as in its pilot and 2.4
times in Table 7's. Claims about time rest on benchmarks of small models in at least five processes,
by [a rule](../src/normlab/reports/speed.py) of 95 % intervals that are not corrected for the number
of claims; two rules [changed](#rules-that-changed) after results had been seen. Claims of Table 1
and of conversion rest on an analysis.

*Undecided*: the runs or the benchmark do not tell. *Not comparable*: nothing was learnt that could
differ. *Pilot pending*: the first runs, which fix steps and learning rate and are not counted, are
still to be made. *Too few seeds*, *too few processes*, *not finished*: no verdict yet. *Observed
only*: no rule was registered before the runs. [The rules](../src/normlab/reports/verdicts.py) are
code. *A/A*: one norm timed against itself, which shows the noise."""

CHANGED = """\
## Rules that changed

Until 2026-11-23 the rule `fails` counted runs. It was changed after its only verdict was known:
arms of one seed begin alike and are no repeats, so it counts seeds now. "Mean 0.2: with neither,
most runs diverge" went from *reproduced* (12 of 12 runs, p=0.0022) to *undecided* (6 of 6 seeds).
The power of 1.00 in its row is the old rule's; by the new one it is 0.

The rule on time was changed on 2026-11-22 after benchmarks had been seen:

- Commit 2f72892 lets a saving count that exceeds all that two equal variants (A/A) reach. Before it
  an A/A interval beyond ±2 % forbade any verdict, as it did in the first benchmarks of the
  [reader](benchmarks/steps_reader_small_fp32_first.md), [order
  embeddings](benchmarks/steps_order_small_fp32_first.md) and
  [ConvPool](benchmarks/steps_convpool_small_fp32_first.md), which were then measured anew.
- Commit ac6916f words the claims as "over 2 %" and lets *contradicted* reach beyond ±2 % or stay
  below 1. By the rule before it two would be *undecided*: Table 4's "both in our kernel", and no
  norm at width 1,024. It also moved Table 4's claims from 2+2 to 6+6 layers.
- Commit 0ca00d7 let nothing count that a benchmark and its repeat did not both say; since 5b8cca4
  both count together, and their intervals must overlap. Where one by itself, in brackets, does not
  say what both do, 0ca00d7 would have given *undecided*.
- The same two withhold verdicts where a network's loss has exploded.
- Three claims were added on 2026-11-23, so that every task has the same rows: of Tables 6 and 7
  "both in torch's own operators", of Table 10 "both in our kernel".

Seen and set aside were benchmarks of [RNNSearch](benchmarks/steps_rnnsearch_small_fp32_noisy.md),
of a slow hour, of the [widths](benchmarks/widths_fp32_noisy.md) and the [2+2-layer
Transformer](benchmarks/steps_transformer_tiny_fp32_noisy.md), both noisy, and [Table
4's](benchmarks/steps_transformer_deep_fp32_exploded.md), whose network without a norm had exploded.
The reader's, order embeddings' and ConvPool's are of a slow hour too, half as fast as their
repeats, which were made after the first verdicts were out, and count: hence the pairs that do not
agree."""
