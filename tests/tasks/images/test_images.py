"""Images: drawn, read, whitened, batched and judged."""

import io

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image
from torch import nn

from normlab.errors import UserError
from normlab.tasks.images import shapes
from normlab.tasks.images.sources import drawn, files
from normlab.tasks.images.task import Classification
from normlab.tasks.images.whitening import scaled, zca

CLASSES = ["dark", "light"]


def png(value):
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 4, 3), value, np.uint8)).save(buffer, "png")
    return buffer.getvalue()


def write(path, values, labels):
    rows = {"img": [{"bytes": png(value), "path": ""} for value in values], "label": labels}
    pyarrow.parquet.write_table(pyarrow.table(rows), path)


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "train.parquet", [0, 200, 10, 210, 20], [0, 1, 0, 1, 0])
    write(tmp_path / "test.parquet", [5, 205], [0, 1])
    return tmp_path


def test_drawn_images_repeat_and_grow_from_the_front():
    images, labels = shapes.draw(40, seed=1)
    fewer, _ = shapes.draw(10, seed=1)
    assert images.shape == (40, 3, 32, 32) and images.dtype == np.uint8
    assert np.array_equal(images[:10], fewer)
    assert not np.array_equal(shapes.draw(10, seed=2)[0], fewer)
    assert set(shapes.draw(200, seed=1)[1]) == set(range(len(shapes.CLASSES)))
    pictures = drawn(seed=1, train=20, dev=12, test=8)
    parts = (pictures.train, pictures.dev, pictures.test)
    assert np.array_equal(np.concatenate([part.pixels() for part in parts]), images)
    assert np.array_equal(np.concatenate([part.labels for part in parts]), labels)
    assert len({part.sha256 for part in parts}) == 3


@pytest.mark.slow
def test_parquet_files_are_decoded_and_the_last_rows_held_out(folder):
    pictures = files(dir=str(folder), train="train", test="test", dev=2, classes=CLASSES)
    assert pictures.train.labels.tolist() == [0, 1, 0] and pictures.dev.labels.tolist() == [1, 0]
    assert pictures.train.pixels()[:, 0, 0, 0].tolist() == [0, 200, 10]
    assert pictures.test.pixels().shape == (2, 3, 4, 4)


def test_what_is_wrong_with_files_is_said(folder):
    arguments = {"dir": str(folder), "train": "train", "test": "test", "dev": 2, "classes": CLASSES}
    with pytest.raises(UserError, match="dev=5 leaves nothing of 5 training images"):
        files(**{**arguments, "dev": 5})
    with pytest.raises(UserError, match="cannot read .*nothing.parquet"):
        files(**{**arguments, "train": "nothing"})
    with pytest.raises(UserError, match="labels from 0 to 1, and 1 names"):
        files(**{**arguments, "classes": ["dark"]})
    rows = {"img": [{"bytes": b"no image"}] * 2, "label": [0, 1]}
    pyarrow.parquet.write_table(pyarrow.table(rows), folder / "broken.parquet")
    with pytest.raises(UserError, match="image 0 cannot be decoded"):
        files(**{**arguments, "test": "broken"}).test.pixels()


def test_zca_whitens_and_stays_close():
    torch.manual_seed(0)
    mixing = torch.randn(6, 6)
    x = torch.randn(20_000, 6) @ mixing + 3
    mean, matrix = zca(x, eps=1e-6)
    white = (x - mean) @ matrix
    torch.testing.assert_close(white.T @ white / len(x), torch.eye(6), rtol=0, atol=1e-3)
    torch.testing.assert_close(matrix, matrix.T)
    constant = torch.cat((x, torch.ones(len(x), 1)), 1)  # a pixel without variance stays finite
    assert torch.isfinite(zca(constant, eps=1e-5)[1]).all()


def test_zca_of_fewer_images_than_pixels_is_the_same_matrix():
    x, eps = torch.randn(7, 30, dtype=torch.float64) + 3, 1e-3
    mean, matrix = zca(x, eps)
    variances, directions = torch.linalg.eigh((x - mean).T @ (x - mean) / len(x))
    scale = (variances.clamp(min=0) + eps).rsqrt()
    torch.testing.assert_close(matrix, directions * scale @ directions.T)


def test_pixels_are_scaled_to_one():
    extremes = scaled(np.array([[0, 255]], np.uint8))
    assert extremes.tolist() == [[-127.5 / 128, 127.5 / 128]]


class First(nn.Module):
    """Says the class of the first `right` images of each batch, and a wrong one of the others."""

    def __init__(self, right):
        super().__init__()
        self.right, self.labels = right, []

    def forward(self, images):
        said = self.labels.pop(0).clone()
        said[self.right :] = (said[self.right :] + 1) % 10
        return nn.functional.one_hot(said, 10).float()


def test_the_error_is_in_percent_and_outputs_are_stored(tmp_path):
    pictures = drawn(seed=1, train=40, dev=10, test=8)
    task = Classification(pictures, seed=1, batch_size=10, cache_dir=str(tmp_path), zca_eps=1e-5)
    assert task.model_arguments == {"channels": 3, "classes": 10}
    assert [make().items for make in task.batches(0)] == [10] * 4
    model = First(right=6)
    objective = task.objective(model)
    model.labels = [torch.from_numpy(pictures.dev.labels)]
    assert task.evaluate(objective, torch.device("cpu"))["dev/error"] == pytest.approx(40)
    model.labels = [torch.from_numpy(pictures.test.labels)] * 2
    result = task.test(objective, torch.device("cpu"), tmp_path)["test"]
    assert result["error"] == pytest.approx(25) and result["images"] == 8
    said, true = (
        (tmp_path / kind / "test.txt").read_text().split() for kind in ("hypotheses", "references")
    )
    assert true == [shapes.CLASSES[label] for label in pictures.test.labels]
    assert sum(a != b for a, b in zip(said, true, strict=True)) == 2
