"""The slab file: what is written is read back, what is broken is refused with a sentence."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from omni.experts import slab as slab_file
from omni.experts.record import PAGE, ExpertShape
from omni.experts.slab import Pool, Slab, SlabError, partial_of
from omni.experts.slab_writer import SlabWriter

POOLS = (
    Pool("thinker", ("thinker.layers.0.mlp.experts", "thinker.layers.1.mlp.experts"), 3, ExpertShape(128, 64)),
    Pool("talker", ("talker.layers.0.mlp.experts",), 2, ExpertShape(64, 64)),
)
KEYS = [(0, layer, expert) for layer in range(2) for expert in range(3)] + [(1, 0, 0), (1, 0, 1)]


def record_of(key: tuple[int, int, int]) -> Tensor:
    """Random bytes, always the same for the same key."""
    generator = torch.Generator().manual_seed(hash(key) % 2**31)
    return torch.randint(256, (POOLS[key[0]].shape.record_bytes,), dtype=torch.uint8, generator=generator)


def opened(path: Path, identity: str = "model", layout: str = "rows", pools=POOLS) -> SlabWriter:
    return SlabWriter(path, identity, layout, pools)


def read(slab: Slab, key: tuple[int, int, int], **options) -> Tensor:
    out = torch.empty(slab.pools[key[0]].shape.record_bytes, dtype=torch.uint8)
    slab.read(*key, out, **options)
    return out


@pytest.fixture
def path(tmp_path) -> Path:
    """A finished slab."""
    path = tmp_path / "experts.slab"
    with opened(path) as writer:
        for key in writer.missing():
            writer.put(*key, record_of(key))
        writer.finish()
    return path


def change(path: Path, at: int, by: int = 1) -> None:
    """Change the byte at ``at``."""
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ by]))


def begun(tmp_path: Path, keys=KEYS[:5], **options) -> Path:
    """The path of a slab whose writing stopped after ``keys``."""
    path = tmp_path / "experts.slab"
    with opened(path, **options) as writer:
        for key in keys:
            writer.put(*key, record_of(key))
    return path


def test_records_are_read_as_they_were_written(path):
    with Slab.open(path, "model") as slab:
        assert (slab.identity, slab.layout, slab.pools) == ("model", "rows", POOLS)
        for key in KEYS:
            assert torch.equal(read(slab, key), record_of(key))
        slab.verify()


def test_records_start_on_pages_and_fill_the_file(path):
    with Slab.open(path) as slab:
        places = [slab.contents.place(*key) for key in KEYS]
    assert [number for number, _, _ in places] == list(range(len(KEYS)))
    assert all(offset % PAGE == 0 for _, offset, _ in places)
    ends = [offset + size for _, offset, size in places]
    assert ends == [offset for _, offset, _ in places[1:]] + [path.stat().st_size]


def test_the_order_of_writing_leaves_no_trace(path, tmp_path):
    other = tmp_path / "backwards.slab"
    with opened(other) as writer:
        for key in reversed(KEYS):
            writer.put(*key, record_of(key))
        writer.finish()
    assert other.read_bytes() == path.read_bytes()


def test_the_checksum_tells_records_apart_and_not_models(path, tmp_path):
    with Slab.open(path) as slab:
        checksum = slab.checksum
    for name, identity, flipped in (("a", "another model", 0), ("b", "model", 1)):
        with opened(tmp_path / name, identity) as writer:
            for key in KEYS:
                record = record_of(key)
                record[7] ^= flipped
                writer.put(*key, record)
            writer.finish()
        with Slab.open(tmp_path / name) as slab:
            assert (slab.checksum == checksum) == (not flipped)


def test_threads_read_side_by_side(path):
    with Slab.open(path) as slab, ThreadPoolExecutor(4) as threads:
        for key, record in zip(KEYS * 8, threads.map(lambda key: read(slab, key), KEYS * 8), strict=True):
            assert torch.equal(record, record_of(key))


def test_a_forked_process_reads_from_the_same_slab(path):
    with Slab.open(path) as slab:
        expected = {key: record_of(key).numpy().tobytes() for key in KEYS}
        child = os.fork()
        if not child:
            same = all(read(slab, key).numpy().tobytes() == record for key, record in expected.items())
            os._exit(0 if same else 1)
        assert read(slab, KEYS[0]).numpy().tobytes() == expected[KEYS[0]]
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_short_reads_are_put_together(path, monkeypatch):
    whole = os.preadv
    monkeypatch.setattr(os, "preadv", lambda file, views, offset: whole(file, [views[0][:1000]], offset))
    with Slab.open(path) as slab:
        assert torch.equal(read(slab, KEYS[3]), record_of(KEYS[3]))


def test_short_writes_are_put_together(path, tmp_path, monkeypatch):
    whole = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, offset: whole(file, data[:1000], offset))
    with opened(tmp_path / "slowly.slab") as writer:
        for key in KEYS:
            writer.put(*key, record_of(key))
        writer.finish()
    assert (tmp_path / "slowly.slab").read_bytes() == path.read_bytes()


def test_reading_ahead_and_reading_unverified_change_nothing(path):
    with Slab.open(path) as slab:
        slab.advise(*KEYS[2])
        assert torch.equal(read(slab, KEYS[2], verify=False), record_of(KEYS[2]))


def test_what_is_no_record_of_the_slab_is_refused(path):
    with Slab.open(path) as slab:
        for key in ((0, 0, 3), (0, 2, 0), (2, 0, 0), (-1, 0, 0), (0, 0, -1)):
            with pytest.raises(IndexError):
                slab.contents.place(*key)
        size = POOLS[0].shape.record_bytes
        for out in (torch.empty(size - 1, dtype=torch.uint8), torch.empty(size), torch.empty(2 * size).byte()[::2]):
            with pytest.raises(ValueError, match="a record is"):
                slab.read(0, 0, 0, out)


def test_nothing_stands_under_the_name_before_all_is_written(tmp_path):
    path = begun(tmp_path)
    assert not path.exists()
    with pytest.raises(SlabError, match="not finished; start it again"):
        Slab.open(path)
    with opened(path) as writer, pytest.raises(ValueError, match="missing"):
        writer.finish()
    assert not path.exists()


def test_an_unfinished_slab_is_taken_up_where_it_stopped(path, tmp_path):
    (tmp_path / "later").mkdir()
    later = begun(tmp_path / "later")
    with opened(later) as writer:
        assert list(writer.missing()) == KEYS[5:]
        assert 0 < writer.written_bytes < writer.total_bytes
        for key in writer.missing():
            writer.put(*key, record_of(key))
        assert writer.written_bytes == writer.total_bytes
        writer.finish()
    assert later.read_bytes() == path.read_bytes()
    assert not partial_of(later).exists()


def test_a_record_that_did_not_reach_the_disk_whole_is_written_again(tmp_path):
    path = begun(tmp_path)
    with opened(path) as writer:
        _, offset, size = writer.contents.place(*KEYS[2])
        _, last, _ = writer.contents.place(*KEYS[4])
    change(partial_of(path), offset + size // 2)
    os.truncate(partial_of(path), last + 100)
    with opened(path) as writer:
        assert list(writer.missing()) == [KEYS[2], *KEYS[4:]]


@pytest.mark.parametrize("other", [{"identity": "another"}, {"layout": "tiles"}, {"pools": POOLS[:1]}])
def test_what_is_left_of_another_conversion_is_begun_anew(tmp_path, other):
    path = begun(tmp_path)
    with opened(path, **other) as writer:
        assert next(writer.missing()) == (0, 0, 0)
        assert not writer.written_bytes


def test_a_partial_file_with_a_damaged_header_is_begun_anew(tmp_path):
    path = begun(tmp_path)
    change(partial_of(path), 40)
    with opened(path) as writer:
        assert list(writer.missing()) == KEYS


def test_a_finished_slab_is_not_written_again(path):
    before = path.stat()
    with opened(path) as writer:
        assert writer.done
        assert not list(writer.missing())
        assert writer.written_bytes == writer.total_bytes
        writer.finish()
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert not partial_of(path).exists()


def test_a_second_writer_waits_and_finds_the_slab_finished(tmp_path, caplog):
    path, waiting = tmp_path / "experts.slab", threading.Event()
    caplog.set_level(logging.INFO)
    caplog.handler.addFilter(lambda line: waiting.set() or True if "waiting" in line.msg else True)

    def second() -> bool:
        with opened(path) as writer:
            return writer.done and not list(writer.missing())

    with ThreadPoolExecutor() as threads, opened(path) as first:
        found = threads.submit(second)
        assert waiting.wait(30)
        for key in KEYS:
            first.put(*key, record_of(key))
        first.finish()
        first.close()
        assert found.result(30)
    assert not partial_of(path).exists()


def test_a_second_writer_takes_up_what_the_first_left(tmp_path, caplog):
    path, waiting = tmp_path / "experts.slab", threading.Event()
    caplog.set_level(logging.INFO)
    caplog.handler.addFilter(lambda line: waiting.set() or True if "waiting" in line.msg else True)

    def second() -> list:
        with opened(path) as writer:
            return list(writer.missing())

    with ThreadPoolExecutor() as threads:
        with opened(path) as first:
            first.put(*KEYS[0], record_of(KEYS[0]))
            missing = threads.submit(second)
            assert waiting.wait(30)
        assert missing.result(30) == KEYS[1:]


def test_a_missing_slab_is_refused(tmp_path):
    with pytest.raises(SlabError, match="There is no expert file .* Convert it first"):
        Slab.open(tmp_path / "none.slab")


def test_a_slab_of_another_model_is_refused(path):
    with pytest.raises(SlabError, match="another checkpoint"):
        Slab.open(path, "another model")


def test_a_file_that_is_no_slab_is_refused(tmp_path):
    for content in (b"", b"omni", b"GGUF" * 2000):
        (tmp_path / "experts.slab").write_bytes(content)
        with pytest.raises(SlabError, match="not an expert file"):
            Slab.open(tmp_path / "experts.slab")


def test_a_slab_of_another_version_is_refused(path, monkeypatch):
    monkeypatch.setattr(slab_file, "VERSION", 2)
    with pytest.raises(SlabError, match="of format 1, and this program reads format 2"):
        Slab.open(path)


@pytest.mark.parametrize("cut", [1, PAGE, 20 * PAGE])
def test_a_truncated_slab_is_refused(path, cut):
    os.truncate(path, path.stat().st_size - cut)
    with pytest.raises(SlabError, match="truncated"):
        Slab.open(path)


@pytest.mark.parametrize("left", [20, 100, PAGE, PAGE + 20])
def test_a_slab_cut_off_in_its_header_is_refused(path, left):
    os.truncate(path, left)
    with pytest.raises(SlabError, match="cut off|not an expert file"):
        Slab.open(path)


def test_a_slab_that_is_too_long_is_refused(path):
    with path.open("ab") as file:
        file.write(bytes(PAGE))
    with pytest.raises(SlabError, match="too long"):
        Slab.open(path)


def test_an_unfinished_slab_under_the_final_name_is_refused(tmp_path):
    path = begun(tmp_path, KEYS)
    shutil.copy(partial_of(path), path)
    with pytest.raises(SlabError, match="never finished"):
        Slab.open(path)


def test_every_changed_byte_of_the_header_and_the_table_is_noticed(path):
    with Slab.open(path) as slab:
        header = slab_file.PREFIX.size + len(slab.contents.header)
        table = slab.contents.table_at, slab.contents.table_at + slab_file.ENTRY.itemsize * len(KEYS)
    for at in (*range(header), *range(*table)):
        change(path, at, 0x10)
        with pytest.raises(SlabError):
            Slab.open(path)
        change(path, at, 0x10)
    Slab.open(path).close()


def test_a_changed_byte_is_found_when_the_record_is_first_read(path):
    with Slab.open(path) as slab:
        _, offset, size = slab.contents.place(*KEYS[4])
        change(path, offset + size - 1)
        assert torch.equal(read(slab, KEYS[3]), record_of(KEYS[3]))
        for _ in range(2):
            with pytest.raises(SlabError, match="expert 1 of thinker.layers.1.mlp.experts, is damaged"):
                read(slab, KEYS[4])
        with pytest.raises(SlabError, match="damaged"):
            slab.verify()


def test_a_record_is_verified_once(path, monkeypatch):
    summed = []
    with Slab.open(path) as slab:
        whole = zlib.crc32
        monkeypatch.setattr(zlib, "crc32", lambda data: summed.append(len(data)) or whole(data))
        for key in (KEYS[0], KEYS[0], KEYS[7], KEYS[0]):
            read(slab, key)
    assert summed == [POOLS[0].shape.record_bytes, POOLS[1].shape.record_bytes]


def test_an_unreadable_page_is_an_error_that_names_the_file(path, monkeypatch):
    def failing(*_):
        raise OSError(errno.EIO, "Input/output error")

    with Slab.open(path) as slab:
        monkeypatch.setattr(os, "preadv", failing)
        with pytest.raises(SlabError, match=f"{path}, expert 2 of .*layers.0.* cannot be read .*disk may be failing"):
            read(slab, KEYS[2])
        with pytest.raises(SlabError, match=f"{path} cannot be read"):
            Slab.open(path)


def test_a_slab_that_shrinks_while_it_is_in_use_is_an_error(path):
    with Slab.open(path) as slab:
        os.truncate(path, path.stat().st_size - PAGE)
        with pytest.raises(SlabError, match="become shorter"):
            read(slab, KEYS[-1])


def test_too_small_a_disk_is_noticed_before_any_record_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1))
    huge = (Pool("thinker", ("layers.0.mlp.experts",), 1000, ExpertShape(2048, 768)),)
    with pytest.raises(SlabError, match=f"The disk is full: 2.7 GB more are needed in {tmp_path}"):
        opened(tmp_path / "experts.slab", pools=huge)
    assert partial_of(tmp_path / "experts.slab").stat().st_size < 2 * PAGE + 1000 * 8
    monkeypatch.undo()
    with opened(tmp_path / "experts.slab") as writer:  # the lock is not kept
        assert list(writer.missing()) == KEYS


def test_a_disk_that_fills_up_leaves_what_is_written_for_later(path, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    later = tmp_path / "later.slab"
    with opened(later) as writer:
        for key in KEYS[:4]:
            writer.put(*key, record_of(key))
        monkeypatch.setattr(os, "pwrite", full)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
        with pytest.raises(SlabError, match=r"The disk is full: 0\.1 GB more .* what is written stays"):
            writer.put(*KEYS[4], record_of(KEYS[4]))
    monkeypatch.undo()
    with opened(later) as writer:
        assert list(writer.missing()) == KEYS[4:]
        for key in writer.missing():
            writer.put(*key, record_of(key))
        writer.finish()
    assert later.read_bytes() == path.read_bytes()


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SlabError, match="cannot be written"):
        opened(tmp_path / "file" / "experts.slab")
