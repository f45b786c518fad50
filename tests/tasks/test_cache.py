"""The cache of arrays: made once, checked when read, never in the way."""

import numpy as np

from normlab.tasks.cache import cached


def test_made_once_then_read_and_made_again_when_damaged(tmp_path, caplog):
    calls = []

    def make():
        calls.append(1)
        return {"a": np.arange(6.0).reshape(2, 3), "b": np.ones(2, np.float16)}

    for _ in range(2):
        arrays = cached(tmp_path, "key", make)
        assert np.array_equal(arrays["a"], np.arange(6.0).reshape(2, 3))
        assert arrays["b"].dtype == np.float16
    assert len(calls) == 1
    np.save(tmp_path / "key" / "b.npy", np.zeros(2, np.float16))
    assert cached(tmp_path, "key", make)["b"].sum() == 2
    assert len(calls) == 2 and "damaged" in caplog.text
    assert cached(tmp_path, "key", make)["b"].sum() == 2 and len(calls) == 2  # it was replaced
    assert cached(tmp_path, "other", make) and len(calls) == 3


def test_without_a_place_to_write_it_goes_on(tmp_path, caplog):
    (tmp_path / "file").touch()
    assert cached(tmp_path / "file", "key", lambda: {"a": np.ones(1)})["a"].sum() == 1
    assert "cannot cache" in caplog.text
