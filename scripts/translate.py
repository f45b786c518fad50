"""Translates standard input, a sentence on each line, with a finished run's checkpoint."""

import argparse
import sys

from normlab.errors import UserError
from normlab.runs.loaded import load_translator
from normlab.tasks.translation.corpora import lines_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run_dir", help="a run directory of train.py")
    parser.add_argument(
        "--checkpoint", default="", help="best, last or average; default: as the run's test"
    )
    parser.add_argument("--beam", type=int, help="beam size; default: the run's own")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument(
        "--trust",
        action="append",
        default=[],
        metavar="IMPORT.PATH",
        help="a norm or the like of your own that the run may import",
    )
    args = parser.parse_args()
    try:
        translator = load_translator(args.run_dir, args.checkpoint, args.device, args.trust)
        sentences = lines_of(sys.stdin.buffer.read(), "standard input")
        translations, cut = translator(sentences, beam=args.beam)
    except UserError as error:
        sys.exit(str(error))
    for translation in translations:
        print(translation)
    if cut:
        print(translator.warning(cut), file=sys.stderr)
    lines = enumerate(zip(sentences, translations, strict=True), 1)
    empty = [str(i) for i, (src, tgt) in lines if src.strip() and not tgt]
    if empty:
        print(f"translated to nothing: line {', '.join(empty[:10])}", file=sys.stderr)


if __name__ == "__main__":
    main()
