"""SIGINT and SIGTERM whenever they come: exit 130 and 143, and nothing half done."""

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from incontext.cli import main
from incontext.cli.outcome import Terminated
from incontext.cli.running.signals import current_signals, handled_signals

ROOT = Path(__file__).parents[4]
pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


def test_the_first_signal_lets_the_picture_in_hand_be_written(place, segmenter, capsys):
    for name in "abcdef":
        place.picture(Path(f"in/{name}.png"))
    begun = []

    def stop(count):
        begun.append(count)
        if len(begun) == 4:  # when the first picture has been put down
            os.kill(os.getpid(), signal.SIGINT)

    segmenter.before_result = staticmethod(stop)
    argv = ["segment", "in", *place.pair, "-o", "out", "--batch", "1"]
    assert main(argv) == 130
    said = capsys.readouterr().err
    assert "stopping after the picture in hand; a second signal stops at once" in said
    assert "interrupted; 4 written, 0 failed, 2 left; go on with --resume" in said
    masks = [f"{name}.png" for name in "abcd"]
    assert [name for name in place.written() if name.endswith("png")] == masks
    assert place.run()["state"] == "interrupted"
    assert main([*argv, "--resume"]) == 0
    assert [record["input"] for record in place.records()] == [f"in/{n}.png" for n in "abcdef"]


def test_the_second_signal_raises_at_once():
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with handled_signals(is_program=False):
        signals, said = current_signals(), []
        signals.wait(said.append)
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.asked == signal.SIGTERM
        assert "a second signal stops at once" in said[0]
        with pytest.raises(Terminated):
            os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Terminated):
            signals.raise_asked()
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


@pytest.mark.parametrize(
    ("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)]
)
def test_a_signal_in_a_callback_of_the_garbage_collector_is_not_lost(number, kind):
    def swallow(phase, _):
        if phase == "start":
            os.kill(os.getpid(), number)

    def collect():
        gc.callbacks.append(swallow)
        try:
            gc.collect()
        finally:
            gc.callbacks.remove(swallow)
        time.sleep(5)

    with handled_signals(is_program=False):
        started = time.monotonic()
        with pytest.raises(kind):
            collect()
        assert time.monotonic() - started < 4


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("seconds", [0.3, 0.6, 0.9, 1.2, 2.0])
def test_no_signal_is_lost_while_things_are_loaded(number, seconds, place):
    place.picture(Path("a.png"))
    argv = [sys.executable, "-m", "incontext", "segment", "a.png", *place.pair, "-o", "out"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(argv, env=environment, stderr=subprocess.PIPE, text=True) as process:
        time.sleep(seconds)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode in (128 + number, -number)
    assert not list(Path().glob("out/*.png"))
    assert "Exception ignored" not in said
