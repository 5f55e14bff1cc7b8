"""SLURM's programs as scripts first on PATH, which answer what a test wants."""

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("squeue", "sacct", "scontrol", "sbatch", "srun")


@dataclass(frozen=True)
class Answer:
    """What a program prints, how it exits, or for how many seconds it says nothing."""

    output: str = ""
    error: str = ""
    code: int = 0
    seconds: float = 0

    def script(self):
        """The same as shell commands."""
        # exec: a program that is killed for its slowness leaves no sleep behind.
        if self.seconds:
            return f"exec sleep {self.seconds}"
        return "; ".join(
            [
                *(f"printf '%s\\n' {shlex.quote(line)}" for line in self.output.splitlines()),
                *(f"printf '%s\\n' {shlex.quote(line)} >&2" for line in self.error.splitlines()),
                f"exit {self.code}",
            ]
        )


SLOW = Answer(seconds=60)
DOWN = Answer(error="slurm_load_jobs error: Unable to contact slurm controller (connect failure)", code=1)
FORGOTTEN = Answer(error="slurm_load_jobs error: Invalid job id specified", code=1)


class FakeSlurm:
    """A cluster whose programs know of no job until `says` is called."""

    def __init__(self, folder: Path, monkeypatch) -> None:
        self.folder, self.monkeypatch = folder, monkeypatch
        folder.mkdir()
        for program in PROGRAMS:
            self.says(program)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def says(self, program, *answers):
        """Let the program answer `answers` one after another, and the last of them from then on; a string is its output."""
        *some, last = [Answer(each) if isinstance(each, str) else each for each in answers or ("",)]
        cases = [f"{number}) {each.script()} ;;" for number, each in enumerate(some)] + [f"*) {last.script()} ;;"]
        calls = shlex.quote(str(self.folder / f"{program}.calls"))
        lines = [
            "#!/bin/sh",
            f'n=$(cat {calls} 2>/dev/null | wc -l); echo "$*" >>{calls}; env >{calls}.env',
            "case $((n)) in",
            *cases,
            "esac",
        ]
        file = self.folder / program
        file.write_text("\n".join(lines) + "\n")
        file.chmod(0o755)
        (self.folder / f"{program}.calls").unlink(missing_ok=True)

    def starts_tasks(self):
        """Let srun drop its options and become the task, as a job's step of one process."""
        lines = ["#!/bin/sh", 'while [ "${1#--}" != "$1" ]; do [ "$1" = --unbuffered ] && shift || shift 2; done', 'exec "$@"']
        (self.folder / "srun").write_text("\n".join(lines) + "\n")

    def environment(self, program):
        """The environment of the last call of the program."""
        return dict(
            line.split("=", 1) for line in (self.folder / f"{program}.calls.env").read_text().splitlines() if "=" in line
        )

    def calls(self, program):
        """The arguments of each call of the program since it was told what to say."""
        file = self.folder / f"{program}.calls"
        return file.read_text().splitlines() if file.exists() else []

    def vanish(self):
        """No program is there any more, as away from the cluster."""
        self.monkeypatch.setenv("PATH", str(self.folder / "nothing"))
