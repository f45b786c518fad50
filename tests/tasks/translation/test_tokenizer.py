import pytest
from hypothesis import given
from hypothesis import strategies as st

from normlab.errors import UserError
from normlab.tasks.translation.tokenizer import (
    BOS,
    EOS,
    PAD,
    decode,
    encode,
    load_tokenizer,
    train_tokenizer,
)

TEXTS = ["the cat sat on the mat", "die Katze saß auf der Matte", "</s> is a tag </s>"] * 3
TOKENIZER = train_tokenizer(TEXTS, 280)

texts = st.text(st.characters(exclude_categories=["Cs"]))
control_tokens = st.sampled_from(["<pad>", "<s>", "</s>", " ", "a"])


@given(st.lists(texts | st.lists(control_tokens).map("".join)))
def test_every_text_comes_back_from_its_ids(sentences):
    assert decode(TOKENIZER, encode(TOKENIZER, sentences)) == sentences


@given(texts | st.lists(control_tokens).map("".join))
def test_no_text_makes_a_control_token(sentence):
    [ids] = encode(TOKENIZER, [sentence])
    assert not {PAD, BOS, EOS} & set(ids)


def test_control_tokens_have_the_ids_that_models_rely_on():
    assert [TOKENIZER.token_to_id(token) for token in ("<pad>", "<s>", "</s>")] == [PAD, BOS, EOS]
    assert (PAD, BOS, EOS) == (0, 1, 2)


def test_the_vocabulary_has_exactly_the_size_asked_for():
    assert TOKENIZER.get_vocab_size() == 280


def test_training_twice_gives_the_same_tokenizer():
    assert train_tokenizer(iter(TEXTS), 280).to_str() == TOKENIZER.to_str()


def test_a_loaded_tokenizer_encodes_as_the_saved_one_did(tmp_path):
    TOKENIZER.save(str(tmp_path / "tokenizer.json"))
    loaded = load_tokenizer(tmp_path / "tokenizer.json")
    sentences = ["a </s> <s> <pad>", "Übermut"]
    assert list(encode(loaded, sentences)) == list(encode(TOKENIZER, sentences))
    assert decode(loaded, encode(loaded, sentences)) == sentences


def test_a_broken_tokenizer_file_is_named(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(UserError, match=r"tokenizer\.json"):
        load_tokenizer(tmp_path / "tokenizer.json")


def test_decoding_stops_at_the_first_end_and_skips_control_tokens():
    [ids] = encode(TOKENIZER, ["the cat"])
    [other] = encode(TOKENIZER, [" sat"])
    assert decode(TOKENIZER, [[BOS, *ids, PAD, EOS, *other, EOS], [EOS], []]) == ["the cat", "", ""]


def test_too_little_data_names_a_size_that_works():
    with pytest.raises(UserError, match=r"vocab_size=5000 .* set it to \d+ or less") as caught:
        train_tokenizer(TEXTS, 5000)
    supported = int(str(caught.value).split("set it to ")[1].split()[0])
    assert train_tokenizer(TEXTS, supported).get_vocab_size() == supported


def test_a_vocabulary_below_the_byte_alphabet_is_refused():
    with pytest.raises(UserError, match=r"vocab_size=258 is below 259"):
        train_tokenizer(TEXTS, 258)
    assert train_tokenizer(TEXTS, 259).get_vocab_size() == 259
