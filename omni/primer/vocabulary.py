"""One vocabulary for words, marks, pictures and sound, laid out so that each modality is one range of ids.

    0 .. 2047      text: byte-level BPE
    2048 .. 2111   marks: roles, openings, voices
    2112 .. 6486   visual: FSQ codes of pictures and frames
    6487 .. 7486   audio: FSQ codes of 20 ms
    7487           the end of a stretch of audio

Text and marks are predicted together, audio together with its end: what may come next is always one range.
"""

from __future__ import annotations

TEXT_CODES = 2048
MARK_CODES = 64
VISUAL_CODES = 4375
AUDIO_CODES = 1000
SPEAKERS = ("ada", "ben")

MARKS = (
    "<pad>", "<begin>", "<user>", "<assistant>", "<end>", "<hear>", "<write>", "<speak>",
    "<image>", "<video>", "<film>", "<audio>", *(f"<voice:{name}>" for name in SPEAKERS),
)  # fmt: skip
_ID = {mark: TEXT_CODES + index for index, mark in enumerate(MARKS)}
PAD, BEGIN, USER, ASSISTANT, END = (_ID[mark] for mark in MARKS[:5])
HEAR = _ID["<hear>"]  # what follows is a transcript of the sound that the user sent
WRITE, SPEAK = _ID["<write>"], _ID["<speak>"]  # the reply is written, or spoken word by word
IMAGE, VIDEO = _ID["<image>"], _ID["<video>"]  # 64 visual codes; a clip without its sound
FILM = _ID["<film>"]  # a clip with its sound, frame by frame
AUDIO = _ID["<audio>"]  # audio codes up to AUDIO_END
VOICE = {name: _ID[f"<voice:{name}>"] for name in SPEAKERS}

VISUAL_START = TEXT_CODES + MARK_CODES
AUDIO_START = VISUAL_START + VISUAL_CODES
AUDIO_END = AUDIO_START + AUDIO_CODES
SIZE = AUDIO_END + 1

GROUPS = {  # what is predicted together
    "text": slice(0, VISUAL_START),
    "visual": slice(VISUAL_START, AUDIO_START),
    "audio": slice(AUDIO_START, SIZE),
}


def modality(token: int) -> str:
    """The group that an id belongs to: "text" (marks too), "visual" or "audio"."""
    return "text" if token < VISUAL_START else "visual" if token < AUDIO_START else "audio"
