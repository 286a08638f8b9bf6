"""Publish the events of `satexport run --events --json` over MQTT, and announce them to Home Assistant.

    satexport run BUNDLE --mic --events --json | python examples/mqtt.py --host broker.local --node kitchen

Each label becomes a binary sensor, which is on while its sound lasts. Topics, for a node "kitchen":

    homeassistant/binary_sensor/kitchen/LABEL/config    retained: the discovery message
    satexport/kitchen/LABEL/state                       retained: ON or OFF
    satexport/kitchen/LABEL/attributes                  retained: the last report, with score and level
    satexport/kitchen/events                            each report, as satexport prints it
    satexport/kitchen/status                            retained: online or offline (also the last will)

If the broker goes away, messages wait (at most --buffer; then the oldest is dropped and counted; a report is
three messages) and are sent in their order when it is back, each at least once (QoS 1). A crash of this
program loses those that wait. It ends at the end of its input, or at SIGTERM: then the sensors are switched
off. Ctrl-C, which reaches both programs of a pipe, it leaves to the one that writes the reports.
Needs paho-mqtt (pip install 'paho-mqtt>=2.1').
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple, NoReturn

from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion


class Message(NamedTuple):
    """A message, which the broker keeps for later subscribers if it is retained."""

    topic: str
    payload: str
    is_retained: bool = True


class Publisher:
    """Sends messages one by one, each when the broker has acknowledged the one before it."""

    def __init__(self, arguments: argparse.Namespace, sensors: Sensors) -> None:
        self._sensors, self._capacity = sensors, arguments.buffer
        self._announcements: deque[Message] = deque()  # to a broker that knows nothing; they go first
        self._waiting: deque[Message] = deque()
        self._changed = threading.Condition()  # its lock also guards the sensors
        self._acknowledged: set[int] = set()
        self._is_connected = self._is_sending = False
        self.dropped = 0
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"satexport-{arguments.node}",
                                   clean_session=False)
        if arguments.username:
            self._client.username_pw_set(arguments.username, os.environ.get("MQTT_PASSWORD"))
        if arguments.tls:
            self._client.tls_set()
        self._client.will_set(sensors.status_topic, "offline", qos=1, retain=True)
        self._client.reconnect_delay_set(min(1, arguments.retry), arguments.retry)
        self._client.on_connect, self._client.on_disconnect = self._connected, self._disconnected
        self._client.on_publish = self._published
        self._client.connect_async(arguments.host, arguments.port, keepalive=30)
        self._client.loop_start()  # also connects again
        threading.Thread(target=self._deliver, daemon=True).start()

    def send(self, messages: Callable[[], Iterable[Message]]) -> None:
        """Let the messages that a function of the sensors returns wait for their turn."""
        with self._changed:
            for message in messages():
                if len(self._waiting) >= self._capacity:
                    self._waiting.popleft()
                    self.dropped += 1
                self._waiting.append(message)
            self._changed.notify_all()

    def close(self, patience: float) -> int:
        """Wait until all is sent, at most `patience` seconds. Returns how many messages are lost."""
        with self._changed:
            self._changed.wait_for(lambda: not self._next() and not self._is_sending, patience)
            lost = self.dropped + len(self._waiting) + self._is_sending
        self._client.disconnect()
        self._client.loop_stop()
        return lost

    def _next(self) -> deque[Message]:
        """The queue of the next message; empty if none waits."""
        return self._announcements or self._waiting

    def _deliver(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_connected and self._next())
                message = self._next().popleft()
                self._is_sending = True
            mid = self._client.publish(message.topic, message.payload, qos=1, retain=message.is_retained).mid
            with self._changed:  # the client itself sends it again after a reconnect
                while mid not in self._acknowledged:
                    self._changed.wait()
                self._acknowledged.discard(mid)
                self._is_sending = False
                self._changed.notify_all()

    def _connected(self, client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _more: Any) -> None:
        if reason.is_failure:
            print(f"The broker refuses the connection: {reason}", file=sys.stderr, flush=True)
            return
        print("Connected to the broker.", file=sys.stderr, flush=True)
        with self._changed:
            waiting = {message.topic for message in self._waiting}  # they tell it in their turn
            self._announcements = deque(message for message in self._sensors.all_messages()
                                        if message.topic not in waiting)
            self._is_connected = True
            self._changed.notify_all()

    def _disconnected(self, client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _more: Any) -> None:
        if self._is_connected and reason.is_failure:
            print(f"The broker is gone ({reason}); messages wait.", file=sys.stderr, flush=True)
        with self._changed:
            self._is_connected = False

    def _published(self, client: mqtt.Client, _data: Any, mid: int, _reason: Any, _more: Any) -> None:
        with self._changed:
            self._acknowledged.add(mid)
            self._changed.notify_all()


class Sensors:
    """The state of each label, and the messages about it. A publisher calls it with its lock held."""

    def __init__(self, node: str, prefix: str) -> None:
        self._node, self._prefix, self._base = node, prefix, f"satexport/{node}"
        self.status_topic = f"{self._base}/status"
        self._on: dict[str, bool] = {}
        self._status = "online"

    def announce(self, labels: Iterable[str]) -> list[Message]:
        """The messages that make these labels known; those that are known are left out."""
        new = [label for label in labels if label not in self._on]
        self._on |= dict.fromkeys(new, False)
        return [message for label in new for message in self._of(label)]

    def report(self, line: dict[str, Any]) -> list[Message]:
        """The messages about a line of `satexport run --events --json`."""
        messages = [Message(f"{self._base}/events", json.dumps(line), is_retained=False)]
        if line.get("event") not in ("began", "ended"):
            return messages
        label = line["label"]
        messages = self.announce([label]) + messages
        self._on[label] = line["event"] == "began"
        return [*messages, self._state(label), Message(self._topic(label, "attributes"), json.dumps(line))]

    def switch_off(self) -> list[Message]:
        """The messages at the end: nothing is heard any more."""
        on = [label for label, is_on in self._on.items() if is_on]
        self._on |= dict.fromkeys(on, False)
        self._status = "offline"
        return [*map(self._state, on), Message(self.status_topic, self._status)]

    def all_messages(self) -> list[Message]:
        """What a broker must know that knows nothing."""
        return [Message(self.status_topic, self._status),
                *(message for label in self._on for message in self._of(label))]

    def _of(self, label: str) -> list[Message]:
        return [self._config(label), self._state(label)]

    def _state(self, label: str) -> Message:
        return Message(self._topic(label, "state"), "ON" if self._on[label] else "OFF")

    def _config(self, label: str) -> Message:
        """https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery"""
        name = slug(label)
        content = {
            "name": label, "unique_id": f"satexport_{self._node}_{name}", "device_class": "sound",
            "state_topic": self._topic(label, "state"), "availability_topic": self.status_topic,
            "json_attributes_topic": self._topic(label, "attributes"),
            "device": {"identifiers": [f"satexport_{self._node}"], "name": f"satexport {self._node}"},
            "origin": {"name": "satexport"}}
        return Message(f"{self._prefix}/binary_sensor/{self._node}/{name}/config", json.dumps(content))

    def _topic(self, label: str, last: str) -> str:
        return f"{self._base}/{slug(label)}/{last}"


def slug(label: str) -> str:
    """A label as a part of a topic: "Smoke detector, smoke alarm" becomes smoke_detector_smoke_alarm."""
    plain = re.sub(r"[^a-z0-9]+", "_", label.lower()).strip("_")
    return plain if plain and label.isascii() else f"{plain}_{hashlib.sha256(label.encode()).hexdigest()[:8]}"


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Publish JSON lines of events over MQTT.")
    parser.add_argument("--host", default="localhost")
    parser.add_argument("--port", type=int, default=1883)
    parser.add_argument("--username", help="the password is in the environment variable MQTT_PASSWORD")
    parser.add_argument("--tls", action="store_true", help="check the broker's certificate, and encrypt")
    parser.add_argument("--node", default="satexport", type=slug, help="name of this listener")
    parser.add_argument("--prefix", default="homeassistant", help="of the discovery topics")
    parser.add_argument("--announce", action="append", default=[], metavar="LABEL",
                        help="make a label known at once, not when it is first heard; may be repeated")
    parser.add_argument("--buffer", type=int, default=1000, help="messages that wait at most for a broker")
    parser.add_argument("--retry", type=float, default=30, help="longest pause between two tries, in s")
    parser.add_argument("--patience", type=float, default=30,
                        help="at the end: seconds to wait until all is sent")
    arguments = parser.parse_args()
    if arguments.buffer < 1:
        parser.error("--buffer: expected a number from 1")
    return arguments


class Terminated(Exception):  # noqa: N818, because it is no error
    """SIGTERM has come."""


def terminate(_number: int, _frame: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second one ends the program at once
    raise Terminated


def main() -> int:
    arguments = parse()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends satexport, whose last events are still to come
    signal.signal(signal.SIGTERM, terminate)
    sensors = Sensors(arguments.node, arguments.prefix)
    sensors.announce(arguments.announce)  # they are sent when the broker answers
    publisher = Publisher(arguments, sensors)
    try:
        for text in sys.stdin:
            try:
                publisher.send(partial(sensors.report, json.loads(text)))
            except (ValueError, TypeError, KeyError, AttributeError):
                print(f"Ignored, because it is no event in JSON: {text.strip()[:80]!r}", file=sys.stderr)
    except Terminated:
        pass
    publisher.send(sensors.switch_off)
    lost = publisher.close(arguments.patience)
    if lost:
        print(f"Error: {lost} messages were lost, because the broker was away for too long.", file=sys.stderr)
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
