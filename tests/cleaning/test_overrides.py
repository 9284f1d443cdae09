"""overrides.csv: what a person says, and one clear line for what it cannot mean."""

import pytest

from landseer.cleaning import read_overrides


def test_lines_are_read_as_a_spreadsheet_writes_them(tmp_path):
    file = tmp_path / "o.csv"
    file.write_bytes('\ufeffid,decision\r\na,keep\r\n\r\n"b,c", drop\r\na,keep\r\n'.encode())
    assert read_overrides(file) == {"a": 1, "b,c": -1}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"must begin with the line id,decision, not ''"),
        ("a,keep\n", r"must begin with the line id,decision, not 'a,keep'"),
        ("id,decision\na\n", r"o.csv line 2 has 1 cells, not an id and a decision"),
        ("id,decision\na,maybe\n", r"line 2: 'maybe' is no decision; say keep or drop"),
        ("id,decision\na,keep\na,drop\n", r"line 3: photo 'a' is both kept and dropped"),
        ("id,decision\n\x00\xff", r"cannot be read as a CSV file"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path, text, said):
    file = tmp_path / "o.csv"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=said) as found:
        read_overrides(file)
    assert "\n" not in str(found.value)
