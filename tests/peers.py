"""The counters that people would pick instead, from npm: a SQLite Durable Object in workerd, and Deno KV."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from servers import Client, free_port, wait_until

SOURCES = Path(__file__).parent / "contenders" / "peers"
INSTALLATION_TIME = 300  # seconds
START_TIME = 30  # seconds


class Missing(Exception):
    """Why the peers cannot be measured here."""


class Peer(NamedTuple):
    """A running peer."""

    port: int
    pid: int

    def counted(self) -> tuple[int, int]:
        """How many keys it keeps, and its count, which must be the same."""
        client = Client(self.port)
        with closing(client.connection):
            found = client.send("GET", "/check").json()
        return found["keys"], found["value"]


class Peers:
    """The programs, installed; `running` starts one of them. Raises Missing where that cannot be done here."""

    def __init__(self) -> None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        modules = install(cache / "click-counter-benchmark")
        self.workerd = program(modules, "@cloudflare/workerd-*/bin/workerd")
        self.deno = program(modules, "@deno/*/deno")
        self.commands = {"workerd": self._run_workerd, "deno": self._run_deno}

    def _run_workerd(self, port: int, data: Path) -> list[str | Path]:
        places = [f"--socket-addr=http=127.0.0.1:{port}", f"--directory-path=disk={data}"]
        return [self.workerd, "serve", SOURCES / "config.capnp", *places]

    def _run_deno(self, port: int, data: Path) -> list[str | Path]:
        options = ["--quiet", "--no-config", "--no-lock", "--unstable-kv", "--allow-net=127.0.0.1"]
        options += [f"--allow-read={data}", f"--allow-write={data}"]
        return [self.deno, "run", *options, SOURCES / "deno.ts", str(port), data / "kv.sqlite"]

    @contextmanager
    def running(self, name: str, folder: Path) -> Iterator[Peer]:
        """Start a peer with empty data on 127.0.0.1, and end it."""
        port, data = free_port(), folder / f"{name}-{free_port()}"
        data.mkdir()
        command = self.commands[name](port, data)
        env = {**os.environ, "DENO_DIR": str(data / "cache"), "DENO_NO_UPDATE_CHECK": "1"}
        with (data / "log").open("wb") as log:
            process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
        try:
            wait_until(lambda: process.poll() is not None or is_counting(port), START_TIME)
            assert process.poll() is None, (data / "log").read_text()
            yield Peer(port, process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)


def install(folder: Path, sources: Path = SOURCES) -> Path:
    """Install what package.json pins into this folder, unless it is there already; return the folder of the modules."""
    pinned = (sources / "package.json").read_text()
    done = folder / "installed"
    if not done.exists() or done.read_text() != pinned:
        if not shutil.which("npm"):
            raise Missing("npm is not installed")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        shutil.copy(sources / "package.json", folder)
        options = ["--ignore-scripts", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"]
        try:
            subprocess.run(
                ["npm", "install", *options], cwd=folder, check=True, timeout=INSTALLATION_TIME, capture_output=True
            )
        except subprocess.CalledProcessError as error:
            raise Missing(f"npm could not install them ({error.stderr.decode().partition(chr(10))[0]})") from error
        except subprocess.TimeoutExpired as error:
            raise Missing(f"npm could not install them within {INSTALLATION_TIME} s") from error
        done.write_text(pinned)
    return folder / "node_modules"


def program(modules: Path, pattern: str) -> Path:
    """The program itself: npm's wrapper would start it as a child, which outlives the wrapper."""
    for path in modules.glob(pattern):
        try:
            subprocess.run([path, "--version"], check=True, capture_output=True, timeout=30)
        except (subprocess.SubprocessError, OSError) as error:
            raise Missing(f"{path.name} does not run here: {error}") from error
        return path
    raise Missing(f"npm has no {Path(pattern).name} for this kind of machine")


def is_counting(port: int) -> bool:
    """Whether the peer answers by now; it must count a key that is sent twice once."""
    client = Client(port)
    key = "00000000-0000-4000-8000-000000000000"
    try:
        answers = [client.click(key=key) for _ in range(2)]
    except OSError:
        return False
    finally:
        client.connection.close()
    assert [answer.value for answer in answers] == [1, 1], answers
    return True
