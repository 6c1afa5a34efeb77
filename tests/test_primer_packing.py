"""The pack for a machine without voices and font, and a training on one, broken off and gone on with."""

from __future__ import annotations

import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from omni.primer.processing import Tokenizers
from omni.primer.shipping import WEIGHTS
from omni.primer.training import diary, packing, voices, world
from omni.primer.training.__main__ import take_tokenizers
from omni.primer.training.batches import Scribe, pool
from omni.primer.training.budget import load_checkpoint

ROOT = Path(__file__).parent.parent
POOR = """
import sys
from pathlib import Path
from omni.primer.training import fit_model, voices, world
world.FONT = Path("/nowhere")
voices._library_name = lambda: "libnowhere.so"
fit_model.main()
"""
pytestmark = pytest.mark.skipif(
    not world.FONT.exists() or not voices.available(), reason="there is no emoji font, or no espeak-ng"
)


@pytest.fixture(scope="module")
def scribe() -> Scribe:
    return Scribe(Tokenizers.load(WEIGHTS), np.random.default_rng(3))


@pytest.fixture(scope="module")
def groups(scribe: Scribe) -> list:
    return list(islice(packing.voiced(scribe), 60))


@pytest.fixture(scope="module")
def pack(groups: list, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pack") / "pack.npz"
    packing.write_pack(path, groups, packing.fingerprint(WEIGHTS))
    return path


@pytest.fixture
def own_glyphs(monkeypatch: pytest.MonkeyPatch):
    """What a pack is drawn with is forgotten afterwards."""
    monkeypatch.setattr(world, "_given", {})
    yield
    world.glyph_image.cache_clear()
    world._sprite.cache_clear()


def test_what_is_packed_comes_out_as_it_was(groups: list, pack: Path, own_glyphs):
    opened = packing.open_pack(pack, WEIGHTS)
    samples = [sample for group in groups for sample in group]
    for index, sample in enumerate(samples):
        out = opened.sample(index)
        assert out.sequence == sample.sequence
        assert (out.predicted, out.names, out.verdicts) == (sample.predicted, sample.names, sample.verdicts)
        assert out.anchor == sample.anchor
    assert {len(group) for group in groups} == {1, 2}
    assert len(opened.pairs) == sum(len(group) == 2 for group in groups)
    rng = np.random.default_rng(0)
    for count in (1, 2):
        assert opened(rng, count) in groups


def test_without_voices_and_font_the_pack_speaks_and_draws(
    scribe: Scribe, pack: Path, own_glyphs, monkeypatch: pytest.MonkeyPatch
):
    scene = world.random_scene(np.random.default_rng(1))
    drawn = world.draw(scene, None)
    monkeypatch.setattr(voices, "speak", None)
    monkeypatch.setattr(world, "FONT", Path("/nowhere"))
    voiced = packing.open_pack(pack, WEIGHTS)
    assert (world.draw(scene, None) == drawn).all()
    samples = pool(scribe, 20_000, voiced)
    assert sum(len(sample.sequence) for sample in samples) >= 20_000
    assert any(sample.pair for sample in samples)


def test_a_pack_of_other_tokenisers_is_refused(pack: Path, tmp_path: Path, own_glyphs):
    take_tokenizers(tmp_path)
    (tmp_path / "text.json").write_text("{}")
    with pytest.raises(ValueError, match="other tokenisers"):
        packing.open_pack(pack, tmp_path)


def test_a_training_on_a_poor_machine_rests_and_goes_on(pack: Path, tmp_path: Path):
    take_tokenizers(tmp_path)
    command = ["--out", str(tmp_path), "--size", "tiny", "--minutes", "0.3", "--pack", str(pack), "--tokens", "1000"]
    reached = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", POOR, *command, "--stop", "0.03"], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-2000:]
        reached.append(load_checkpoint(tmp_path / "model.checkpoint"))
    assert 0 < reached[0]["step"] < reached[1]["step"]
    assert reached[0]["spent"] < reached[1]["spent"] < 0.3 * 60
    assert diary.entries(tmp_path)[-1]["answers"]
    assert (tmp_path / "model.safetensors").exists()
