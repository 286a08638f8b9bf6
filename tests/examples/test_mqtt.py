"""The example for MQTT, with a real broker."""

from __future__ import annotations

import argparse
import json
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests import ROOT
from tests.machine import PATIENCE

mqtt = pytest.importorskip("paho.mqtt.client", reason="needs paho-mqtt, of the group dev")
MOSQUITTO = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin")


class Broker:
    """A mosquitto that can be stopped and started again, with what it has stored."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._config, self._store = folder / "mosquitto.conf", folder / "mosquitto.db"
        self._config.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence true\n"
                                "autosave_interval 1\nautosave_on_changes true\n"
                                f"persistence_location {folder}/\nuser root\n")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert MOSQUITTO
        self._process = subprocess.Popen([MOSQUITTO, "-c", self._config], stderr=subprocess.DEVNULL)
        for _ in range(PATIENCE * 20):
            with socket.socket() as probe:
                if not probe.connect_ex(("127.0.0.1", self.port)):
                    return
            threading.Event().wait(0.05)
        raise AssertionError("the broker does not start")

    def wait_until_stored(self, topic: str) -> None:
        """Wait until the broker has stored a message, and with it all subscriptions before it."""
        for _ in range(PATIENCE * 20):
            if self._store.exists() and topic.encode() in self._store.read_bytes():
                return
            threading.Event().wait(0.05)
        raise AssertionError(f"{topic} is not stored")

    def freeze(self) -> None:
        """It takes messages no more, and its connections stay open."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait(PATIENCE)
            self._process = None


class Listener:
    """A subscriber to everything, whose session the broker keeps."""

    def __init__(self, port: int) -> None:
        self.messages: list[tuple[str, str, bool]] = []  # topic, content, whether it was retained
        self._changed = threading.Condition()
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="test", clean_session=False)
        self._client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        self._client.on_message = self._receive
        self._client.reconnect_delay_set(0.05, 0.05)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def _receive(self, _client: Any, _data: Any, message: Any) -> None:
        with self._changed:
            self.messages.append((message.topic, message.payload.decode(), message.retain))
            self._changed.notify_all()

    def of(self, topic: str) -> list[str]:
        return [content for name, content, _ in self.messages if name == topic]

    def wait(self, topic: str, content: str, count: int = 1) -> None:
        """Wait until a topic had such a content that often."""
        with self._changed:
            assert self._changed.wait_for(
                lambda: sum(content in found for found in self.of(topic)) >= count, PATIENCE), self.messages

    def publish(self, topic: str, content: str) -> None:
        self._client.publish(topic, content)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    if not MOSQUITTO:
        if os.environ.get("CI"):
            pytest.fail("needs mosquitto, which .ci/run installs")
        pytest.skip("needs mosquitto: apt install mosquitto")
    broker = Broker(tmp_path)
    yield broker
    broker.kill()


def publisher(broker: Broker, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, ROOT / "examples" / "mqtt.py", "--port", str(broker.port), "--node", "Kitchen",
         "--retry", "0.1", *words],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8")


def say(process: subprocess.Popen[str], event: str, label: str, **more: object) -> None:
    assert process.stdin
    process.stdin.write(json.dumps({"event": event, "file": "-", "label": label, **more}) + "\n")
    process.stdin.flush()


def wait_for_line(process: subprocess.Popen[str], text: str) -> None:
    """Read standard error until a line with this text."""
    assert process.stderr
    while text not in (line := process.stderr.readline()):
        assert line, f"no line with {text!r}"


def wait_until_read(process: subprocess.Popen[str]) -> None:
    """Wait until all that was said has been read."""
    assert process.stdin
    process.stdin.write("the last line\n")
    process.stdin.flush()
    wait_for_line(process, "the last line")


STATE = "satexport/kitchen/smoke_detector_smoke_alarm/state"
LABEL = "Smoke detector, smoke alarm"


def test_a_label_is_a_binary_sensor_of_home_assistant(broker: Broker) -> None:
    broker.start()
    listener = Listener(broker.port)
    process = publisher(broker, "--announce", "Dog")
    listener.wait("satexport/kitchen/dog/state", "OFF")
    assert process.stdin
    process.stdin.write("no JSON\n[1]\n")
    say(process, "began", LABEL, score=0.9)
    listener.wait(STATE, "ON")
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (0, "")
    assert err.count("Ignored") == 2
    listener.wait(STATE, "OFF", 2)  # at the end nothing is heard any more
    listener.wait("satexport/kitchen/status", "offline")
    discovery = "homeassistant/binary_sensor/kitchen/smoke_detector_smoke_alarm/config"
    config = json.loads(listener.of(discovery)[0])
    assert config.items() >= {
        "name": LABEL, "unique_id": "satexport_kitchen_smoke_detector_smoke_alarm", "device_class": "sound",
        "state_topic": STATE, "availability_topic": "satexport/kitchen/status"}.items()
    assert json.loads(listener.of(config["json_attributes_topic"])[0])["score"] == 0.9
    assert listener.of(STATE) == ["OFF", "ON", "OFF"]
    assert listener.of("satexport/kitchen/status") == ["online", "offline"]
    listener.close()
    late = Listener(broker.port)  # what is retained, a later subscriber gets at once
    late.wait(STATE, "OFF")
    late.publish("last", "")
    late.wait("last", "")
    assert not late.of("satexport/kitchen/events")
    late.close()


def test_nothing_is_lost_while_the_broker_is_away(broker: Broker) -> None:
    broker.start()
    listener = Listener(broker.port)
    process = publisher(broker)
    say(process, "began", "Dog", number=0)
    listener.wait("satexport/kitchen/dog/state", "ON")
    broker.wait_until_stored("satexport/kitchen/dog/attributes")
    broker.freeze()
    for number in range(1, 25):
        say(process, "ended" if number % 2 else "began", "Dog", number=number)
    wait_until_read(process)
    broker.kill()
    wait_for_line(process, "is gone")
    for number in range(25, 50):
        say(process, "ended" if number % 2 else "began", "Dog", number=number)
    broker.start()
    listener.wait("satexport/kitchen/events", '"number": 49')
    numbers = [json.loads(content)["number"] for content in listener.of("satexport/kitchen/events")]
    assert sorted(set(numbers)) == list(range(50))
    assert numbers == sorted(numbers)
    _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, "Error" in err) == (0, False)
    listener.wait("satexport/kitchen/status", "offline")
    assert listener.of("satexport/kitchen/dog/state")[-1] == "OFF"
    listener.close()


def test_beyond_the_buffer_the_oldest_is_dropped_and_the_loss_is_an_error(broker: Broker) -> None:
    process = publisher(broker, "--buffer", "9")
    for number in range(20):
        say(process, "began" if number == 19 else "ended", "Dog", number=number)
    say(process, "ended", "Cat")
    wait_until_read(process)
    broker.start()
    listener = Listener(broker.port)
    listener.wait("satexport/kitchen/dog/state", "ON")
    _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, "messages were lost" in err) == (1, True)
    listener.wait("satexport/kitchen/status", "offline")
    assert listener.of("satexport/kitchen/dog/state")[-1] == "OFF"
    listener.close()


def test_messages_for_a_broker_that_never_comes_are_an_error(broker: Broker) -> None:
    process = publisher(broker, "--patience", "0.2")
    say(process, "began", "Dog")
    _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, "messages were lost" in err) == (1, True)


def test_what_a_new_broker_must_know_takes_no_place_from_the_reports_that_wait(broker: Broker) -> None:
    process = publisher(broker, "--buffer", "9", "--announce", "Dog")
    for number in range(3):  # of three messages each
        say(process, "ended", "Dog", number=number)
    wait_until_read(process)
    broker.start()
    listener = Listener(broker.port)
    listener.wait("satexport/kitchen/status", "online")
    listener.wait("satexport/kitchen/dog/attributes", '"number": 2')
    _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, "lost" in err) == (0, False)
    listener.close()


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals of POSIX")
def test_ctrl_c_in_a_pipe_loses_nothing_of_what_satexport_still_says(broker: Broker) -> None:
    broker.start()
    listener = Listener(broker.port)
    process = publisher(broker)
    say(process, "began", "Dog")
    listener.wait("satexport/kitchen/dog/state", "ON")
    process.send_signal(signal.SIGINT)  # it reaches satexport as well, which then ends the event
    say(process, "ended", "Dog", end=2.0)
    _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, "Traceback" in err) == (0, False)
    listener.wait("satexport/kitchen/events", '"end": 2.0')
    listener.wait("satexport/kitchen/status", "offline")
    assert listener.of("satexport/kitchen/dog/state") == ["OFF", "ON", "OFF"]
    listener.close()


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals of POSIX")
def test_a_program_that_is_terminated_switches_its_sensors_off(broker: Broker) -> None:
    broker.start()
    listener = Listener(broker.port)
    process = publisher(broker)
    say(process, "began", "Dog")
    listener.wait("satexport/kitchen/dog/state", "ON")
    process.terminate()
    assert process.wait(PATIENCE) == 0  # while its input is open
    listener.wait("satexport/kitchen/dog/state", "OFF", 2)
    listener.wait("satexport/kitchen/status", "offline")
    process.communicate()
    listener.close()


def test_no_report_comes_between_what_is_announced_and_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    example = SimpleNamespace(**runpy.run_path(str(ROOT / "examples" / "mqtt.py")))
    monkeypatch.setattr(mqtt.Client, "loop_start", lambda _: None)  # without a broker
    sensors, others = example.Sensors("kitchen", "homeassistant"), list[bool]()
    publisher = example.Publisher(
        argparse.Namespace(host="localhost", port=1, node="kitchen", buffer=9, retry=1, username=None,
                           tls=False), sensors)

    def lock() -> None:
        others.append(publisher._changed.acquire(blocking=False))
        if others[-1]:
            publisher._changed.release()

    def probe() -> list[Any]:
        """Note whether another thread could change the sensors, or what waits."""
        thread = threading.Thread(target=lock)
        thread.start()
        thread.join()
        return []

    sensors.all_messages = probe
    publisher._connected(None, None, None, SimpleNamespace(is_failure=False), None)
    publisher.send(probe)
    assert others == [False, False]
