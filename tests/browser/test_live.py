"""A visitor talks with the page hands free: the microphone says what stands in examples/, the camera sees red."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from browsing import PATIENCE, launch, red, visit
from playwright.sync_api import Page, expect
from speaking import microphone_file

VIEWS = [{"width": 1440, "height": 900}, {"width": 390, "height": 844}]
TURN = "#omni-live article"
ONCE = [("question", 2.0)]
OVER = [("question", 2.0), ("request", 5.0)]  # the second falls into the reply to the first, which sounds for 2 s


@pytest.fixture
def said(request: pytest.FixtureRequest) -> list[tuple[str, float]]:
    """What the microphone says and when, in seconds from Start; parametrise it for something else."""
    return getattr(request, "param", ONCE)


@pytest.fixture
def page(driver, server, view: dict, said, tmp_path: Path) -> Iterator[Page]:
    """The live tab in a browser of its own, whose microphone speaks once it is opened."""
    sound = microphone_file(tmp_path / "said.wav", 60.0, *said)
    browser = launch(driver, f"{sound}%noloop", red(tmp_path / "red.y4m"))
    for page in visit(browser, server.address, view):
        page.get_by_role("tab", name="Live").click()
        page.wait_for_selector(".omni-go")
        yield page
    browser.close()


def start(page: Page) -> None:
    page.click(".omni-go")
    mood(page, "listening", "watching", "ready")


def mood(page: Page, *moods: str) -> None:
    page.wait_for_selector(",".join(f".omni-live[data-mood={one}]" for one in moods))


def answered(page: Page, count: int = 1) -> None:
    expect(page.locator(f"{TURN}:not(.omni-growing)")).to_have_count(count, timeout=PATIENCE)


@pytest.mark.parametrize("view", VIEWS, indirect=True)
def test_what_is_said_is_answered_aloud_and_written_down(page: Page, view: dict):
    start(page)
    for step in ("hearing", "speaking"):  # it thinks too briefly to be caught at it
        mood(page, step)
    page.wait_for_function("Number(document.querySelector('.omni-live').dataset.loudest) > 0.1")
    answered(page)
    expect(page.locator(f"{TURN} .omni-said")).to_contain_text("a hum")
    expect(page.locator(f"{TURN} .omni-parts")).to_contain_text("a sound of")
    expect(page.locator(f"{TURN} summary")).to_have_text(re.compile(r"answered after \d\.\d\d s"))
    mood(page, "listening")
    expect(page.locator(".omni-left")).to_have_text(re.compile("9:"))
    assert page.evaluate("document.documentElement.scrollWidth") <= view["width"]
    for control in (".omni-go", "[title='Mute the microphone']", "[title='Devices and settings']"):
        box = page.locator(control).bounding_box()
        assert box["y"] + box["height"] <= view["height"] and box["x"] + box["width"] <= view["width"]


def test_the_model_sees_what_the_camera_shows(page: Page):
    page.click("[title='Turn the camera on']")
    page.wait_for_selector(".omni-live[data-camera=true]")
    start(page)
    answered(page)
    expect(page.locator(".omni-saw img").first).to_be_visible()
    reply = page.locator(f"{TURN} .omni-parts").inner_text()
    red, green, blue = map(int, re.search(r"a picture of (\d+) (\d+) (\d+)", reply).groups())
    assert red > 190 and green < 60 and blue < 60
    page.click("[title='Turn the camera off']")
    expect(page.locator(".omni-sight")).not_to_be_visible()


@pytest.mark.parametrize("said", [OVER], indirect=True)
def test_speech_over_the_reply_silences_it_and_is_answered(page: Page):
    page.evaluate("""() => {
        window.moods = [];
        new MutationObserver(() => window.moods.push([document.querySelector(".omni-live").dataset.mood,
            document.querySelector(".omni-live").dataset.playing])).observe(
            document.querySelector(".omni-live"), { attributes: true });
    }""")
    start(page)
    answered(page, 2)
    expect(page.locator(f"{TURN} .omni-stopped")).to_have_text("Interrupted")
    moods = page.evaluate("window.moods")
    hearing = moods.index(["hearing", "false"], moods.index(["speaking", "true"]))
    assert ["speaking", "true"] not in moods[hearing : hearing + 3]


@pytest.mark.parametrize("said", [[("question", 2.0), ("request", 12.0)]], indirect=True)
def test_a_muted_microphone_is_not_heard(page: Page):
    start(page)
    page.click("[title='Mute the microphone']")
    mood(page, "muted")
    expect(page.locator("[title='Unmute the microphone']")).to_have_attribute("aria-pressed", "true")
    page.wait_for_timeout(5000)  # the first is said meanwhile; there is nothing to see of what is not heard
    page.click("[title='Unmute the microphone']")
    answered(page)
    assert "1.3" not in page.locator(f"{TURN} .omni-parts").inner_text()


@pytest.mark.parametrize("said", [[("request", 1.0 + 1.5 * place) for place in range(30)]], indirect=True)
def test_push_to_talk_hears_while_the_space_bar_is_held(page: Page):
    page.click("[title='Devices and settings']")
    page.get_by_label("Push to talk").check()
    page.click("[title='Devices and settings']")
    start(page)
    mood(page, "ready")
    page.wait_for_timeout(3000)  # what is said meanwhile is not heard
    expect(page.locator(TURN)).to_have_count(0)
    page.keyboard.down("Space")
    mood(page, "held")
    page.wait_for_timeout(2500)
    page.keyboard.up("Space")
    answered(page)
    mood(page, "ready")
    page.locator(".omni-orb").dispatch_event("pointerdown")
    mood(page, "held")
    page.wait_for_timeout(2000)
    page.locator(".omni-orb").dispatch_event("pointerup")
    answered(page, 2)


def test_an_error_of_the_model_is_a_sentence_and_the_talk_goes_on(page: Page):
    page.click("[title='Devices and settings']")
    page.locator("#omni-live").get_by_label("Voice").select_option("hoarse")
    start(page)
    expect(page.locator(".omni-failed")).to_have_text(
        "The model ran out of memory; try a shorter message.", timeout=PATIENCE
    )
    mood(page, "listening")
    assert "Traceback" not in page.content()


@pytest.mark.parametrize(
    ("error", "sentence"),
    [("NotAllowedError", "does not allow the microphone"), ("NotFoundError", "No microphone was found")],
)
def test_a_missing_microphone_is_said(page: Page, error: str, sentence: str):
    page.evaluate(
        "(name) => { navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('', name)); }", error
    )
    page.click(".omni-go")
    expect(page.locator(".omni-live-notice")).to_contain_text(sentence)
    expect(page.locator(".omni-go")).to_have_text("Start")


def test_a_missing_camera_is_said_and_the_talk_goes_on(page: Page):
    page.evaluate("""() => {
        const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        navigator.mediaDevices.getUserMedia = (wanted) =>
            wanted.video ? Promise.reject(new DOMException("", "NotFoundError")) : open(wanted);
    }""")
    start(page)
    page.click("[title='Turn the camera on']")
    expect(page.locator(".omni-live-notice")).to_contain_text("No camera was found")
    answered(page)


TAKEN = """(kind) => {
    const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    navigator.mediaDevices.getUserMedia = async (wanted) => {
        const stream = await open(wanted);
        if (wanted[kind]) window.taken = () => stream.getTracks().forEach((track) => {
            track.stop();
            track.dispatchEvent(new Event("ended"));
        });
        return stream;
    };
}"""  # what a browser does when its user withdraws a permission


def test_a_microphone_that_is_withdrawn_ends_the_talk_with_a_sentence(page: Page):
    page.evaluate(TAKEN, "audio")
    start(page)
    mood(page, "speaking")
    page.evaluate("window.taken()")
    expect(page.locator(".omni-live-notice")).to_contain_text("The microphone was taken away")
    mood(page, "idle")
    assert page.locator(".omni-live").get_attribute("data-playing") == "false"
    start(page)


def test_a_camera_that_is_withdrawn_is_said_and_the_talk_goes_on(page: Page):
    page.evaluate(TAKEN, "video")
    page.click("[title='Turn the camera on']")
    start(page)
    page.evaluate("window.taken()")
    expect(page.locator(".omni-live-notice")).to_contain_text("The camera was taken away")
    answered(page)


BREAKABLE = """() => {
    const Real = WebSocket;
    window.lines = [];
    window.WebSocket = class extends Real { constructor(...all) { super(...all); window.lines.push(this); } };
    window.cut = () => window.lines.at(-1).close(4000);
}"""


def test_a_line_that_breaks_is_made_anew_and_the_conversation_is_still_there(page: Page):
    page.evaluate(BREAKABLE)
    start(page)
    answered(page)
    page.evaluate("window.cut()")
    mood(page, "lost")
    mood(page, "listening")
    assert page.evaluate("window.lines.length") == 2
    expect(page.locator(".omni-live-notice")).not_to_be_visible()
    page.click(".omni-anew")
    expect(page.locator(TURN)).to_have_count(0)


def test_a_server_that_cannot_be_reached_is_said(page: Page):
    page.evaluate("() => { window.WebSocket = class { constructor() { setTimeout(() => this.onerror()); } }; }")
    page.click(".omni-go")
    expect(page.locator(".omni-live-notice")).to_contain_text("could not be opened")
    mood(page, "idle")


def test_whoever_looks_at_another_tab_is_not_listened_to(page: Page):
    start(page)
    page.get_by_role("tab", name="Chat").click()
    page.get_by_role("tab", name="Live").click()
    mood(page, "idle")
    expect(page.locator(".omni-live-notice")).to_contain_text("ended when you left")


def test_a_tab_that_is_closed_in_mid_reply_leaves_nothing(page: Page, server, browser):
    there = set((server.root / "conversations").iterdir())
    start(page)
    mood(page, "speaking")
    assert set((server.root / "conversations").iterdir()) - there
    page.goto("about:blank")
    while set((server.root / "conversations").iterdir()) - there:
        page.wait_for_timeout(50)


def test_live_and_chat_take_turns_at_the_model(page: Page, browser, server):
    context = browser.new_context()
    other = context.new_page()
    other.goto(server.address)
    other.wait_for_selector(".omni-welcome")
    other.fill("#omni-words textarea", "slow")
    other.press("#omni-words textarea", "Enter")
    other.wait_for_selector("article[data-role=assistant] .omni-words")
    start(page)
    mood(page, "waiting")
    other.click("#omni-stop")
    answered(page)
    context.close()


def test_the_echo_of_the_page_is_cancelled_by_the_browser(page: Page):
    page.evaluate("""() => {
        const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        navigator.mediaDevices.getUserMedia = async (wanted) => (window.opened = await open(wanted));
    }""")
    start(page)
    assert page.evaluate("window.opened.getAudioTracks()[0].getSettings().echoCancellation") is True


@pytest.fixture
def devices(page: Page) -> Callable[[str], list[str]]:
    return lambda name: page.get_by_label(name, exact=True).locator("option").all_inner_texts()


def test_devices_can_be_chosen_and_are_kept(page: Page, devices):
    page.click("[title='Turn the camera on']")
    page.wait_for_selector(".omni-live[data-camera=true]")
    start(page)
    page.click("[title='Devices and settings']")
    expect(page.get_by_label("Camera", exact=True)).to_be_enabled()
    assert len(devices("Camera")) >= 1 and len(devices("Microphone")) >= 2
    page.get_by_label("Microphone", exact=True).select_option(index=1)
    page.get_by_label("Silence that ends a turn").fill("0.9")
    kept = page.evaluate("JSON.parse(localStorage.getItem('omni-live'))")
    assert kept["pause"] == 0.9 and kept["microphone"]
    mood(page, "watching", "hearing", "thinking", "speaking")
