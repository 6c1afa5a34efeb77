"""``/v1/videos``: clips as jobs. Asked for, looked after, fetched, and cancelled or forgotten by ``DELETE``."""

from __future__ import annotations

import asyncio
import logging
import secrets
import shutil
import tempfile
import time
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
from fastapi import Request
from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.responses import FileResponse, JSONResponse, Response

from omni.conversation import Part, Video
from omni.engine import Wish
from omni.errors import OmniError, Refused
from omni.events import ClipPreview, ClipReady, Progress
from omni.serving import faults
from omni.serving.intake import asked, taken
from omni.serving.leaving import Leaving
from omni.serving.making import check_able
from omni.serving.protocol import VideoRequest, check_size
from omni.serving.speaking import events_of

log = logging.getLogger(__name__)

KEPT = 16  # jobs; where more come, the oldest that has ended is forgotten
LASTS = 3600  # seconds that a clip is kept


@dataclass(eq=False)
class Job:
    """A clip being made, or made. ``status`` is one of OpenAI's words."""

    prompt: str
    model: str
    id: str = field(default_factory=lambda: f"video_{secrets.token_hex(12)}")
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="omni-")))
    created: float = field(default_factory=time.time)
    status: str = "queued"
    progress: int = 0
    clip: Video | None = None
    error: dict[str, Any] | None = None
    task: asyncio.Task | None = None

    def value(self) -> dict[str, Any]:
        """The job as OpenAI tells it, and what vLLM-Omni adds."""
        told = {
            "id": self.id, "object": "video", "model": self.model, "prompt": self.prompt, "status": self.status,
            "progress": self.progress, "created_at": int(self.created), "expires_at": int(self.created + LASTS),
            "error": self.error, "media_type": "video/mp4",
        }  # fmt: skip
        if self.clip is not None:
            told |= {"size": f"{self.clip.width}x{self.clip.height}", "seconds": f"{self.clip.seconds:g}"}
            told |= {"fps": self.clip.fps, "duration_s": self.clip.seconds}
        return told


class Clips:
    """The jobs of one engine. State: the jobs by name; the oldest stands first."""

    def __init__(self, engine: Leaving):
        self.engine = engine
        self.jobs: dict[str, Job] = {}

    async def create(self, request: Request) -> Response:
        """Begin a job from a form or from JSON, with a file that the clip refers to or without."""
        check_able(self.engine, "video")
        fields, upload = await _fields(request)
        try:
            wanted = VideoRequest.model_validate(fields)
        except ValidationError as error:
            raise Refused(faults.sentence(error.errors())) from None
        check_size(wanted.size)
        self._forget_old()
        job = Job(wanted.prompt, self.engine.name)
        try:
            files = [await anyio.to_thread.run_sync(taken, upload, job.folder, self.engine.keys)] if upload else []
        except BaseException:
            shutil.rmtree(job.folder, ignore_errors=True)
            raise
        self.jobs[job.id] = job
        job.task = asyncio.create_task(self._make(job, wanted, files))
        return JSONResponse(job.value())

    async def _make(self, job: Job, wanted: VideoRequest, files: list[Part]) -> None:
        """Film; whatever happens stands in the job."""
        try:
            conversation = asked(wanted.prompt, job.folder, *files)
            wish, engine = Wish(frozenset({"video"}), seed=wanted.seed), self.engine
            async with aclosing(events_of(lambda: engine.reply(conversation, wish))) as events:
                async for event in events:
                    match event:
                        case ClipPreview(index=index, total=total):
                            job.status, job.progress = "in_progress", round(99 * (index + 1) / total)
                        case Progress(done=float(done)):
                            job.status, job.progress = "in_progress", max(job.progress, round(99 * done))
                        case ClipReady(frames, fps, samples, rate, caption):
                            write = engine.imprint(conversation).video, frames, fps, samples, rate, caption
                            job.clip = await anyio.to_thread.run_sync(*write)
            if job.clip is None:
                raise OmniError("The model made no clip of this; please ask differently.")
            job.status, job.progress = "completed", 100
        except Exception as error:
            job.status, job.error = "failed", faults.body(error)["error"]

    def list(self) -> Response:
        """All jobs, the newest first."""
        return JSONResponse({"object": "list", "data": [job.value() for job in reversed(self.jobs.values())]})

    def look(self, name: str) -> Response:
        """How far one is. Raises Unknown."""
        return JSONResponse(self._job(name).value())

    def fetch(self, name: str) -> Response:
        """The MP4. Raises Unknown while it is being made, OmniError where it failed."""
        job = self._job(name)
        if job.error is not None:
            raise OmniError(job.error["message"])
        if job.clip is None:
            raise faults.Unknown("This clip is still being made; please ask again later.")
        return FileResponse(job.clip.path, media_type="video/mp4", filename=f"{job.id}.mp4")

    def delete(self, name: str) -> Response:
        """Stop making one, and forget it. Raises Unknown."""
        self._drop(self._job(name))
        return JSONResponse({"id": name, "object": "video.deleted", "deleted": True})

    def _job(self, name: str) -> Job:
        if name not in self.jobs:
            raise faults.Unknown(f"There is no clip {name[:60]!r} here.")
        return self.jobs[name]

    def _drop(self, job: Job) -> None:
        job.task.cancel()
        del self.jobs[job.id]
        shutil.rmtree(job.folder, ignore_errors=True)

    def _forget_old(self) -> None:
        """Make room for one more. Raises Full where all of them are still being made."""
        for job in list(self.jobs.values()):
            if job.created + LASTS < time.time():
                self._drop(job)
        if len(self.jobs) < KEPT:
            return
        ended = next((job for job in self.jobs.values() if job.task.done()), None)
        if ended is None:
            raise faults.Full("Too many clips are being made; please try again soon.")
        self._drop(ended)


async def _fields(request: Request) -> tuple[dict[str, Any], bytes | None]:
    """The fields of a form or of JSON, and the file of ``input_reference``. Raises Refused."""
    if request.headers.get("content-type", "").startswith("application/json"):
        try:
            fields = await request.json()
        except ValueError:
            raise Refused("The request is no valid JSON.") from None
        return fields if isinstance(fields, dict) else {}, None
    async with request.form(max_files=1, max_fields=50) as form:
        reference = form.get("input_reference")
        content = await reference.read() if isinstance(reference, UploadFile) else None
        return {name: value for name, value in form.items() if isinstance(value, str)}, content
