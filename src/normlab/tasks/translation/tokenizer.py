"""Joint byte-level BPE: every text has ids, and the ids give exactly that text back.

Byte-level, because word-level schemes drop characters that training never saw; without a prefix
space, so that the round trip is exact; and with special tokens that no input text can produce.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from normlab.errors import UserError

PAD, BOS, EOS = 0, 1, 2
SPECIAL_TOKENS = ["<pad>", "<s>", "</s>"]  # in the order of the ids above
CHUNK = 10_000  # sentences encoded at a time: an Encoding takes kilobytes, its ids a few bytes


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Return a BPE of exactly `vocab_size` entries: 3 special tokens, 256 bytes, and merges.

    Raises UserError when `texts` hold too few repeated pairs of symbols for that many entries.
    """
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    smallest = len(SPECIAL_TOKENS) + len(alphabet)
    if vocab_size < smallest:
        raise UserError(
            f"vocab_size={vocab_size} is below {smallest}, the bytes and special tokens that "
            f"every vocabulary holds: set it to {smallest} or more."
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,  # a subword seen once cannot be learned
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    size = tokenizer.get_vocab_size()
    if size < vocab_size:
        raise UserError(
            f"vocab_size={vocab_size} is more than the training data supports: set it to "
            f"{size} or less, or train on more data."
        )
    tokenizer.encode_special_tokens = True  # "</s>" in a text is five characters, not a command
    return tokenizer


def load_tokenizer(path: str | Path) -> Tokenizer:
    """Return the tokenizer that `tokenizer.save(path)` wrote."""
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception for every failure
        raise UserError(
            f"cannot read the tokenizer {path} ({error}): it is damaged, restore it."
        ) from error
    tokenizer.encode_special_tokens = True  # the file format does not keep this flag
    return tokenizer


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> Iterator[list[int]]:
    """Yield the subword ids of each text, without special tokens."""
    for start in range(0, len(texts), CHUNK):
        for encoding in tokenizer.encode_batch_fast(
            list(texts[start : start + CHUNK]), add_special_tokens=False
        ):
            yield encoding.ids


def decode(tokenizer: Tokenizer, sentences: Iterable[Sequence[int]]) -> list[str]:
    """Return the text of each id sequence up to its first EOS, other special tokens left out.

    Ids that are no valid UTF-8 together give U+FFFD; a line feed is a byte like any other, so
    whoever writes one sentence a line has to replace it.
    """
    return tokenizer.decode_batch([_before_eos(ids) for ids in sentences], skip_special_tokens=True)


def _before_eos(ids: Sequence[int]) -> list[int]:
    ids = list(map(int, ids))
    return ids[: ids.index(EOS)] if EOS in ids else ids
