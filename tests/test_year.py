"""What a year brings its owner: the counts move to another Postgres, and a backup comes back."""

import os
import re
import subprocess
import threading
import time
from contextlib import suppress
from textwrap import dedent

import pytest
from servers import COUNTER, ROOT, Tool, new_key, today, wait_until

README = (ROOT / "README.md").read_text()
MOVE = dedent(re.search(r"^  psql .*?(?= &&\n    DATABASE_URL=)", README, re.MULTILINE | re.DOTALL)[0])


def shell(postgres, folder, script, **variables):
    environment = {**os.environ, **variables, "PATH": f"{postgres.bin}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


class Visitors:
    """Browsers: each sends its click, with its key, until it is answered, and then the next one."""

    def __init__(self, function):
        self.function = function
        self.answered = []
        self.stopped = threading.Event()
        self.threads = [threading.Thread(target=self.click) for _ in range(3)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *error):
        self.stopped.set()
        for thread in self.threads:
            thread.join()

    def click(self):
        while not self.stopped.wait(0.01):
            key = new_key()
            answer = None
            while answer is None or answer.status != 200:
                with suppress(OSError):
                    answer = self.function.click(key=key)
                time.sleep(0.02)
            self.answered.append(key)


def test_moving_to_another_postgres_loses_no_click(postgres, on_postgres, start, tmp_path):
    if not (postgres.bin / "pg_dump").exists():
        pytest.skip("npm's Postgres comes without pg_dump")
    new = postgres.url(postgres.new_database())
    old, key = start(on_postgres.url), new_key()
    old.click(key=key)  # counted there; as far as its browser knows, nobody has answered
    with Visitors(old) as visitors:
        wait_until(lambda: len(visitors.answered) > 20)
        shell(postgres, tmp_path, MOVE, OLD=on_postgres.url, NEW=new)
        exported = Tool(on_postgres.url)("export")
        assert Tool(new)("export") == exported
        visitors.function = start(new)
        before = len(visitors.answered)
        wait_until(lambda: len(visitors.answered) > before + 20)
    clicks = len(visitors.answered) + 1
    assert visitors.function.click(key=key).value == clicks
    assert Tool(new)("export") == f"name,value,days\n{COUNTER},{clicks},{today()}={clicks}\n"
