"""The benchmark of the watermark, run on a handful of the test's own media: rows with the right names and counts."""

from __future__ import annotations

import numpy as np
from media_files import hum, photo

from omni.bench import unmarked
from omni.bench.watermark import GOALS, KEY, RATE, Made, Tally, cost, found, sizes
from omni.events import ClipReady
from omni.provenance.marks import SpreadSpectrum


def made() -> Made:
    voices = [hum(seed) for seed in range(3)]
    pixels = photo(256, 256)
    clip = ClipReady(np.stack([np.roll(pixels, 9 * n, axis=0) for n in range(8)]), 4.0, voices[0], RATE)
    return Made([pixels], voices, [clip], {"picture": [(1.0, 1.0), (1.0, 0.02), (3.0, 0.02)]})


def test_every_goal_has_a_row_and_marks_are_found():
    tally, mark = Tally(), SpreadSpectrum(KEY)
    for measure in (found, sizes):
        measure(made(), mark, tally)
    cost(made(), tally)
    rows = {row.name: row for row in tally.rows}
    assert set(GOALS) < set(rows) and len(rows) == len(tally.rows)
    assert not any(rows[name].missed for name in GOALS)
    assert rows["size_64_jpeg75"].value == 0 and rows["week_right"].value == 100  # too small for the grain
    assert (rows["cost_picture"].value, rows["cost_picture"].n) == (1, 2)


def test_a_mark_is_not_seen_where_it_is_not_and_all_kinds_are_looked_at():
    rows = {}
    for kind in unmarked.SHARES:
        unmarked.measure(kind, 20, 7, lambda name, value, unit, goal, better, n: rows.update({name: (value, n)}))
    assert [rows[f"false_{kind}"] for kind in ("picture", "clip", "sound")] == [(0, 2), (0, 1), (0, 17)]
    assert all(1e-6 < rows[f"false_{kind}_smallest_p"][0] <= 1 for kind in unmarked.SHARES)
