"""What norms do, without a training run of one's own: invariances, gradients, signal, numerics."""

import argparse
import csv
import sys
from collections.abc import Callable
from pathlib import Path

from normlab.errors import UserError
from normlab.files import write_json, write_text

ROOT = Path(__file__).parents[1]


def invariance(args: argparse.Namespace) -> None:
    """Table 1: the change of a norm's output when weights or data are re-scaled or re-centred."""
    from normlab.analysis import invariance as analysis
    from normlab.runs.build import stock_norms

    rows = [
        line
        for line in (ROOT / "experiments/table1/paper.csv").read_text("utf-8").split("\n")
        if line and not line.startswith("#")
    ]
    marks = {row["method"]: row for row in csv.DictReader(rows)}
    measured = {name: analysis.residuals(norm) for name, norm in stock_norms(eps=0.0).items()}
    page = analysis.page(measured, analysis.eps_matters(stock_norms()), marks)
    holds, evidence = analysis.claim(measured)
    rounded = {  # what is below EXACT differs from machine to machine
        name: {c: float(f"{v:.1e}") if v >= analysis.EXACT else 0.0 for c, v in of.items()}
        for name, of in measured.items()
    }
    claims = {"invariance": {"holds": holds, "evidence": evidence, "page": "invariance.md"}}
    out = args.results / "table1"
    write_text(out / "invariance.md", page)
    write_json(out / "analysis.json", {"claims": claims, "residuals": rounded})
    print(page)


def gradients(args: argparse.Namespace) -> None:
    """Eq. 8-10: gradients of gain, bias and weights when weights or inputs are re-scaled."""
    from normlab.analysis import gradients as analysis
    from normlab.runs.build import stock_norms

    norms, delta = stock_norms(eps=0.0, bias=True), 3.0
    measured = {name: analysis.residuals(norm, delta) for name, norm in norms.items()}
    closed = analysis.against_closed_forms(norms["rmsnorm"])
    page = analysis.page(measured, closed, delta)
    write_text(args.results / "gradients" / "equations.md", page)
    print(page)


def signal(args: argparse.Namespace) -> None:
    """What the encoder's output says of its tokens at initialisation, by norm, placement, mean."""
    from normlab.analysis import signal as analysis
    from normlab.models.transformer import Transformer
    from normlab.runs.build import stock_norms
    from normlab.runs.fresh import fresh_model

    vocab = 1500  # of conf/data/grammar.yaml

    def build(name: str, placement: str, mean: float, seed: int) -> tuple[Transformer, int]:
        norm, _, recentred = name.partition(", ")
        model = fresh_model(
            [
                f"norm={norm}",
                "norm@model.decoder_norm=layernorm",  # not looked at; some norms need it
                f"model.norm_placement={placement}",
                f"init.mean={mean}",
                f"seed={seed}",
                "model.dropout=0",
            ],
            vocab,
        )
        assert isinstance(model, Transformer)
        if recentred:
            analysis.recentre_embeddings(model)
        return model, vocab

    norms = [*stock_norms(), "layernorm, embeddings re-centred"]
    means, seeds = [0.0, 0.02, 0.2], [1, 2, 3]
    table = analysis.table(analysis.measure(build, norms, ["post", "pre"], means, seeds))
    write_text(args.results / "signal" / "table.md", SIGNAL + table + "\n")
    print(table)


SIGNAL = """\
# What is left of a token at initialisation

Written by `python scripts/analyze.py signal`; [why](README.md). The tiny Transformer's encoder,
untrained, on 64 random sentences of 12 subwords; means over three seeds. `token`: the root mean
square of what differs between sentences at one position, over that of the whole output; `apart`:
of that, what lies outside the uniform vector (1, ..., 1); `uniform`: of all that lies along it.

"""
COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    "invariance": invariance,
    "gradients": gradients,
    "signal": signal,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="where pages go")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, command in COMMANDS.items():
        commands.add_parser(name, help=command.__doc__)
    args = parser.parse_args()
    try:
        COMMANDS[args.command](args)
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
