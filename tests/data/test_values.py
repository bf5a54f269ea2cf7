"""The values of a data folder."""

from __future__ import annotations

import pytest

from dualtune_mlx.data.values import read_values, write_values
from dualtune_mlx.errors import DataError


def test_values_are_read_as_they_were_written(tmp_path):
    assert read_values(tmp_path) == {}
    write_values(tmp_path, {"s/t/path": ("a.txt", "é"), "id": [7]})
    assert read_values(tmp_path) == {"s/t/path": ["a.txt", "é"], "id": [7]}


@pytest.mark.parametrize("text", ["[]", '{"a": "b"}', '{"a": [[]]}', '{"a": [null]}', "{"])
def test_what_is_none_is_refused(tmp_path, text):
    (tmp_path / "values.json").write_text(text)
    with pytest.raises(DataError):
        read_values(tmp_path)
