"""An exam in this process or in several side by side, with its progress in the terminal."""

from __future__ import annotations

import logging
import multiprocessing
import queue
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from omni.engines.primer import PrimerEngine
from omni.errors import OmniError
from omni.exams.about import About
from omni.exams.exam import Exam, Step, count_of, finished, missing
from omni.exams.opening import open_student
from omni.exams.parts import PARTS
from omni.exams.probes import Probes
from omni.exams.sitting import Sitting
from omni.settings import Settings

log = logging.getLogger(__name__)
ALIVE = 2.0  # seconds between two looks at silent processes
FAILED = "The exam stopped because of a fault in the program; what was answered is kept, and the log tells more."
News = dict[str, str] | Step | str  # parts not asked and why; a step; the name of a part that is complete


@dataclass(frozen=True)
class Order:
    """Everything that a process needs to take part in an exam."""

    settings: Settings
    about: About
    folder: Path
    weights: Path
    checkpoint: Path | None
    processes: int
    threads: int


def run(order: Order, parts: list[str]) -> Iterator[News]:
    """Ask what is not answered yet of ``parts`` and tell it as it happens. Raises OmniError.

    First comes why some parts are not asked at all, then steps and the names of parts as they are complete.
    """
    known = Sitting(order.folder, order.about)
    total = sum(count_of(PARTS[name], order.about.count) for name in parts)
    answered = Counter({name: len(known.answered(name)) for name in parts})
    due = [name for name in parts if not finished(known, name)]
    told: set[str] = set()
    with tqdm(total=total, unit="q", mininterval=0.5 if sys.stderr.isatty() else 20, leave=False) as bar:
        bar.update(sum(answered.values()))
        for news in _news(order, due) if due else ({},):
            if isinstance(news, dict):
                yield news
                left_out = [name for name in parts if name in news]
                bar.total -= sum(count_of(PARTS[name], order.about.count) for name in left_out)
                told.update(left_out)
            else:
                answered[news.part] += 1
                bar.set_description(news.part, refresh=False)
                bar.update()
                yield news
            for name in parts:
                if name not in told and answered[name] >= count_of(PARTS[name], order.about.count):
                    told.add(name)
                    bar.clear()
                    yield name


def _news(order: Order, parts: list[str]) -> Iterator[dict[str, str] | Step]:
    """What all processes tell, reasons first and once."""
    if order.processes == 1:
        yield from work(order, parts, 0)
        return
    context = multiprocessing.get_context("spawn")
    line = context.Queue()
    crew = [
        context.Process(target=_report, args=(order, parts, turn, line), daemon=True) for turn in range(order.processes)
    ]
    for one in crew:
        one.start()
    try:
        yield from _listen(crew, line)
    finally:
        for one in crew:
            one.terminate()


def _listen(crew: list, line) -> Iterator[dict[str, str] | Step]:
    working, reasons = len(crew), False
    while working:
        try:
            news = line.get(timeout=ALIVE)
        except queue.Empty:
            if any(one.exitcode not in (None, 0) for one in crew):
                raise OmniError(FAILED) from None
            continue
        match news:
            case None:
                working -= 1
            case str():
                raise OmniError(news)
            case dict():
                if not reasons:
                    yield news
                reasons = True
            case _:
                yield news


def _report(order: Order, parts: list[str], turn: int, line) -> None:
    """One process: its steps go down the line, a sentence where it fails, None when it is done."""
    try:
        for news in work(order, parts, turn):
            line.put(news)
        line.put(None)
    except OmniError as error:
        line.put(str(error))
    except Exception:
        log.exception("an exam process failed")
        line.put(FAILED)


def work(order: Order, parts: list[str], turn: int) -> Iterator[dict[str, str] | Step]:
    """One process's share of the exam."""
    torch.set_num_threads(order.threads)
    student = open_student(order.settings, order.weights, order.checkpoint)
    reasons = missing(student.engine, isinstance(student.engine, PrimerEngine))
    yield reasons
    exam = Exam(student, Sitting(order.folder, order.about), Probes())
    yield from exam.sit([name for name in parts if name not in reasons], turn, order.processes)
