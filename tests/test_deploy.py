"""deploy.sh against a stand-in gcloud that keeps state, and every command it gives against the real gcloud's parser."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest
from servers import COUNTER, PASSWORD, ROOT, Client, copy_function, free_port, wait_until

URL = "postgresql://u:p%40s$`\"'\\;&|* word@host.example:5432/d?sslmode=require"
CHANGING = {"enable", "create", "add-iam-policy-binding", "remove-iam-policy-binding", "set-password", "add", "deploy",
            "update", "update-traffic", "patch", "delete"}  # fmt: skip

GCLOUD = shutil.which("gcloud")
needs_gcloud = pytest.mark.skipif(GCLOUD is None, reason="gcloud is not installed here")


class Project:
    """A Google Cloud project as the stand-in sees it."""

    def __init__(self, folder: Path, uri: str) -> None:
        self.folder = folder
        (folder / "bin").mkdir()
        shutil.copy(ROOT / "tests" / "gcloud", folder / "bin")
        (folder / "uri").write_text(uri)
        self.outputs = ""

    def deploy(self, *arguments, answer="", **variables):
        path = f"{self.folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = {"PATH": path, "HOME": str(self.folder), "STANDIN": str(self.folder)}
        variables = {"PROJECT_ID": "my-project", **variables}
        done = subprocess.run(
            [ROOT / "deploy.sh", *arguments],
            env={**environment, **variables},
            input=answer,
            text=True,
            capture_output=True,
            timeout=120,
        )
        self.outputs += done.stdout + done.stderr
        return done

    @property
    def state(self):
        return json.loads((self.folder / "state.json").read_text())

    def calls(self):
        """What was called since the last time."""
        file = self.folder / "calls"
        lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        with (self.folder / "all").open("a") as everything:
            everything.write("".join(json.dumps(line) + "\n" for line in lines))
        file.write_text("")
        return lines

    def changes(self):
        return [call for call in self.calls() if CHANGING & set(call[:3])]

    def fail(self, change, when):
        (self.folder / "fail").write_text(f"{change} {when}")


@pytest.fixture
def project(tmp_path, shared):
    return Project(tmp_path, shared.url)


WAYS = {"with Cloud SQL": {}, "with a Postgres of one's own": {"DATABASE_URL": URL}}


@pytest.mark.parametrize("settings", WAYS.values(), ids=WAYS)
def test_fresh_run_ends_with_the_url_and_one_click(project, shared, settings):
    before = shared.count()
    done = project.deploy(**settings)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{shared.url}\n"
    assert f"counted: {before + 1}" in done.stderr
    assert shared.count() == before + 1
    state = project.state
    [[url]] = state["secrets"].values()
    if settings:
        assert url == URL
        assert not state["instances"]
        assert not state["roles"]
        assert not state["sockets"]
    else:
        password = state["users"]["clicks"]
        assert len(password) == 48
        connection = "my-project:europe-west1:click-counter"
        assert url == f"postgresql://clicks:{password}@/clicks?host=/cloudsql/{connection}"
        assert state["roles"] == ["roles/cloudsql.client"]
        assert state["sockets"] == [connection]
    assert state["members"] == {
        "click-counter-database-url": ["serviceAccount:click-counter@my-project.iam.gserviceaccount.com"]
    }


@pytest.mark.parametrize("settings", WAYS.values(), ids=WAYS)
def test_second_run_changes_nothing(project, settings):
    assert project.deploy(**settings).returncode == 0
    assert project.changes()
    assert project.deploy(**settings).returncode == 0
    assert project.changes() == []


def test_only_what_changed_is_done_again(project):
    project.deploy(DATABASE_URL=URL)
    project.changes()
    project.deploy(DATABASE_URL=URL + "\n")
    assert project.changes() == []
    project.deploy(DATABASE_URL=URL, COUNTERS="a,post-*", MAX_COUNTERS="50", ALLOWED_ORIGINS="https://example.com")
    deployed, _ = project.changes()
    assert "--update-env-vars=^|^COUNTERS=a,post-*|MAX_COUNTERS=50|ALLOWED_ORIGINS=https://example.com" in deployed
    project.deploy(
        DATABASE_URL=URL + "&x=y", COUNTERS="a,post-*", MAX_COUNTERS="50", ALLOWED_ORIGINS="https://example.com"
    )
    assert [call[:3] for call in project.changes()] == [
        ["secrets", "versions", "add"],
        ["functions", "deploy", "click-counter"],
        ["run", "services", "update-traffic"],
    ]


def test_own_postgres_can_be_exchanged_for_cloud_sql_and_back(project):
    for settings in (WAYS["with a Postgres of one's own"], {}, {"DATABASE_URL": URL}, {}):
        assert project.deploy(**settings).returncode == 0
        [versions] = project.state["secrets"].values()
        assert (versions[-1] == URL) == bool(settings)
    assert project.state["users"]["clicks"] in versions[-1]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("settings", WAYS.values(), ids=WAYS)
def test_failure_at_each_step_is_told_and_the_next_run_completes(tmp_path, shared, settings, when):
    step = 0
    while True:
        step += 1
        folder = tmp_path / str(step)
        folder.mkdir()
        project = Project(folder, shared.url)
        project.fail(step, when)
        done = project.deploy(**settings)
        if project.state["changes"] < step:
            break
        assert done.returncode == 2
        assert "run ./deploy.sh again: it goes on here" in done.stderr
        assert project.deploy(**settings).returncode == 0, project.outputs
        project.changes()
        assert project.deploy(**settings).returncode == 0
        assert project.changes() == []
        [versions] = project.state["secrets"].values()
        assert versions[-1] == URL if settings else project.state["users"]["clicks"] in versions[-1]
    assert step - 1 == (8 if settings else 13)


@pytest.mark.parametrize("question", ["services list", "versions access", "functions describe", "get-iam-policy"])
def test_question_that_fails_is_not_taken_for_an_answer(project, question):
    project.deploy()
    project.changes()
    (project.folder / "deaf").write_text(question)
    for arguments in ([], ["--teardown", "--yes"]) if question == "functions describe" else ([],):
        done = project.deploy(*arguments)
        assert done.returncode in (1, 2)
        assert "the network cannot be reached" in done.stderr
        assert "it goes on here" in done.stderr
        assert project.changes() == []


@needs_gcloud
def test_real_gcloud_writes_the_password_to_no_file(tmp_path):
    """It would log the values of its flags, also of those that come from standard input."""
    assert "\nexport CLOUDSDK_CORE_DISABLE_FILE_LOGGING=1" in (ROOT / "deploy.sh").read_text()
    environment = {**os.environ, "CLOUDSDK_CONFIG": str(tmp_path), "CLOUDSDK_CORE_DISABLE_FILE_LOGGING": "1"}
    command = [GCLOUD, "sql", "users", "create", "u", "--instance=i", "--project=p", "--flags-file=-"]
    subprocess.run(command, input='--password: "hunter2"', text=True, env=environment, capture_output=True)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"hunter2" in path.read_bytes()]


def test_help_is_shown_from_any_folder():
    done = subprocess.run(["tests/../deploy.sh", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert "PROJECT_ID" in done.stdout


def test_no_secret_is_ever_shown_or_an_argument(project):
    project.deploy()
    project.deploy(DATABASE_URL=URL)
    project.deploy("--teardown", "--yes")
    project.changes()
    password = project.state["users"]["clicks"]
    for seen in (project.outputs, (project.folder / "all").read_text(), (project.folder / "state.json").name):
        assert password not in seen
        assert URL not in seen
        assert "p%40s" not in seen


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"PROJECT_ID": ""}, "PROJECT_ID is missing. Run: PROJECT_ID=my-project ./deploy.sh"),
        ({"PROJECT_ID": "My Project"}, "PROJECT_ID='My Project' is malformed"),
        ({"PROJECT_ID": "other-project"}, "the project other-project cannot be seen"),
        ({"REGION": "europe west"}, "REGION='europe west' is malformed: like europe-west1"),
        ({"FUNCTION": "a;b"}, "FUNCTION='a;b' is malformed"),
        ({"SERVICE_ACCOUNT": "$(id)"}, "SERVICE_ACCOUNT='$(id)' is malformed"),
        ({"DATABASE_USER": "o'neil"}, "DATABASE_USER=" + '\'o\'neil\'' + " is malformed"),
        ({"DATABASE_URL": "mysql://u:hunter2@h/d"}, "DATABASE_URL must look like postgresql://"),
        ({"MAX_INSTANCES": "10"}, "10 x 1 connection, twice while a new revision takes over, and 6 for administration: "
                                  "26 of the 25 that the database takes. Lower it to 9"),
        ({"MAX_INSTANCES": "10", "CONNECTIONS": "20", "DATABASE_URL": URL}, "26 of the 20"),
        ({"INSTANCE": "i" * 80}, "is longer than 107 bytes"),
    ],
)  # fmt: skip
def test_bad_setting_is_refused_before_anything_is_done(project, variables, words):
    done = project.deploy(**variables)
    assert done.returncode == 2
    assert words in done.stderr
    assert "hunter2" not in done.stderr
    assert project.changes() == []


def test_larger_tier_takes_more_instances(project):
    assert project.deploy("--dry-run", MAX_INSTANCES="22", TIER="db-g1-small").returncode == 0


def test_without_an_account_it_says_how_to_log_in(project):
    project.deploy("--dry-run")
    (project.folder / "state.json").write_text(json.dumps({"account": "", "changes": 0}))
    done = project.deploy()
    assert (done.returncode, "gcloud auth login" in done.stderr) == (2, True)


def test_unknown_argument_and_help(project):
    assert "unknown argument --force" in project.deploy("--force").stderr
    shown = project.deploy("--help").stdout
    for variable in ("PROJECT_ID", "REGION=", "RUNTIME=", "MAX_INSTANCES=", "TIER=", "CONNECTIONS="):
        assert variable in shown


def test_prefixes_alone_are_not_clicked(project, start, on_sqlite):
    function = start(on_sqlite.url, COUNTERS="post-*")
    (project.folder / "uri").write_text(function.url)
    done = project.deploy(DATABASE_URL=URL, COUNTERS="post-*")
    assert (done.returncode, done.stdout) == (0, f"{function.url}\n")
    assert "COUNTERS names no counter to try" in done.stderr
    assert on_sqlite.values() == {}


def test_function_that_does_not_count_is_noticed(project, start, on_postgres, postgres):
    function = start(on_postgres.url.replace(on_postgres.name, "not_there"))
    (project.folder / "uri").write_text(function.url)
    done = project.deploy(DATABASE_URL=URL)
    assert done.returncode == 2
    assert "counts no click (before: no answer, after: no answer)" in done.stderr


def test_teardown_asks_first(project):
    project.deploy()
    project.changes()
    done = project.deploy("--teardown", answer="n\n")
    assert (done.returncode, "nothing was removed" in done.stderr) == (2, True)
    assert project.deploy("--teardown").returncode == 2
    assert project.changes() == []


def test_teardown_keeps_the_database_unless_told_otherwise(project):
    project.deploy()
    assert project.deploy("--teardown", answer="y\n").returncode == 0
    state = project.state
    assert (state["functions"], state["accounts"], state["roles"], state["secrets"]) == ({}, [], [], {})
    assert state["instances"] == ["click-counter"]
    assert project.deploy().returncode == 0
    assert project.deploy("--teardown", "--with-database", "--yes").returncode == 0
    assert project.state["instances"] == []
    project.changes()
    assert project.deploy("--teardown", "--with-database", "--yes").returncode == 0
    assert project.changes() == []


def test_dry_run_prints_only_commands_and_calls_nothing(project):
    for arguments in (["--dry-run"], ["--dry-run", "--teardown", "--with-database"]):
        done = project.deploy(*arguments, PROJECT_ID="")
        assert done.returncode == 0
        assert all(line.startswith("gcloud ") for line in done.stdout.splitlines())
        assert "functions" in done.stdout
    assert project.calls() == []


@needs_gcloud
def test_every_command_parses_with_the_real_gcloud(project, tmp_path):
    """Without an account gcloud exits with 1, but with 2 where it does not understand an argument."""
    commands = set()
    for settings in WAYS.values():
        for arguments in ([], ["--teardown", "--with-database"]):
            lines = project.deploy("--dry-run", *arguments, COUNTERS="a,b", **settings).stdout.splitlines()
            commands |= {tuple(shlex.split(line)[1:]) for line in lines}
        project.deploy(**settings)
        project.deploy(**settings)
    project.deploy("--teardown", "--with-database", "--yes")
    commands |= {tuple(call) for call in project.calls()}
    assert len(commands) > 30
    environment = {**os.environ, "CLOUDSDK_CONFIG": str(tmp_path / "config"), "CLOUDSDK_CORE_DISABLE_PROMPTS": "1"}
    environment["CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK"] = "1"

    def parse(command):
        done = subprocess.run([GCLOUD, *command], input='--password: "x"\n', capture_output=True, text=True,
                              env=environment, cwd=ROOT)  # fmt: skip
        return command, done.returncode, done.stderr

    with ThreadPoolExecutor(2) as pool:
        for command, code, said in pool.map(parse, sorted(commands)):
            expected = 0 if command[:2] == ("auth", "list") else 1
            assert code == expected, (command, said)
            assert expected == 0 or "active account" in said, (command, said)
        _, code, _ = parse(("functions", "deploy", "x", "--no-such-flag"))
        assert code == 2


@needs_gcloud
def test_exactly_the_function_is_uploaded(tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".venv*", ".git", "__pycache__"))
    for secret in (".env", "clicks.sqlite3", ".venv/x.py", "__pycache__/main.pyc", "notes.txt"):
        (copy / secret).parent.mkdir(exist_ok=True)
        (copy / secret).write_text("secret")
    environment = {**os.environ, "CLOUDSDK_CONFIG": str(tmp_path / "config")}
    listed = subprocess.run([GCLOUD, "meta", "list-files-for-upload", copy], capture_output=True, text=True,
                            check=True, env=environment).stdout.split()  # fmt: skip
    static = {str(path.relative_to(copy)) for path in (copy / "static").rglob("*") if path.is_file()}
    assert set(listed) == {"main.py", "db.py", "schema.sql", "requirements.txt"} | static


def test_function_as_uploaded_counts_through_the_socket_of_cloud_sql(tmp_path, postgres):
    """A copy of just the uploaded files, in a fresh environment, started as the buildpack starts it."""
    copy = copy_function(tmp_path / "uploaded")
    programs = tmp_path / "venv" / "bin"
    subprocess.run([sys.executable, "-m", "venv", programs.parent], check=True)
    install = [programs / "pip", "install", "--quiet", "--disable-pip-version-check", "-r", copy / "requirements.txt"]
    subprocess.run(install, check=True)
    port, name = free_port(), postgres.new_database()
    with postgres.cloud_sql() as folder:
        url = f"postgresql://postgres:{quote(PASSWORD, safe='')}@/{name}?host={folder}"
        environment = {"PATH": os.environ["PATH"], "K_SERVICE": "click-counter", "PORT": str(port), "HOST": "127.0.0.1",
                       "FUNCTION_TARGET": "handler", "FUNCTION_SIGNATURE_TYPE": "http",
                       "DATABASE_URL": url}  # fmt: skip
        process = subprocess.Popen([programs / "functions-framework"], cwd=copy, env=environment)
        client = Client(port)
        try:
            wait_until(lambda: process.poll() is not None or client.answers())
            assert client.click().json() == {"name": COUNTER, "value": 1}
        finally:
            client.connection.close()
            process.terminate()
            process.wait(20)
