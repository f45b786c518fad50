"""Scores a finished run on any text pair: SacreBLEU and chrF with their signatures, as JSON."""

import argparse
import json
import sys
from pathlib import Path

from normlab.errors import UserError
from normlab.runs.loaded import load_translator
from normlab.tasks.translation.corpora import text_pair
from normlab.tasks.translation.scoring import score


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run_dir", help="a run directory of train.py")
    parser.add_argument("--src", required=True, type=Path, help="source sentences, one per line")
    parser.add_argument("--ref", required=True, type=Path, help="references, line by line")
    parser.add_argument("--checkpoint", default="best", help="best (default), last or average")
    parser.add_argument("--beam", type=int, help="beam size; default: the run's own")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--output", type=Path, help="where to write the translations")
    parser.add_argument(
        "--trust",
        action="append",
        default=[],
        metavar="IMPORT.PATH",
        help="a norm or the like of your own that the run may import",
    )
    args = parser.parse_args()
    try:
        sources, references = text_pair(args.src, args.ref)
        translator = load_translator(args.run_dir, args.checkpoint, args.device, args.trust)
        hypotheses, _ = translator(sources, beam=args.beam)
    except UserError as error:
        sys.exit(str(error))
    if args.output is not None:
        args.output.write_text("".join(h + "\n" for h in hypotheses), encoding="utf-8")
    print(json.dumps(score(hypotheses, references), indent=2))


if __name__ == "__main__":
    main()
