"""What norms do: by arithmetic (invariance, gradients, signal, numerics) and in trained runs."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from normlab import markdown
from normlab.errors import UserError
from normlab.files import read_csv, write_json, write_text
from normlab.paths import experiments


def invariance(args: argparse.Namespace) -> None:
    """Table 1: the change of a norm's output when weights or data are re-scaled or re-centred."""
    from normlab.analysis import invariance as analysis
    from normlab.runs.components import stock_norms

    marks = {row["method"]: row for row in read_csv(experiments() / "table1/paper.csv")}
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
    from normlab.runs.components import stock_norms

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
    from normlab.runs.components import stock_norms
    from normlab.runs.untrained import fresh_model

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
    means, seeds = [0.0, 0.02, 0.05, 0.1, 0.2], [1, 2, 3]
    records = analysis.measure(build, norms, ["post", "pre"], means, seeds)
    page = analysis.HEAD + analysis.table(records, ["token", "apart"]) + "\n"
    earlier = args.results / "centre/multi30k/earlier/runs.csv"
    if earlier.exists():
        runs = [
            analysis.Trained(
                row["norm"],
                row["model.norm_placement"],
                float(row["init.mean"]),
                float(row["dev/nll"]) if row["status"] == "completed" else float("inf"),
            )
            for row in read_csv(earlier)
        ]
        page += analysis.PREDICTION + analysis.prediction(records, runs) + "\n"
    write_text(args.results / "signal" / "table.md", page)
    write_json(args.results / "signal" / "table.json", {"records": records})
    draw_signal(records, args.results / "signal" / "figure.png")
    print(page)


def annotations(args: argparse.Namespace) -> None:
    """What RNNSearch's annotations say of their tokens, before and after training; for Figure 4."""
    from normlab.analysis import signal as analysis
    from normlab.models.rnnsearch import RNNSearch
    from normlab.reports import text
    from normlab.reports.records import read_record
    from normlab.runs.loaded import load_run
    from normlab.runs.untrained import model_of_record

    runs = []
    for run_dir in args.run_dir:
        record = read_record(run_dir)
        vocab = record.value("data.vocab_size")
        model = model_of_record(record.config, vocab)
        if not isinstance(model, RNNSearch):
            raise UserError(f"{run_dir} is no run of RNNSearch: see model=rnnsearch_small.")
        untrained, trained = analysis.annotation_shares(model, vocab), None
        if (run_dir / "checkpoints").exists():
            ended = load_run(run_dir, "last", "cpu").model
            trained = analysis.annotation_shares(ended, vocab)  # type: ignore[arg-type]
        shifted, norm = text.value(record.setting("init.apply_to")), record.setting("norm")
        nll = record.measure("dev/nll")
        runs.append(analysis.Annotated(shifted, norm, untrained, trained, nll or float("nan")))
    page = analysis.ANNOTATIONS + analysis.annotation_table(runs) + "\n"
    write_text(args.results / "figure4" / "annotations.md", page)
    print(page)


# What the page speaks of; at larger means the norms that only re-scale fall like rmsnorm.
DRAWN = ("none", "layernorm", "rmsnorm", "recentre", "layernorm, embeddings re-centred")


def draw_signal(records: list[dict[str, Any]], path: Path) -> None:
    """Draws the token's share against the mean, by placement; nothing without matplotlib."""
    from normlab.reports.figures import Panel, draw_curves, write_figure

    panels = []
    for placement in ("post", "pre"):
        lines: dict[str, tuple[list[float], list[float]]] = {}
        for each in records:
            if each["norm"] in DRAWN and each["placement"] == placement:
                means, shares = lines.setdefault(each["norm"], ([], []))
                means.append(each["mean"])
                shares.append(each["apart"])
        y, x = "share of the output that tells tokens apart", "init.mean"
        panels.append(Panel([], y, x, f"{placement}-norm, untrained", lines, log=True))
    try:
        write_figure(panels, draw_curves, path)
    except UserError as missing:
        print(missing, file=sys.stderr)  # the page has the numbers


def numerics(args: argparse.Namespace) -> None:
    """The error of every norm and implementation in fp32, bf16 and fp16 as the mean grows."""
    import torch

    from normlab.analysis import numerics as analysis
    from normlab.norms import Norm, kernels
    from normlab.runs.components import stock_norm, stock_norms

    variants: dict[str, tuple[Norm, Norm]] = {}
    for name, norm in stock_norms().items():
        exact = norm(analysis.WIDTH).double()
        for implementation in exact.implementations:
            if implementation == "fused" and kernels.problem("cpu"):
                continue
            made = stock_norm(name, impl=implementation)(analysis.WIDTH)
            variants[f"{name} {implementation}"] = (made, exact)
    records = analysis.measure(variants)
    tables = [f"## {name}\n\n{analysis.table(records, name)}\n" for name in analysis.DTYPES]
    offsets = _real_offsets()
    page = (
        analysis.HEAD.format(torch=torch.__version__)
        + "\n".join(tables)
        + analysis.REAL
        + offsets
        + "\n"
    )
    write_text(args.results / "numerics" / "README.md", page)
    write_json(args.results / "numerics" / "errors.json", {"records": records})
    print(page)


def _real_offsets() -> str:
    """Returns |mean| / spread of what enters the norms of tiny Transformers at their start."""
    import torch

    from normlab.analysis import geometry
    from normlab.models.transformer import Transformer
    from normlab.runs.untrained import fresh_model

    rows = []
    for norm in ("layernorm", "rmsnorm"):
        for placement in ("post", "pre"):
            cells = []
            for mean in (0.0, 0.02, 0.2):
                overrides = [f"norm={norm}", f"model.norm_placement={placement}"]
                model = fresh_model([*overrides, f"init.mean={mean}"], 1500)
                assert isinstance(model, Transformer)
                found = geometry.geometry(model, [geometry.random_batch], torch.device("cpu"))
                cells.append(f"{max(of['offset'] for of in found.values()):.3g}")
            rows.append([norm, placement, *cells])
    head = ["norm", "placement", "mean 0", "mean 0.02", "mean 0.2"]
    return "\n".join(markdown.table(head, rows))


def hidden(args: argparse.Namespace) -> None:
    """On the dev set: Table 5's statistics of RNNSearch, angles to the uniform vector of others."""
    from normlab.analysis import geometry
    from normlab.analysis import hidden as table5
    from normlab.models.seq2seq import Seq2Seq
    from normlab.runs.loaded import load_run
    from normlab.tasks.translation.task import Translation

    for run_dir in args.run_dir:
        for checkpoint in args.checkpoint:
            run = load_run(run_dir, checkpoint, args.device)
            parts = run.with_data()
            task, model = parts.task, parts.model
            if not isinstance(task, Translation) or not isinstance(model, Seq2Seq):
                raise UserError(f"{run_dir} holds no translation model.")
            with parts.evaluating():
                if table5.measurable(model):
                    found = table5.hidden_statistics(model, task.dev_batches(), parts.device)
                    shown = table5.table(found)
                else:
                    shown = geometry.table(
                        geometry.geometry(model, task.dev_batches(), parts.device)
                    )
            print(f"## {run_dir}, {run.checkpoint}\n\n{shown}\n")


def conversion(args: argparse.Namespace) -> None:
    """Converts a pre-norm LayerNorm run both ways and compares logits, translations and BLEU."""
    from normlab.analysis import conversion as analysis
    from normlab.reports.text import commit
    from normlab.runs.converted import both_ways
    from normlab.runs.loaded import load_run, load_translator
    from normlab.tasks.translation.scoring import score
    from normlab.tasks.translation.task import Translation

    run = load_run(args.run_dir, args.checkpoint, "cpu")
    task = run.with_data().task
    if not isinstance(task, Translation):
        raise UserError(f"{args.run_dir} holds no translation model.")
    batches = [make() for make in task.dev_batches()]
    name, test = next(iter(task.corpus.test.items()))
    with both_ways(args.run_dir, args.checkpoint) as runs:
        translators = {
            "the trained run, LayerNorm": load_translator(args.run_dir, args.checkpoint, "cpu"),
            **{to: load_translator(out, device="cpu") for to, out in runs.items()},
        }
    source, *_ = translators.values()
    beams = dict.fromkeys((1, source.beam))
    texts = {
        which: {beam: translate(list(test.src), beam=beam)[0] for beam in beams}
        for which, translate in translators.items()
    }
    first, *_ = texts.values()
    rows = [
        analysis.Converted(
            name=which,
            parameters=sum(p.numel() for p in translate.model.parameters()),
            logits=analysis.logits_apart(source.model, translate.model, batches),  # type: ignore[arg-type]
            differ={
                beam: sum(a != b for a, b in zip(first[beam], found, strict=True))
                for beam, found in texts[which].items()
            },
            bleu={beam: score(found, test.tgt)["bleu"] for beam, found in texts[which].items()},
        )
        for which, translate in translators.items()
    ]
    summary = run.directory.stored_summary() or {}
    summary["commit"] = commit(summary.get("commit"))
    page = analysis.page(rows, name, len(test.src), summary)
    holds, evidence = analysis.claim(rows, len(test.src))
    claim = {"holds": holds, "evidence": evidence, "page": "conversion.md"}
    out = args.results / "followups"
    write_text(out / "conversion.md", page)
    write_json(out / "analysis.json", {"claims": {"equivalence": claim}})
    print(page)


COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    "invariance": invariance,
    "gradients": gradients,
    "signal": signal,
    "annotations": annotations,
    "numerics": numerics,
    "hidden": hidden,
    "conversion": conversion,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("results"), help="where pages go")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, command in COMMANDS.items():
        parts = commands.add_parser(name, help=command.__doc__)
        if command is hidden:
            parts.add_argument("run_dir", nargs="+", help="run directories of train.py")
            parts.add_argument("--checkpoint", nargs="+", default=[""], help="best, last, ...")
            parts.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
        if command is annotations:
            parts.add_argument(
                "run_dir", nargs="+", type=Path, help="runs of RNNSearch, or records"
            )
        if command is conversion:
            parts.add_argument("run_dir", type=Path, help="a pre-norm LayerNorm run of train.py")
            parts.add_argument(
                "--checkpoint", default="", help="best, last, ...; default: as the run's test"
            )
    args = parser.parse_args()
    try:
        COMMANDS[args.command](args)
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
