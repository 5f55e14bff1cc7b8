"""What is said of a run, a sweep and their progress, against sentences and times worked out by hand."""

import json
import logging
import os
import sys
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
import yaml
from fake_slurm import DOWN
from pyarrow import parquet as pq

from lnt import progress, status
from lnt.progress import Progress, StepCount
from lnt.runs.run_summary import run_summary
from lnt.status import Job, Scheduler, describe, estimate, jobs

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
COMMAND = "python train.py -m seed=range(10)"


@pytest.fixture
def clock(monkeypatch):
    """It is always noon by the clock of the files; that of this machine is wrong by hours."""
    monkeypatch.setattr(status, "clock_of", lambda folder: NOW.timestamp())
    monkeypatch.setattr(status.time, "time", lambda: NOW.timestamp() + 7200)


def at(seconds):
    """The time so many seconds before now."""
    return NOW - timedelta(seconds=seconds)


@pytest.fixture
def sweep(tmp_path, clock):
    """A plan of 2 x 3 + 4 = 10 runs, of which none has begun."""
    three = [{"keys": ["seed"], "points": [[0], [1], [2]]}, {"keys": ["data.dim"], "points": [[50], [60]]}]
    choices, four = {"choices": {"data": "signal_noise"}, "data": {}}, [{"keys": ["seed"], "points": [[0], [1], [2], [3]]}]
    groups = [{"config": choices, "axes": three}, {"config": choices, "axes": four}]
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump({"groups": groups, "command": COMMAND, "runs_per_job": 10}))
    return tmp_path


def job(sweep, number, state, rows=(), silent=0, began=None, again=None, **said):
    """Write the directory of a job: (run_id, status) of its rows, seconds since its last beat, and since it began.

    `again`: which job a rerun has begun again in this directory.
    """
    folder = sweep / str(number)
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump({"sweep": "multirun", "job": number if again is None else again}))
    content = {"state": state, "time": at(600).isoformat(), "host": "node", "pid": 40 + number, "slurm": None, **said}
    (folder / "status.json").write_text(json.dumps(content))
    os.utime(folder / "status.json", (at(silent).timestamp(),) * 2)
    if began is not None:
        (folder / "provenance.json").write_text("{}")
        os.utime(folder / "provenance.json", (at(began).timestamp(),) * 2)
    if rows:
        ids, states = zip(*rows, strict=True)
        errors = [f"ValueError: {name}\nin two lines" if state == "failed" else None for name, state in rows]
        columns = {"run_id": ids, "status": states, "error": pa.array(errors, pa.string())}
        pq.write_table(pa.table(columns), folder / "runs.parquet")


def completed(*names):
    return [(name, "completed") for name in names]


def test_a_sweep_of_which_nothing_has_begun(sweep):
    lines = [f"10 runs: 0 completed, 0 diverged, 0 failed, 10 missing; {sweep}", f"to finish the rest: {COMMAND}"]
    assert describe(sweep) == ("\n".join(lines), False, False)


def test_runs_are_counted_by_how_they_ended_and_once(sweep):
    """b failed first and completed later; d failed; e has rows of two directories of its job."""
    job(sweep, 0, "completed", [*completed("a", "e"), ("b", "failed"), ("c", "diverged"), ("d", "failed")])
    job(sweep, 1, "completed", completed("b", "e"), again=0)
    job(sweep, 2, "completed", completed("f"))
    text, complete, _ = describe(sweep)
    assert not complete
    assert text.splitlines() == [
        f"10 runs: 4 completed, 1 diverged, 1 failed, 4 missing; {sweep}",
        f"  1 failed: ValueError: d in two lines (run d in {sweep}/0)",
        "3 jobs begun: 3 completed",
        f"to finish the rest: {COMMAND}",
    ]


def test_a_sweep_is_complete_if_nothing_is_missing_and_nothing_failed(sweep):
    job(sweep, 0, "completed", [(name, "diverged" if name in "ab" else "completed") for name in "abcdefghij"])
    text = f"10 runs: 8 completed, 2 diverged, 0 failed, 0 missing; {sweep}\n1 jobs begun: 1 completed"
    assert describe(sweep) == (text, True, False)


def test_a_sweep_in_which_one_run_failed_is_not_complete(sweep):
    job(sweep, 0, "completed", [*completed(*"abcdefghi"), ("j", "failed")])
    text, complete, _ = describe(sweep)
    assert "9 completed, 0 diverged, 1 failed, 0 missing" in text
    assert not complete
    assert text.endswith(f"to finish the rest: {COMMAND}")


def test_each_job_that_is_not_complete_has_a_line(sweep):
    job(sweep, 10, "failed", slurm="17_3", error="OSError: disk full", runs=1)
    job(sweep, 9, "running", silent=30, began=100, done=1, of=5)
    job(sweep, 2, "preempted", done=2, of=5)
    job(sweep, 3, "interrupted")
    job(sweep, 1, "running", silent=61, done=3, of=5)
    job(sweep, 0, "completed", completed("a", "b"), runs=2)
    (sweep / "notes").mkdir()
    (sweep / "notes" / "status.json").write_text("no job")
    text = describe(sweep).text
    assert text.splitlines() == [
        f"10 runs: 2 completed, 0 diverged, 0 failed, 8 missing; {sweep}",
        "6 jobs begun: 1 completed, 1 died, 1 preempted, 1 interrupted, 1 running, 1 failed",
        "  job 1: died, 3 of 5 runs, node:41, 11:50:00 UTC",
        "  job 2: preempted, 2 of 5 runs, node:42, 11:50:00 UTC",
        "  job 3: interrupted, 0 of 0 runs, node:43, 11:50:00 UTC",
        "  job 9: running, 1 of 5 runs, node:49, 11:50:00 UTC",
        "  job 10: failed, 1 of 1 runs, SLURM 17_3, 11:50:00 UTC: OSError: disk full",
        "about 800 s left at the pace so far",  # job 9 took 100 s for one run, and 8 are missing
    ]


@pytest.mark.parametrize(("silent", "state"), [(59, "running"), (60, "running"), (61, "died")])
def test_a_job_has_died_once_four_beats_are_missing(sweep, silent, state):
    """It beats every 15 s; a job that has ended is silent without having died."""
    job(sweep, 0, "running", silent=silent, done=0, of=2)
    job(sweep, 1, "completed", silent=10_000, runs=2)
    assert [found.state for found in jobs(sweep)] == [state, "completed"]
    assert jobs(sweep)[1] == Job(1, "completed", 2, 2, at(600), "node", 41, None, "")


def test_a_running_job_finishes_the_rest_itself(sweep):
    job(sweep, 0, "running", done=0, of=10, began=5)
    assert "to finish" not in describe(sweep).text
    assert "left" not in describe(sweep).text, "no run has ended, so there is no pace"


# Estimates: missing runs times the seconds that each run has taken so far.


@pytest.mark.parametrize(
    ("running", "missing", "wanted"),
    [
        ([(100, 4)], 6, 150.0),  # 25 s for each
        ([(100, 4), (50, 6)], 5, 50.0),  # ten runs in the 100 s since the first of them began
        ([(50, 6), (100, 4)], 5, 50.0),
        ([(100, 4), (None, 6)], 5, 50.0),  # one without provenance counts with what it has done
        ([(100, 0)], 6, None),
        ([(100, 4)], 0, None),
        ([(None, 4)], 6, None),
        ([], 6, None),
    ],
)
def test_the_time_left_by_hand(sweep, running, missing, wanted):
    job(sweep, 8, "completed", began=5000, runs=100)  # of an earlier start: it says nothing about the pace now
    job(sweep, 9, "preempted", began=4000, done=50, of=60)
    for number, (began, done) in enumerate(running):
        job(sweep, number, "running", began=began, done=done, of=9)
    assert estimate(sweep, missing, jobs(sweep)) == wanted


# SLURM's answers.


def test_jobs_that_slurm_knows_are_named_by_its_states(sweep, fake_slurm):
    """squeue is asked about all jobs that were submitted, sacct about those that are not in the queue."""
    for name in ("17_0", "17_1", "17_2", "17_3", "17_4", "18"):
        (sweep / ".submitit" / name).mkdir(parents=True)
    fake_slurm.says("squeue", "17_1|RUNNING|None\n17_2|PENDING|Priority")
    fake_slurm.says("sacct", "17_0|TIMEOUT\n18|FAILED\n17_1|OLD")
    job(sweep, 0, "preempted", slurm="17_0", done=1, of=2)
    job(sweep, 1, "running", slurm="17_1", done=1, of=2)
    text = describe(sweep).text
    assert text.splitlines()[2:] == [
        "submitted, not begun: 1 PENDING, 2 gone from the queue, 1 FAILED",
        "  SLURM 17_3: gone from the queue",
        "  SLURM 17_4: gone from the queue",
        "  SLURM 18: FAILED",
        "1 jobs wait in SLURM's queue: Priority",
        "  job 0: preempted, 1 of 2 runs, SLURM 17_0 TIMEOUT, 11:50:00 UTC",
        "  job 1: running, 1 of 2 runs, SLURM 17_1 RUNNING, 11:50:00 UTC",
    ]


def test_jobs_in_the_queue_finish_the_rest_themselves(sweep, fake_slurm):
    (sweep / ".submitit" / "17").mkdir(parents=True)
    for queued, wanted in (("17|PENDING|Priority", False), ("", True), (DOWN, False)):
        fake_slurm.says("squeue", queued)
        assert (f"to finish the rest: {COMMAND}" in describe(sweep).text) == wanted


def test_a_scheduler_is_asked_nothing_where_nothing_was_submitted(sweep, fake_slurm):
    assert Scheduler.ask(sweep) == Scheduler(set(), {}, {})
    assert not fake_slurm.calls("squeue") + fake_slurm.calls("sacct")
    assert Scheduler(set(), {}, {"3": "TIMEOUT"}).state("3") == "TIMEOUT"
    assert Scheduler(set(), {}, {}).state(None) == ""


def test_errors_of_runs_are_counted_and_five_are_shown(sweep):
    job(sweep, 0, "completed", [(name, "failed") for name in "abcdef"])
    job(sweep, 1, "completed", [("a", "failed"), ("b", "completed"), ("g", "diverged")], again=0)
    lines = describe(sweep).text.splitlines()
    assert lines[0].startswith("10 runs: 1 completed, 1 diverged, 5 failed, 3 missing")
    wanted = [f"  1 failed: ValueError: {name} in two lines" for name in "acdef"]
    assert sorted(line.split(" (run")[0] for line in lines[1:6]) == wanted, "a run counts once"
    assert lines[6].startswith("2 jobs begun")
    job(sweep, 2, "completed", [("h", "failed")])
    assert describe(sweep).text.splitlines()[6] == "  and 1 more errors"


def test_of_many_jobs_twenty_have_a_line(sweep):
    for number in range(20):
        job(sweep, number, "preempted")
    assert describe(sweep).text.count("  job ") == 20
    assert "more" not in describe(sweep).text
    job(sweep, 20, "preempted")
    lines = describe(sweep).text.splitlines()
    assert sum(line.startswith("  job ") for line in lines) == 20
    assert lines[22] == "  and 1 more"


@pytest.fixture
def command(monkeypatch):
    """command(*arguments): what `lnt-status` does; a watcher that waits 15 s calls the functions in `waits` in turn."""

    def call(*arguments, waits=()):
        left = list(waits)
        monkeypatch.setattr(status.time, "sleep", lambda seconds: left.pop(0)(seconds))
        monkeypatch.setattr(sys, "argv", ["lnt-status", *map(str, arguments)])
        status.main()
        assert not left

    return call


def test_the_command_says_how_a_sweep_stands_once(sweep, command, capsys):
    command(sweep)
    assert capsys.readouterr().out == describe(sweep)[0] + "\n"


def test_a_watcher_looks_again_every_quarter_of_a_minute_until_nothing_is_left(sweep, command, capsys):
    def begin(seconds):
        assert seconds == 15
        job(sweep, 0, "completed", completed("a"))

    def end(seconds):
        job(sweep, 1, "completed", completed(*"bcdefghij"))

    command(sweep, "--watch", waits=[begin, end])
    said = [line.split(",")[0] for line in capsys.readouterr().out.splitlines() if "completed, 0 diverged" in line]
    assert said == ["10 runs: 0 completed", "10 runs: 1 completed", "10 runs: 10 completed"]


def test_on_a_terminal_a_watcher_clears_what_it_said_before(sweep, command, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    command(sweep, "--watch", waits=[lambda _: job(sweep, 0, "completed", completed(*"abcdefghij"))])
    before, after = capsys.readouterr().out.split("\x1b[H\x1b[2J")
    assert (before[:20], after[:20]) == ("10 runs: 0 completed", "10 runs: 10 complete")


def test_a_watcher_that_is_interrupted_ends_quietly(sweep, command):
    def interrupt(seconds):
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as stopped:
        command(sweep, "--watch", waits=[interrupt])
    assert stopped.value.code == 130


def test_a_directory_without_a_sweep_is_an_error_in_one_line(tmp_path, command):
    with pytest.raises(SystemExit) as stopped:
        command(tmp_path)
    assert stopped.value.code == f"error: DIR={tmp_path}: holds no sweep (no sweep.yaml)"


def test_help_names_the_command_the_directory_and_how_often_it_looks(command, capsys):
    with pytest.raises(SystemExit):
        command("--help")
    said = " ".join(capsys.readouterr().out.split())
    assert said.startswith("usage: python -m lnt.status [-h] [--watch] DIR How a sweep stands.")
    assert "DIR the sweep's directory" in said
    assert "--watch again every 15 s" in said


# The progress of one process.


@pytest.fixture
def seconds(monkeypatch):
    """The seconds that time.monotonic says; tests set it."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(
    ("done", "elapsed", "said"),
    [
        (250, 60, ", about 180 s left"),  # 60 s for a quarter: 180 s for the rest
        (999, 999, ", about 1 s left"),
        (1000, 100, ", about 0 s left"),
        (20, 10, ", about 490 s left"),  # 2 % are enough, less are not
        (19, 10, ""),
        (0, 10, ""),
        (500, 0, ""),
    ],
)
def test_the_time_left_of_1000_steps(seconds, done, elapsed, said):
    with Progress(1000, shown=False) as bar:
        bar.done = done
        assert bar._left(1000.0 + elapsed) == said


def test_a_log_line_comes_every_ten_seconds_where_there_is_no_terminal(seconds, caplog):
    caplog.set_level(logging.INFO)
    with Progress(200) as bar:
        for elapsed, steps in ((9.9, 10), (10.0, 15), (19.9, 25), (20.0, 50), (25.0, 100)):
            seconds[0] = 1000 + elapsed
            bar.update(steps)
    assert bar.done == 200
    assert [record.getMessage() for record in caplog.records] == [
        "25 of 200 run-steps done (12 %), about 70 s left",  # 10 s for an eighth
        "100 of 200 run-steps done (50 %), about 20 s left",
    ]


def test_a_progress_that_is_not_shown_counts_and_says_nothing(seconds, caplog):
    caplog.set_level(logging.INFO)
    with Progress(200, shown=False) as bar:
        seconds[0] += 1000
        bar.update(70)
        bar.update(30)
    assert bar.done == 100
    assert not caplog.records
    count = StepCount()
    count.update(3)
    count.update(4)
    assert count.done == 7


# One run in three lines.

RUN = {
    "status": "completed",
    "error": None,
    "last_step": 2000,
    "stage1_step": 120,
    "stage2_step": 1500,
    "noisy_accuracy": 0.9951,
    "realised_noise_rate": 0.3,
    "test_error": 0.12345,
    "best_test_error": 0.02,
    "best_test_error_fresh": 0.03,
    "best_step": 150,
}
LOWEST = "test error: 0.1235; the lowest was 0.0200, at step 150"
LAST = f"{LOWEST} (0.0300 where other samples choose the step)"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {},
            [
                "completed after step 2000; clean samples fitted: at step 120",
                "mislabelled samples memorised: at step 1500 (99.5% of them now)",
                LAST,
            ],
        ),
        (
            {"status": "diverged", "last_step": 7, "stage1_step": None, "stage2_step": None, "noisy_accuracy": 0.0},
            [
                "diverged after step 7; clean samples fitted: never",
                "mislabelled samples memorised: never (0.0% of them now)",
                LAST,
            ],
        ),
        (
            {"noisy_accuracy": None, "best_test_error_fresh": None},
            ["completed after step 2000; clean samples fitted: at step 120", "no sample is mislabelled", LOWEST],
        ),
        (
            {"noisy_accuracy": float("nan"), "stage1_step": 0},
            ["completed after step 2000; clean samples fitted: at step 0", "no sample is mislabelled", LAST],
        ),
        ({"status": "diverged", "last_step": None}, ["diverged before anything was measured; try a smaller optimizer.lr"]),
        ({"status": "failed", "error": "ValueError: no", "last_step": None}, ["the run failed: ValueError: no"]),
    ],
)
def test_a_run_in_words(changes, said):
    assert list(run_summary(RUN | changes)) == said
