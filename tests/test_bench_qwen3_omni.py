"""The benchmark of the true size, run at a tiny one: files, a process for the share, rows."""

import json

import omni_tiny

from omni.bench import qwen3_omni


def test_a_share_is_measured_from_a_written_checkpoint_and_slab(tmp_path):
    config = omni_tiny.tiny_config(omni_tiny.tiny_tokenizer())
    config.architectures = ["Qwen3OmniMoeForConditionalGeneration"]
    config.save_pretrained(tmp_path / "config")
    out = tmp_path / "rows.json"
    qwen3_omni.main(
        ["--config", str(tmp_path / "config"), "--shares", "0.5", "--out", str(out), "--folder", str(tmp_path)]
    )
    rows = {row["name"]: row["value"] for row in json.loads(out.read_text())["rows"]}
    assert set(qwen3_omni.GOALS) < set(rows)
    assert 1 <= rows["first_speech_token"] < 12
    assert all(
        rows[f"{name}_50"] > 0 for name in ("tokens_a_second", "frames_a_second", "peak_mb", "minute_of_sound_s")
    )
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("omni-real")] == []
