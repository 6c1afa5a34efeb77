"""A process that may be killed: the only place where bytes of a stranger are parsed.

The parent starts a fresh Python (never a fork: it holds threads and a model), gives it three open files and waits.
The child confines itself before it looks at the upload: it may open no further file or socket, and its memory,
time and output are bounded by the kernel. The answer is one line of JSON, then the bytes of the finished file.
Does not know what is decoded. Does not defend against code execution beyond these bounds.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

from omni.errors import Refused
from omni.media.limits import Limits
from omni.media.sniff import Found

log = logging.getLogger(__name__)

DECODER = ("-m", "omni.media.decode")
ROOT = Path(__file__).resolve().parents[2]

_AT_ONCE = threading.BoundedSemaphore(max(2, os.cpu_count() or 2))  # so that many uploads do not fill the memory


def run(upload: BinaryIO, request: dict, limits: Limits, program: tuple[str, ...]) -> tuple[dict, bytes]:
    """Run ``program`` (arguments of a Python) on an open upload.

    The program finds the upload at file 0 and answers at file 1; ``request`` is its last argument, as JSON.
    Returns the facts that it tells and the bytes of the file that it made. Raises Refused with the program's own
    sentence, or with one of ours where it had to be killed or died.
    """
    return _run(upload, request, limits, 1, program)[0]


def decode(upload: BinaryIO, found: Sequence[Found], sizes: Sequence[int], limits: Limits) -> list[tuple[dict, bytes]]:
    """``run`` the decoder for files of ``sizes`` bytes that stand one behind the other: most of its time is the start.

    One file that is refused refuses all.
    """
    request = {"found": [asdict(one) for one in found], "sizes": sizes, "limits": asdict(limits)}
    return _run(upload, request, limits, len(sizes), DECODER)


def _run(
    upload: BinaryIO, request: dict, limits: Limits, count: int, program: tuple[str, ...]
) -> list[tuple[dict, bytes]]:
    """An answer for each of ``count`` files; where there are more to come, its ``bytes`` says how many follow."""
    command = [sys.executable, "-P", *program, json.dumps(request)]
    with _AT_ONCE, tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as complaints:
        upload.seek(0)
        child = subprocess.Popen(
            command, stdin=upload, stdout=answer, stderr=complaints, env=_environment(), start_new_session=True
        )
        try:
            status = child.wait(_seconds(limits, count))
        except subprocess.TimeoutExpired as cause:
            raise Refused("Reading this file took too long; please try a smaller or shorter one.") from cause
        finally:
            _end(child)
        answer.seek(0)
        complaints.seek(0)
        _log(status, complaints)
        return [_answer(status, answer) for _ in range(count)]


def confine(limits: Limits, count: int = 1) -> None:
    """Bound this process, which reads ``count`` files, for good.

    To be called by the program, after its imports and before it reads file 0.
    """
    cpu = int(2 * _seconds(limits, count)) + 1  # decoders use two threads
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu + 1))  # the signal at the first says why, the second kills
    for what, bound in (
        (resource.RLIMIT_AS, limits.decode_bytes),
        (resource.RLIMIT_FSIZE, 4 * min(count * limits.upload_bytes, limits.saved_bytes)),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 3),  # 0, 1 and 2 are open: no name can be opened and no connection made
    ):
        resource.setrlimit(what, (bound, bound))


def _seconds(limits: Limits, count: int) -> float:
    """The wall clock in which ``count`` files have to be read."""
    return min(count * limits.decode_seconds, limits.saved_seconds)


def _environment() -> dict[str, str]:
    """Nothing of the parent's environment but what Python needs: no tokens, no proxies."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LD_LIBRARY_PATH") if name in os.environ}
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
    return {**kept, **threads, "PYTHONPATH": os.pathsep.join(paths)}


def _end(child: subprocess.Popen) -> None:
    """Kill the child and whatever it started, if it still runs, and reap it."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _log(status: int, complaints: BinaryIO) -> None:
    said = complaints.read(4_000).decode(errors="replace").strip()
    if said:
        log.warning("decoder (status %s): %s", status, said)


def _answer(status: int, answer: BinaryIO) -> tuple[dict, bytes]:
    """What the program said of the next file, or the sentence for how it ended."""
    if status == -signal.SIGXCPU:
        raise Refused("Reading this file took too long; please try a smaller or shorter one.")
    try:
        facts = json.loads(answer.readline(100_000)) if status == 0 else None
    except ValueError:
        facts = None
    if not isinstance(facts, dict):
        log.warning("decoder ended with status %s and no answer", status)
        raise Refused("This file cannot be read; it may be damaged, so please save it again or choose another one.")
    if "refused" in facts:
        raise Refused(str(facts["refused"]))
    return facts, answer.read(int(facts.pop("bytes", -1)))
