"""Submitting a sweep to SLURM: what sbatch is asked for, and what follows if it refuses. The programs of SLURM are fakes."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import yaml
from fake_slurm import SLOW, Answer
from omegaconf import OmegaConf

import train
from lnt.errors import ConfigError
from lnt.sweeps import slurm, submission
from lnt.sweeps.hydra_internals import JobLauncher
from lnt.sweeps.missing_runs import outcomes_so_far

ROOT = Path(__file__).parents[1]
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_jobs_keep_their_size_once_there_is_a_result(call, capsys):
    assert call("hydra.sweeper.runs_per_job=5") == 0
    for part in Path("sweep/1/runs.parquet").iterdir():
        part.unlink()
    assert call("hydra.sweeper.runs_per_job=2") == 0
    assert "jobs keep the size that this sweep has begun with: runs_per_job=5" in capsys.readouterr().out
    assert yaml.safe_load(Path("sweep/sweep.yaml").read_text())["runs_per_job"] == 5
    assert len(outcomes_so_far(Path("sweep"))) == 10


@pytest.mark.slow
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


def test_a_second_launch_has_the_settings_of_the_first(fake_slurm, monkeypatch, tmp_path):
    """Each round of refine=boundary is one: the bound on jobs at a time must not shrink, nor their setup grow."""
    seen, given = [], {"setup": ["module load"], "additional_parameters": {"requeue": False}, "array_parallelism": 6}
    launcher = JobLauncher(SimpleNamespace(params=dict(given)), OmegaConf.create())
    fake_slurm.says("scontrol", "MaxArraySize = 2")
    monkeypatch.setattr(submission, "submit", lambda arrays, path: seen.append(dict(launcher.settings)))
    monkeypatch.setattr(submission, "wait", lambda arrays, before, path: None)
    for _ in range(2):
        submission.launch(launcher, [["+job=0"], ["+job=1"], ["+job=2"]], 0, tmp_path)
    assert seen[0] == seen[1]
    assert seen[0]["array_parallelism"] == 3
    assert launcher.settings == given


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


UNUSABLE = {
    "timeout_min=2": "hydra.launcher.signal_delay_s=90: must be below 90 with timeout_min=2",
    "nodes=2": "hydra.launcher.nodes=2: must be 1: a job is one process",
    "tasks_per_node=2": "hydra.launcher.tasks_per_node=2: must be 1",
    "gpus_per_node=2": "hydra.launcher.gpus_per_node=2: a job trains on one GPU",
    "gpus_per_task=2": "hydra.launcher.gpus_per_task=2: a job trains on one GPU",
    "gres='gpu:a100:2'": "hydra.launcher.gres=gpu:a100:2: a job trains on one GPU",
    "mem_per_cpu=2G": "hydra.launcher.mem_per_cpu=2G: excludes mem_gb; add hydra.launcher.mem_gb=null",
    "+additional_parameters.ntasks=4": "hydra.launcher.additional_parameters.ntasks=4: must be 1",
    "+additional_parameters.gpus-per-node=4": "hydra.launcher.additional_parameters.gpus-per-node=4: a job trains on one GPU",
}


@pytest.mark.parametrize("setting", UNUSABLE)
@pytest.mark.slow
def test_what_jobs_cannot_use_is_refused_before_anything_is_written(call, fake_slurm, tmp_path, setting):
    with pytest.raises(ConfigError) as error:
        call(*ON_SLURM, re.sub(r"^(\+?)", r"\1hydra.launcher.", setting))
    assert str(error.value).startswith(UNUSABLE[setting])
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())
    assert not fake_slurm.calls("sbatch")


@pytest.mark.parametrize(
    ("key", "value", "count"),
    [
        *[
            ("gpus_per_node", value, count)
            for value, count in ((None, 0), (0, 0), (1, 1), ("a100", 1), ("a100:2", 2), ("2", 2))
        ],
        *[("gres", value, count) for value, count in (("gpu", 1), ("gpu:a100:2,shard:4", 2), ("shard:4", 0), (None, 0))],
        ("gpus", "a100:1,h100:1", 2),
    ],
)
def test_gpus_are_counted(key, value, count):
    assert submission.gpus(key, value) == count


@pytest.mark.parametrize(
    ("added", "options"),
    [
        ((), ["--requeue"]),
        (("hydra.launcher.additional_parameters.requeue=false",), ["--no-requeue"]),
        (("+hydra.launcher.additional_parameters.no-requeue=true",), ["--no-requeue"]),
        (("+hydra.launcher.additional_parameters.no_requeue=true",), ["--no-requeue"]),
        (("+hydra.launcher.additional_parameters.exclusive=false",), ["--requeue"]),
        (("+hydra.launcher.additional_parameters.begin=now+60", "+hydra.launcher.additional_parameters.hold=true"), None),
    ],
)
@pytest.mark.slow
def test_additional_parameters_are_options_of_sbatch(call, fake_slurm, added, options):
    accepts(fake_slurm, 18)
    assert call(*ON_SLURM, *added, "hydra.sweeper.runs_per_job=10") == 1
    found = re.findall(r"#SBATCH (--(?:no-requeue|requeue|exclusive|begin|hold).*)", scripts()[0])
    assert found == (["--begin=now+60", "--hold", "--requeue"] if options is None else options)


def test_jobs_do_not_inherit_the_allocation_that_the_sweep_is_started_in(call, fake_slurm, monkeypatch):
    """salloc --mem-per-cpu leaves a variable with which srun refuses jobs that have --mem."""
    kept = {"SLURM_CONF": "/etc/elsewhere", "SBATCH_ACCOUNT": "ours", "OMP_NUM_THREADS": "1"}
    allocated = {"SLURM_JOB_ID": "7", "SLURM_MEM_PER_CPU": "100", "SRUN_CPUS_PER_TASK": "3"}
    for name, value in {**kept, **allocated}.items():
        monkeypatch.setenv(name, value)
    accepts(fake_slurm, 18)
    call(*ON_SLURM)
    found = fake_slurm.environment("sbatch")
    assert found.items() >= kept.items()
    assert not found.keys() & allocated.keys()


@pytest.fixture
def job(call, fake_slurm):
    """A job as SLURM starts it: the process of its script, and that of its task, once it runs `program`."""
    accepts(fake_slurm, 18)
    assert call(*ON_SLURM, "hydra.sweeper.runs_per_job=10", "hydra.launcher.setup=[touch set_up]") == 1
    fake_slurm.starts_tasks()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SLURM_JOB_ID": "18", "SLURM_CPUS_PER_TASK": "1"}
    (script,) = Path("sweep/.submitit").glob("18/*_submission.sh")
    batch = subprocess.Popen(["bash", script], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def task(state, program=None):
        end = time.monotonic() + 30
        while time.monotonic() < end:
            for child in psutil.Process(batch.pid).children():
                with suppress(FileNotFoundError, ProcessLookupError, psutil.Error, IndexError):
                    if program in (None, child.cmdline()[0]) and {signal.SIGTERM, signal.SIGUSR2} <= signals_of(
                        child.pid, state
                    ):
                        return child.pid
            time.sleep(0.005)
        raise AssertionError("it did not happen")

    yield batch, task
    batch.kill()


def signals_of(pid, state):
    """The signals that a process ignores (SigIgn) or has blocked (SigBlk)."""
    (mask,) = re.findall(rf"{state}:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())
    return {number for number in range(1, 32) if int(mask, 16) >> (number - 1) & 1}


def said(job=0):
    return json.loads(Path(f"sweep/{job}/status.json").read_text())["state"]


linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="looks at /proc")


@linux
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
@pytest.mark.slow
def test_a_signal_as_the_task_starts_does_not_end_a_job(job, number):
    """Whether it is ignored or heeded later is a matter of milliseconds; without a trap it would leave nothing."""
    batch, task = job
    sent = False
    while not sent:
        with suppress(ProcessLookupError):  # a command of the script that has just ended
            os.kill(task("SigIgn"), number)
            sent = True
    batch.send_signal(number)
    batch.wait(timeout=60)
    assert Path("set_up").exists(), "the user's own commands"
    assert said() in ("completed", "preempted")


@linux
@pytest.mark.slow
def test_a_signal_during_imports_is_heeded_when_training_begins(job, fake_slurm):
    """It is told that its time is over: it saves, is requeued, and goes on."""
    batch, task = job
    os.kill(task("SigBlk", sys.executable), signal.SIGUSR2)
    assert batch.wait(timeout=60) != 0
    assert said() == "preempted"
    assert fake_slurm.calls("scontrol")[-1] == "requeue 18"


@linux
@pytest.mark.slow
def test_a_job_that_may_not_be_requeued_saves_and_ends(job, fake_slurm):
    fake_slurm.says("scontrol", Answer(error="Requested operation is presently disabled", code=1))
    batch, task = job
    os.kill(task("SigBlk", sys.executable), signal.SIGUSR2)
    assert batch.wait(timeout=60) == 128 + signal.SIGUSR2
    assert said() == "preempted"
    assert "SLURM does not requeue this job" in Path("sweep/0/train.log").read_text()
