"""JSON that every reader accepts."""

import json

from normlab.files import flatten, hash_json, write_json


def test_write_json_has_no_nan(tmp_path):
    write_json(tmp_path / "s.json", {"a": float("nan"), "b": [1.0, float("inf")], "c": "ü"})
    assert json.loads((tmp_path / "s.json").read_text()) == {"a": None, "b": [1, None], "c": "ü"}


def test_flatten():
    assert flatten({"a": {"b": 1, "c": {"d": 2}}, "e": 3}) == {"a.b": 1, "a.c.d": 2, "e": 3}


def test_equal_content_has_one_hash_whatever_the_order_of_its_keys():
    assert hash_json({"a": 1, "b": [2]}) == hash_json({"b": [2], "a": 1}) != hash_json({"a": 1})
