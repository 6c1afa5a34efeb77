"""The tab that examines the engine of the page and shows its figures beside those of other exams.

What is asked and who judges is the examiner's: nothing here is known of it but omni.examiner.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import gradio as gr
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from omni.engine import Engine
from omni.errors import OmniError
from omni.examiner import Examiner
from omni.settings import Settings
from omni.ui.actions import sentence_of
from omni.ui.element import element
from omni.ui.examining import TAKEN, Examining
from omni.ui.pacing import OneAtATime
from omni.ui.permission import is_allowed

ADDRESS = "/omni-exam/{name}"
ALONE = "sandbox; default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"  # the report's rights
HOW = "Whoever runs this server may let you start an exam, with --exam-start everyone."
UNKNOWN: dict[str, Any] = {"state": "unknown", "sentence": ""}
NOTHING: dict[str, Any] = {"name": "", "skipped": {}, "reports": [], "differences": []}
AS_IT_IS = gr.skip()
Shown = tuple[Any, Any]  # the values of assets/exam.js and assets/figures.js


def build_exam(
    examiner: Examiner, engine: Engine, model: OneAtATime, settings: Settings, tab: gr.Tab, light: dict[str, Any]
) -> Route:
    """Lay the tab out where it is called; the address of the reports, to be served beside the page."""
    house = House(examiner, engine, model)
    with gr.Column(elem_classes="omni-scroller"), gr.Column(elem_classes="omni-sheet", elem_id="omni-examination"):
        exam = element("exam", UNKNOWN, how=HOW)
        figures = element("figures", NOTHING, engine=engine.name)

    def may_start(request: gr.Request) -> bool:
        return is_allowed(settings.exam_start, settings, request)

    def look(request: gr.Request) -> Shown:
        return house.look(request.session_hash, may_start(request))

    def sit(event: gr.EventData, request: gr.Request) -> Iterator[Shown]:
        yield from house.sit(request.session_hash, bool(event.anew), may_start(request))

    def halt(request: gr.Request) -> None:
        house.examining.end(request.session_hash)

    tab.select(look, None, [exam, figures], **light)
    exam.sit(sit, None, [exam, figures], **{**light, "concurrency_id": "exam"})
    exam.halt(halt, None, None, **light)
    return Route(ADDRESS, house.report)


class House:
    """What the tab does for its visitors. State: in ``examining``, the exam that is being sat."""

    def __init__(self, examiner: Examiner, engine: Engine, model: OneAtATime):
        self.examiner, self.engine = examiner, engine
        self.examining = Examining(engine, model, examiner)

    def look(self, visitor: str, may: bool) -> Shown:
        """The tab as it stands, for one who ``may`` start an exam or not; one of the visitor's own shows itself."""
        if self.examining.visitor == visitor:
            return AS_IT_IS, AS_IT_IS
        return self._standing(TAKEN if self.examining.visitor else "", may)

    def sit(self, visitor: str, anew: bool, may: bool) -> Iterator[Shown]:
        """The tab while an exam is sat, and at its end; as it stands for a visitor who may not start one."""
        if not may:
            yield self.look(visitor, may)
            return
        failed = ""
        try:
            prospect = self.examiner.prospect(self.engine)
            if prospect.lacks:
                raise OmniError(prospect.lacks)
            answered, pace, part = 0 if anew else prospect.answered, None, ""
            for standing, seconds in self.examining.sit(visitor, anew):
                complete = False
                if standing is not None:
                    answered, part, complete = standing.answered, standing.part, standing.complete
                    pace = seconds or pace
                yield (
                    {
                        "state": "running",
                        "sentence": "",
                        "answered": answered,
                        "questions": prospect.questions,
                        "part": part,
                        "left": pace and pace * (prospect.questions - answered),
                    },
                    self._figures(prospect.name, prospect.skipped) if complete else AS_IT_IS,
                )
        except Exception as error:
            failed = sentence_of(error)
        yield self._standing(failed, may=True)

    async def report(self, request: Request) -> Response:
        """The page of a stored report, which may do nothing but show itself: a model's words stand in it."""
        path = self.examiner.page(request.path_params["name"])
        if path is None:
            return PlainTextResponse("There is no such report.", 404)
        return FileResponse(path, media_type="text/html", headers={"Content-Security-Policy": ALONE})

    def _standing(self, sentence: str, may: bool) -> Shown:
        """The tab while no exam of the visitor is sat, with a sentence about what went wrong."""
        try:
            prospect = self.examiner.prospect(self.engine)
        except Exception as error:
            return {"state": "lacking", "sentence": sentence_of(error)}, self._figures("", {})
        if prospect.lacks:
            return {"state": "lacking", "sentence": prospect.lacks}, self._figures("", {})
        told = {"answered": prospect.answered, "questions": prospect.questions, "may": may}
        differences = [asdict(one) for one in self.examiner.differences(prospect.name)]
        figures = self._figures(prospect.name, prospect.skipped) | {"differences": differences}
        return {"state": "ready", "sentence": sentence, **told}, figures

    def _figures(self, name: str, skipped: dict[str, str]) -> dict[str, Any]:
        """Without differences, which take long to draw and wait for the end of an exam."""
        return NOTHING | {"name": name, "skipped": skipped, "reports": [asdict(one) for one in self.examiner.reports()]}
