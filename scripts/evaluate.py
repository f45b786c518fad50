"""Tests a finished run again, as JSON: any task on its own test sets, translation on any text too.

scripts/evaluate.py RUN_DIR
scripts/evaluate.py RUN_DIR --src input.en --ref reference.de
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from normlab.errors import UserError
from normlab.runs.directory import RunDirectory
from normlab.runs.loaded import load_run, load_translator
from normlab.tasks.translation.corpora import text_pair
from normlab.tasks.translation.scoring import score
from normlab.tasks.translation.tokenised import detokenise, looks_tokenised


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run_dir", help="a run directory of train.py")
    parser.add_argument("--src", type=Path, help="source sentences, one on each line")
    parser.add_argument("--ref", type=Path, help="references, line by line")
    parser.add_argument(
        "--checkpoint", default="", help="best, last or average; default: as the run's test"
    )
    parser.add_argument("--beam", type=int, help="beam size for --src; default: the run's own")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--output", type=Path, help="file for translations of --src, else a folder")
    parser.add_argument(
        "--detokenise",
        metavar="LANGUAGE",
        help="of --ref: put translations and references back into ordinary text (sacremoses)",
    )
    parser.add_argument(
        "--trust",
        action="append",
        default=[],
        metavar="IMPORT.PATH",
        help="a norm or the like of your own that the run may import",
    )
    args = parser.parse_args()
    if (args.src is None) != (args.ref is None):
        parser.error("--src and --ref go together.")
    if args.src is None and (args.detokenise or args.beam is not None):
        parser.error("--beam and --detokenise are for --src and --ref.")
    try:
        results = on_its_own_sets(args) if args.src is None else on_text(args)
        status = (RunDirectory(Path(args.run_dir)).stored_summary() or {}).get("status")
        if status not in (None, "completed", "converted"):
            print(f"{args.run_dir} is {status}: this is of weights before that.", file=sys.stderr)
    except UserError as error:
        sys.exit(str(error))
    print(json.dumps(results, indent=2))


def on_its_own_sets(args: argparse.Namespace) -> dict[str, Any]:
    """Returns what the run's task says of its test sets, which are read again."""
    if args.output is not None and (args.output / "summary.json").exists():
        raise UserError(f"--output {args.output} is a run: its own outputs would be lost.")
    parts = load_run(args.run_dir, args.checkpoint, args.device, args.trust).with_data()
    with parts.evaluating(), tempfile.TemporaryDirectory() as nowhere:
        return parts.task.test(parts.objective, parts.device, args.output or Path(nowhere))


def on_text(args: argparse.Namespace) -> dict[str, Any]:
    """Returns SacreBLEU and chrF, with their signatures, of a translation run on any text pair."""
    sources, references = text_pair(args.src, args.ref)
    translator = load_translator(args.run_dir, args.checkpoint, args.device, args.trust)
    hypotheses, cut = translator(sources, beam=args.beam)
    if cut:
        print(translator.warning(cut), file=sys.stderr)
    if args.detokenise:
        hypotheses, references = (
            detokenise(lines, args.detokenise) for lines in (hypotheses, references)
        )
    elif looks_tokenised(references):
        print(f"{args.ref} looks tokenised: see --detokenise.", file=sys.stderr)
    if args.output is not None:
        args.output.write_text("".join(h + "\n" for h in hypotheses), encoding="utf-8")
    return {**score(hypotheses, references)}


if __name__ == "__main__":
    main()
