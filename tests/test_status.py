"""python -m lnt.status: how a sweep stands, from its files."""

import os
import sys
import time
from pathlib import Path

import pytest

import train
from lnt.errors import ConfigError
from lnt.files import read_json, write_json
from lnt.runs.directory import slurm_job
from lnt.status import describe, jobs, main
from lnt.sweeps import slurm as cluster

TINY = ("data.n_train=8", "data.n_test=10", "data.dim=50", "optimizer.steps=10", "model.width=2")


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        sys, "argv", ["train.py", "-m", *TINY, "seed=range(6)", "hydra.sweeper.runs_per_job=3", "hydra.sweep.dir=sweep"]
    )
    train.main()
    return Path("sweep")


def say(sweep, job, **changes):
    """Let a job's status.json say something else."""
    status = sweep / str(job) / "status.json"
    write_json(status, {**read_json(status), **changes})
    return status


def test_a_complete_sweep(sweep, monkeypatch, capsys):
    text, complete = describe(sweep)
    assert complete
    assert text.splitlines() == [f"6 runs: 6 completed, 0 diverged, 0 failed, 0 missing; {sweep}", "2 jobs begun: 2 completed"]
    monkeypatch.setattr(sys, "argv", ["status", "sweep", "--watch"])
    main()
    assert text in capsys.readouterr().out


def test_running_and_dead_jobs_and_what_finishes_the_rest(sweep):
    for part in (sweep / "1" / "runs.parquet").iterdir():
        part.unlink()
    status = say(sweep, 1, state="running", done=1, of=3)
    text, complete = describe(sweep)
    assert not complete
    assert "6 runs: 3 completed, 0 diverged, 0 failed, 3 missing" in text
    assert "2 jobs begun: 1 completed, 1 running" in text
    assert "job 1: running, 1 of 3 runs" in text
    assert "s left at the pace so far" in text
    assert "to finish the rest" not in text, "a job is at it"
    os.utime(status, (time.time() - 600,) * 2)
    text, _ = describe(sweep)
    assert [job.state for job in jobs(sweep)] == ["completed", "died"]
    assert "to finish the rest: python train.py -m data.n_train=8" in text


def test_what_slurm_says_is_shown(sweep, monkeypatch):
    for name in ("17_0", "17_1", "17_2"):
        (sweep / ".submitit" / name).mkdir(parents=True)
    for part in (sweep / "1" / "runs.parquet").iterdir():
        part.unlink()
    say(sweep, 0, slurm="17_0")
    say(sweep, 1, state="preempted", slurm="17_1")
    say(sweep, 0, state="failed", error="OSError: disk full")
    monkeypatch.setattr(cluster, "queued", lambda ids: {"17_1": "PENDING"})
    monkeypatch.setattr(cluster, "ended", lambda ids: {"17_2": "OUT_OF_MEMORY"} if "17_2" in ids else {})
    text, _ = describe(sweep)
    assert "job 1: preempted, 3 of 3 runs, SLURM 17_1 PENDING" in text
    assert "UTC: OSError: disk full" in text
    assert "submitted, not begun: 1 OUT_OF_MEMORY" in text
    assert "to finish the rest" not in text, "a job is in the queue"
    monkeypatch.setattr(cluster, "queued", lambda ids: None)
    assert "to finish the rest" in describe(sweep)[0]


def test_of_many_jobs_some_are_shown(sweep):
    for number in range(2, 30):
        (sweep / str(number)).mkdir()
        (sweep / str(number) / "status.json").write_text((sweep / "0" / "status.json").read_text())
        say(sweep, number, state="preempted")
    text, _ = describe(sweep)
    assert text.count("preempted, 3 of 3 runs") == 20
    assert "and 8 more" in text


def test_a_directory_without_a_sweep(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["status", str(tmp_path)])
    with pytest.raises(SystemExit, match="holds no sweep"):
        main()


SQUEUE = """#!/bin/sh
case "$*" in
*--jobs=17*) printf '17_0|RUNNING\\n17_1|PENDING\\n18_0|RUNNING\\n' ;;
*--jobs=9*) echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1 ;;
*) echo 'Unable to contact slurm controller' >&2; exit 1 ;;
esac
"""


def test_squeue_is_understood(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "squeue").write_text(SQUEUE)
    (tmp_path / "squeue").chmod(0o755)
    assert cluster.queued({"17_0", "17_1", "17_2"}) == {"17_0": "RUNNING", "17_1": "PENDING"}
    assert cluster.queued({"9_0"}) == {}, "all of them are forgotten"
    assert cluster.queued({"5_0"}) is None, "no answer"
    monkeypatch.setenv("PATH", "")
    assert cluster.queued({"17_0"}) is None, "no squeue"


def test_sacct_is_understood(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setenv("PATH", "")
        assert cluster.ended({"17_0"}) == {}, "no sacct"
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "sacct").write_text("#!/bin/sh\nprintf '17_0|TIMEOUT\\n17_1|CANCELLED by 0\\n17_[2-5]|PENDING\\n'")
    (tmp_path / "sacct").chmod(0o755)
    assert cluster.ended({"17_0", "17_1", "17_2"}) == {"17_0": "TIMEOUT", "17_1": "CANCELLED by 0"}


def test_preemption_is_told_from_scancel(tmp_path, monkeypatch):
    assert not cluster.being_preempted(), "no SLURM job"
    monkeypatch.setenv("SLURM_JOB_ID", "18")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for time_of_it, wanted in (("None", False), ("2026-11-23T20:53:25", True)):
        line = f"   SuspendTime=None PreemptEligibleTime=2026-11-23T20:50:00 PreemptTime={time_of_it} SecsPreSuspend=0"
        (tmp_path / "scontrol").write_text(f"#!/bin/sh\necho '{line}'")
        (tmp_path / "scontrol").chmod(0o755)
        assert cluster.being_preempted() == wanted


def test_names_of_slurm_jobs(tmp_path, monkeypatch):
    for name in ("17_0", "18", "%j", "notes"):
        (tmp_path / ".submitit" / name).mkdir(parents=True)
    assert cluster.submitted(tmp_path) == {"17_0", "18"}
    monkeypatch.setenv("SLURM_JOB_ID", "18")
    assert slurm_job() is None, "an allocation that the user has made"
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    assert slurm_job() == "18"
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "17")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    assert slurm_job() == "17_0"


def test_a_rerun_while_jobs_are_at_work_is_refused(sweep, monkeypatch):
    (sweep / ".submitit" / "17_0").mkdir(parents=True)
    monkeypatch.setattr(cluster, "queued", lambda ids: {"17_0": "RUNNING"})
    with pytest.raises(ConfigError, match=r"1 of its jobs are still waiting or running \(17_0\)"):
        train.main()


class Hanging:
    """A launcher that has submitted one job, and waits for ever."""

    def __init__(self, folder, error=None):
        self.folder, self.error = folder, error

    def launch(self, jobs, initial_job_idx):
        self.folder.mkdir(parents=True)
        if self.error:
            raise self.error
        time.sleep(3600)


def test_the_wait_ends_when_no_job_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "SECONDS_BETWEEN_LOOKS", 0.01)
    answers = iter([None, {"17_0": "RUNNING"}, {}, {"17_0": "PENDING"}, *[{}] * 3])
    monkeypatch.setattr(cluster, "queued", lambda ids: next(answers))
    cluster.launch(Hanging(tmp_path / ".submitit" / "17_0"), [["+job=0"]], 0, tmp_path)
    assert next(answers, "all asked") == "all asked", "a requeued job is out of the queue for a moment"


def test_a_job_that_fails_does_not_end_the_wait_for_the_others(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(cluster, "SECONDS_BETWEEN_LOOKS", 0.01)
    answers = iter([{"17_1": "RUNNING"}, *[None] * 5, {"17_1": "RUNNING"}, *[{}] * 3])
    monkeypatch.setattr(cluster, "queued", lambda ids: next(answers))
    cluster.launch(Hanging(tmp_path / ".submitit" / "17_0", RuntimeError("job 0 died")), [["+job=0"]], 0, tmp_path)
    assert next(answers, "all asked") == "all asked", "no answer is no news"
    assert "a job ended without its result: job 0 died" in caplog.text


def test_a_submission_that_fails_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "SECONDS_BETWEEN_LOOKS", 0.01)

    class Refused:
        def launch(self, jobs, initial_job_idx):
            raise RuntimeError("sbatch: invalid partition")

    with pytest.raises(RuntimeError, match="invalid partition"):
        cluster.launch(Refused(), [["+job=0"]], 0, tmp_path)
