"""Text that was tokenised before it came here: noticed, and put back into ordinary writing.

SacreBLEU expects ordinary text; on tokens with spaces around them its scores are too high.
"""

import re
from collections.abc import Sequence

from normlab.errors import UserError

SIGNS = re.compile(r"&(?:apos|quot|amp|lt|gt|#\d+);|@-@|\w [.,](?: |$)")  # as Moses writes
SHARE = 0.3  # of the lines: French has spaces before other marks, and a stray one is no tokenising


def looks_tokenised(lines: Sequence[str]) -> bool:
    """Returns whether `lines` hold entities or spaces before full stops and commas."""
    some = [line for line in lines[:1000] if line.strip()]
    return sum(bool(SIGNS.search(line)) for line in some) > SHARE * len(some)


def detokenise(lines: Sequence[str], language: str) -> list[str]:
    """Returns `lines` as one writes the `language` ("de"); raises UserError without sacremoses."""
    try:
        from sacremoses import MosesDetokenizer
    except ImportError:
        raise UserError(
            "detokenising needs sacremoses: pip install 'normlab[detokenise]'."
        ) from None
    detokenizer = MosesDetokenizer(lang=language)
    return [detokenizer.detokenize(line.split(), unescape=True) for line in lines]
