"""Sweeps on a real one-node SLURM: whatever happens to jobs, a rerun ends with the table of an undisturbed sweep."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch

from lnt.plan_file import read_plan
from lnt.sweeps import slurm as slurm_answers

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).parent / "onenode.sh"
SLURM = ("hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=1", "hydra.sweeper.runs_per_job=2")
SHORT = ("data.n_train=20", "data.n_test=30", "optimizer.steps=50", "seed=range(8)", "precision=float64")
# a job of two such runs takes about twenty seconds
LONG = (
    *("data=digits", "data.classes=[3,8]", "data.n_train=60", "data.n_test=20", "model.width=4", "noise.rate=0.2"),
    *("optimizer.epochs=3000", "recordings=20", "checkpoint_seconds=2", "seed=range(4)"),
)
LONGER = (*LONG[:-1], "seed=range(8)")

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module", params=["dbd"])
def accounting(request):
    return request.param


@pytest.fixture(scope="module", autouse=True)
def slurm(accounting):
    """A cluster for the tests of this module, taken down whatever happens."""
    environment = {**os.environ, "ACCT": accounting}
    try:
        subprocess.run(["bash", SCRIPT, "up"], env=environment, check=True)
        yield
    finally:
        subprocess.run(["bash", SCRIPT, "down"], env=environment, check=True)


def command(*overrides, directory="sweep", root=ROOT):
    return [sys.executable, str(root / "train.py"), "-m", *overrides, f"hydra.sweep.dir={directory}"]


def run(where, *overrides, check=True, **more):
    """A sweep to its end; what it printed."""
    done = subprocess.run(command(*overrides, **more), cwd=where, capture_output=True, text=True, check=False, timeout=900)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def start(where, *overrides, **more):
    """A sweep in the background."""
    return subprocess.Popen(command(*overrides, **more), cwd=where, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def table(path):
    parts = [pd.read_parquet(part) for part in sorted(Path(path).glob("*/runs.parquet"))]
    return pd.concat(parts).set_index("run_id").sort_index().drop(columns="wall_seconds")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Tables of the sweeps in one process."""
    where = tmp_path_factory.mktemp("undisturbed")
    for name, settings in (("short", SHORT), ("longer", LONGER)):
        run(where, *settings, directory=name)
    longer = table(where / "longer")
    return {"short": table(where / "short"), "long": longer[longer["seed"] < 4], "longer": longer}


def assert_same(found, wanted):
    assert not found.index.has_duplicates
    pd.testing.assert_frame_equal(found, wanted, rtol=1e-9)


def until(condition, seconds=240):
    """Wait until the condition holds; its value."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.2)
    return value


def states(where, directory="sweep"):
    """Job number -> content of status.json."""
    found = {}
    for path in Path(where, directory).glob("*/status.json"):
        found[int(path.parent.name)] = json.loads(path.read_text())
    return found


def status(where):
    """What python -m lnt.status prints."""
    done = subprocess.run(
        [sys.executable, "-m", "lnt.status", "sweep"],
        cwd=where,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def training(where, job=0):
    """Wait until a job has written a checkpoint of its own; its status."""
    until(lambda: list(Path(where).glob(f"sweep/checkpoints/{job}/[!.]*.pt")))
    return until(lambda: states(where).get(job))


def test_a_packed_sweep_equals_the_same_in_one_process(tmp_path, undisturbed):
    said = run(tmp_path, *SHORT, *SLURM)
    assert "8 runs: 8 completed, 0 diverged, 0 failed, 0 missing" in said
    assert sorted(states(tmp_path)) == [0, 1, 2, 3], "two runs to a job"
    assert {status["state"] for status in states(tmp_path).values()} == {"completed"}
    assert_same(table(tmp_path / "sweep"), undisturbed["short"])


def test_the_gpu_preset_gets_a_gpu(tmp_path, undisturbed):
    setup = """hydra.launcher.setup=["env | grep CUDA_VISIBLE > gpu.$SLURM_JOB_ID"]"""
    overrides = ("hydra/launcher=slurm_gpu", *SLURM[1:], "device=cpu", setup)
    process = start(tmp_path, *SHORT, *overrides)
    asked_for = ["squeue", "-h", "-O", "tres-per-node"]
    # Jobs of the test before may be in the queue for a while yet, so this waits for those that ask for a GPU.
    until(lambda: "gpu:1" in subprocess.run(asked_for, capture_output=True, text=True).stdout)
    process.communicate(timeout=600)
    assert {path.read_text().strip() for path in tmp_path.glob("gpu.*")} <= {f"CUDA_VISIBLE_DEVICES={gpu}" for gpu in (0, 1)}
    assert len(list(tmp_path.glob("gpu.*"))) == 4, "one for each job"
    assert_same(table(tmp_path / "sweep").drop(columns="device"), undisturbed["short"].drop(columns="device"))


def test_a_run_that_raises_is_a_row_and_its_neighbours_train(tmp_path, undisturbed):
    """A checkpoint of another run makes it raise."""
    broken = undisturbed["short"].index[3]
    job = undisturbed["short"].loc[broken, "seed"]
    checkpoint = tmp_path / "sweep" / "checkpoints" / str(job) / f"{broken}.pt"
    checkpoint.parent.mkdir(parents=True)
    torch.save({"run_ids": ["another"]}, checkpoint)
    alone = (*SLURM[:-1], "hydra.sweeper.runs_per_job=1")
    said = run(tmp_path, *SHORT, *alone, check=False)
    assert "8 runs: 7 completed, 0 diverged, 1 failed, 0 missing" in said
    found = table(tmp_path / "sweep")
    assert "is of another configuration" in found.loc[broken, "error"]
    checkpoint.unlink()
    assert "8 runs: 8 completed" in run(tmp_path, *SHORT, *alone)
    found = table(tmp_path / "sweep")
    assert_same(found[found["status"] == "completed"], undisturbed["short"])


def test_a_job_killed_by_signal_9_is_noticed_and_finished_by_a_rerun(tmp_path, undisturbed):
    process = start(tmp_path, *LONG, *SLURM)
    os.kill(training(tmp_path)["pid"], signal.SIGKILL)
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 1
    assert "to finish the rest: python" in said
    assert "4 runs: 4 completed" in run(tmp_path, *LONG, *SLURM)
    assert went_on(tmp_path)
    assert_same(table(tmp_path / "sweep"), undisturbed["long"])


def test_a_cancelled_task_is_finished_by_a_rerun(tmp_path, undisturbed):
    process = start(tmp_path, *LONG, *SLURM)
    subprocess.run(["scancel", training(tmp_path)["slurm"]], check=True)
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 1
    assert "to finish the rest: python" in said
    assert re.search(r"job 0: preempted, \d of 2 runs, SLURM \d+_0 CANCELLED", status(tmp_path))
    assert "4 runs: 4 completed" in run(tmp_path, *LONG, *SLURM)
    assert went_on(tmp_path)
    assert_same(table(tmp_path / "sweep"), undisturbed["long"])


def make_room(name):
    """SLURM's own preemption: SIGTERM, and some seconds of grace."""
    return ["sbatch", "--partition=urgent", "--exclusive", "--output=/dev/null", "--wrap=sleep 1"]


def send_signal(name):
    return ["scancel", "--signal=USR2", name]


@pytest.mark.parametrize("how", [make_room, send_signal])
def test_a_preempted_job_is_requeued_and_goes_on(tmp_path, undisturbed, how):
    process = start(tmp_path, *LONG, *SLURM)
    subprocess.run(how(training(tmp_path)["slurm"]), check=True, capture_output=True)
    until(lambda: states(tmp_path)[0]["state"] == "preempted")
    said, _ = process.communicate(timeout=600)
    assert "4 runs: 4 completed" in said, "without a rerun"
    assert went_on(tmp_path)
    assert_same(table(tmp_path / "sweep"), undisturbed["long"])


@pytest.mark.parametrize("sent", ["--signal=USR2", "--signal=TERM"])
def test_a_signal_in_the_first_seconds_of_a_job_loses_nothing(tmp_path, undisturbed, sent):
    """It comes as soon as the step of the job is there, which is then importing."""
    process = start(tmp_path, *SHORT, *SLURM[:-1], "hydra.sweeper.runs_per_job=8")
    until(lambda: list(tmp_path.glob("sweep/.submitit/*/*_log.err")))
    (name,) = (path.parent.name for path in tmp_path.glob("sweep/.submitit/*/*_log.err"))
    until(lambda: subprocess.run(["scancel", sent, name], capture_output=True, text=True).returncode == 0)
    assert not states(tmp_path), "before training begins"
    said, _ = process.communicate(timeout=600)
    if "8 runs: 8 completed" not in said:  # TERM ends a job: before Python can hear it, or with a status that says so
        assert [status["state"] for status in states(tmp_path).values()] in ([], ["preempted"])
        assert "8 runs: 8 completed" in run(tmp_path, *SHORT, *SLURM[:-1])
    assert_same(table(tmp_path / "sweep"), undisturbed["short"])


def test_a_sweep_may_be_submitted_from_inside_an_allocation(tmp_path, undisturbed):
    """--mem-per-cpu leaves a variable there with which srun refuses jobs that have --mem."""
    inside = ["salloc", "--quiet", "--mem-per-cpu=100", "--ntasks=1", *command(*SHORT, *SLURM)]
    done = subprocess.run(inside, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=600)
    assert "8 runs: 8 completed" in done.stdout, done.stdout + done.stderr
    assert_same(table(tmp_path / "sweep"), undisturbed["short"])


def test_more_jobs_than_an_array_may_have(tmp_path, undisturbed):
    """MaxArraySize of the test cluster is 4: eight jobs are two arrays."""
    said = run(tmp_path, *SHORT, *SLURM[:-1], "hydra.sweeper.runs_per_job=1")
    assert "8 runs: 8 completed" in said
    tasks = [path.name for path in (tmp_path / "sweep" / ".submitit").glob("[0-9]*_[0-9]*")]
    assert len(tasks) == 8
    assert len({name.split("_")[0] for name in tasks}) == 2
    assert_same(table(tmp_path / "sweep"), undisturbed["short"])


def test_what_sbatch_refuses_is_one_line_and_mended_by_the_same_command(tmp_path, undisturbed):
    refused = subprocess.run(
        command(*SHORT, *SLURM, "hydra.launcher.partition=nowhere"), cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert refused.returncode == 1
    assert "Traceback" not in refused.stderr
    assert "error: jobs=4: sbatch refuses them: invalid partition specified: nowhere; " in refused.stderr
    assert "8 runs: 8 completed" in run(tmp_path, *SHORT, *SLURM[:-1], "hydra.sweeper.runs_per_job=4")
    assert sorted(states(tmp_path)) == [0, 1], "four runs to a job"
    assert_same(table(tmp_path / "sweep"), undisturbed["short"])


def test_a_job_that_runs_out_of_time_is_requeued_and_goes_on(tmp_path, undisturbed):
    """SLURM looks twice a minute, and here tells a job 18 to 48 seconds after its start: after its imports, before its end."""
    limits = ("hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=12", "hydra.sweeper.runs_per_job=8")
    said = run(tmp_path, *LONGER, *SLURM[:-1], *limits)
    assert "8 runs: 8 completed" in said, said
    assert "this job is timed-out" in logs(tmp_path), "it was told, and requeued"
    assert went_on(tmp_path)
    assert_same(table(tmp_path / "sweep"), undisturbed["longer"])


def went_on(where):
    """Whether training went on from a checkpoint."""
    return any("runs go on from step" in path.read_text() for path in Path(where).glob("sweep/*/train.log"))


def logs(where):
    return "".join(path.read_text() for path in Path(where).glob("sweep/.submitit/*/*.err")) + "".join(
        path.read_text() for path in Path(where).glob("sweep/.submitit/*/*.out")
    )


def test_the_launching_process_may_vanish(tmp_path, undisturbed):
    process = start(tmp_path, *LONG, *SLURM)
    training(tmp_path)
    process.kill()
    process.communicate()
    # First, while the job is surely running: on a busy machine the rerun takes as long to start as the job to end.
    assert re.search(r"job 0: running, \d of 2 runs, SLURM \d+_0 RUNNING", status(tmp_path))
    again = subprocess.run(command(*LONG, *SLURM), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "2 of its jobs are still waiting or running" in again.stderr, "a rerun too early would train the same again"
    until(lambda: {status["state"] for status in states(tmp_path).values()} == {"completed"})
    assert "4 runs: 4 completed, 0 diverged, 0 failed, 0 missing" in status(tmp_path)
    before = sorted(Path(tmp_path, "sweep").rglob("*.parquet"))
    assert "4 runs: 4 completed" in run(tmp_path, *LONG, *SLURM)
    assert sorted(Path(tmp_path, "sweep").rglob("*.parquet")) == before, "nothing twice"
    assert_same(table(tmp_path / "sweep"), undisturbed["long"])


def test_a_boundary_is_found_round_by_round(tmp_path):
    """Also if the launching process is killed in the second round: a rerun chooses what an undisturbed search has chosen."""
    small = (
        "data.n_train=20",
        "data.n_test=200",
        "noise.rate=0.1",
        "model.width=4",
        "model.init_norm=1.15",
        "optimizer.lr=0.4",
    )
    grid = ("optimizer.steps=40", "recordings=1", "data.dim=50,100,150", "data.signal_norm=range(0,12,0.5)", "seed=range(12)")
    asks = ("refine=boundary", "value=test_error", "level=0.25", "width=0.1")
    sweep = (*small, *grid, *(f"hydra.sweeper.{ask}" for ask in asks))
    run(tmp_path, *sweep, directory="alone")
    on_slurm = (*sweep, *SLURM[:-1], "hydra.sweeper.runs_per_job=300")
    process = start(tmp_path, *on_slurm)
    try:
        until(lambda: (tmp_path / "sweep/sweep.yaml").exists() and len(rounds(tmp_path / "sweep")) == 2)
        until(lambda: len(states(tmp_path)) > 3)
    finally:
        process.kill()
        process.wait()
    until(lambda: not queue(tmp_path / "sweep"))
    assert "to finish the rest" in status(tmp_path)
    said = run(tmp_path, *on_slurm)
    assert "boundary in 3 of 3 columns" in said
    assert rounds(tmp_path / "sweep") == rounds(tmp_path / "alone")
    assert set(table(tmp_path / "sweep").index) == set(table(tmp_path / "alone").index)
    assert not table(tmp_path / "sweep").index.has_duplicates


def rounds(path):
    """The rounds that a plan has asked for."""
    return read_plan(path / "sweep.yaml")["refine"]["rounds"]


def queue(path):
    """The jobs of a sweep that wait or run."""
    return slurm_answers.queued(slurm_answers.submitted(path))


def test_conf_edited_between_submission_and_start_has_no_effect(tmp_path, undisturbed):
    project = tmp_path / "project"
    project.mkdir()
    for name in ("train.py", "conf", "lnt", "hydra_plugins"):
        source = ROOT / name
        shutil.copytree(source, project / name) if source.is_dir() else shutil.copy(source, project / name)
    begin = "+hydra.launcher.additional_parameters.begin=now+8"
    process = start(tmp_path, *SHORT, *SLURM, begin, root=project)
    until(lambda: list(tmp_path.glob("sweep/.submitit/*_3")))
    model = project / "conf" / "model" / "two_layer_cnn.yaml"
    model.write_text(model.read_text().replace("width: 20", "width: 3"))
    shutil.rmtree(project / "conf" / "noise")
    assert not states(tmp_path), "no job has begun"
    said, _ = process.communicate(timeout=600)
    assert "8 runs: 8 completed" in said
    assert_same(table(tmp_path / "sweep"), undisturbed["short"])


def test_two_sweeps_at_once(tmp_path, undisturbed):
    processes = [start(tmp_path, *SHORT, *SLURM, directory=name) for name in ("one", "two")]
    for process in processes:
        said, _ = process.communicate(timeout=600)
        assert "8 runs: 8 completed" in said
    for name in ("one", "two"):
        assert_same(table(tmp_path / name), undisturbed["short"])
