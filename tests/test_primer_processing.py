"""Sequences: what stands where."""

import numpy as np
from primer_tiny import tiny_tokenizers

from omni.primer import vocabulary as v
from omni.primer.processing import AUDIO_SPLITS, FRAME_SPAN, FRAMES, Sequence, visual_position
from omni.primer.tokenizers.text import normalise
from omni.primer.tokenizers.video import LATER_CODES


def test_the_ranges_of_the_vocabulary_tile_it():
    stops = [group.stop for group in v.GROUPS.values()]
    assert [group.start for group in v.GROUPS.values()] == [0, *stops[:-1]]
    assert stops[-1] == v.SIZE


def test_a_picture_stands_on_a_grid_and_the_line_goes_on_behind_it():
    sequence = Sequence()
    sequence.image([5] * 64)
    assert len(sequence) == 65
    assert sequence.positions[1] == (1, 1, 1)
    assert sequence.positions[10] == (1, 2, 2)  # code 9: second row, second column
    assert sequence.line == 9


def test_the_codes_of_a_later_frame_stand_in_the_middle_of_what_they_cover():
    assert visual_position(0, 0, side=4) == (0, 0.5, 0.5)
    assert visual_position(0, 15, side=4) == (0, 6.5, 6.5)


def test_a_film_holds_each_frame_and_then_its_share_of_the_sound():
    sequence = Sequence()
    sequence.video([1] * 64, [[2] * LATER_CODES] * (FRAMES - 1), list(range(100)))
    sounds = [token - v.AUDIO_START for token in sequence.ids if v.modality(token) == "audio"]
    assert sounds == list(range(100))
    assert v.modality(sequence.ids[65]) == "audio"
    assert sequence.ids[65 + AUDIO_SPLITS[1]] == v.VISUAL_START + 2
    assert sequence.line == 1 + FRAMES * FRAME_SPAN


def test_an_appended_sequence_moves_along_the_line():
    one, other = Sequence(), Sequence()
    one.extend([1, 2, 3])
    other.image([0] * 64)
    one.append(other)
    assert one.positions[3] == (3, 3, 3)
    assert one.line == 12


def test_every_medium_has_the_promised_number_of_codes():
    tokenizers = tiny_tokenizers()
    pictures = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    assert [len(codes) for codes in tokenizers.encode_images(pictures)] == [64, 64]
    first, later = tokenizers.encode_clips(np.repeat(pictures[None, :1], FRAMES, 1))[0]
    assert len(first) == 64
    assert [len(codes) for codes in later] == [LATER_CODES] * (FRAMES - 1)
    assert [
        len(codes) for codes in tokenizers.encode_sounds([np.zeros(16000, np.float32), np.zeros(500, np.float32)])
    ] == [50, 2]


def test_a_text_is_the_sum_of_its_words():
    text = tiny_tokenizers().text
    assert text.encode("a cat above") == text.encode("a") + text.encode("cat") + text.encode("above")
    assert text.decode(text.encode("Zürich 東京")).strip() == "Zürich 東京"


def test_what_a_user_writes_is_read_in_lower_case_without_marks():
    assert normalise("  What DO you\nsee?! 3+4 = ") == "what do you see 3+4 ="
