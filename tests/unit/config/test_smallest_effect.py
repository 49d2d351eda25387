"""The smallest effect of interest is a share; the error names the file's key or the option."""

from __future__ import annotations

import pytest

from bench.config.suite import load_suite
from bench.errors import InvalidInput
from bench.line.plan import Request, make_plan

SUITE = 'name = "s"\nmodels = ["lenet5"]\n[measure]\nsmallest_effect = {}\n'


def test_a_suite_sets_it(tmp_path):
    (tmp_path / "s.toml").write_text(SUITE.format("0.03"))
    assert load_suite(str(tmp_path / "s.toml")).measure.smallest_effect == 0.03
    assert load_suite("default").measure.smallest_effect == 0.01


@pytest.mark.parametrize("share", ["0.0", "1.0", "-0.01", "nan"])
def test_a_share_that_cannot_be_one_is_refused(tmp_path, share):
    (tmp_path / "s.toml").write_text(SUITE.format(share))
    with pytest.raises(InvalidInput, match=r"s\.toml: key 'measure\.smallest_effect': a share above 0 and below 1"):
        load_suite(str(tmp_path / "s.toml"))


def test_the_command_line_replaces_it(tmp_path):
    request = Request(target="cpu", suite="smoke", smallest_effect=0.02)
    assert make_plan(request, tmp_path).suite.measure.smallest_effect == 0.02
    with pytest.raises(InvalidInput, match="--smallest-effect: a share above 0"):
        make_plan(Request(target="cpu", suite="smoke", smallest_effect=2.0), tmp_path)
