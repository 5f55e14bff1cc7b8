"""python -m lnt.status: how a sweep stands, from its files."""

import os
import re
import sys
import time
from pathlib import Path
from typing import ClassVar

import pytest
from fake_slurm import DOWN, FORGOTTEN, SLOW, Answer

import train
from lnt import status
from lnt.errors import ConfigError
from lnt.files import clock_of, read_json, write_json
from lnt.runs.directory import RunDirectory, slurm_job
from lnt.status import main
from lnt.sweeps import slurm as cluster
from lnt.sweeps import submission
from lnt.sweeps.job import check_progress
from lnt.sweeps.slurm import Queued
from lnt.sweeps.standing import describe, jobs

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
    file = sweep / str(job) / "status.json"
    write_json(file, {**read_json(file), **changes})
    return file


def test_a_complete_sweep(sweep, monkeypatch, capsys):
    now = describe(sweep)
    assert now.complete
    assert now.text.splitlines() == [
        f"6 runs: 6 completed, 0 diverged, 0 failed, 0 missing; {sweep}",
        "2 jobs begun: 2 completed",
    ]
    monkeypatch.setattr(sys, "argv", ["status", "sweep", "--watch"])
    main()
    assert now.text in capsys.readouterr().out


def test_running_and_dead_jobs_and_what_finishes_the_rest(sweep):
    for part in (sweep / "1" / "runs.parquet").iterdir():
        part.unlink()
    file = say(sweep, 1, state="running", done=0, of=3, share=0.5, left=20)
    text = describe(sweep).text
    assert not describe(sweep).complete
    assert "6 runs: 3 completed, 0 diverged, 0 failed, 3 missing" in text
    assert "2 jobs begun: 1 completed, 1 running" in text
    assert re.search(r"job 1: running, 0 of 3 runs, .*:\d+, [\d:]+ UTC, about 20 s left, seen 1 s ago\n", text)
    assert "\nabout 20 s left" in text
    assert "to finish the rest" not in text, "a job is at it"
    os.utime(file, (time.time() - 600,) * 2)
    text = describe(sweep).text
    assert [job.state for job in jobs(sweep)] == ["completed", "died"]
    assert "to finish the rest: python train.py -m data.n_train=8" in text


def incomplete(sweep, *names):
    """Take the rows of job 1 away, and let submitit have made folders for these jobs."""
    for part in (sweep / "1" / "runs.parquet").iterdir():
        part.unlink()
    for name in names:
        (sweep / ".submitit" / name).mkdir(parents=True)


def test_what_slurm_says_is_shown(sweep, fake_slurm):
    incomplete(sweep, "17", "17_0", "17_1", "17_2")
    say(sweep, 0, slurm="17_0", state="failed", error="OSError: disk full")
    say(sweep, 1, state="preempted", slurm="17_1")
    fake_slurm.says("squeue", "17_1|PENDING|Priority")
    fake_slurm.says("sacct", "17_0|FAILED\n17_2|OUT_OF_MEMORY")
    text = describe(sweep).text
    assert "job 1: preempted, 3 of 3 runs, SLURM 17_1 PENDING" in text
    assert "SLURM 17_0 FAILED" in text
    assert "UTC: OSError: disk full" in text
    assert "submitted, not begun: 1 OUT_OF_MEMORY" in text
    assert "to finish the rest" not in text, "a job is in the queue"


@pytest.mark.parametrize("silence", [SLOW, DOWN])
@pytest.mark.slow
def test_no_answer_of_squeue_is_not_an_empty_queue(sweep, fake_slurm, monkeypatch, silence):
    """500 jobs may wait: neither is a rerun recommended, nor does it submit them a second time."""
    incomplete(sweep, "17_0", "17_1")
    monkeypatch.setattr(cluster, "SECONDS_FOR_AN_ANSWER", 0.5)
    fake_slurm.says("squeue", silence)
    text = describe(sweep).text
    assert "to finish the rest" not in text
    why = "has not answered in 0 s" if silence == SLOW else "says: slurm_load_jobs error: Unable to contact slurm controller"
    assert f"jobs may still be waiting or running: squeue {why}" in text
    with pytest.raises(ConfigError, match=r"its jobs may still be waiting or running, since squeue .*; try again") as error:
        train.main()
    assert "\n" not in str(error.value)


def test_an_empty_queue_lets_the_rest_be_finished(sweep, fake_slurm):
    incomplete(sweep, "17_0", "17_1")
    for gone in (FORGOTTEN, ""):
        fake_slurm.says("squeue", gone)
        assert "\nto finish the rest: python" in describe(sweep).text
    train.main()
    assert describe(sweep).complete


def test_away_from_the_cluster_there_is_nothing_to_ask(sweep, fake_slurm):
    """The condition is said with the command; a rerun on this machine is the user's to judge."""
    incomplete(sweep, "17_0", "17_1")
    fake_slurm.vanish()
    assert "there is no squeue here; to finish the rest, if no job of the sweep is in the queue: python" in describe(sweep).text
    train.main()
    assert describe(sweep).complete


def logged(sweep, name, text, stream="err"):
    """Let a job's log hold this text."""
    log = sweep / ".submitit" / name / f"{name}_0_log.{stream}"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(text)
    return log


def test_why_jobs_wait_is_shown(sweep, fake_slurm):
    incomplete(sweep, *(f"17_{task}" for task in range(6)))
    reasons = ["PartitionTimeLimit", "PartitionTimeLimit", "Priority", "None", "JobHeldUser", "DependencyNeverSatisfied"]
    fake_slurm.says("squeue", "\n".join(f"17_{task}|PENDING|{reason}" for task, reason in enumerate(reasons)))
    lines = describe(sweep).text.splitlines()
    advice = "they do not start by themselves: scontrol release them, or scancel them and start again with other settings"
    assert "submitted, not begun: 6 PENDING" in lines
    assert f"2 jobs wait in SLURM's queue: PartitionTimeLimit; {advice}" in lines
    assert "1 jobs wait in SLURM's queue: Priority" in lines
    assert f"1 jobs wait in SLURM's queue: JobHeldUser; {advice}" in lines
    assert f"1 jobs wait in SLURM's queue: DependencyNeverSatisfied; {advice}" in lines
    assert not [line for line in lines if "None" in line]


def test_what_dead_jobs_said_last_is_shown(sweep, fake_slurm):
    incomplete(sweep, "17_0", "17_1", "17_2", "17_3")
    os.utime(say(sweep, 1, state="running", slurm="17_1"), (time.time() - 600,) * 2)
    began = logged(sweep, "17_1", "one\nslurmstepd: error: Detected 1 oom_kill event\n\n")
    never = logged(sweep, "17_2", "/bin/sh: python: not found\n", "out")
    fake_slurm.says("sacct", "17_0|COMPLETED\n17_1|OUT_OF_MEMORY\n17_2|FAILED")
    text = describe(sweep).text
    assert f"UTC, seen 10 min ago: slurmstepd: error: Detected 1 oom_kill event ({began})" in text
    assert "  job 1: died, 3 of 3 runs, SLURM 17_1 OUT_OF_MEMORY" in text
    assert f"  SLURM 17_2: FAILED: /bin/sh: python: not found ({never})" in text
    assert "  SLURM 17_3: gone from the queue\n" in text
    fake_slurm.says("squeue", DOWN)
    text = describe(sweep).text
    assert "submitted, not begun: 3 of unknown state" in text
    assert "SLURM 17_3" not in text, "it may be waiting"


def test_an_array_is_no_job_of_its_own(sweep, fake_slurm):
    (sweep / ".submitit" / "17").mkdir(parents=True)
    incomplete(sweep, "17_0", "17_1")
    say(sweep, 0, slurm="17_0")
    say(sweep, 1, slurm="17_1", state="preempted")
    assert "not begun" not in describe(sweep).text


def test_pending_tasks_that_were_cancelled_together_are_known(sweep, fake_slurm):
    incomplete(sweep, *(f"18_{task}" for task in range(500)))
    fake_slurm.says("sacct", "18_[0-499%256]|CANCELLED by 0")
    text = describe(sweep).text
    assert "submitted, not begun: 500 CANCELLED by 0\n  SLURM 18_0: CANCELLED by 0\n" in text
    assert "  and 480 more\n" in text


def test_watching_ends_when_nothing_goes_on(sweep, fake_slurm, monkeypatch, capsys):
    """A silent squeue is no end, and neither is a short pause between two jobs."""
    clock, sleep = [1000.0], time.sleep
    incomplete(sweep, "17_0")
    # Only the watcher's own wait: subprocess sleeps, too.
    monkeypatch.setattr(status.time, "sleep", lambda seconds: clock.append(clock[-1] + 15) if seconds == 5 else sleep(seconds))
    monkeypatch.setattr(status.time, "monotonic", lambda: clock[-1])
    fake_slurm.says("squeue", "17_0|RUNNING|None", "", DOWN, "", "", "17_0|RUNNING|None", "")
    monkeypatch.setattr(sys, "argv", ["status", "sweep", "--watch"])
    main()
    assert len(fake_slurm.calls("squeue")) == 10  # a minute after the last job has left, at 15 s each
    assert capsys.readouterr().out.rstrip().splitlines()[-1].startswith("to finish the rest: python")


def test_the_clock_of_another_machine_does_no_harm(sweep, monkeypatch):
    """Ages are differences of times of files; those of a folder that may not be written, of this machine's clock."""
    incomplete(sweep)
    say(sweep, 1, state="running", done=1, of=3)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 7200)
    assert [job.state for job in jobs(sweep)] == ["completed", "running"]
    assert abs(clock_of(sweep) - now) < 60
    assert not list(sweep.glob(".clock*"))
    assert clock_of(sweep / "nowhere") == now + 7200


def test_of_many_jobs_some_are_shown(sweep):
    for number in range(2, 30):
        (sweep / str(number)).mkdir()
        (sweep / str(number) / "status.json").write_text((sweep / "0" / "status.json").read_text())
        say(sweep, number, state="preempted")
    text = describe(sweep).text
    assert text.count("preempted, 3 of 3 runs") == 20
    assert "and 8 more" in text


def test_a_directory_without_a_sweep(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["status", str(tmp_path)])
    with pytest.raises(SystemExit, match="holds no sweep and no run"):
        main()


def test_squeue_is_understood(fake_slurm):
    lines = "17_0|RUNNING|None\n17_1|PENDING|(a|b), c\n18_0|RUNNING|None\na remark of the cluster"
    fake_slurm.says("squeue", lines)
    found = {"17_0": Queued("RUNNING", "None"), "17_1": Queued("PENDING", "(a|b), c")}
    assert cluster.queued({"17_0", "17_1", "17_2"}) == found
    assert cluster.queued({"17"}) == found, "its tasks have no folders yet"
    assert set(cluster.queued({"17_0", "18_0"})) == {"17_0", "18_0"}
    assert fake_slurm.calls("squeue")[-1] == "--noheader --array --format=%i|%T|%r --jobs=17,18"


def test_squeue_has_four_answers(fake_slurm, monkeypatch):
    fake_slurm.says("squeue", "17_0|RUNNING|None")
    assert "17_0" in cluster.queued({"17_0"})
    fake_slurm.says("squeue", FORGOTTEN)
    assert cluster.queued({"17_0"}) == {}, "all of them are forgotten"
    fake_slurm.says("squeue", DOWN)
    with pytest.raises(cluster.NoAnswer, match="squeue says: slurm_load_jobs error: Unable to contact"):
        cluster.queued({"17_0"})
    monkeypatch.setattr(cluster, "SECONDS_FOR_AN_ANSWER", 0.2)
    fake_slurm.says("squeue", SLOW)
    with pytest.raises(cluster.NoAnswer, match="has not answered"):
        cluster.queued({"17_0"})
    assert cluster.queued(set()) == {}, "no job, no question"
    fake_slurm.vanish()
    assert cluster.queued({"17_0"}) is None, "no squeue"


def test_sacct_is_understood(fake_slurm, monkeypatch):
    fake_slurm.says("sacct", "17_0|TIMEOUT\n17_1|CANCELLED by 0\n17_[2-3,5%256]|CANCELLED by 0\n17_[7]|PENDING\n18|FAILED")
    cancelled = "CANCELLED by 0"
    wanted = {"17_0": "TIMEOUT", **dict.fromkeys(("17_1", "17_2", "17_3", "17_5"), cancelled), "17_7": "PENDING"}
    assert cluster.ended({f"17_{task}" for task in range(10)}) == wanted
    assert cluster.ended({"17_3", "18"}) == {"17_3": cancelled, "18": "FAILED"}
    fake_slurm.says("sacct", Answer(error="Slurm accounting storage is disabled", code=1))
    assert cluster.ended({"17_0"}) == {}
    monkeypatch.setattr(cluster, "SECONDS_FOR_AN_ANSWER", 0.2)
    fake_slurm.says("sacct", SLOW)
    assert cluster.ended({"17_0"}) == {}
    fake_slurm.vanish()
    assert cluster.ended({"17_0"}) == {}, "no sacct"


def test_preemption_is_told_from_scancel(fake_slurm, monkeypatch, caplog):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert not cluster.being_preempted(), "no SLURM job"
    monkeypatch.setenv("SLURM_JOB_ID", "18")
    monkeypatch.setattr(cluster, "SECONDS_FOR_AN_ANSWER", 0.5)
    line = "   SuspendTime=None PreemptEligibleTime=2026-11-23T20:50:00 PreemptTime={} SecsPreSuspend=0"
    preempted = line.format("2026-11-23T20:53:25")
    fake_slurm.says("scontrol", line.format("None"))
    assert not cluster.being_preempted()
    for answers in ([preempted], [SLOW, preempted]):
        fake_slurm.says("scontrol", *answers)
        assert cluster.being_preempted(), "it is asked again if it does not answer"
    assert not caplog.text
    fake_slurm.says("scontrol", SLOW)
    assert not cluster.being_preempted()
    assert "SLURM does not say why it ends this job, which is not requeued; a rerun goes on" in caplog.text
    assert len(fake_slurm.calls("scontrol")) == 3


def test_names_of_slurm_jobs(tmp_path, monkeypatch):
    for name in ("17", "17_0", "17_1", "18", "%j", "notes"):
        (tmp_path / ".submitit" / name).mkdir(parents=True)
    assert cluster.submitted(tmp_path) == {"17_0", "17_1", "18"}, "17 is the array, no job of its own"
    monkeypatch.setenv("SLURM_JOB_ID", "18")
    assert slurm_job() is None, "an allocation that the user has made"
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    assert slurm_job() == "18"
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "17")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    assert slurm_job() == "17_0"


@pytest.mark.slow
def test_a_rerun_while_jobs_are_at_work_is_refused(sweep, fake_slurm):
    incomplete(sweep, "17_0", *(f"17_{task}" for task in range(1, 6)))
    fake_slurm.says("squeue", "17_0|RUNNING|None\n17_1|COMPLETING|None")
    with pytest.raises(ConfigError, match=r"1 of its jobs are still waiting or running \(17_0\)"):
        train.main()
    fake_slurm.says("squeue", "\n".join(f"17_{task}|PENDING|Priority" for task in range(6)))
    with pytest.raises(ConfigError, match=r"6 of its jobs are still waiting or running \(17_0, 17_1, 17_2, \.\.\.\)"):
        train.main()


class Hanging:
    """A launcher that has submitted one job, and waits for ever."""

    def __init__(self, folder, error=None):
        self.folder, self.error, self.settings = folder, error, {"array_parallelism": 1}

    def launch(self, jobs, initial_job_idx):
        self.folder.mkdir(parents=True)
        if self.error:
            raise self.error
        time.sleep(3600)


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr(submission, "SECONDS_BETWEEN_LOOKS", 0.01)


def test_the_wait_ends_when_no_job_is_left(tmp_path, fake_slurm, at_once):
    fake_slurm.says("squeue", DOWN, "17_0|RUNNING|None", "", "17_0|PENDING|BeginTime", "")
    submission.launch(Hanging(tmp_path / ".submitit" / "17_0"), [["+job=0"]], 0, tmp_path)
    assert len(fake_slurm.calls("squeue")) == 7, "a requeued job is out of the queue for a moment"


def test_a_job_that_fails_does_not_end_the_wait_for_the_others(tmp_path, fake_slurm, at_once, caplog):
    (tmp_path / ".submitit" / "17_1").mkdir(parents=True)
    fake_slurm.says("squeue", "17_0|RUNNING|None", *[DOWN] * 5, "17_0|RUNNING|None", "")
    submission.launch(Hanging(tmp_path / ".submitit" / "17_0", RuntimeError("job 0 died")), [["+job=0"]], 0, tmp_path)
    assert len(fake_slurm.calls("squeue")) == 10, "no answer is no news"
    assert "a job has failed: job 0 died" in caplog.text


def test_the_waiting_process_says_why_nothing_runs(tmp_path, fake_slurm, at_once, caplog):
    """Each reason once; and in the end what jobs without a result said last."""
    held, free = "17_0|PENDING|PartitionTimeLimit", "17_0|PENDING|Resources"
    fake_slurm.says("squeue", held, held, free, held, "17_0|RUNNING|None", "")
    fake_slurm.says("sacct", "17_0|NODE_FAIL")
    log = tmp_path / ".submitit" / "17_0" / "17_0_0_log.err"

    class Logging(Hanging):
        def launch(self, jobs, initial_job_idx):
            logged(tmp_path, "17_0", "srun: error: task 0: Killed\n")
            raise RuntimeError("lost")

    submission.launch(Logging(None), [["+job=0"]], 0, tmp_path)
    assert [record.getMessage().split(";")[0] for record in caplog.records] == [
        "1 jobs wait in SLURM's queue: PartitionTimeLimit",
        "1 jobs wait in SLURM's queue: Resources",
        "a job has failed: lost",
        f"SLURM job 17_0 has ended without a result (NODE_FAIL): srun: error: task 0: Killed (in {log})",
    ]


def test_a_job_that_saves_nothing_in_three_starts_is_stopped(tmp_path):
    """It would be requeued without end. What it saves, a result or a checkpoint, makes it count anew."""
    directory, checkpoints = RunDirectory.claim_for_job(tmp_path / "0", tmp_path, 0), tmp_path / "checkpoints" / "0"
    checkpoints.mkdir(parents=True)
    for missing in (5, 5, 5, 4, 4):
        check_progress(directory, missing, checkpoints)
    (checkpoints / "run.pt").touch()
    for _ in range(3):
        check_progress(directory, 4, checkpoints)
    os.utime(checkpoints / "run.pt", (1, 1))
    for _ in range(3):
        check_progress(directory, 4, checkpoints)
    with pytest.raises(ConfigError, match="3 starts in a row have saved neither a result nor a checkpoint"):
        check_progress(directory, 4, checkpoints)
    (found,) = jobs(tmp_path)
    assert (found.state, found.done, found.of) == ("failed", 0, 4)
    assert "3 starts in a row have saved neither" in found.error


def test_a_fault_in_submitting_keeps_its_traceback(tmp_path, fake_slurm, at_once):
    class Broken:
        settings: ClassVar = {"array_parallelism": 1}

        def launch(self, jobs, initial_job_idx):
            raise ValueError("cannot be pickled")

    with pytest.raises(ValueError, match="cannot be pickled"):
        submission.launch(Broken(), [["+job=0"]], 0, tmp_path)
