"""python -m lnt.status --watch on a real terminal of a given size: drawn in place, whatever happens to the files."""

import codecs
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time

import pyarrow as pa
import pytest
import yaml
from pyarrow import parquet as pq

STYLE = re.compile(r"\x1b\[[0-9;]*m")
HOME = "\x1b[H"


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, command, columns, lines, **environment):
        self.ours, theirs = pty.openpty()
        self.resize(columns, lines)
        plain = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            command,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            env={**plain, "TERM": "xterm-256color", **environment},
        )
        os.close(theirs)
        self.said, self.decoder = "", codecs.getincrementaldecoder("utf-8")()

    def resize(self, columns, lines):
        fcntl.ioctl(self.ours, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def read(self, seconds):
        """Take in what it says in so many seconds, or until it ends."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if not select.select([self.ours], [], [], left)[0]:
                return
            try:
                data = os.read(self.ours, 65536)
            except OSError:  # it has ended, and closed its side
                return
            self.said += self.decoder.decode(data)

    def until(self, holds, seconds=60):
        """Take in until the last picture holds; that picture."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.read(0.1)
            picture = self.picture()
            if holds(picture):
                return picture
        pytest.fail(f"the picture stays:\n{self.said[-3000:]}")

    def picture(self):
        """The lines of the last picture that is complete, without styles."""
        pictures = self.said.split(HOME)
        return STYLE.sub("", pictures[-2]).replace("\r", "").split("\n") if len(pictures) > 2 else []

    def close(self):
        """What it said after the screen was given back, and its exit status."""
        self.read(30)
        code = self.process.wait(30)
        os.close(self.ours)
        return self.said.rpartition("\x1b[?1049l")[2], code


@pytest.fixture
def sweep(tmp_path):
    """A plan of 60 runs in 30 jobs."""
    config = {"choices": {"data": "signal_noise"}, "data": {}}
    axes = [{"keys": ["seed"], "points": [[seed] for seed in range(60)]}]
    plan = {"groups": [{"config": config, "axes": axes}], "command": "python train.py -m x", "runs_per_job": 2}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(plan))
    return tmp_path


def job(sweep, number, state, rows=0, **said):
    """Write the directory of a job with so many rows."""
    folder = sweep / str(number)
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(f"job: {number}\n")
    who = {"time": "2026-03-01T12:00:00+00:00", "host": "node", "pid": 7, "slurm": None}
    (folder / "status.json").write_text(json.dumps({"state": state, **who, **said}))
    if rows:
        ids = [f"{number}-{row}" for row in range(rows)]
        columns = {"run_id": ids, "status": ["completed"] * rows, "error": pa.nulls(rows, pa.string())}
        pq.write_table(pa.table(columns), folder / "runs.parquet")


def watching(sweep, columns, lines, *more, **environment):
    return Terminal([sys.executable, "-m", "lnt.status", str(sweep), "--watch", "1", *more], columns, lines, **environment)


@pytest.mark.slow
def test_a_watcher_draws_in_place_fits_and_ends_when_all_is_done(sweep):
    for number in range(28):
        job(sweep, number, "interrupted" if number < 27 else "running", 1, done=1, of=2, share=0.7, left=100, at="step 7 of 10")
    terminal = watching(sweep, 80, 24)
    shown = terminal.until(lambda lines: len(lines) > 5)
    assert len(shown) <= 24
    assert max(map(len, shown)) <= 80
    assert shown[5].startswith("job 27 ")
    assert "1 of 2 step 7 of 10, 2 min left seen " in shown[5]
    assert any(re.match(r"and \d+ more: \d+ interrupted", line) for line in shown)
    assert any("28 of 60" in line for line in shown)
    # A smaller window, files that are half written, vanish, and hold control sequences.
    terminal.resize(40, 12)
    (sweep / "27" / "status.json").write_text('{"state": "runn')
    (sweep / "0" / "status.json").unlink()
    job(sweep, 28, "failed", done=0, of=2, error="\x1b[2J\x1b]0;evil\x07 no space")
    shown = terminal.until(lambda lines: lines and max(map(len, lines)) <= 40 and any("job 28 " in line for line in lines))
    assert len(shown) <= 12
    for number in range(30):
        job(sweep, number, "completed", 2, runs=2)
    last, code = terminal.close()
    assert code == 0
    assert " 60/60" in last
    assert "60 completed" in last
    assert "100 %" in last
    # The screen of before comes back, the cursor too, and nothing of the files has reached the terminal.
    assert terminal.said.count("\x1b[?1049h") == terminal.said.count("\x1b[?1049l") == 1
    assert terminal.said.rfind("\x1b[?25h") > terminal.said.rfind("\x1b[?25l")
    assert "\x1b[2J\x1b]0" not in terminal.said
    assert "\x07" not in terminal.said
    assert "Traceback" not in terminal.said


@pytest.mark.slow
@pytest.mark.parametrize("environment", [{}, {"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_ctrl_c_ends_a_watcher_quietly_and_leaves_what_was_seen(sweep, environment):
    job(sweep, 0, "running", 1, done=1, of=2)
    terminal = watching(sweep, 80, 24, **environment)
    while "1 of 60" not in terminal.said and "1 completed" not in terminal.said:
        terminal.read(0.1)
    terminal.process.send_signal(signal.SIGINT)
    last, code = terminal.close()
    assert code == 130
    assert "60 runs: 1 completed" in last
    assert "Traceback" not in terminal.said
    colours = set(re.findall(r"\x1b\[[0-9;]*3[0-7](?:;[0-9;]*)?m", terminal.said))
    assert bool(colours) == (environment == {})
    assert ("\x1b" in terminal.said) == ("TERM" not in environment)


@pytest.mark.slow
def test_a_progress_bar_keeps_to_its_line_and_log_lines_to_theirs():
    code = """
import logging, sys, time
logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="LOG %(message)s")
from lnt.progress import Progress
with Progress(10, runs=10) as bar:
    bar.begin(1.0, 1, 1)
    for run in range(10):
        time.sleep(0.25)
        bar.update(1)
        bar.ran(1)
        if run == 4:
            logging.info("half of it")
"""
    terminal = Terminal([sys.executable, "-c", code], 60, 24)
    _, status = terminal.close()
    assert status == 0
    lines = [line.rpartition("\r")[2] for line in terminal.said.replace("\x1b[A", "").replace("\r\n", "\n").split("\n")]
    assert "LOG half of it" in [line.strip() for line in lines]
    assert [line for line in lines if "10 of 10 runs" in line][-1].startswith("100 %|")
    assert max(len(part) for part in re.split(r"[\r\n]", terminal.said)) <= 60
