"""Order embeddings: what their space is, and that padding does not matter."""

from functools import partial

import pytest
import torch

from normlab import norms
from normlab.models.initialization import initialize
from normlab.models.order import OrderEmbedding, Sentences


def model_of(norm=norms.RMSNorm, target_vocab=9, features=None):
    model = OrderEmbedding(12, target_vocab, features, norm, d_embedding=5, d_hidden=8, dropout=0.0)
    initialize(model, scheme="xavier_uniform", scale=1.0, mean=0.0, apply_to=["matrices"])
    return model


@pytest.mark.parametrize("norm", [norms.NoNorm, norms.LayerNorm, norms.RMSNorm])
def test_embeddings_have_length_one_and_no_negative_entry(norm):
    captions = Sentences(torch.randint(2, 12, (3, 6)), torch.tensor([6, 4, 1]))
    for embeddings in (
        model_of(norm).embed_captions(captions),
        model_of(norm, None, 7).embed_targets(torch.randn(3, 7)),
    ):
        assert embeddings.shape == (3, 8) and (embeddings >= 0).all()
        torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(3))


@pytest.mark.parametrize("norm", [norms.NoNorm, norms.LayerNorm, norms.RMSNorm, norms.PRMSNorm])
def test_a_sentence_is_embedded_as_it_is_alone(norm):
    model = model_of(norm)
    words = torch.randint(2, 12, (3, 6))
    lengths = torch.tensor([6, 4, 1])
    together = model.embed_captions(Sentences(words, lengths))
    for i, length in enumerate(lengths.tolist()):
        alone = model.embed_captions(Sentences(words[i : i + 1, :length], lengths[i : i + 1]))
        torch.testing.assert_close(together[i], alone[0])


def test_roles_are_all_matrices():
    for model in (model_of(), model_of(target_vocab=None, features=7)):
        matrices = {name for name, p in model.named_parameters() if p.dim() > 1}
        assert set(model.roles()) == matrices
    assert {role.kind for role in model.roles().values()} == {
        "embeddings",
        "input",
        "recurrent",
        "features",
    }


@pytest.mark.slow
def test_compiled_steps_are_the_same(monkeypatch):
    # Traced by the compiler's front end only: code generation would take seconds.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager", fullgraph=True))
    model = model_of()
    captions = Sentences(torch.randint(2, 12, (2, 4)), torch.tensor([4, 2]))
    before = model.embed_captions(captions)
    model.compile_steps()
    torch.testing.assert_close(model.embed_captions(captions), before)
