import io
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from mirip.data import decoder_process, decoding
from mirip.data.decoder_process import IsolatedImage
from mirip.data.decoding import decode_image, decoded
from mirip.errors import ImageError


def _tiff(seed: int = 0, side: int = 60) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(_noise(seed, side)).save(buffer, "TIFF", compression="tiff_lzw")
    return buffer.getvalue()


def _noise(seed: int = 0, side: int = 60) -> np.ndarray:
    return np.random.default_rng(seed).integers(256, size=(side, side, 3), dtype=np.uint8)


def test_the_process_stays_for_the_next_file() -> None:
    ids = set()
    for _ in range(3):
        with IsolatedImage(_tiff()) as image:
            ids.add(image._process._popen.pid)
            np.testing.assert_array_equal(image.decode().pixels, _noise())
    assert len(ids) == 1


def test_threads_get_the_pixels_of_their_own_files() -> None:
    def decode(seed: int) -> np.ndarray:
        return decode_image(_tiff(seed)).pixels

    with ThreadPoolExecutor(3) as pool:
        for seed, pixels in enumerate(pool.map(decode, range(24))):
            np.testing.assert_array_equal(pixels, _noise(seed))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_crash_of_the_decoder_is_an_error_of_one_file(number: signal.Signals) -> None:
    with IsolatedImage(_tiff()) as image:
        os.kill(image._process._popen.pid, number)
        with pytest.raises(ImageError, match="is damaged") as caught:
            image.decode()
    assert caught.value.kind == "truncated"
    np.testing.assert_array_equal(decode_image(_tiff()).pixels, _noise())


def test_a_decoder_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder_process, "TIME_LIMIT_S", 0.3)
    with IsolatedImage(_tiff()) as image:
        os.kill(image._process._popen.pid, signal.SIGSTOP)
        with pytest.raises(ImageError, match=r"took more than 0\.3 s to decode"):
            image.decode()
    monkeypatch.undo()
    np.testing.assert_array_equal(decode_image(_tiff()).pixels, _noise())


def test_a_stop_half_way_leaves_nothing_for_the_next_file() -> None:
    with pytest.raises(KeyboardInterrupt), IsolatedImage(_tiff(1)):
        raise KeyboardInterrupt
    np.testing.assert_array_equal(decode_image(_tiff(2)).pixels, _noise(2))


def test_a_bug_shows_its_traceback() -> None:
    process = decoder_process._take()
    try:
        with pytest.raises(RuntimeError, match="AssertionError"):
            process.ask(b"", 10)  # pixels of no file
    finally:
        process.stop()


def test_no_process_is_left_behind_and_a_fork_has_its_own() -> None:
    """Run in an interpreter of its own, whose end is what is looked at."""
    program = """
import io, os, sys
import numpy as np
from PIL import Image
from mirip.data.decoder_process import IsolatedImage
buffer = io.BytesIO()
Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(buffer, "TIFF")

def process_of_one_file():
    with IsolatedImage(buffer.getvalue()) as image:
        assert image.decode().pixels.shape == (8, 8, 3)
        return image._process._popen.pid

mine = process_of_one_file()
if (child := os.fork()) == 0:
    assert process_of_one_file() != mine
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
assert process_of_one_file() == mine
print(mine)
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)


def test_images_in_flight_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of files of 57,600 bytes in memory, two fit into 130,000; a larger one waits until it is alone, and goes then."""
    monkeypatch.setattr(decoding, "_IN_FLIGHT", decoding._InFlight(130_000))
    files = {side: _png(side) for side in (60, 100)}
    most, now, lock = [0], [0], threading.Lock()

    def hold(side: int) -> None:
        with decoded(files[side]) as image:
            n_bytes = image.pixels.size // 3 * 16
            with lock:
                now[0] += n_bytes
                most[0] = max(most[0], now[0])
                assert now[0] <= 130_000 or now[0] == n_bytes
            threading.Event().wait(0.005)
            with lock:
                now[0] -= n_bytes

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(hold, [60] * 12 + [100] + [60] * 12))
    assert most[0] == 160_000


def test_a_refused_image_gives_its_share_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_IN_FLIGHT", decoding._InFlight(130_000))
    for _ in range(4):
        with pytest.raises(ImageError, match="cut off"):
            decode_image(_png(60)[:5000])
    assert decode_image(_png(60)).pixels.shape == (60, 60, 3)


def _png(side: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(_noise(0, side)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["JPEG", "PNG", "BMP", "TIFF", "JPEG2000"])
def test_decoding_takes_no_more_memory_than_it_reserves(name: str) -> None:
    """Run in an interpreter of its own, whose peak is what is looked at."""
    program = """
import io, resource, sys
import numpy as np
from PIL import Image
from mirip.data import decoder_process, decoding
from mirip.data.formats import FORMATS

def peak(pid):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024

coarse = np.random.default_rng(0).integers(256, size=(60, 40, 3), dtype=np.uint8)
buffer = io.BytesIO()
Image.fromarray(coarse[:8, :8]).save(buffer, sys.argv[1])
decoding.decode_image(buffer.getvalue())  # libraries are loaded, the process is there
children = [process._popen.pid for process in decoder_process._idle]
before = peak("self") + sum(peak(child) for child in children)
data = sys.stdin.buffer.read()
kind = decoder_process.IsolatedImage if children else decoding.OpenedImage
with kind(data) as image:
    reserved = image.n_bytes
    image.decode()
taken = peak("self") + sum(peak(child) for child in children) - before - 2 * len(data)
print(taken, reserved)
"""
    buffer = io.BytesIO()
    coarse = Image.fromarray(_noise(0, 60)).resize((3000, 3000))
    coarse.save(buffer, name)
    done = subprocess.run(
        [sys.executable, "-c", program, name], input=buffer.getvalue(), stdout=subprocess.PIPE, check=True
    )
    taken, reserved = map(int, done.stdout.split())
    assert 0.2 * reserved < taken < 1.1 * reserved
