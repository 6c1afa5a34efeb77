"""Live on the shipped model: a spoken question is understood and answered aloud, and its own echo does not stop it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from browsing import PATIENCE, launch, red, visit
from playwright.sync_api import Page, expect
from speaking import microphone_file
from test_live import TURN, answered, mood, start

from omni.engines.primer import WEIGHTS
from omni.primer.shipping import FILE

pytestmark = [
    pytest.mark.parametrize("server", ["primer"], indirect=True),
    pytest.mark.skipif(not (WEIGHTS / FILE).exists(), reason="no weights are shipped yet"),
]

# The microphone hears what the page plays: half as loud, a tenth of a second late, and past the browser's own
# cancellation, which takes place where a microphone is opened.
LOOPBACK = """() => {
    const mix = new AudioContext();
    const heard = mix.createMediaStreamDestination();
    const meter = new AnalyserNode(mix);
    window.echo = 0;
    const connect = AudioNode.prototype.connect;
    AudioNode.prototype.connect = function (to, ...more) {
        if (to === this.context.destination && this.context !== mix) {
            const away = this.context.createMediaStreamDestination();
            connect.call(this, away);
            const late = new DelayNode(mix, { delayTime: 0.1 });
            const faint = new GainNode(mix, { gain: 0.5 });
            for (const [one, next] of [[mix.createMediaStreamSource(away.stream), late], [late, faint], [faint, heard], [faint, meter]])
                connect.call(one, next);
        }
        return connect.call(this, to, ...more);
    };
    const samples = new Float32Array(meter.fftSize);
    setInterval(() => {
        meter.getFloatTimeDomainData(samples);
        window.echo = Math.max(window.echo, Math.sqrt(samples.reduce((sum, one) => sum + one * one, 0) / samples.length));
    }, 20);
    const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    navigator.mediaDevices.getUserMedia = async (wanted) => {
        connect.call(mix.createMediaStreamSource(await open(wanted)), heard);
        return heard.stream;
    };
}"""  # noqa: E501


@pytest.fixture
def talking(request: pytest.FixtureRequest, driver, server, view: dict, tmp_path: Path) -> Iterator[Page]:
    """The live tab in a browser whose microphone says what the parameter tells."""
    sound = microphone_file(tmp_path / "said.wav", 60.0, *request.param)
    browser = launch(driver, f"{sound}%noloop", red(tmp_path / "red.y4m"))
    for page in visit(browser, server.address, view):
        page.get_by_role("tab", name="Live").click()
        page.wait_for_selector(".omni-go")
        yield page
    browser.close()


@pytest.mark.parametrize("talking", [[("request", 2.0)]], indirect=True)
def test_a_spoken_request_is_answered_aloud_and_with_a_picture(talking: Page):
    start(talking)
    talking.wait_for_function("Number(document.querySelector('.omni-live').dataset.loudest) > 0.05")
    answered(talking)
    expect(talking.locator(f"{TURN} .omni-said")).to_contain_text(re.compile("draw .* on blue"))  # what, it may mishear
    talking.wait_for_function("document.querySelector('#omni-live article img').naturalWidth > 0")
    expect(talking.locator(f"{TURN} [title='Play the reply again']")).to_be_visible()
    talking.get_by_role("tab", name="Inside").click()  # which shows a live reply as it does one in the chat
    talking.wait_for_selector(".omni-strip i[data-kind=image]")
    expect(talking.locator(".omni-waterfall")).to_contain_text("Picture")


@pytest.mark.parametrize("talking", [[("question", 2.0)]], indirect=True)
def test_the_echo_of_its_own_voice_does_not_interrupt_it(talking: Page):
    talking.evaluate(LOOPBACK)
    start(talking)
    mood(talking, "speaking")
    answered(talking)
    mood(talking, "listening")
    assert talking.evaluate("window.echo") > 0.03  # it was there to be heard
    talking.wait_for_timeout(1500)  # nothing may come of it
    expect(talking.locator(TURN)).to_have_count(1)
    expect(talking.locator(f"{TURN} .omni-stopped")).to_have_count(0)


OVER = [  # a request over the reply to a question, tried again where the reply came too late, or was over too soon
    ("question", 2.0), ("request", 4.4), ("question", 14.0), ("request", 16.6), ("question", 26.0), ("request", 28.8),
]  # fmt: skip


@pytest.mark.parametrize("talking", [OVER], indirect=True)
def test_a_visitor_is_heard_over_the_echo(talking: Page):
    talking.evaluate(LOOPBACK)
    start(talking)
    expect(talking.locator(f"{TURN} .omni-stopped").first).to_be_attached(timeout=2 * PATIENCE)
    talking.wait_for_selector(f"{TURN}:has(.omni-stopped) + article:not(.omni-growing)")
