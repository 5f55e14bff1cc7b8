"""A few hundred random command lines; `make fuzz` tries ten thousand."""

import pytest

from tests.fuzz import inputs


@pytest.mark.slow
def test_random_command_lines_end_in_a_plan_or_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert inputs.main(count=60, seed=7) == 0, capsys.readouterr().out


@pytest.mark.parametrize(
    ("override", "nonsense"),
    [
        ("noise.rate=0.2", False),
        ("noise.rate=abc", True),
        ("noise.rate=nan", True),
        ("optimizer.steps=0.5", True),
        ("optimizer.steps=1e3", False),
        ("model.bias=1", True),
        ("data.snr=null", False),
        ("data.n_train=null", False),
        ("seed=null", True),
        ("seed=${x}", False),
    ],
)
def test_what_counts_as_nonsense(override, nonsense):
    assert inputs.is_nonsense(override) == nonsense


@pytest.mark.parametrize(
    "words", [["-m", "experiment=null"], ["data=3"], ["data=[1]"], ["hydra/launcher=1e9"], ["-m", "loss=nan"]]
)
def test_what_is_no_name_of_an_option_is_refused(words, tmp_path, monkeypatch):
    """Found by `make fuzz`."""
    monkeypatch.chdir(tmp_path)
    assert inputs.outcome(words) == "refused"
