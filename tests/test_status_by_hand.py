"""What is said of a run, a sweep and their progress, against sentences and times worked out by hand."""

import io
import json
import logging
import os
import re
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
import yaml
from fake_slurm import DOWN
from pyarrow import parquet as pq
from rich.console import Console

from lnt import progress, status
from lnt.files import DamagedFile
from lnt.progress import Progress, StepCount, in_words, percent
from lnt.runs.owner import Owner
from lnt.runs.run_summary import run_summary
from lnt.status import picture
from lnt.sweeps import missing_runs, standing
from lnt.sweeps.standing import Job, Row, Scheduler, Seen, Standing, describe, jobs, seconds_left

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
COMMAND = "python train.py -m seed=range(10)"


@pytest.fixture
def clock(monkeypatch):
    """It is always noon by the clock of the files; that of this machine is wrong by hours."""
    monkeypatch.setattr(standing, "clock_of", lambda folder: NOW.timestamp() if folder.is_dir() else 0.0)
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


def job(sweep, number, state, rows=(), silent=0, again=None, **said):
    """Write the directory of a job: (run_id, status) of its rows, and seconds since its last beat.

    `again`: which job a rerun has begun again in this directory.
    """
    folder = sweep / str(number)
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump({"sweep": "multirun", "job": number if again is None else again}))
    content = {"state": state, "time": at(600).isoformat(), "host": "node", "pid": 40 + number, "slurm": None, **said}
    (folder / "status.json").write_text(json.dumps(content))
    os.utime(folder / "status.json", (at(silent).timestamp(),) * 2)
    if rows:
        ids, states = zip(*rows, strict=True)
        errors = [f"ValueError: {name}\nin two lines" if state == "failed" else None for name, state in rows]
        columns = {"run_id": ids, "status": states, "error": pa.array(errors, pa.string())}
        pq.write_table(pa.table(columns), folder / "runs.parquet")


def completed(*names):
    return [(name, "completed") for name in names]


def replan(sweep, *without, **changes):
    """Let the plan say something else."""
    plan = {**yaml.safe_load((sweep / "sweep.yaml").read_text()), **changes}
    (sweep / "sweep.yaml").write_text(yaml.safe_dump({key: value for key, value in plan.items() if key not in without}))


def test_a_sweep_of_which_nothing_has_begun(sweep):
    lines = [f"10 runs: 0 completed, 0 diverged, 0 failed, 10 missing; {sweep}", f"to finish the rest: {COMMAND}"]
    now = describe(sweep)
    assert (now.text, now.complete, now.going) == ("\n".join(lines), False, False)
    assert (now.done, now.of, now.share, now.rows) == (0, 10, 0.0, [])


def test_runs_are_counted_by_how_they_ended_and_once(sweep):
    """b failed first and completed later; d failed; e has rows of two directories of its job."""
    job(sweep, 0, "completed", [*completed("a", "e"), ("b", "failed"), ("c", "diverged"), ("d", "failed")])
    job(sweep, 1, "completed", completed("b", "e"), again=0)
    job(sweep, 2, "completed", completed("f"))
    now = describe(sweep)
    assert not now.complete
    assert now.text.splitlines() == [
        f"10 runs: 4 completed, 1 diverged, 1 failed, 4 missing; {sweep}",
        f"  1 failed: ValueError: d in two lines (run d in {sweep}/0)",
        "2 jobs begun: 2 completed",  # job 0 by its second directory
        f"to finish the rest: {COMMAND}",
    ]


def test_a_sweep_is_complete_if_nothing_is_missing_and_nothing_failed(sweep):
    job(sweep, 0, "completed", [(name, "diverged" if name in "ab" else "completed") for name in "abcdefghij"])
    text = f"10 runs: 8 completed, 2 diverged, 0 failed, 0 missing; {sweep}\n1 jobs begun: 1 completed"
    now = describe(sweep)
    assert (now.text, now.complete, now.going) == (text, True, False)
    assert (now.done, now.share, now.state) == (10, 1.0, "completed")


def test_a_sweep_in_which_one_run_failed_is_not_complete(sweep):
    job(sweep, 0, "completed", [*completed(*"abcdefghi"), ("j", "failed")])
    now = describe(sweep)
    assert "9 completed, 0 diverged, 1 failed, 0 missing" in now.text
    assert not now.complete
    assert now.text.endswith(f"to finish the rest: {COMMAND}")


def test_each_job_that_is_not_complete_has_a_line(sweep):
    job(sweep, 10, "failed", slurm="17_3", error="OSError: disk full", runs=1)
    job(sweep, 9, "running", silent=30, done=1, of=5, share=0.25, left=30, at="step 5 of 20")
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
        "  job 9: running, 1 of 5 runs, node:49, 11:50:00 UTC, step 5 of 20, about 30 s left, seen 30 s ago",
        "  job 10: failed, 1 of 1 runs, SLURM 17_3, 11:50:00 UTC: OSError: disk full",
        "  job 1: died, 3 of 5 runs, node:41, 11:50:00 UTC, seen 1 min ago",
        "  job 2: preempted, 2 of 5 runs, node:42, 11:50:00 UTC",
        "  job 3: interrupted, 0 of 0 runs, node:43, 11:50:00 UTC",
        # Job 9 does 0.75 x 5 runs in 30 s, an eighth of a run a second: 30 s, and 32 s for the 4 runs that no job has.
        "about 1 min left",
    ]


def test_jobs_that_have_not_begun_are_counted(sweep):
    """10 runs in jobs of 3 are 4 jobs."""
    replan(sweep, runs_per_job=3)
    job(sweep, 0, "preempted", completed("a"), done=1, of=3)
    assert describe(sweep).jobs == ["1 jobs begun: 1 preempted; 3 not begun"]
    job(sweep, 1, "running", done=0, of=3)
    assert describe(sweep).jobs == ["2 jobs begun: 1 preempted, 1 running; 2 not begun"]
    replan(sweep, runs_per_job=5)
    assert describe(sweep).jobs == ["2 jobs begun: 1 preempted, 1 running"]


def test_no_job_is_to_come_once_all_is_done(sweep):
    """A sweep that was begun with larger jobs."""
    replan(sweep, runs_per_job=3)
    job(sweep, 0, "completed", completed(*"abcdefghij"), runs=10)
    assert describe(sweep).jobs == ["1 jobs begun: 1 completed"]


def test_a_sweep_that_looks_for_a_boundary_is_complete_once_the_search_has_ended(sweep):
    """Its rounds have asked for 1 + 2 seeds in two cells and 1 in a third; what comes next is not known."""
    axes = [{"keys": [key], "points": [[1], [2]]} for key in ("seed", "data.dim", "data.n_train")]
    groups = [{"config": {"choices": {"data": "signal_noise"}, "data": {}}, "axes": axes}]
    rounds = [json.dumps([[0, 0, 1], [1, 0, 2]]), json.dumps([[1, 1, 1]])]
    refine = {"value": "test_error", "level": 0.25, "width": 0.1, "budget": None, "rounds": rounds, "ended": ""}
    replan(sweep, groups=groups, runs_per_job=1, refine=refine)
    job(sweep, 0, "completed", completed(*"abcd"), runs=4)
    ended = f"4 runs: 4 completed, 0 diverged, 0 failed, 0 missing; {sweep}"
    now = describe(sweep)
    assert not now.complete
    assert now.text.splitlines() == [
        ended,
        "refine=boundary has asked for these in 2 rounds, and goes on",
        "1 jobs begun: 1 completed",
        f"to finish the rest: {COMMAND}",
    ]
    replan(sweep, refine={**refine, "ended": "boundary in 2 of 2 columns"})
    now = describe(sweep)
    assert now.complete
    assert now.text.splitlines() == [ended, "boundary in 2 of 2 columns", "1 jobs begun: 1 completed"]


def test_the_rest_of_a_plan_without_a_command_is_for_the_command_that_started_it(sweep):
    replan(sweep, "command")
    assert describe(sweep).advice == ["to finish the rest: the command that started it"]


def test_a_plan_of_no_runs_is_done(sweep):
    replan(sweep, groups=[])
    now = describe(sweep)
    assert (now.counts, now.share) == ("0 runs: 0 completed, 0 diverged, 0 failed, 0 missing", 1.0)


def test_a_state_that_is_not_known_comes_last(sweep):
    for number, state in enumerate(("paused", "completed", "failed")):
        job(sweep, number, state, done=0, of=2)
    assert [row.name for row in describe(sweep).rows] == ["job 2", "job 1", "job 0"]


def test_a_file_of_the_future_is_as_old_as_none(sweep):
    """Clocks of two machines may differ."""
    job(sweep, 0, "running", silent=-5, done=0, of=2)
    assert jobs(sweep)[0].age == 0.0


@pytest.mark.parametrize(("silent", "state"), [(59, "running"), (60, "running"), (61, "died")])
def test_a_job_has_died_once_four_beats_are_missing(sweep, silent, state):
    """It beats every 15 s; a job that has ended is silent without having died."""
    job(sweep, 0, "running", silent=silent, done=0, of=2)
    job(sweep, 1, "completed", silent=10_000, runs=2)
    assert [found.state for found in jobs(sweep)] == [state, "completed"]
    assert jobs(sweep)[1] == Job(1, "completed", 2, 2, at(600), "node", 41, None, "", 10_000)


def test_a_running_job_finishes_the_rest_itself(sweep):
    job(sweep, 0, "running", done=0, of=10)
    assert "to finish" not in describe(sweep).text
    assert "left" not in describe(sweep).text, "it does not say yet how long it takes"


def test_while_the_process_that_launches_jobs_lives_the_rest_may_come(sweep, monkeypatch):
    monkeypatch.undo()  # its clock is that of the machine
    job(sweep, 0, "completed", completed("a"), runs=1)
    with Owner(sweep / ".owner"):
        now = describe(sweep)
        assert (now.state, now.going, now.advice) == ("waiting", True, [])
    assert describe(sweep).state == "incomplete"


# Estimates: (done, of, share of the work, seconds that a job gives itself) of each running job.


@pytest.mark.parametrize(
    ("running", "missing", "wanted"),
    [
        ([(4, 10, 0.4, 12)], 6, 12.0),
        ([(4, 10, 0.4, 12), (0, 3, 0.1, 30)], 9, 30.0),  # side by side: the last of them
        ([(5, 10, 0.5, 10)], 15, 30.0),  # half a run a second: 10 s for its own, 20 s for ten more
        ([(5, 10, 0.5, 10), (5, 10, 0.5, 10)], 20, 20.0),  # one run a second
        ([(4, 10, 0.5, 10)], 16, 30.0),  # a run in work is the job's own
        ([(5, 10, 0.5, 10), (0, 8, None, None)], 13, 16.0),  # 8 runs at the pace of the other job
        ([(5, 10, 0.5, 10), (2, 8, None, None)], 11, 12.0),  # 6 runs
        ([(5, 10, 0.5, 10), (0, 8, None, 1)], 13, 16.0),  # a time without a share is not used
        # Five runs a second: a second and none for their own, half a second in the mean, and one for ten more, side by side.
        ([(5, 10, 0.5, 1), (8, 8, None, None)], 15, 1.5),
        ([(0, 10, 0.0, 20)], 20, 40.0),
        ([(0, 8, None, 20)], 8, None),
        ([(8, 8, 1.0, 5)], 3, None),
        ([(0, 8, None, None)], 8, None),
        ([(8, 8, 1.0, 0)], 3, None),
        ([(4, 10, 0.4, 12)], 0, None),
        ([], 6, None),
    ],
)
def test_the_time_left_by_hand(sweep, running, missing, wanted):
    for number, (done, of, share, left) in enumerate(running):
        job(sweep, number, "running", done=done, of=of, share=share, left=left)
    assert seconds_left(missing, jobs(sweep)) == wanted


def test_runs_in_work_count_in_the_bar(sweep):
    job(sweep, 0, "completed", completed(*"abcd"), runs=4)
    job(sweep, 1, "running", completed("e"), done=1, of=6, share=0.5)
    now = describe(sweep)
    assert (now.done, now.of, now.share) == (5, 10, 0.7)  # four, and half of six
    assert [row.share for row in now.rows] == [0.5, 1.0]


def test_a_running_job_that_does_not_say_its_share_has_done_the_runs_that_have_ended(sweep):
    job(sweep, 0, "running", completed("a"), done=1, of=4)
    now = describe(sweep)
    assert (now.share, now.rows[0].share) == (0.1, 0.25)


def test_runs_that_are_done_a_second_time_do_not_count_twice_in_the_bar(sweep):
    job(sweep, 0, "completed", completed(*"abcdefghij"), runs=10)
    job(sweep, 1, "running", done=0, of=10, share=0.5)
    assert describe(sweep).share == 1.0


@pytest.mark.parametrize(
    ("state", "done", "of", "share"),
    [("preempted", 2, 5, 0.4), ("interrupted", 0, 0, 0.0), ("preempted", 7, 5, 1.0), ("completed", 3, 5, 1.0)],
)
def test_the_bar_of_a_job_that_does_not_run(sweep, state, done, of, share):
    job(sweep, 0, state, done=done, of=of, share=0.9)
    assert describe(sweep).rows[0].share == share


@pytest.mark.parametrize(
    ("said", "share", "left", "at_step"),
    [
        ({"share": 0.5, "left": 3, "at": "epoch 1 of 2"}, 0.5, 3.0, "epoch 1 of 2"),
        ({"share": 0, "left": 0}, 0.0, 0.0, ""),
        ({"share": 1, "left": 10**12}, 1.0, 1e12, ""),
        ({"share": -0.1, "left": -1}, None, None, ""),
        ({"share": float("nan"), "left": float("inf")}, None, None, ""),
        ({"share": "most", "left": [1], "at": None}, None, None, ""),
        ({"share": 1.5, "left": 10**400}, None, None, ""),
        ({"at": "x" * 1000}, None, None, "x" * 200),
    ],
)
def test_what_a_job_says_of_its_progress_is_not_trusted(sweep, said, share, left, at_step):
    job(sweep, 0, "running", done=1, of=2, **said)
    (found,) = jobs(sweep)
    assert (found.state, found.share, found.left, found.at) == ("running", share, left, at_step)


@pytest.mark.parametrize("said", [{"done": 10**13}, {"done": -1}, {"of": float("inf")}, {"pid": 10**100}])
def test_numbers_that_no_job_has_are_not_shown(sweep, said):
    job(sweep, 0, "running", **{"done": 1, "of": 2, **said})
    (found,) = jobs(sweep)
    assert (found.state, found.done, found.of) == ("unreadable", 0, 0)
    assert found.error == f"{sweep}/0/status.json does not say how the job stands"


def test_the_largest_numbers_that_are_shown(sweep):
    job(sweep, 0, "running", done=10**12, of=10**12, pid=10**12)
    (found,) = jobs(sweep)
    assert (found.state, found.done, found.of, found.pid) == ("running", 10**12, 10**12, 10**12)


# Single runs, and several places below a folder.


def test_a_single_run(tmp_path, clock):
    job(tmp_path, 7, "running", silent=3, done=0, of=1, share=0.3, left=200, at="epoch 3 of 10")
    place = tmp_path / "7"
    assert describe(place).text.splitlines() == [
        f"1 run: running; {place}",
        "  run: running, 0 of 1 runs, node:47, 11:50:00 UTC, epoch 3 of 10, about 3 min left, seen 3 s ago",
        "about 3 min left",
    ]
    assert describe(place).going
    job(tmp_path, 8, "completed", runs=1)
    now = describe(tmp_path / "8")
    assert (now.text, now.complete, now.share) == (f"1 run: completed; {tmp_path / '8'}", True, 1.0)
    job(tmp_path, 9, "interrupted")
    assert (
        describe(tmp_path / "9").text.splitlines()[-1].startswith("to go on: the command that started it, with hydra.run.dir=")
    )


def test_a_run_may_have_any_name(tmp_path, clock):
    job(tmp_path, 7, "completed", runs=1)
    place = (tmp_path / "7").rename(tmp_path / "baseline")
    assert describe(place).text == f"1 run: completed; {place}"


def test_a_job_by_itself(tmp_path, clock):
    job(tmp_path, 7, "running", silent=3, done=1, of=2)
    place = tmp_path / "7"
    assert describe(place).text.splitlines() == [
        f"2 runs: running; {place}",
        "  job: running, 1 of 2 runs, node:47, 11:50:00 UTC, seen 3 s ago",
    ]


def test_a_run_that_died_under_slurm_has_no_log_by_itself(tmp_path, clock):
    job(tmp_path, 7, "running", silent=600, slurm="17", done=0, of=1)
    lines = describe(tmp_path / "7").text.splitlines()
    assert lines[1] == "  run: died, 0 of 1 runs, SLURM 17, 11:50:00 UTC, seen 10 min ago"


def test_a_run_that_vanishes_while_one_looks_is_an_error_that_names_the_file(tmp_path, monkeypatch):
    job(tmp_path, 7, "running", done=0, of=1)
    file = tmp_path / "7" / "status.json"
    monkeypatch.setattr(standing, "clock_of", lambda folder: file.unlink() or 0.0)
    with pytest.raises(DamagedFile) as error:
        describe(tmp_path / "7")
    assert str(error.value) == f"file={file}: is not there"


def test_sweeps_and_runs_below_a_folder(sweep, tmp_path_factory):
    above = tmp_path_factory.mktemp("above")
    sweep = sweep.rename(above / "one")
    job(sweep, 0, "running", completed("a"), silent=7, done=1, of=10, share=0.25, left=90)
    job(above, 500, "completed", runs=1)
    (above / "old").mkdir()
    job(above / "old", 3, "failed", error="OSError: full", done=0, of=1)
    (above / "broken").mkdir()
    (above / "broken" / "sweep.yaml").write_text("no plan")
    (above / ".hidden").mkdir()
    job(above / ".hidden", 1, "running")
    now = describe(above)
    assert now.text.splitlines() == [
        f"4 sweeps and runs: 1 running, 1 failed, 1 unreadable, 1 completed; 2 of 12 runs done; {above}",
        "  one: running, 1 of 10 runs, node:40, 11:50:00 UTC, about 2 min left, seen 7 s ago",
        "  old/3: failed, 0 of 1 runs, node:43, 11:50:00 UTC: OSError: full",
        f"  broken: unreadable, 0 of 0 runs: file={above}/broken/sweep.yaml: is damaged: it should hold keys and values",
        "about 2 min left",
    ]
    assert (now.complete, now.going) == (False, True)
    assert now.share == 3.5 / 12  # a quarter of ten, one whole, none


def test_what_is_said_of_each_sweep_and_run_below_a_folder(sweep, tmp_path_factory):
    above = tmp_path_factory.mktemp("above")
    for name in ("both", "fresh", "spoilt", "whole"):
        (above / name).mkdir()
        (above / name / "sweep.yaml").write_text((sweep / "sweep.yaml").read_text())
    job(above / "both", 0, "running", silent=7, done=0, of=4, share=0.25, left=90, at="step 5 of 20")
    job(above / "both", 1, "failed", silent=50, error="OSError: full", done=0, of=4)
    job(above / "spoilt", 0, "completed", [*completed(*"abcdefghi"), ("j", "failed")], runs=10)
    job(above / "whole", 3, "failed", silent=80, error="OSError: full", done=0, of=10)
    job(above / "whole", 4, "completed", completed(*"abcdefghij"), silent=20, runs=10)
    job(above, 500, "running", silent=3, done=0, of=1, share=0.5, left=20, at="epoch 5 of 10")
    now = describe(above)
    failed = f"1 failed: ValueError: j in two lines (run j in {above}/spoilt/0)"
    assert now.rows == [
        Row("500", "running", 0, 1, 0.5, 3, 20, "epoch 5 of 10", "node:540, 11:50:00 UTC", ""),
        # 3 runs in 90 s are one in 30 s: 90 s, and 180 s for the 6 runs that are nobody's. Its failed job is shown in it.
        Row("both", "running", 0, 10, 0.1, 7, 270, "", "jobs: 1 running, 1 failed", ""),
        Row("fresh", "incomplete", 0, 10, 0.0, None, None, "", "", ""),
        Row("spoilt", "incomplete", 10, 10, 1.0, 0, None, "", "node:40, 11:50:00 UTC", failed),
        Row("whole", "completed", 10, 10, 1.0, 20, None, "", "jobs: 1 failed, 1 completed", ""),
    ]
    assert (now.done, now.of, now.share) == (20, 41, 21.5 / 41)  # half a run, one, none, ten, ten
    assert (now.left, now.state, now.complete, now.going) == (270, "running", False, True)


def test_the_end_of_several_is_not_known_unless_all_that_go_on_know_theirs(tmp_path, clock):
    job(tmp_path, 1, "running", done=0, of=1, left=20, share=0.5)
    job(tmp_path, 2, "running", done=0, of=1)
    assert describe(tmp_path).left is None


@pytest.mark.parametrize(
    ("states", "said", "share"),
    [
        (["completed", "completed"], "completed", 1.0),
        (["completed", "failed"], "incomplete", 0.5),
        (["running", "failed"], "running", 0.0),
    ],
)
def test_the_state_of_several(tmp_path, clock, states, said, share):
    for number, state in enumerate(states):
        done = int(state == "completed")
        job(tmp_path, number, state, done=done, of=1)
    now = describe(tmp_path)
    assert (now.state, now.share, now.complete, now.going) == (said, share, said == "completed", said == "running")


def test_a_place_that_cannot_be_read_has_nothing_done(tmp_path, clock):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "sweep.yaml").write_text("no plan")
    now = describe(tmp_path)
    why = f"file={tmp_path}/broken/sweep.yaml: is damaged: it should hold keys and values"
    assert now.rows == [Row("broken", "unreadable", 0, 0, 0.0, problem=why)]
    assert (now.done, now.of, now.share, now.state) == (0, 0, 0.0, "incomplete")


def test_a_sweep_among_several_was_seen_when_its_liveliest_job_was(sweep, tmp_path_factory):
    above = tmp_path_factory.mktemp("above")
    sweep = sweep.rename(above / "one")
    for number, silent in enumerate((50, 7, 30)):
        job(sweep, number, "running", silent=silent, done=0, of=3)
    (row,) = describe(above).rows
    assert (row.name, row.age) == ("one", 7)


def jobs_read(monkeypatch):
    """The list of jobs whose rows are read from now on."""
    read, original = [], missing_runs.read_parts
    monkeypatch.setattr(
        missing_runs, "read_parts", lambda table, *more: read.append(table.parent.name) or original(table, *more)
    )
    return read


def test_who_looks_again_reads_what_has_changed(sweep, monkeypatch):
    read, plans, read_plan = jobs_read(monkeypatch), [], standing.read_plan
    monkeypatch.setattr(standing, "read_plan", lambda file: plans.append(file) or read_plan(file))
    job(sweep, 0, "completed", completed("a", "b"))
    job(sweep, 1, "running", [("c", "failed")], done=1, of=3)
    seen = Seen()
    first = describe(sweep, seen)
    assert set(read) == {"0", "1"}
    read.clear()
    assert describe(sweep, seen) == first
    assert not read
    columns = {"run_id": ["c", "d"], "status": ["completed"] * 2, "error": pa.array([None, None], pa.string())}
    pq.write_table(pa.table(columns), sweep / "1" / "runs.parquet")
    assert describe(sweep, seen).counts == "10 runs: 4 completed, 0 diverged, 0 failed, 6 missing"
    assert set(read) == {"1"}
    assert len(plans) == 1
    plan = yaml.safe_load((sweep / "sweep.yaml").read_text())
    plan["groups"][0]["axes"][1]["points"].append([70])
    (sweep / "sweep.yaml").write_text(yaml.safe_dump(plan))
    assert describe(sweep, seen).of == 13


def test_the_scheduler_is_asked_again_after_a_quarter_of_a_minute(tmp_path, monkeypatch):
    now, asked = [5.0], []
    monkeypatch.setattr(standing.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(Scheduler, "ask", lambda path: asked.append(path.name) or Scheduler({path.name}, {}, {}))
    seen = Seen()
    for now[0], questions in ((5.0, 1), (19.9, 1), (20.0, 2), (34.9, 2), (35.0, 3)):
        assert seen.scheduler(tmp_path / "one").submitted == {"one"}
        assert len(asked) == questions
    assert seen.scheduler(tmp_path / "two").submitted == {"two"}
    assert asked == ["one"] * 3 + ["two"]


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
        "  job 1: running, 1 of 2 runs, SLURM 17_1 RUNNING, 11:50:00 UTC, seen 1 s ago",
        "  job 0: preempted, 1 of 2 runs, SLURM 17_0 TIMEOUT, 11:50:00 UTC",
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


def submit(sweep, *names, log=None):
    """Let submitit have made the folders of these jobs, and each have logged this line last."""
    for name in names:
        folder = sweep / ".submitit" / name
        folder.mkdir(parents=True)
        if log:
            (folder / f"{name}_0_log.err").write_text(f"begun\n{log}\n\n")
    return sweep / ".submitit" / names[-1] / f"{names[-1]}_0_log.err"


def test_while_squeue_does_not_answer_jobs_may_be_in_the_queue(sweep, fake_slurm):
    """17_1 may be waiting, so its state is not known, and nothing is submitted a second time."""
    replan(sweep, runs_per_job=3)
    submit(sweep, "17_0", "17_1", log="srun: Killed")
    fake_slurm.says("squeue", DOWN)
    job(sweep, 0, "preempted", slurm="17_0", done=1, of=3)
    now = describe(sweep)
    assert now.text.splitlines()[1:] == [
        "1 jobs begun: 1 preempted",
        "submitted, not begun: 1 of unknown state",
        "  job 0: preempted, 1 of 3 runs, SLURM 17_0, 11:50:00 UTC",
        "jobs may still be waiting or running: squeue says: slurm_load_jobs error: Unable to contact slurm controller "
        "(connect failure); ask again when it answers",
    ]
    assert (now.going, now.state) == (True, "incomplete")


def test_where_there_is_no_squeue_accounting_may_know_jobs(sweep, monkeypatch):
    log = submit(sweep, "17_2", "17_1", log="srun: Killed")
    monkeypatch.setattr(standing.slurm, "queued", lambda ids: None)
    monkeypatch.setattr(standing.slurm, "ended", lambda ids: {"17_1": "FAILED"} if ids == {"17_1", "17_2"} else {})
    assert Scheduler.ask(sweep) == Scheduler({"17_1", "17_2"}, {}, {"17_1": "FAILED"}, away=True)
    now = describe(sweep)
    assert now.text.splitlines()[1:] == [
        "submitted, not begun: 1 FAILED, 1 of unknown state",
        f"  SLURM 17_1: FAILED: srun: Killed ({log})",
        f"there is no squeue here; to finish the rest, if no job of the sweep is in the queue: {COMMAND}",
    ]
    assert not now.going


def test_a_job_that_died_under_slurm_is_shown_with_what_it_logged_last(sweep, monkeypatch):
    """One that was preempted has said itself how it stands."""
    monkeypatch.setattr(standing.slurm, "queued", lambda ids: {})
    monkeypatch.setattr(standing.slurm, "ended", lambda ids: {"17_1": "OUT_OF_MEMORY"})
    log = submit(sweep, "17_0", "17_1", log="slurmstepd: error: oom_kill")
    job(sweep, 0, "preempted", slurm="17_0", done=1, of=5)
    job(sweep, 1, "running", silent=600, slurm="17_1", done=1, of=5)
    assert describe(sweep).text.splitlines()[2:4] == [
        "  job 1: died, 1 of 5 runs, SLURM 17_1 OUT_OF_MEMORY, 11:50:00 UTC, seen 10 min ago: "
        f"slurmstepd: error: oom_kill ({log})",
        "  job 0: preempted, 1 of 5 runs, SLURM 17_0, 11:50:00 UTC",
    ]


def test_of_many_jobs_that_never_began_twenty_have_a_line(sweep, monkeypatch):
    monkeypatch.setattr(standing.slurm, "queued", lambda ids: {})
    monkeypatch.setattr(standing.slurm, "ended", lambda ids: {})
    submit(sweep, *(f"17_{number}" for number in range(10, 30)))
    assert describe(sweep).jobs == [
        "submitted, not begun: 20 gone from the queue",
        *(f"  SLURM 17_{number}: gone from the queue" for number in range(10, 30)),
    ]
    submit(sweep, "17_30", "17_31")
    assert describe(sweep).jobs[0] == "submitted, not begun: 22 gone from the queue"
    assert describe(sweep).jobs[20:] == ["  SLURM 17_29: gone from the queue", "  and 2 more"]


def test_jobs_that_a_complete_sweep_has_not_needed_are_not_shown(sweep, monkeypatch):
    monkeypatch.setattr(standing.slurm, "queued", lambda ids: {})
    monkeypatch.setattr(standing.slurm, "ended", lambda ids: {})
    submit(sweep, "17_0", "17_1")
    job(sweep, 0, "completed", completed(*"abcdefghij"), slurm="17_0", runs=10)
    assert describe(sweep).jobs == ["1 jobs begun: 1 completed"]


def test_errors_of_runs_are_counted_and_five_are_shown(sweep):
    job(sweep, 0, "completed", [(name, "failed") for name in "abcdef"])
    job(sweep, 1, "completed", [("a", "failed"), ("b", "completed"), ("g", "diverged")], again=0)
    lines = describe(sweep).text.splitlines()
    assert lines[0].startswith("10 runs: 1 completed, 1 diverged, 5 failed, 3 missing")
    wanted = [f"  1 failed: ValueError: {name} in two lines" for name in "acdef"]
    assert sorted(line.split(" (run")[0] for line in lines[1:6]) == wanted, "a run counts once"
    assert lines[6].startswith("1 jobs begun")
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
    assert lines[22] == "  and 1 more: 1 preempted"


# Pictures: what a terminal shows.


def drawn(now, width, height=None, colours=None, **more):
    """The lines of a picture, without colours if not told otherwise, and with those control sequences that would be in it."""
    console = Console(file=io.StringIO(), width=width, height=100, force_terminal=True, color_system=colours, _environ={})
    console.print(picture(now, console, height, **more))
    return console.file.getvalue().splitlines()


def row(number, state, done=0, of=100, **more):
    return Row(f"job {number}", state, done, of, done / of, **more)


def test_a_picture_of_a_sweep(sweep):
    rows = [row(3, "running", 25, age=2, left=130), row(0, "completed", 100)]
    now = Standing("multirun/one", 125, 200, "200 runs: 125 completed", rows, left=130, share=0.629, state="running")
    lines = drawn(now, 60, ago=3.2)
    assert lines[0].strip() == "multirun/one"
    assert lines[1].startswith(" 62 % ━━━━")
    assert lines[1].endswith(" 125 of 200, about 2 min left")
    assert lines[2].strip() == "200 runs: 125 completed"
    assert lines[4].startswith("job 3 ━━")
    assert lines[4].split("╸")[-1].split("━")[-1].split() == ["25", "of", "100", "2", "min", "left", "seen", "5", "s", "ago"]
    assert lines[5].rstrip().endswith("━ 100 of 100 completed")
    assert len(lines) == 6


def bar(share, width):
    """A bar of so many columns, drawn to half a column."""
    halves = int(2 * width * share)
    return ("━" * (halves // 2) + "╸" * (halves % 2)).ljust(width)


def test_each_column_of_a_wide_picture():
    rows = [
        row(3, "running", 25, age=2, left=130),
        row(12, "running", 7, age=40, at="step 1 of 2", left=600),
        row(0, "completed", 100, age=7),
    ]
    now = Standing("multirun/one", 125, 200, "200 runs: 125 completed", rows, left=130, share=0.629, state="running")
    assert drawn(now, 100) == [
        "multirun/one",
        f" 62 % {bar(0.629, 65)} 125 of 200, about 2 min left",  # 100 columns, without 5, 28 and two blanks between
        "200 runs: 125 completed",
        "",
        # The longest of each column, and a blank between two: 6, 10, 24 and 13 of 100 columns leave 43.
        f"job 3  {bar(0.25, 43)}  25 of 100 {'2 min left':24}  seen 2 s ago",
        f"job 12 {bar(0.07, 43)}   7 of 100 step 1 of 2, 10 min left seen 40 s ago",
        f"job 0  {bar(1, 43)} 100 of 100 {'completed':24} {'':13}",
    ]
    assert drawn(replace(now, left=None), 100)[1] == f" 62 % {bar(0.629, 83)} 125 of 200"


def test_a_narrow_picture_is_short_of_words():
    """It tells the step only of a job that does not know its time."""
    rows = [row(3, "running", 25, age=2, left=130, at="step 1 of 2"), row(4, "running", age=20, at="step 1 of 2")]
    now = Standing("one", 25, 200, "200 runs", rows, left=130, share=0.125, state="running")
    assert drawn(now, 59)[1:] == [
        f" 12 % {bar(0.125, 34)} 25/200, 2 min left",  # 59 columns, without 5, 18 and two blanks
        "200 runs",
        "",
        f"job 3 {bar(0.25, 34)} 25/100 2 min left ",  # without 5, 6, 11 and three blanks
        f"job 4 {bar(0, 34)}  0/100 step 1 of 2",
    ]
    wide = drawn(now, 60)
    assert wide[1].endswith("25 of 200, about 2 min left")
    assert wide[4].endswith("25 of 100 step 1 of 2, 2 min left  seen 2 s ago")
    assert wide[5].endswith("  0 of 100 step 1 of 2             seen 20 s ago")


def test_bars_give_way_to_words():
    """40 columns: 13 for the name, 6 for the runs, 16 for the time left and three blanks leave 2; a name of 12 in 37, none."""
    rows = [Row("somewhere/below/a/name", "running", 45, 100, 0.5, left=100_000)]
    now = Standing("one", 1, 2, "2 runs", rows, share=0.5, state="running")
    assert drawn(now, 40)[-1] == "…below/a/name ━  45/100 27 h 47 min left"
    assert drawn(now, 37)[-1] == "…elow/a/name  45/100 27 h 47 min left"


@pytest.mark.parametrize("width", [12, 20, 24, 30, 60, 70])
def test_each_job_has_one_line_even_where_words_have_no_room(width):
    more = {"age": 100_000, "left": 100_000, "at": "step 1000 of 3000"}
    rows = [Row("some name of a job", "running", 1000, 1000, 1.0, **more), Row("b c", "failed", 1000, 1000, 1.0)]
    now = Standing("one", 1000, 2000, "2 runs", rows, left=10_000, share=0.5, state="running", jobs=["jobs " * 20])
    lines = drawn(now, width)
    assert len(lines) == 7  # name, bar, counts, jobs, a blank line, two rows
    assert lines[3] == f"{('jobs ' * 20)[: width - 1]}…"


def test_the_end_of_a_long_name_is_shown():
    """It tells paths apart. Names of jobs have a third of the columns, and 8 at least."""
    now = Standing("0123456789" * 4, 1, 2, "2 runs", [Row("abcdefghijklmnopqrst", "running", 1, 2, 0.5)])
    assert drawn(now, 40)[0] == now.name
    assert drawn(now, 39)[0] == f"…{now.name[-38:]}"
    assert drawn(now, 60)[-1].startswith("abcdefghijklmnopqrst ━")
    assert drawn(now, 59)[-1].startswith("…cdefghijklmnopqrst ━")
    assert drawn(now, 40)[-1].startswith("…ijklmnopqrst ━")
    short = replace(now, rows=[Row("abcdefghi", "odd", 1, 2, 0.5)])
    assert drawn(short, 22)[-1].startswith("…cdefghi ━")


def test_a_name_in_wide_characters_leaves_room_for_the_bar():
    now = Standing("one", 1, 2, "2 runs", [Row("字" * 20, "running", 1, 2, 0.5)])
    assert drawn(now, 60)[-1].startswith(f"{'字' * 9} … ━")  # 20 columns: 18, a half character, and one


def test_what_stands_below_the_bars():
    rows = [row(7, "failed", 1, age=9, problem="OSError: full")]
    now = Standing(
        "one", 1, 100, "100 runs", rows, ["  2 failed: ValueError: x"], ["1 jobs begun: 1 failed"], ["to finish: again"]
    )
    assert drawn(now, 70, remarks=["careful"])[2:] == [
        "100 runs",
        "1 jobs begun: 1 failed",
        "",
        f"job 7 {bar(0.01, 35)} 1 of 100 failed seen 9 s ago",
        "2 failed: ValueError: x",
        "careful",
        "job 7: OSError: full",
        "to finish: again",
    ]
    assert drawn(replace(now, rows=[]), 70)[2:] == [
        "100 runs",
        "1 jobs begun: 1 failed",
        "2 failed: ValueError: x",
        "to finish: again",
    ]


@pytest.mark.parametrize(
    ("height", "jobs", "notes", "advice"),
    [
        # Four lines of the head. A quarter of all lines is for advice, if five are left for the others.
        (24, 8, 4, 6),  # a third of the 12 lines that are left is for notes; a blank line, and one that sums up
        (12, 2, 1, 3),
        (8, 2, 1, 0),  # three lines are always for jobs and notes
    ],
)
def test_how_a_screen_is_shared(height, jobs, notes, advice):
    rows = [row(number, "interrupted") for number in range(30)]
    now = Standing("one", 1, 100, "100 runs", rows, ["error"] * 10, ["30 jobs begun"], ["advice"] * 10)
    head, rest = ["one", drawn(now, 80)[1], "100 runs", "30 jobs begun", ""], f"and {30 - jobs} more: {30 - jobs} interrupted"
    lines = drawn(now, 80, height)
    assert lines[:5] == head
    assert [line.split(" ━")[0].split("  ")[0] for line in lines[5 : 5 + jobs]] == [f"job {number}" for number in range(jobs)]
    assert lines[5 + jobs :] == [rest, *["error"] * notes, *["advice"] * advice]


def test_few_jobs_leave_their_room_to_notes():
    now = Standing("one", 1, 100, "100 runs", [row(0, "failed"), row(1, "failed")], ["error"] * 20, ["2 jobs begun"])
    assert drawn(now, 80, 24)[5:].count("error") == 16  # 24, without 4 of the head, 2 of jobs, a blank line and one in reserve


STATES = {"running": "36", "completed": "32", "failed": "1;31", "died": "1;31", "unreadable": "1;31", "preempted": "33"}


@pytest.mark.parametrize(("state", "colour"), STATES.items())
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_bars_and_states_have_the_colour_of_the_state(state, colour, share):
    """Cyan, green, bold red, and yellow for others."""
    now = Standing("one", 1, 2, "2 runs", [Row("job 0", state, 1, 2, share)], share=share, state=state)
    lines = drawn(now, 60, colours="standard")
    bars = [re.findall(r"\x1b\[([\d;]+)m━", line)[0] for line in lines if "━" in line]
    assert bars == [colour] * 2
    assert f"\x1b[{colour}m{state}" in lines[-1]


def test_notes_have_colours_too():
    rows = [row(7, "failed", 1, problem="OSError: full")]
    now = Standing("one", 1, 100, "100 runs", rows, ["an error"], ["1 jobs begun"], ["to finish: again"])
    lines = drawn(now, 60, colours="standard", remarks=["careful"])
    assert [line for line in lines if "job 7 " not in line and "━" not in line] == [
        "\x1b[1mone\x1b[0m",
        "100 runs",
        "1 jobs begun",
        "",
        "\x1b[33man error\x1b[0m",
        "\x1b[33mcareful\x1b[0m",
        "\x1b[31mjob 7: OSError: full\x1b[0m",
        "to finish: again",
    ]


def test_the_bar_of_a_job_is_that_of_its_work_and_not_of_the_runs_that_have_ended():
    rows = [Row("job 0", "running", 0, 1, 0.5, age=2), Row("job 1", "running", 1, 4, 1.0, age=2)]
    lines = drawn(Standing("one", 1, 5, "5 runs", rows, share=0.5, state="running"), 60)[-2:]
    half, whole = (line.count("━") + line.count("╸") / 2 for line in lines)
    assert half == whole / 2 > 0


@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 12), (120, 50)])
@pytest.mark.parametrize("advice", ["", "to finish the rest: python train.py -m " + "seed=range(100) " * 5])
def test_a_picture_fits_the_terminal(width, height, advice):
    """Those that run come first; of the others there is a count."""
    running = [row(n, "running", n, age=n, left=60 * n, at="step 10 of 300", note="node:1") for n in range(1, 30)]
    failed = [row(n, "failed", problem="OSError: " + "no space " * 20) for n in range(30, 60)]
    now = Standing("/a/long/path" * 9, 1, 100, "100 runs: 1 completed, 0 diverged, 9 failed, 90 missing", [*running, *failed])
    lines = drawn(replace(now, jobs=["59 jobs begun: " + "many " * 20], advice=[advice] * bool(advice)), width, height)
    assert max(map(len, lines)) <= width
    assert len(lines) <= height
    assert lines[lines.index("") + 1].startswith("job 1 ")
    assert any(line.startswith("and ") and "more: " in line for line in lines)
    assert sum(re.match(r"job \d+ ", line) is not None for line in drawn(now, width)) == 20


def test_no_control_character_of_a_file_reaches_the_terminal():
    evil = "\x1b[2J\x1b]8;;http://evil\x07[bold red]x[/]\r\n\x9b31m\u202e"
    one = Row(evil, evil, 1, 2, 0.5, 1.0, 5.0, evil, evil, evil)
    now = Standing(evil, 1, 2, evil, [one, row(2, evil, problem=evil)], [evil], [evil], [evil], 3.0, 0.5, evil)
    for width in (40, 200):
        shown = drawn(now, width, remarks=[evil])
        assert all(character.isprintable() for line in shown for character in line)
        assert any("[bold red]x[/]" in line for line in shown) or width == 40
    assert now.text.replace("\n", "").isprintable()


# The command.


@pytest.fixture
def command(monkeypatch):
    """command(*arguments): what `lnt-status` does; a watcher that waits calls the functions in `waits` in turn.

    `on`: a screen that takes the place of its output.
    """

    def call(*arguments, waits=(), on=None):
        left = list(waits)
        if on is not None:
            monkeypatch.setattr(sys, "stdout", on)
        monkeypatch.setattr(status.time, "sleep", lambda seconds: left.pop(0)(seconds))
        monkeypatch.setattr(sys, "argv", ["lnt-status", *map(str, arguments)])
        status.main()
        assert not left

    return call


def test_the_command_says_how_a_sweep_stands_once(sweep, command, capsys):
    command(sweep)
    assert capsys.readouterr().out == describe(sweep).text + "\n"


@pytest.mark.parametrize(
    ("watching", "seconds"),
    [(["--watch"], 5), (["--watch", "2.5"], 2.5), (["--watch=60"], 60), (["--watch=1"], 1), (["--watch=86400"], 86400)],
)
@pytest.mark.parametrize("first", [True, False])
def test_a_watcher_looks_again_until_nothing_is_left(sweep, command, capsys, watching, seconds, first):
    def begin(waited):
        assert waited == seconds
        job(sweep, 0, "completed", completed("a"))

    def end(waited):
        job(sweep, 1, "completed", completed(*"bcdefghij"))

    command(*([*watching, sweep] if first else [sweep, *watching]), waits=[begin, end])
    shown = capsys.readouterr().out
    said = [line.split(",")[0] for line in shown.splitlines() if "completed, 0 diverged" in line]
    assert said == ["10 runs: 0 completed", "10 runs: 1 completed", "10 runs: 10 completed"]
    assert shown.replace("\n", "").isprintable()


def test_a_watcher_survives_what_comes_and_goes(sweep, command, capsys):
    def half(_):
        job(sweep, 0, "running", done=1, of=10)
        (sweep / "0" / "status.json").write_text('{"state": "runn')

    def vanish(_):
        (sweep / "sweep.yaml").rename(sweep / "elsewhere")

    def back(_):
        (sweep / "elsewhere").rename(sweep / "sweep.yaml")
        job(sweep, 1, "completed", completed(*"abcdefghij"), again=0)

    command(sweep, "--watch", waits=[half, vanish, back])
    looks = capsys.readouterr().out.split("\n\n")
    assert "job 0: unreadable" in looks[1]
    assert "is damaged" in looks[1]
    assert "10 runs: 10 completed" in looks[3]


class Clock:
    """A clock that goes on as somebody waits."""

    def __init__(self):
        self.now, self.waited = 1000.0, []

    def wait(self, seconds):
        self.waited.append(seconds)
        self.now += seconds

    def slow(self, seconds):
        """A wait of 20 s, however short it should have been."""
        self.now += 20


@pytest.fixture
def ticking(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(status.time, "monotonic", lambda: clock.now)
    return clock


def test_a_watcher_ends_when_nothing_has_been_going_on_for_a_while(sweep, command, ticking):
    command(sweep, "--watch", waits=[ticking.slow] * 3)  # 20 s and 40 s are a pause, 60 s are not


def test_a_pause_of_three_quarters_of_a_minute_is_waited_for(sweep, command, ticking):
    command(sweep, "--watch=45", waits=[ticking.wait] * 2)
    ticking.now = 5000.0
    command(sweep, "--watch=46", waits=[ticking.wait])


def test_as_long_as_a_job_runs_it_is_watched(sweep, command, ticking):
    def end(seconds):
        job(sweep, 1, "completed", completed(*"abcdefghij"), again=0)

    job(sweep, 0, "running", done=0, of=10)
    command(sweep, "--watch", waits=[*[ticking.slow] * 9, end])


def test_while_the_folder_is_away_what_was_seen_last_is_shown_with_why(sweep, command, ticking, capsys):
    """Nothing is known to go on then: it is waited for as long as in any other pause."""

    def vanish(seconds):
        ticking.slow(seconds)
        sweep.rename(sweep.with_name("elsewhere"))

    job(sweep, 0, "running", done=1, of=10)
    command(sweep, "--watch", waits=[ticking.slow, vanish, *[ticking.slow] * 2])
    *earlier, last = capsys.readouterr().out.split("\n\n")
    why = f"DIR={sweep}: holds no sweep and no run (no sweep.yaml, no status.json), and neither does a folder below it"
    assert len(earlier) == 4
    assert last.splitlines() == [earlier[0].splitlines()[0], why, *earlier[0].splitlines()[1:]]


def test_a_watcher_reads_only_what_has_changed(sweep, command, monkeypatch):
    read = jobs_read(monkeypatch)
    job(sweep, 0, "completed", completed("a"))

    def end(seconds):
        job(sweep, 1, "completed", completed(*"bcdefghij"))

    command(sweep, "--watch", waits=[lambda seconds: None, lambda seconds: None, end])
    assert read == ["0", "1"]


def warn(monkeypatch, *messages):
    """Let each look warn."""
    left = list(messages)

    def look(*arguments):
        logging.getLogger("lnt.files").warning(left.pop(0))
        logging.getLogger("another.package").warning("not for users")
        return describe(*arguments)

    monkeypatch.setattr(status, "describe", look)


def test_warnings_are_said_once_and_below_what_they_are_about(sweep, command, capsys, monkeypatch):
    def end(seconds):
        job(sweep, 0, "completed", completed(*"abcdefghij"))

    before = list(logging.getLogger("lnt").handlers)
    warn(monkeypatch, "a first\nwarning", "a second")
    command(sweep, "--watch", waits=[end])
    assert capsys.readouterr().err == "a first?warning\na second\n"
    assert logging.getLogger("lnt").handlers == before


def test_what_is_said_reaches_a_file_at_once_and_in_its_order(sweep, command, monkeypatch):
    """Output and errors of a watcher may go to one file, which somebody reads meanwhile."""
    file = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(file))
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(file, write_through=True))
    warn(monkeypatch, "a first", "a second")
    look = describe(sweep).text

    def end(seconds):
        assert file.getvalue().decode() == f"{look}\na first\n\n"
        job(sweep, 0, "completed", completed(*"abcdefghij"))

    command(sweep, "--watch", waits=[end])
    assert file.getvalue().decode() == f"{look}\na first\n\n{describe(sweep).text}\na second\n"


def test_a_watcher_that_is_interrupted_ends_quietly(sweep, command, capsys):
    def interrupt(seconds):
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as stopped:
        command(sweep, "--watch", waits=[interrupt])
    assert stopped.value.code == 130
    assert not capsys.readouterr().err


@pytest.mark.parametrize("seconds", ["0", "0.9", "-1", "nan", "86401", "1e9"])
def test_a_watcher_takes_a_time_that_it_can_keep(sweep, command, seconds):
    with pytest.raises(SystemExit) as stopped:
        command(sweep, f"--watch={seconds}")
    assert stopped.value.code == f"error: --watch={float(seconds):g}: must be from 1 s to a day"


def test_a_directory_without_a_sweep_is_an_error_in_one_line(tmp_path, command):
    with pytest.raises(SystemExit) as stopped:
        command(tmp_path)
    assert stopped.value.code.startswith(f"error: DIR={tmp_path}: holds no sweep and no run")


def test_help_names_the_command_the_directory_and_how_often_it_looks(command, capsys):
    with pytest.raises(SystemExit):
        command("--help")
    said = " ".join(capsys.readouterr().out.split())
    assert said.startswith("usage: python -m lnt.status [-h] [--watch [SECONDS]] DIR How sweeps and runs stand.")
    assert "DIR that of a sweep or a run, or a folder above several" in said
    assert "again every SECONDS, by default 5" in said


# The command on a terminal.


class Screen(io.StringIO):
    """What a terminal is sent."""

    def isatty(self):
        return True

    def pictures(self):
        """The lines of each picture, without styles and the blanks that fill the screen, and what is left there in the end."""
        during, _, end = re.sub(r"\x1b\[([0-9;]*m|\?25[hl])", "", self.getvalue()).rpartition("\x1b[?1049l")
        pictures = [[line.rstrip() for line in part.rstrip("\n ").split("\n")] for part in during.split("\x1b[H")[2:]]
        return pictures, [line.rstrip() for line in end.splitlines()]


@pytest.fixture
def screen(monkeypatch):
    """A terminal of 70 columns and 12 lines."""
    for name in ("NO_COLOR", "COLORTERM", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (("TERM", "xterm"), ("COLUMNS", "70"), ("LINES", "12")):
        monkeypatch.setenv(name, value)
    return Screen()


def test_a_terminal_is_shown_a_picture(sweep, command, screen, monkeypatch):
    warn(monkeypatch, "a warning")
    job(sweep, 0, "running", silent=3, done=1, of=4, share=0.25)
    command(sweep, on=screen)
    assert screen.getvalue().splitlines() == drawn(describe(sweep), 70, colours="standard", remarks=["a warning"])


def test_a_terminal_that_cannot_draw_is_told_the_same_in_plain_lines(sweep, command, screen, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    command(sweep, on=screen)
    assert screen.getvalue() == describe(sweep).text + "\n"


def test_a_watcher_draws_every_second_and_looks_again_when_it_is_time(sweep, command, screen, ticking, monkeypatch):
    """Between two looks only the ages change. In the end, the last look is left where the picture was."""

    def end(seconds):
        ticking.wait(seconds)
        job(sweep, 1, "completed", completed(*"abcdefghij"), again=0)

    job(sweep, 0, "running", silent=3, done=1, of=4)
    warn(monkeypatch, "a warning", "another")
    command(sweep, "--watch=2.5", waits=[ticking.wait, ticking.wait, end], on=screen)
    assert ticking.waited == [1, 1, 0.5]
    pictures, left = screen.pictures()
    assert [picture[5].split("running ")[-1] for picture in pictures] == ["seen 3 s ago", "seen 4 s ago", "seen 5 s ago"]
    assert [picture[6] for picture in pictures] == ["a warning"] * 3
    assert left[1].endswith("10 of 10")
    assert left[-2:] == ["a warning", "another"]


def test_a_watcher_keeps_to_the_screen_and_leaves_all_of_it_in_the_end(sweep, command, screen, ticking):
    """Of the twelve lines four are above the jobs, a blank one among them, and the last is for the others or kept free."""

    def interrupt(seconds):
        raise KeyboardInterrupt

    for number in range(15):
        job(sweep, number, "running", silent=3, done=0, of=1)
    with pytest.raises(SystemExit) as stopped:
        command(sweep, "--watch", waits=[interrupt], on=screen)
    assert stopped.value.code == 130
    (picture,), left = screen.pictures()
    assert len(picture) == 12
    assert picture[-1] == "and 9 more: 9 running"
    assert [line[:6].strip() for line in picture[5:-1]] == [f"job {number}" for number in range(6)]
    assert [line[:6].strip() for line in left[5:]] == [f"job {number}" for number in range(15)]


# The progress of one process.


@pytest.fixture
def seconds(monkeypatch):
    """The seconds that time.monotonic says; tests set it."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def work(bar, clock, *pieces):
    """(seconds from the start, work until then): the clock goes on, and the work is done evenly, second by second."""
    before, done = 0, 0
    for until, total in pieces:
        for second in range(before + 1, until + 1):
            clock[0] = 1000.0 + second
            bar.update((total - done) / (until - before))
        before, done = until, total


@pytest.mark.parametrize(
    ("pieces", "left"),
    [
        ([(60, 250)], 180.0),  # 60 s for a quarter: 180 s for the rest
        ([(999, 999)], 1.0),
        ([(10, 20)], 490.0),  # 2 % are enough, less are not
        ([(10, 19)], None),
        ([(4, 500)], None),  # 5 s are enough, less are not
        ([(5, 500)], 5.0),
        ([(59, 1)], None),
        ([(60, 6)], 9940.0),  # after a minute anything is
        ([(60, 0)], None),
        ([(30, 0), (90, 600)], 40.0),  # a slow beginning is forgotten: ten a second since the 45th
        ([(50, 500), (100, 600)], 200.0),  # and so is a quick one: two a second
        ([(10, 1000)], 0.0),
    ],
)
def test_the_time_left_of_1000_steps(seconds, pieces, left):
    with Progress(1000, shown=False) as bar:
        work(bar, seconds, *pieces)
        found = bar.seconds_left(seconds[0])
    assert found is None if left is None else found == pytest.approx(left, rel=0.03)


def test_what_is_skipped_tells_of_no_pace(seconds):
    """Half is there from an earlier start; the rest takes a second for ten."""
    with Progress(1000, shown=False) as bar:
        bar.skip(500)
        assert bar.share == 0.5
        assert bar.seconds_left(1000.0) is None
        work(bar, seconds, (10, 100))
        assert bar.seconds_left(1010.0) == pytest.approx(40.0)
        bar.add(-100)  # a chunk that raised: its work was in vain
        assert bar.share == 0.5
        assert bar.seconds_left(1010.0) is None


def test_two_percent_of_what_is_left_to_do_are_enough_for_an_estimate(seconds):
    """900 of 1000 are there from an earlier start: 2 of the other 100, in ten seconds."""
    with Progress(1000, shown=False) as bar:
        bar.skip(900)
        work(bar, seconds, (10, 2))
        assert bar.seconds_left(1010.0) == pytest.approx(490.0)


def test_runs_weigh_what_they_cost(seconds):
    """Ten runs of 10 steps that cost 1, and one of 100 steps that cost 9: a tenth and nine tenths of the work."""
    with Progress(1000, runs=11, shown=False) as bar:
        bar.begin(1.0, runs=10, steps=10)
        bar.update(100)
        bar.ran(10)
        assert bar.share == 0.1
        bar.begin(9.0, runs=1, steps=100)
        bar.update(50)
        assert bar.share == pytest.approx(0.55)
        assert bar._words(1000.0) == "10 of 11 runs"
        assert bar._words(1005.0) == "10 of 11 runs, step 50 of 100, about 4 s left"


def test_the_multiply_adds_of_a_step(experiment):
    """2 m (n + 2)^2 by Gram matrix, with m = 3 and n = 20; of linear networks 3 passes of 20 samples, 64 x 2 weights."""
    vectors = experiment("data.n_train=20", "model.width=3", "optimizer.steps=10", "seed=1")
    assert vectors.step_cost() == 6 * 22**2
    assert vectors.work() == 10 * 6 * 22**2
    linear = ("data=digits", "data.classes=[3,8]", "data.n_train=40", "model=linear", "optimizer.batch_size=20")
    assert experiment(*linear, "optimizer.epochs=5").work() == 5 * 2 * 3 * 20 * 64 * 2


@pytest.mark.parametrize(
    ("steps", "per_epoch", "taken", "said"),
    [
        (2000, 1, 0, "step 0 of 2000"),
        (2000, 1, 2000, "step 2000 of 2000"),
        (60, 20, 0, "epoch 1 of 3"),
        (60, 20, 19, "epoch 1 of 3"),
        (60, 20, 20, "epoch 2 of 3"),
        (60, 20, 60, "epoch 3 of 3"),
    ],
)
def test_a_single_run_shows_its_steps_or_epochs(seconds, steps, per_epoch, taken, said):
    with Progress(steps, shown=False) as bar:
        bar.begin(1.0, 1, steps, per_epoch)
        bar.skip(taken)
        assert bar._words(1000.0) == said
        assert bar.facts(1000.0) == {"share": pytest.approx(taken / steps, abs=1e-6), "at": said}


def test_a_log_line_comes_now_and_then_where_there_is_no_terminal(seconds, caplog):
    caplog.set_level(logging.INFO)
    with Progress(2000, runs=20) as bar:
        bar.ran(2)
        work(bar, seconds, (1000, 1000))
    lines = [record.getMessage() for record in caplog.records]
    assert lines[1] == "1 % of the work done: 2 of 20 runs"
    assert lines[5] == "3 % of the work done: 2 of 20 runs, about 32 min left"  # 1940 s
    # Every 10 s up to 200 s, then after a twentieth of the time: 200 / 0.95^31 = 981, in whole seconds a little more.
    assert 20 + 28 <= len(lines) <= 20 + 31


def test_others_are_told_every_quarter_of_a_minute(seconds):
    told = []
    with Progress(100, shown=False, told=told.append) as bar:
        work(bar, seconds, (50, 100))
    assert told == [
        {"share": pytest.approx(0.3), "left": pytest.approx(35)},
        {"share": pytest.approx(0.6), "left": pytest.approx(20)},
        {"share": pytest.approx(0.9), "left": pytest.approx(5)},
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
    count.begin(2.0, runs=5, steps=7)
    count.update(4)
    count.skip(1)
    assert (count.done, count.skipped) == (13, 2)


@pytest.mark.parametrize(
    ("seconds_", "said"),
    [
        (0, "1 s"),
        (9.4, "9 s"),
        (11, "10 s"),
        (13, "15 s"),
        (57, "55 s"),
        (58, "1 min"),
        (89, "1 min"),
        (91, "2 min"),
        (3599, "1 h"),
        (3720, "1 h 2 min"),
        (7200, "2 h"),
        (48 * 3600, "2 d"),
        (75 * 3600, "3 d 3 h"),
    ],
)
def test_times_in_words(seconds_, said):
    assert in_words(seconds_) == said


def test_shares_in_words():
    said = [percent(share) for share in (0, 1e-9, 0.0099, 0.01, 0.5, 0.999, 1)]
    assert said == ["0 %", "less than 1 %", "less than 1 %", "1 %", "50 %", "99 %", "100 %"]


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
UNKNOWN = "not known: there are observed labels only"
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
        (
            {"realised_noise_rate": None, "test_error": None, "train_loss": 0.25, "test_error_observed": 0.4321},
            [
                "completed after step 2000; training loss 0.25",
                f"which samples are mislabelled is {UNKNOWN}",
                f"test error: {UNKNOWN}; against these: 0.4321",
            ],
        ),
        (
            {"test_error": float("nan"), "test_error_observed": None},
            [
                "completed after step 2000; clean samples fitted: at step 120",
                "mislabelled samples memorised: at step 1500 (99.5% of them now)",
                f"test error: {UNKNOWN}",
            ],
        ),
        ({"status": "diverged", "last_step": None}, ["diverged before anything was measured; try a smaller optimizer.lr"]),
        ({"status": "failed", "error": "ValueError: no", "last_step": None}, ["the run failed: ValueError: no"]),
    ],
)
def test_a_run_in_words(changes, said):
    assert list(run_summary(RUN | changes)) == said
