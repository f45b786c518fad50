"""Search over a hand-made step function: a Markov chain whose state is the batch row itself."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from normlab.models.seq2seq import State
from normlab.tasks.translation import search

VOCAB, BOS, EOS = 5, 1, 2


def chain(seed, batch):
    """Returns log-probabilities (batch, VOCAB, VOCAB) of the next token given the last one."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, VOCAB, VOCAB, generator=generator).mul(2).log_softmax(-1)


def start(table):
    return State({"table": table}, [torch.zeros(len(table))])


def step(tokens, state):
    rows, table = torch.arange(len(tokens)), state.memory["table"]
    beam = len(tokens) // len(table)  # hypotheses of a sentence share its row
    return table[rows // beam, tokens], state._replace(past=[tokens])


def exhaustive(table, limit, alpha):
    """Returns the best-scoring ended sequence of at most `limit` tokens, EOS counted."""
    best = (float("-inf"), [])
    words = [token for token in range(VOCAB) if token != EOS]
    for length in range(limit):
        for body in itertools.product(words, repeat=length):
            path = [BOS, *body, EOS]
            total = sum(table[a, b].item() for a, b in itertools.pairwise(path))
            best = max(best, (total / search.length_penalty(length + 1, alpha), list(body)))
    return best[1]


@given(seed=st.integers(0, 1000), batch=st.integers(1, 5))
@settings(max_examples=40)
def test_beam_of_one_is_greedy(seed, batch):
    table = chain(seed, batch)
    state = start(table)
    limits = torch.arange(3, 3 + batch)
    greedy = search.greedy(step, state, limits, BOS, EOS)
    assert search.beam(step, state, limits, BOS, EOS, size=1, alpha=0.6) == greedy
    for row, output in enumerate(greedy):  # the definition, without a batch
        token, expected = BOS, []
        while len(expected) < limits[row]:
            token = int(table[row, token].argmax())
            if token == EOS:
                break
            expected.append(token)
        assert output == expected


@pytest.mark.parametrize("alpha", [0.0, 0.6])
@pytest.mark.parametrize("seed", range(5))
def test_a_wide_beam_finds_the_best_sequence(seed, alpha):
    table = chain(seed, 3)
    outputs = search.beam(step, start(table), torch.full((3,), 4), BOS, EOS, 125, alpha)
    assert outputs == [exhaustive(row, 4, alpha) for row in table]


@given(seed=st.integers(0, 1000), size=st.integers(2, 4))
@settings(max_examples=40)
def test_a_sentence_is_translated_alike_alone_and_in_a_batch(seed, size):
    table, limits = chain(seed, 6), torch.tensor([1, 2, 8, 3, 5, 8])
    together = search.beam(step, start(table), limits, BOS, EOS, size, 0.6)
    for row in range(6):
        alone = search.beam(
            step, start(table[row : row + 1]), limits[row : row + 1], BOS, EOS, size, 0.6
        )
        assert alone == [together[row]]
    assert all(len(o) <= limit for o, limit in zip(together, limits, strict=True))
    assert all(EOS not in o for o in together)


@given(seed=st.integers(0, 1000), size=st.integers(1, 4))
@settings(max_examples=40)
def test_a_finished_sentence_may_stay_in_the_batch_for_a_while(seed, size):
    table, limits = chain(seed, 6), torch.tensor([1, 2, 8, 3, 5, 8])
    expected = search.beam(step, start(table), limits, BOS, EOS, size, 0.6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            search, "_drops_finished", lambda length, longest, device: length in (3, longest)
        )
        assert search.beam(step, start(table), limits, BOS, EOS, size, 0.6) == expected


def plain(table, limit, size, alpha):
    """Returns the beam search of one sentence in plain Python, to the limit, stopping nowhere.

    `table` (positions, VOCAB, VOCAB) holds log-probabilities of the next token given the last.
    """
    beams, ended = [(0.0, [BOS])], []
    for length in range(1, limit + 1):
        candidates = sorted(
            ((total + table[length - 1, path[-1], token].item(), [*path, token])
             for total, path in beams for token in range(VOCAB)),
            reverse=True,
        )  # fmt: skip
        penalty = search.length_penalty(length, alpha)
        best = [path for path in candidates[: 2 * size] if path[1][-1] != EOS]
        ended += [(t / penalty, p[1:-1]) for t, p in candidates[:size] if p[-1] == EOS]
        beams = best[:size]
    return max(ended)[1] if ended else beams[0][1][1:]


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.5])
@pytest.mark.parametrize("seed", range(40))
def test_it_ends_early_only_where_nothing_can_change_any_more(seed, alpha):
    """Other probabilities at each position: of the same at all, cycles would have equal sums."""
    limits, size = torch.tensor([4, 9, 14]), 2 + seed % 3
    logits = 4 * torch.randn(14, 3, VOCAB, VOCAB, generator=torch.Generator().manual_seed(seed))
    logits[..., EOS] += seed % 4 - 2  # ends come early or late
    tables = logits.log_softmax(-1)

    def step(tokens, state):
        (length,) = state.past
        rows = state.memory["sentence"].repeat_interleave(
            len(tokens) // len(state.memory["sentence"])
        )
        return tables[length[0], rows, tokens], state._replace(past=[length + 1])

    state = State({"sentence": torch.arange(3)}, [torch.zeros(3, dtype=torch.int64)])
    found = search.beam(step, state, limits, BOS, EOS, size, alpha)
    assert found == [plain(tables[:, i], int(limits[i]), size, alpha) for i in range(3)]


def test_a_token_of_a_beam_waits_for_no_value_from_the_device():
    """Fake tensors have no values: reading one is an error."""
    with FakeTensorMode():
        n, size, longest = 3, 4, 10
        alive, flags = torch.arange(n), torch.zeros(n, dtype=torch.bool)
        texts, scores = torch.zeros(n, size, longest, dtype=torch.int64), torch.zeros(n, size)
        best, best_score = texts[:, 0], scores[:, 0]
        beams = search.Beams(alive, alive, texts, scores, alive, best, best_score, flags)
        after, sources = search._extend(beams, torch.randn(n * size, VOCAB), 1, EOS, 0.6)
        assert [x.shape for x in after] == [x.shape for x in beams] and sources.shape == (n, size)
        with pytest.raises(DataDependentOutputException):
            after.done.all().item()


def test_length_penalty():
    assert search.length_penalty(1, 0.6) == 1
    assert search.length_penalty(7, 0.5) == pytest.approx(2**0.5)


def test_reorder_reaches_every_tensor_of_a_nested_state():
    x = torch.arange(6).view(3, 2)
    state = search.reorder({"a": [x, (x, None)], "b": 3}, torch.tensor([2, 0, 2]))
    assert state["a"][0].tolist() == state["a"][1][0].tolist() == [[4, 5], [0, 1], [4, 5]]
    assert state["a"][1][1] is None and state["b"] == 3
