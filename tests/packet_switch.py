"""A network between hosts of this machine: one network namespace each, packets carried by hand.

Each namespace has a TUN device; this process reads what one host sends, decides like a bad line,
and writes it to the host it is for. Real kernels speak real TCP over it, and no namespace has a way
out. It does what `tc netem` does, also on kernels that are built without netem, and cuts any
direction between any two hosts.

Rules
    W1. Each packet is delayed by itself, evenly between `delay_ms - jitter_ms` and
        `delay_ms + jitter_ms`, so packets overtake each other. `loss_ppm` of them are lost.
    W2. A packet whose direction is cut is lost when it is sent; what is on its way arrives.
    W3. At most `PACKETS_MAX` are on their way; further ones are lost.
    W4. Everything ends with the process: namespaces and devices have no names outside of it. It
        ends when its stdin does.

Runs as `packet_switch.py HOSTS SEED`: writes one JSON line with its namespaces (descriptors of this
process), then answers each line of stdin with one. Needs root and /dev/net/tun.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import json
import os
import random
import select
import socket
import struct
import sys
import time
from dataclasses import dataclass, field
from typing import Any, Final

FIRST_ADDRESS: Final = (10, 77, 0, 1)
MASK: Final = (255, 255, 255, 0)
DEVICE: Final = b"net0"
PACKET_BYTES_MAX: Final = 65_536
PACKETS_MAX: Final = 20_000
READS_MAX: Final = 64

CLONE_NEWNET: Final = 0x4000_0000
TUNSETIFF: Final = 0x4004_54CA
IFF_TUN: Final = 0x0001
IFF_NO_PI: Final = 0x1000
IFF_UP: Final = 0x1
SIOCGIFFLAGS: Final = 0x8913
SIOCSIFFLAGS: Final = 0x8914
SIOCSIFADDR: Final = 0x8916
SIOCSIFNETMASK: Final = 0x891C


def address_of(host: int) -> str:
    """Return the IPv4 address of a host."""
    return ".".join(map(str, (*FIRST_ADDRESS[:3], FIRST_ADDRESS[3] + host)))


def enter_namespace(descriptor: int) -> None:
    """Move the calling thread, and what it starts, into a network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def make_host(host: int) -> tuple[int, int]:
    """Make a namespace with one device; returns its descriptor and the device's.

    The calling thread is left in the new namespace.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", DEVICE, IFF_TUN | IFF_NO_PI))
    address = (*FIRST_ADDRESS[:3], FIRST_ADDRESS[3] + host)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for request, value in ((SIOCSIFADDR, address), (SIOCSIFNETMASK, MASK)):
            place = struct.pack("HH4s8x", socket.AF_INET, 0, bytes(value))
            fcntl.ioctl(control, request, struct.pack("16s16s8x", DEVICE, place))
        for name in (DEVICE, b"lo"):
            told = fcntl.ioctl(control, SIOCGIFFLAGS, struct.pack("16sH22x", name, 0))
            flags = struct.unpack("16xH22x", told)[0] | IFF_UP
            fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH22x", name, flags))
    return namespace, device


@dataclass
class Line:
    """How bad the line is; the same for all but for what is cut."""

    delay_ms: int = 0
    jitter_ms: int = 0
    loss_ppm: int = 0
    cut: set[tuple[int, int]] = field(default_factory=set)


class Switch:
    """Carries packets between hosts until stdin ends."""

    def __init__(self, devices: list[int], rng: random.Random) -> None:
        self._devices = devices
        self._rng = rng
        self._line = Line()
        self._waiting: list[tuple[float, int, int, bytes]] = []
        self._told = b""
        self._sent = 0
        self._counts = {"carried": 0, "lost": 0, "cut": 0, "overflowed": 0}
        self._late_max_s = 0.0

    def run(self) -> None:
        poll = select.epoll()
        stdin = sys.stdin.fileno()
        os.set_blocking(stdin, False)
        poll.register(stdin, select.EPOLLIN)
        hosts = {device: host for host, device in enumerate(self._devices)}
        for device in self._devices:
            poll.register(device, select.EPOLLIN)
        while True:
            for descriptor, _ in poll.poll(self._pause_s()):
                if descriptor == stdin:
                    if not self._obey(stdin):
                        return
                else:
                    self._take(hosts[descriptor], descriptor)
            self._deliver()

    def _pause_s(self) -> float:
        if not self._waiting:
            return -1
        return max(0.0, self._waiting[0][0] - time.monotonic())

    def _take(self, source: int, device: int) -> None:
        now = time.monotonic()
        for _ in range(READS_MAX):
            try:
                packet = os.read(device, PACKET_BYTES_MAX)
            except BlockingIOError:
                return
            if packet[0] >> 4 == 4 and packet[16:19] == bytes(FIRST_ADDRESS[:3]):
                self._send(source, packet[19] - FIRST_ADDRESS[3], packet, now)

    def _send(self, source: int, target: int, packet: bytes, now: float) -> None:
        line = self._line
        if not 0 <= target < len(self._devices):
            return
        if (source, target) in line.cut:  # W2
            self._counts["cut"] += 1
        elif self._rng.randrange(1_000_000) < line.loss_ppm:  # W1
            self._counts["lost"] += 1
        elif len(self._waiting) >= PACKETS_MAX:  # W3
            self._counts["overflowed"] += 1
        else:
            delay_ms = line.delay_ms + self._rng.uniform(-line.jitter_ms, line.jitter_ms)
            self._sent += 1
            heapq.heappush(self._waiting, (now + delay_ms / 1000, self._sent, target, packet))

    def _deliver(self) -> None:
        now = time.monotonic()
        while self._waiting and self._waiting[0][0] <= now:
            due, _, target, packet = heapq.heappop(self._waiting)
            self._late_max_s = max(self._late_max_s, now - due)
            try:
                os.write(self._devices[target], packet)
            except BlockingIOError:  # the host does not keep up, as a full queue of a real card
                self._counts["overflowed"] += 1
            else:
                self._counts["carried"] += 1

    def _obey(self, stdin: int) -> bool:
        """Carry out commands; False at the end of stdin (W4)."""
        data = os.read(stdin, PACKET_BYTES_MAX)
        *lines, self._told = (self._told + data).split(b"\n")
        for text in lines:
            answer = self._answer(json.loads(text))
            print(json.dumps(answer), flush=True)  # noqa: T201 - this is what it is for
        return bool(data)

    def _answer(self, command: dict[str, Any]) -> dict[str, Any]:
        if "line" in command:
            told = command["line"]
            self._line = Line(**told | {"cut": {(a, b) for a, b in told["cut"]}})
        late_ms, self._late_max_s = round(self._late_max_s * 1000), 0.0
        return {**self._counts, "waiting": len(self._waiting), "late_max_ms": late_ms}


def main() -> None:
    hosts, seed = int(sys.argv[1]), sys.argv[2]
    made = [make_host(host) for host in range(hosts)]
    namespaces = [namespace for namespace, _ in made]
    print(json.dumps({"namespaces": namespaces}), flush=True)  # noqa: T201
    Switch([device for _, device in made], random.Random(seed)).run()


if __name__ == "__main__":
    main()
