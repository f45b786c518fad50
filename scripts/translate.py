"""Translates standard input, a sentence a line, with a finished run's checkpoint."""

import argparse
import sys

from normlab import run
from normlab.errors import UserError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run_dir", help="a run directory of train.py")
    parser.add_argument("--checkpoint", default="best", help="best (default), last or average")
    parser.add_argument("--beam", type=int, help="beam size; default: the run's own")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    args = parser.parse_args()
    try:
        loaded = run.load(args.run_dir, args.checkpoint, args.device)
        # Lines end at \n only: str.splitlines would also split at U+2028 and misalign the output.
        text = sys.stdin.buffer.read().decode("utf-8").removesuffix("\n")
        lines = text.split("\n") if text else []
        for translation in loaded.translate(lines, beam=args.beam):
            print(run.one_line(translation))
    except UnicodeDecodeError as error:
        sys.exit(f"standard input is not UTF-8 at byte {error.start}: convert it first.")
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
