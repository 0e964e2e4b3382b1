"""Work for batches that is quick and needs no solver; in a module of its own, for other processes to import."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from apps.style_transfer.batches.batch import plan, run
from apps.style_transfer.batches.engines import Local, Task
from apps.style_transfer.files.writing import replacing

SIZE = 200_000


def content_of(task: Task) -> bytes:
    """What a whole output holds: nothing else is right, and its beginning is not."""
    return f"{task.content.name} {task.style} {task.content.read_text()}".encode().ljust(SIZE, b".")


def slow_copy(task: Task) -> None:
    """Write an output by pieces, with time in between to be killed in."""
    if "bad" in task.content.name:
        raise ValueError(f"{task.content} is bad:\nmend it")
    note(task)
    whole = content_of(task)
    with replacing(task.output, suffix=task.output.suffix) as beside, beside.open("wb") as file:
        for at in range(0, SIZE, SIZE // 4):
            file.write(whole[at : at + SIZE // 4])
            file.flush()
            time.sleep(0.01)


def note(task: Task) -> None:
    """Say in a file beside the contents that the work on a task has begun, and in which process."""
    line = f"{task.output.name} {os.getpid()}\n".encode()
    handle = os.open(task.content.parent / "begun.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(handle, line)
    os.close(handle)


def slower_copy(task: Task) -> None:
    time.sleep(0.15)
    slow_copy(task)


def killed_by(task: Task) -> None:
    """Die of one of the tasks, as of a lack of memory; of another once only."""
    once = task.content.parent / "died.once"
    if "deadly" in task.content.name or ("shaky" in task.content.name and not once.exists()):
        once.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    slow_copy(task)


def broken(task: Task) -> None:
    raise KeyError(task.style)


if __name__ == "__main__":
    contents, output, jobs = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    tasks = plan([contents], {"a": [], "b": []}, output)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    run(tasks, slow_copy, existing="skip", engine=Local(jobs))
