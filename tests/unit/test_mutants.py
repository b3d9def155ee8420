"""The deliberate breaks of `make mutants` still fit the files that they break."""

from pathlib import Path

from tests.mutants import ROOT, breaks


def test_every_break_fits_its_file_and_names_tests_that_there_are():
    found = breaks()
    assert len(found) >= 20
    assert len({each["room"] for each in found}) == len(found)
    assert all(each["text"] != each["broken"] for each in found)
    assert {Path(test).exists() for each in found for test in (ROOT / name for name in each["caught_by"])} == {True}
