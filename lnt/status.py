"""Show how sweeps and runs stand: python -m lnt.status DIR [--watch [SECONDS]]."""

from lnt import signals

if __name__ == "__main__":
    signals.quit_on_interrupt()  # Ctrl-C during imports: nobody needs a traceback

import argparse
import logging
import math
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lnt.errors import ConfigError, one_line, printable, require
from lnt.progress import in_words
from lnt.sweeps.standing import LINES, Row, Seen, Standing, describe, some

WATCH_SECONDS = 5.0
QUIET_SECONDS = 45.0  # --watch ends when nothing has been going on for so long: between two jobs there may be a pause
REDRAW_SECONDS = 1.0  # the terminal may have another size
NARROW = 60  # columns of a terminal that has no room for anything but a bar and its end
STYLES = {"running": "cyan", "completed": "green", "failed": "bold red", "died": "bold red", "unreadable": "bold red"}
OTHER_STYLE = "yellow"


def picture(now: Standing, console: Console, height: int | None = None, ago: float = 0.0, remarks: Iterable[str] = ()) -> Group:
    """A bar for all and one for each job, in the columns of a console and, if given, so many lines.

    `ago`: seconds since the look.
    """
    width = console.width
    head: list[RenderableType] = [_line(_end_of(now.name, width), "bold"), _total(now, width)]
    head += [*Text(printable(now.counts)).wrap(console, width), *(_line(line) for line in now.jobs)]
    problems = [f"{row.name}: {row.problem}" for row in now.rows if row.problem]
    notes = [
        *(_line(line.strip(), OTHER_STYLE) for line in (*now.errors, *remarks)),
        *(_line(line, "red") for line in problems),
    ]
    advice = [part for line in now.advice for part in Text(printable(line)).wrap(console, width)]
    if height is None:
        rows, rest = some(now.rows, LINES)
    else:
        # All of it is printed at the end.
        advice = advice[: max(min(height // 4, height - len(head) - 5), 0)]
        # Most of the lines below the head are for jobs, and one is for what sums up the others.
        room = max(height - len(head) - len(advice) - 2, 3)
        notes = notes[: max(room // 3, room - len(now.rows))]
        rows, rest = some(now.rows, room - len(notes))
    parts = [*head, *([Text()] if rows else []), _table(rows, width, ago), *(_line(line.strip()) for line in rest)]
    return Group(*parts, *notes, *advice)


def _line(text: str, style: str = "") -> Text:
    # Text, never markup: what files hold must not become a style, a link or a control sequence.
    return Text(printable(text), style=style, no_wrap=True, overflow="ellipsis")


def _end_of(name: str, width: int) -> str:
    """The end of a path, which tells it from others."""
    return name if len(name) <= width else f"…{name[1 - width :]}"


def _total(now: Standing, width: int) -> Table:
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(no_wrap=True)
    table.add_column(ratio=1)
    table.add_column(no_wrap=True)
    left = "" if now.left is None else f", {'about ' if width >= NARROW else ''}{in_words(now.left)} left"
    # Rounded down: 100 % only at the end.
    percent = f"{math.floor(100 * now.share):3d} %"
    table.add_row(percent, _bar(now.share, now.state), f"{_of(now.done, now.of, width)}{left}")
    return table


def _bar(share: float, state: str) -> ProgressBar:
    style = STYLES.get(state, OTHER_STYLE)
    return ProgressBar(total=1.0, completed=share, complete_style=style, finished_style=style)


def _table(rows: Sequence[Row], width: int, ago: float) -> Table:
    longest = max(width // 3, 8)  # of the names
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(no_wrap=True, max_width=longest)
    table.add_column(ratio=1)
    table.add_column(no_wrap=True, justify="right")
    table.add_column(no_wrap=True)
    if width >= NARROW:
        table.add_column(no_wrap=True, justify="right")
    for row in rows:
        name = Text(printable(_end_of(row.name, longest)))
        state = Text(printable(_state(row, width)), style=STYLES.get(row.state, OTHER_STYLE))
        seen = "" if row.age is None or row.state == "completed" else f"seen {in_words(row.age + ago)} ago"
        runs, last = _of(row.done, row.of, width), [seen] if width >= NARROW else []
        table.add_row(name, _bar(row.share, row.state), runs, state, *last)
    return table


def _of(done: int, of: int, width: int) -> str:
    return f"{done} of {of}" if width >= NARROW else f"{done}/{of}"


def _state(row: Row, width: int) -> str:
    """What a job does, and how long still."""
    left = "" if row.left is None else f"{in_words(row.left)} left"
    at = row.at if width >= NARROW or not left else ""
    return ", ".join(filter(None, (at, left))) or row.state


class Remarks(logging.Handler):
    """Keeps warnings, each once: on a terminal that is drawn on, nothing else may write."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: dict[str, None] = {}

    def emit(self, record: logging.LogRecord) -> None:
        self.lines[printable(record.getMessage())] = None


def once(now: Standing, remarks: Remarks) -> None:
    """Print how things stand: bars on a terminal, plain lines elsewhere."""
    console = Console()
    if on_terminal(console):
        console.print(picture(now, console, remarks=remarks.lines))
        return
    print(now.text, flush=True)
    for line in remarks.lines:
        print(line, file=sys.stderr)
    remarks.lines.clear()


def on_terminal(console: Console) -> bool:
    """Whether bars can be drawn, and drawn again in place."""
    return sys.stdout.isatty() and not console.is_dumb_terminal


def looks(path: Path, wait: Callable[[Standing, float], None]) -> Standing:
    """Look again and again, with `wait` between two looks, until nothing is left or nothing goes on; the last look."""
    seen = Seen()
    now, busy = describe(path, seen), time.monotonic()
    while not now.complete and time.monotonic() - busy <= QUIET_SECONDS:
        wait(now, time.monotonic())
        try:
            now = describe(path, seen)
        except (ConfigError, OSError) as error:  # a folder that vanished, a disk that is away for a moment
            now = replace(now, errors=[one_line(error)], going=False)
        busy = time.monotonic() if now.going else busy
    return now


def watch(path: Path, seconds: float, remarks: Remarks) -> None:
    """Show how things stand every so many seconds, in place on a terminal."""
    console = Console()
    if not on_terminal(console):

        def print_and_sleep(now: Standing, looked: float) -> None:
            once(now, remarks)
            print(flush=True)
            time.sleep(seconds)

        once(looks(path, print_and_sleep), remarks)
        return
    last: list[Standing] = []

    def draw(now: Standing, looked: float) -> None:
        last[:] = [now]
        while (left := looked + seconds - time.monotonic()) > 0:
            ago = time.monotonic() - looked
            live.update(picture(now, console, console.height, ago, remarks.lines), refresh=True)
            time.sleep(min(left, REDRAW_SECONDS))

    try:
        # A screen of its own, so that what was there before comes back; what was seen last is left there.
        with Live(console=console, screen=True, auto_refresh=False) as live:
            last = [looks(path, draw)]
    finally:
        for now in last:
            once(now, remarks)


def words(arguments: Sequence[str]) -> list[str]:
    """The arguments, in which `--watch DIR` does not take DIR for a number of seconds."""
    after = dict(pairwise(range(len(arguments))))
    return [
        f"--watch={WATCH_SECONDS:g}" if word == "--watch" and not _is_time(arguments[after[i]] if i in after else "") else word
        for i, word in enumerate(arguments)
    ]


def _is_time(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def main() -> None:
    """Print once, or with --watch until nothing is going on any more."""
    parser = argparse.ArgumentParser(prog="python -m lnt.status", description="How sweeps and runs stand.")
    parser.add_argument("directory", type=Path, metavar="DIR", help="that of a sweep or a run, or a folder above several")
    repeated = f"again every SECONDS, by default {WATCH_SECONDS:g}, as long as anything goes on"
    parser.add_argument("--watch", nargs="?", type=float, const=WATCH_SECONDS, metavar="SECONDS", help=repeated)
    options = parser.parse_args(words(sys.argv[1:]))
    remarks, log = Remarks(), logging.getLogger("lnt")
    log.addHandler(remarks)
    try:
        with signals.interruptible():
            if options.watch is None:
                once(describe(options.directory), remarks)
            else:
                fits = 1 <= options.watch <= 86400
                require(fits, "--watch", f"{options.watch:g}", "must be from 1 s to a day")
                watch(options.directory, options.watch, remarks)
    except (ConfigError, OSError) as error:
        sys.exit(f"error: {one_line(error)}")
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        log.removeHandler(remarks)


if __name__ == "__main__":
    main()
