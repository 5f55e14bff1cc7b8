"""Submitting a sweep to SLURM: what sbatch is asked for, and what follows if it refuses. The programs of SLURM are fakes."""

import re
import sys
from pathlib import Path

import pytest
import yaml
from fake_slurm import SLOW, Answer

import train
from lnt.errors import ConfigError
from lnt.sweeps import slurm, submission
from lnt.sweeps.missing_runs import outcomes_so_far

TINY = ("data.n_train=8", "data.n_test=10", "data.dim=50", "optimizer.steps=10", "model.width=2")
SWEEP = ("seed=range(10)", "hydra.sweep.dir=sweep")
ON_SLURM = ("hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1")


@pytest.fixture
def call(tmp_path, monkeypatch, fake_slurm):
    """call(*overrides): train.py -m in an empty directory, on the fake cluster; its exit status."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(submission, "SECONDS_BETWEEN_LOOKS", 0.01)

    def run(*overrides):
        monkeypatch.setattr(sys, "argv", ["train.py", "-m", *TINY, *SWEEP, *overrides])
        try:
            train.main()
        except SystemExit as stop:
            return stop.code
        return 0

    return run


def scripts():
    """What was given to sbatch, one text for each submission that it has accepted."""
    return [path.read_text() for path in sorted(Path("sweep/.submitit").glob("*/*_submission.sh"))]


def accepts(fake_slurm, *numbers):
    """sbatch takes everything, and all jobs die at once."""
    fake_slurm.says("sbatch", *(f"Submitted batch job {number}" for number in numbers))
    died = "".join(f"\n{number}|FAILED|node\n{number}_[0-99]|FAILED|node" for number in numbers)
    fake_slurm.says("sacct", f"JobID|State|NodeList{died}")


REFUSED = Answer(
    error="sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission failed: Job violates QOS policy",
    code=1,
)


def test_what_sbatch_says_is_one_line_and_the_same_command_with_larger_jobs_is_heeded(call, fake_slurm):
    fake_slurm.says("sbatch", REFUSED)
    with pytest.raises(ConfigError) as error:
        call(*ON_SLURM, "hydra.sweeper.runs_per_job=1")
    assert str(error.value) == (
        "jobs=10: sbatch refuses them: QOSMaxSubmitJobPerUserLimit; Batch job submission failed: Job violates QOS policy; "
        "nothing is submitted, and the same command tries again, also with other hydra.launcher settings"
    )
    accepts(fake_slurm, 17)
    assert call(*ON_SLURM, "hydra.sweeper.runs_per_job=5") == 1
    (script,) = scripts()
    assert "--array='0-1%2'" in script or "--array=0-1%2" in script, "two jobs of five runs"
    plan = yaml.safe_load(Path("sweep/sweep.yaml").read_text())
    assert plan["runs_per_job"] == 5
    assert "hydra.sweeper.runs_per_job=5" in plan["command"]
    assert call("hydra.sweeper.runs_per_job=4") == 0, "the jobs have died before they saved anything"
    assert sorted(path.name for path in Path("sweep").iterdir() if path.name.isdigit()) == ["0", "1", "2"]


def test_jobs_keep_their_size_once_there_is_a_result(call, capsys):
    assert call("hydra.sweeper.runs_per_job=5") == 0
    for part in Path("sweep/1/runs.parquet").iterdir():
        part.unlink()
    assert call("hydra.sweeper.runs_per_job=2") == 0
    assert "jobs keep the size that this sweep has begun with: runs_per_job=5" in capsys.readouterr().out
    assert yaml.safe_load(Path("sweep/sweep.yaml").read_text())["runs_per_job"] == 5
    assert len(outcomes_so_far(Path("sweep"))) == 10


def test_jobs_keep_their_size_once_there_is_a_checkpoint(call, fake_slurm):
    accepts(fake_slurm, 17)
    assert call(*ON_SLURM, "hydra.sweeper.runs_per_job=5") == 1
    state = Path("sweep/checkpoints/1/run.pt")
    state.parent.mkdir(parents=True)
    state.touch()
    assert call("hydra.sweeper.runs_per_job=2") == 0
    assert yaml.safe_load(Path("sweep/sweep.yaml").read_text())["runs_per_job"] == 5


def test_more_jobs_than_an_array_may_have_make_several_arrays(call, fake_slurm):
    fake_slurm.says("scontrol", "SlurmctldPort = 6817\nMaxArraySize            = 4\nMaxJobCount = 10000")
    accepts(fake_slurm, 17, 18, 19)
    assert call(*ON_SLURM, "hydra.sweeper.runs_per_job=1", "hydra.launcher.array_parallelism=6") == 1
    arrays = [re.search(r"--array='?([^'\n]*)", script)[1] for script in scripts()]
    assert arrays == ["0-3%2", "0-3%2", "0-1%2"], "six at the same time, in three arrays"
    assert slurm.submitted(Path("sweep")) == {f"17_{n}" for n in range(4)} | {f"18_{n}" for n in range(4)} | {"19_0", "19_1"}


def test_if_a_later_array_is_refused_the_earlier_ones_go_on(call, fake_slurm, capsys):
    fake_slurm.says("scontrol", "MaxArraySize = 4")
    accepts(fake_slurm, 17)
    fake_slurm.says("sbatch", "Submitted batch job 17", REFUSED)
    assert call(*ON_SLURM, "hydra.sweeper.runs_per_job=1") == 1
    assert "Job violates QOS policy; 4 jobs are submitted, and a rerun submits the rest" in capsys.readouterr().out
    assert len(fake_slurm.calls("sbatch")) == 2
    assert slurm.submitted(Path("sweep")) == {"17_0", "17_1", "17_2", "17_3"}


def test_the_largest_array(fake_slurm, monkeypatch):
    fake_slurm.says("scontrol", "MaxArraySize            = 1001")
    assert slurm.largest_array() == 1001
    fake_slurm.says("scontrol", "MaxArraySize = 0")
    assert slurm.largest_array() == 1, "no arrays at all: one job at a time"
    fake_slurm.says("scontrol", Answer(error="Unable to contact slurm controller", code=1))
    assert slurm.largest_array() is None
    monkeypatch.setattr(slurm, "SECONDS_FOR_AN_ANSWER", 0.2)
    fake_slurm.says("scontrol", SLOW)
    assert slurm.largest_array() is None


def test_without_sbatch_nothing_is_written(call, fake_slurm, tmp_path):
    fake_slurm.vanish()
    with pytest.raises(ConfigError, match="hydra/launcher=slurm: there is no sbatch here"):
        call(*ON_SLURM)
    assert not list(tmp_path.iterdir())
