"""Order violation, loss and recall against what they are by definition."""

import numpy as np
import pytest
import torch

from normlab.tasks.retrieval.ranking import contrastive_losses, mean_recall, recall, violation


def test_a_caption_below_its_target_violates_nothing():
    captions = torch.tensor([[0.1, 0.2], [0.5, 0.0]])
    targets = torch.tensor([[0.3, 0.2], [0.1, 0.1]])
    expected = [[0.0, 0.01], [0.04, 0.16]]
    torch.testing.assert_close(violation(captions, targets), torch.tensor(expected))


def test_the_loss_is_the_sum_over_all_contrasts():
    torch.manual_seed(0)
    penalties = torch.rand(5, 5)
    numbers = torch.tensor([0, 1, 1, 2, 3])  # two captions of one target
    same = numbers[:, None] == numbers
    expected = torch.zeros(5)
    for i in range(5):
        for j in range(5):
            if numbers[i] != numbers[j]:
                expected[i] += max(0, 0.3 + penalties[i, i] - penalties[i, j])
                expected[i] += max(0, 0.3 + penalties[i, i] - penalties[j, i])
    torch.testing.assert_close(contrastive_losses(penalties, same, 0.3), expected)


def test_perfect_and_constant_embeddings():
    perfect = torch.eye(12)
    metrics, found = recall(perfect, perfect, fold=1000)
    assert mean_recall(metrics) == 100 and metrics["image_mean_rank"] == 1
    assert np.array_equal(found, np.arange(12))
    metrics, _ = recall(torch.ones(12, 3), torch.ones(12, 3), fold=1000)
    assert metrics["caption_median_rank"] == metrics["image_mean_rank"] == 12  # ties count against
    metrics, _ = recall(torch.full((12, 3), torch.nan), torch.ones(12, 3), fold=1000)
    assert mean_recall(metrics) == 0


def test_chance_is_what_it_should_be():
    torch.manual_seed(0)
    captions, targets = torch.rand(1000, 4), torch.rand(1000, 4)
    metrics, _ = recall(captions, targets, fold=1000)
    assert metrics["image_r10"] == pytest.approx(1, abs=1)
    assert metrics["image_mean_rank"] == pytest.approx(500, rel=0.1)


def test_five_captions_a_target_and_folds():
    torch.manual_seed(0)
    targets = torch.rand(7, 6)
    captions = targets.repeat_interleave(5, 0) * torch.rand(35, 6)
    metrics, found = recall(captions, targets, fold=3)  # the last target is left out
    assert (found[:30] >= 0).all() and (found[30:] == -1).all()
    image, caption = [], []
    for fold in (0, 3):
        rows = violation(captions[5 * fold : 5 * fold + 15], targets[fold : fold + 3])
        for i, row in enumerate(rows):
            image.append(int((row <= row[i // 5]).sum()))
        for j, column in enumerate(rows.T):
            best = column[5 * j : 5 * j + 5].min()
            others = torch.cat((column[: 5 * j], column[5 * j + 5 :]))
            caption.append(1 + int((others <= best).sum()))
    assert metrics["image_mean_rank"] == pytest.approx(np.mean(image))
    assert metrics["caption_mean_rank"] == pytest.approx(np.mean(caption))
