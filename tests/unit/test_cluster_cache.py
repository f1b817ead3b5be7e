"""The cache: names follow contents, nothing half made is ever found, two builders do not meet."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from cluster import cache


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("QUANTBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_fingerprint_follows_contents_names_modes_and_words(tmp_path: Path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.go").write_text("a")
    seen = {cache.fingerprint([source])}
    (source / "a.go").write_text("b")
    seen.add(cache.fingerprint([source]))
    (source / "a.go").rename(source / "c.go")
    seen.add(cache.fingerprint([source]))
    (source / "c.go").chmod(0o755)
    seen.add(cache.fingerprint([source]))
    seen.add(cache.fingerprint([source], "flag"))
    assert len(seen) == 5


def test_fingerprint_ignores_compiled_python_and_the_place_of_the_checkout(tmp_path: Path):
    for checkout in ("one", "two"):
        (tmp_path / checkout / "source").mkdir(parents=True)
        (tmp_path / checkout / "source" / "a.py").write_text("a")
    (tmp_path / "two" / "source" / "__pycache__").mkdir()
    (tmp_path / "two" / "source" / "__pycache__" / "a.pyc").write_text("x")
    assert cache.fingerprint([tmp_path / "one" / "source"]) == cache.fingerprint([tmp_path / "two" / "source"])


def test_a_build_that_fails_leaves_nothing_to_be_found(folder: Path):
    def fail(draft: Path) -> None:
        draft.write_text("half")
        raise RuntimeError("cut off")

    with pytest.raises(RuntimeError):
        cache.obtain("bin", "tool", "0" * 16, fail)
    assert not (folder / "bin" / f"tool-{'0' * 16}").exists()
    made = cache.obtain("bin", "tool", "0" * 16, lambda draft: draft.write_text("whole") and None)
    assert made.read_text() == "whole"


def test_a_cached_file_is_not_made_again_and_an_older_one_goes():
    made = []

    def make(draft: Path) -> None:
        made.append(draft)
        draft.mkdir()

    first = cache.obtain("images", "base", "1" * 16, make)
    assert cache.obtain("images", "base", "1" * 16, make) == first
    assert len(made) == 1
    second = cache.obtain("images", "base", "2" * 16, make)
    assert second.exists()
    assert not first.exists()


def test_things_whose_names_begin_alike_do_not_remove_each_other():
    short = cache.obtain("bin", "kube", "1" * 16, lambda draft: draft.touch())
    longer = cache.obtain("bin", "kube-helper", "1" * 16, lambda draft: draft.touch())
    cache.obtain("bin", "kube", "2" * 16, lambda draft: draft.touch())
    assert not short.exists()
    assert longer.exists()


def test_the_second_of_two_builders_waits_and_takes_what_the_first_made():
    running = threading.Semaphore(1)
    made = []

    def make(draft: Path) -> None:
        assert running.acquire(blocking=False), "two builders at once"
        time.sleep(0.1)
        made.append(draft)
        draft.touch()
        running.release()

    threads = [threading.Thread(target=cache.obtain, args=("bin", "tool", "3" * 16, make)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_a_held_lock_is_announced(tmp_path: Path):
    said = threading.Event()
    with cache.locked(tmp_path / "lock"):
        waiter = threading.Thread(target=lambda: _lock_once(tmp_path / "lock", said))
        waiter.start()
        assert said.wait(5)
    waiter.join(5)
    assert not waiter.is_alive()


def _lock_once(path: Path, said: threading.Event) -> None:
    with cache.locked(path, on_wait=said.set):
        pass
