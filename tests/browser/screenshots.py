"""Pictures of every tab in every state, wide and narrow, light and dark: ``make screenshots``.

They are for looking at; those that the README shows go to ``examples/`` with ``--publish``, and the icon and the social
card of the page, which shows the first of them, to its assets.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from browsing import FLAGS, find_browser, launch, playwright, still, visit
from PIL import Image
from processes import REPOSITORY, running
from speaking import microphone_file
from test_chat import ask
from test_check import checked, finished
from test_keeping import more
from test_live import answered, mood, start

from omni.ui.head import ABOUT, CARD, CARD_SIZE, ICON, NAME

EXAMPLES = REPOSITORY / "examples"
VIEWS = ((1440, 900), (390, 844))
SAID = [("question", 2.0)]
PUBLISHED = {  # the wide, light ones
    "chat-seen": "screenshot", "live-speaking": "live", "inside-reply": "inside", "check-report": "check",
    "exam-stored": "exam",
}  # fmt: skip
ASKED = {  # in the chat, after a drawing, with a picture attached to the first
    "chat-seen": "what do you see",
    "chat-sounded": "what does an owl sound like",
    "chat-told": "tell me a story about a fox and a bee",
    "chat-filmed": "make a clip where a bee bounces on blue",
}
Page = playwright.Page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=REPOSITORY / "build" / "screenshots")
    parser.add_argument("--publish", action="store_true", help="put the README's pictures into examples/")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name, playwright.sync_playwright() as driver:
        place = Path(name)
        serve = [sys.executable, str(REPOSITORY / "tests" / "serve.py"), "primer"]
        log, paths = place / "server.log", {"PYTHONPATH": str(REPOSITORY)}
        with running(lambda port: [*serve, str(port), str(place / "data")], log, **paths) as address:
            for width, height in VIEWS:
                for scheme in ("light", "dark"):
                    sound, camera = (
                        microphone_file(place / "said.wav", 60.0, *SAID),
                        still(place / "camera.y4m", shown()),
                    )
                    browser = launch(driver, f"{sound}%noloop", camera)  # whose microphone speaks once
                    for page in visit(browser, address, {"width": width, "height": height}, color_scheme=scheme):
                        take(page, arguments.out, f"{width}-{scheme}")
                    browser.close()
    if arguments.publish:
        for state, picture in PUBLISHED.items():
            shutil.copy(arguments.out / f"{state}-1440-light.png", EXAMPLES / f"{picture}.png")
        with playwright.sync_playwright() as driver:
            draw_card(driver, EXAMPLES / "screenshot.png")


def shown() -> Image.Image:
    """What the camera sees: one of the examples, with its background to both sides."""
    with Image.open(EXAMPLES / "scene.png") as scene:
        scene = scene.convert("RGB").resize((480, 480))
    view = Image.new("RGB", (640, 480), scene.getpixel((0, 0)))
    view.paste(scene, (80, 0))
    return view


def draw_card(driver: playwright.Playwright, seen: Path) -> None:
    """The icon and the social card, with the picture ``seen`` on it."""
    browser = driver.chromium.launch(executable_path=find_browser(driver), args=[*FLAGS])
    page = browser.new_page(viewport={"width": CARD_SIZE[0], "height": 256 + CARD_SIZE[1]})
    page.goto(Path(__file__).with_name("card.html").as_uri())
    page.evaluate(
        """([name, about, seen]) => {
          document.querySelector("h1").textContent = name;
          document.querySelector("p").textContent = about;
          const picture = document.querySelector("img");
          picture.src = seen;
          return picture.decode();
        }""",
        [NAME, ABOUT, seen.as_uri()],
    )
    page.locator("#icon").screenshot(path=ICON, omit_background=True)
    page.locator("#card").screenshot(path=CARD)
    browser.close()


def take(page: Page, out: Path, view: str) -> None:
    """One picture of each state."""
    for states in (engines, chat, inside, live, check, exam, kept):
        for state in states(page):
            page.wait_for_timeout(400)  # for what moves
            page.screenshot(path=out / f"{state}-{view}.png")
            print(state, view)


def engines(page: Page) -> Iterator[str]:
    page.locator(".omni-title > button").click()
    page.wait_for_selector(".omni-lineup section")
    yield "engines"
    page.keyboard.press("Escape")


def chat(page: Page) -> Iterator[str]:
    yield "chat-welcome"
    ask(page, "draw a cat left of a red ball on green")
    finished(page, 1)
    yield "chat-drawn"
    page.set_input_files("#omni-composer > input[type=file]", EXAMPLES / "scene.png")
    page.wait_for_selector(".omni-chip")
    yield "chat-attached"
    for number, (state, words) in enumerate(ASKED.items(), 2):
        ask(page, words)
        if state == "chat-told":
            page.wait_for_selector("article:last-of-type img")
            yield "chat-growing"
        finished(page, number)
        yield state
    yield from changed(page)
    page.set_input_files(
        "#omni-composer > input[type=file]", {"name": "a.png", "mimeType": "", "buffer": b"no picture"}
    )
    page.wait_for_selector(".omni-status[data-state=failed]")
    yield "chat-refused"


def changed(page: Page) -> Iterator[str]:
    """The last question in other words, and what else can be done with a reply."""
    page.locator("article").nth(-2).hover()
    page.locator("[title=Edit]").last.click()
    page.locator(".omni-edit textarea").fill("make a clip where a dog bounces on pink")
    yield "chat-editing"
    page.keyboard.press("Enter")
    page.wait_for_selector(".omni-busy")
    finished(page, len(ASKED) + 1)
    page.click("[title='Try again as …']")
    yield "chat-menu"
    page.keyboard.press("Escape")


def inside(page: Page) -> Iterator[str]:
    page.get_by_role("tab", name="Inside").click()
    page.wait_for_selector(".omni-strip i")
    yield "inside-reply"


def live(page: Page) -> Iterator[str]:
    page.get_by_role("tab", name="Live").click()
    page.wait_for_selector(".omni-go")
    yield "live-idle"
    page.click("[title='Turn the camera on']")
    start(page)
    yield "live-listening"
    mood(page, "speaking")
    yield "live-speaking"
    answered(page)
    yield "live-answered"


def check(page: Page) -> Iterator[str]:
    made = page.locator("article a[download]").first.get_attribute("href").partition("file=")[2]
    page.get_by_role("tab", name="Check a file").click()
    yield "check-empty"
    checked(page, Path(unquote(made)))
    yield "check-report"


def exam(page: Page) -> Iterator[str]:
    page.get_by_role("tab", name="Exam").click()
    page.wait_for_selector(".omni-marks li")
    yield "exam-stored"


def kept(page: Page) -> Iterator[str]:
    """What the sidebar has, and what waits for whoever comes back."""
    page.get_by_role("tab", name="Chat").click()
    more(page)
    yield "chat-more"
    page.locator("#omni-more .toggle-button").click()
    page.click("#omni-fresh")
    page.wait_for_selector(".omni-recent li")
    yield "chat-again"


if __name__ == "__main__":
    main()
