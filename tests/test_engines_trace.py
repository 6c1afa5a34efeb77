"""Tokens wait for their experts and come out in the order in which they were made."""

from __future__ import annotations

import numpy as np

from omni.engines.trace import Made, Trace

POOLS = {"thinker": (2, 1, 8), "talker": (1, 2, 4)}
WORD, FRAME = Made("thinker", False, "text", "cat"), Made("talker", False, "speech")


def passed(trace: Trace, pool: str, *experts: int) -> None:
    """Tokens of ``pool`` went through all of its layers, each to one expert in all."""
    layers, k, _ = POOLS[pool]
    trace.arrive(pool, np.array([[[expert] * k] * layers for expert in experts], np.int16))


def told(routed) -> list:
    return [(one.pool, one.read, one.kinds, one.pieces, one.experts[:, 0, 0].tolist()) for one in routed]


def test_a_token_comes_out_when_its_experts_are_known():
    trace = Trace(POOLS)
    trace.expect([WORD])
    assert trace.take() == ()
    passed(trace, "thinker", 5)
    assert told(trace.take()) == [("thinker", False, ("text",), ("cat",), [5])]
    assert trace.take() == ()


def test_what_was_read_stands_apart_from_what_was_made():
    trace = Trace(POOLS)
    trace.expect([Made("thinker", True, "image"), Made("thinker", True, "text", "what"), WORD])
    passed(trace, "thinker", 1, 2, 3)
    [read, made] = trace.take()
    assert (read.read, read.kinds, made.read, made.kinds) == (True, ("image", "text"), False, ("text",))
    assert read.experts.shape == (2, 2, 1)
    assert read.of == 8


def test_two_pools_keep_the_order_in_which_their_tokens_were_made():
    trace = Trace(POOLS)
    trace.expect([WORD, FRAME, WORD])
    passed(trace, "thinker", 1, 2)
    assert told(trace.take()) == [("thinker", False, ("text",), ("cat",), [1])]  # the frame is not through yet
    passed(trace, "talker", 3)
    assert [one[0] for one in told(trace.take())] == ["talker", "thinker"]


def test_what_nothing_came_after_went_to_no_expert():
    trace = Trace(POOLS)
    trace.expect([WORD, FRAME])
    passed(trace, "thinker", 1)
    [word, frame] = trace.rest()
    assert word.experts.tolist() == [[[1], [1]]]
    assert frame.experts.tolist() == [[[-1, -1]]]
    assert trace.rest() == ()
