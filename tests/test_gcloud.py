"""deploy.sh with the real gcloud in front of a stand-in of Google's APIs; the quick gcloud compared with it."""

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import threading

import pytest
from google_apis import (
    BUSY,
    CONFLICT,
    NUMBER,
    OWNER,
    PROJECT,
    GoogleApis,
    disabled,
    error,
    new_instance,
    new_service,
    sql_error,
)
from google_cloud import GCLOUD, SECRET, Project, QuickGcloud, real_gcloud, served
from servers import ROOT, update_readme

pytestmark = pytest.mark.skipif(GCLOUD is None, reason="gcloud is not installed here")

URL = "postgresql://u:p%40s$`\"'\\;&|* wörd@host.example:5432/d?sslmode=require"
ACCOUNT = "click-counter@my-project.iam.gserviceaccount.com"
CONNECTION = "my-project:europe-west1:click-counter"
KEY = "europe-west1/click-counter"
ALL = ("--teardown", "--with-database", "--yes")


@pytest.fixture(scope="session")
def gcloud():
    with real_gcloud() as port:
        yield port


@pytest.fixture
def project(gcloud, shared, tmp_path):
    apis = GoogleApis(shared.url)
    with apis.served() as proxy:
        yield Project(apis, proxy, gcloud, tmp_path)
    assert apis.unknown == []


@pytest.fixture(scope="session")
def live_state(gcloud, shared, tmp_path_factory):
    """A first deployment with Cloud SQL."""
    apis = GoogleApis(shared.url)
    with apis.served() as proxy:
        Project(apis, proxy, gcloud, tmp_path_factory.mktemp("live")).deployed()
    return apis.save()


@pytest.fixture
def live(project, live_state):
    project.apis.restore(live_state)
    return project


@pytest.fixture(scope="session")
def table(request, tmp_path_factory):
    """The rows of the table in tests/README.md, which are written there with --update; each worker adds its own."""
    folder = tmp_path_factory.getbasetemp()
    file = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "gcloud-table"
    yield file
    if request.config.getoption("--update"):
        rows = dict(line.split("\t", 1) for line in file.read_text().splitlines())
        head = "| run of deploy.sh | calls of gcloud | changes | seconds |\n|---|---|---|---|\n"
        update_readme("gcloud", head + "".join(f"{rows[name]}\n" for name in sorted(rows)))


@pytest.fixture
def note(table):
    def noted(place, project, what):
        row = f"| {what} | {len(project.calls)} | {len(project.apis.changes)} | {project.seconds:.0f} |"
        with table.open("a") as file:
            file.write(f"{place}\t{row}\n")

    return noted


def check_password(project):
    """What must hold after every run that ends well: the stored URL opens the database."""
    stored, _ = project.state["secrets"][SECRET]["versions"][-1]
    user, password, database, name = re.fullmatch(
        r"postgresql://(.*):(.*)@/(.*)\?host=/cloudsql/my-project:europe-west1:(.*)", stored
    ).groups()
    instance = project.state["instances"][name]
    assert instance["users"][user] == password
    assert database in instance["databases"]
    assert instance["protected"]


# --- What ends well ---------------------------------------------------------------------------------------------------


def test_first_deployment_makes_everything_and_says_so_in_forty_lines(project, shared, note):
    done = project.deploy()
    assert (done.returncode, done.stdout) == (0, f"{shared.url}\n"), done.stderr
    note("a", project, "first deployment, with Cloud SQL")
    lines = done.stderr.splitlines()
    assert len(lines) <= 40
    assert OWNER not in done.stderr
    assert lines[-1].startswith("counted: ")
    state = project.state
    check_password(project)
    assert state["instances"]["click-counter"]["tier"] == "db-f1-micro"
    assert ("roles/cloudsql.client", f"serviceAccount:{ACCOUNT}") in state["roles"]
    assert state["secrets"][SECRET]["roles"] == [("roles/secretmanager.secretAccessor", f"serviceAccount:{ACCOUNT}")]
    assert state["functions"][KEY] == {
        "state": "ACTIVE",
        "made_by": "click-counter",
        "env": {"LOG_EXECUTION_ID": "true"},
    }
    assert state["run"][KEY]["sockets"] == CONNECTION
    assert (state["run"][KEY]["boost"], state["run"][KEY]["roles"]) == ("true", [("roles/run.invoker", "allUsers")])


def test_second_run_changes_nothing(live, note):
    before = live.state
    live.deployed()
    note("b", live, "again, nothing changed")
    assert (live.apis.changes, live.state) == ([], before)


DEPLOYED = [f"secrets update {SECRET}", "functions deploy click-counter", f"secrets update {SECRET}"]


def test_each_setting_is_changed_and_taken_back(live, note):
    settings = {"COUNTERS": "likes,post-*", "MAX_COUNTERS": "50", "ALLOWED_ORIGINS": "https://a.example,https://b.example",
                "CLICKS_PER_MINUTE": "0"}  # fmt: skip
    environment = {"LOG_EXECUTION_ID": "true"}
    for variable in settings:
        assert live.deployed(**{variable: settings[variable]}) == DEPLOYED
        environment[variable] = settings[variable]
        assert live.state["functions"][KEY]["env"] == environment
    note("c", live, "another setting")
    assert live.deployed(MEMORY="1Gi", **dict.fromkeys(settings, "")) == DEPLOYED
    assert live.state["functions"][KEY]["env"] == {"LOG_EXECUTION_ID": "true"}
    assert live.deployed(MEMORY="1Gi") == []


def test_another_postgres_and_back(live, note, tmp_path):
    live.deployed(DATABASE_URL=URL)
    note("d", live, "another Postgres instead")
    assert live.state["secrets"][SECRET]["versions"][-1] == (URL, "ENABLED")
    assert live.state["run"][KEY]["sockets"] in (None, "")
    assert live.deployed(DATABASE_URL=URL) == []
    assert live.deployed() == []
    live.deployed(DATABASE_URL="")
    note("e", live, "back to Cloud SQL")
    check_password(live)
    assert list(live.state["instances"]) == ["click-counter"]
    assert live.state["run"][KEY]["sockets"] == CONNECTION
    assert live.deployed() == []
    urls = [url for url, _ in live.state["secrets"][SECRET]["versions"]]
    secrets = [*urls, *(password for url in urls for password in re.findall(r":([0-9a-f]{48})@", url)), "p%40s"]
    assert len(secrets) == 6
    seen = live.outputs + "".join(path.read_text(errors="ignore") for path in tmp_path.rglob("*") if path.is_file())
    assert not [secret for secret in secrets if secret in seen]  # nor was one an argument


def test_first_deployment_with_another_postgres(project, note):
    project.deployed(DATABASE_URL=URL, SECRET_LOCATIONS="europe-west1,europe-west4")
    note("f", project, "first deployment, with another Postgres")
    replicas = project.state["secrets"][SECRET]["replication"]["userManaged"]["replicas"]
    assert [one["location"] for one in replicas] == ["europe-west1", "europe-west4"]
    assert (project.state["instances"], project.state["run"][KEY]["sockets"]) == ({}, None)
    project.deployed("--teardown", "--yes")
    assert [project.state[kind] for kind in ("secrets", "functions", "accounts", "run")] == [{}] * 4


def test_teardown_keeps_the_counts_and_a_deployment_finds_them_again(live, note):
    stored = live.state["secrets"][SECRET]["versions"]
    assert live.deploy("--teardown", answer="n\n").returncode == 2
    assert live.apis.changes == []
    live.deployed("--teardown", "--yes")
    note("g", live, "teardown without the database")
    assert (live.state["functions"], live.state["accounts"], list(live.state["instances"])) == (
        {},
        {},
        ["click-counter"],
    )
    live.deployed()
    note("h", live, "deployment after that")
    check_password(live)
    assert live.state["secrets"][SECRET]["versions"] == stored


def test_teardown_with_the_database_leaves_nothing(live, note):
    live.deployed(*ALL)
    note("i", live, "teardown with the database")
    left = live.state
    assert [left[kind] for kind in ("accounts", "secrets", "instances", "functions", "run")] == [{}] * 5
    assert left["roles"] == [("roles/owner", f"user:{OWNER}")]
    assert live.deployed(*ALL) == []


def test_urls_of_the_owners_own_cloud_sql_gets_the_socket_and_the_role(project):
    others_things(project.apis, "instance", name="prod", region="us-central1")
    before = project.state["instances"]
    project.deployed(DATABASE_URL="postgresql://u:p@/d?host=/cloudsql/my-project:us-central1:prod")
    assert project.state["run"][KEY]["sockets"] == "my-project:us-central1:prod"
    assert ("roles/cloudsql.client", f"serviceAccount:{ACCOUNT}") in project.state["roles"]
    assert project.state["instances"] == before


# --- Interruptions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "arguments"), [("project", []), ("live", ALL)], ids=["deployment", "teardown"])
def test_killed_after_each_change_the_next_run_goes_on(request, live_state, note, first, arguments):
    """Each run is killed after the first change that none before it sent. What it began goes on at Google."""
    project, seen, runs = request.getfixturevalue(first), set(), 0

    def is_new(_, line):
        new = line not in seen
        seen.add(line)
        return new

    project.apis.interrupt, project.apis.interrupted = is_new, lambda: project.kill()
    while (done := project.deploy(*arguments)).returncode == -9:
        runs += 1
    assert done.returncode == 0, project.outputs
    assert runs == len(seen) > 5
    note("j" if first == "project" else "k", project, f"{first}: the last of {runs} runs, each killed after a change")
    assert "click-counter is PENDING_" in project.outputs
    assert "click-counter is DE" in project.outputs
    if arguments:
        assert project.state["instances"] == project.state["secrets"] == {}
    else:
        check_password(project)
        assert project.deployed() == []


def test_deployment_that_was_interrupted_is_waited_for_and_done_again(live):
    live.apis.interrupt, live.apis.interrupted = lambda _, line: "cloudfunctions" in line, lambda: live.kill()
    assert live.deploy(MEMORY="1Gi").returncode == -9
    live.apis.interrupt = lambda *_: False
    assert live.apis.functions[KEY]["state"] == "DEPLOYING"
    assert live.deployed(MEMORY="1Gi") == DEPLOYED[1:]
    assert "click-counter is DEPLOYING: waiting" in live.outputs
    assert live.deployed(MEMORY="1Gi") == []


# --- What is somebody else's ------------------------------------------------------------------------------------------


def others_things(apis, kind, name="click-counter", region="europe-west1"):
    services = "run cloudfunctions cloudbuild artifactregistry secretmanager iam sqladmin sql-component"
    apis.services = {f"{service}.googleapis.com" for service in services.split()}
    if kind == "function":
        apis.functions[KEY] = {"name": name, "state": "ACTIVE", "labels": {}, "environment": "GEN_2",
                               "serviceConfig": {"environmentVariables": {}}}  # fmt: skip
    if kind in ("function", "service"):
        template = {"metadata": {"annotations": {}}, "spec": {"containers": [{"image": "image"}]}}
        apis.run[KEY] = new_service(name, template)
    elif kind == "secret":
        apis.answer("POST", f"http://secretmanager.googleapis.com/v1/projects/p/secrets?secretId={SECRET}",
                    b'{"replication": {"automatic": {}}}')  # fmt: skip
    elif kind == "account":
        body = {"accountId": name, "serviceAccount": {"description": "Bills of the shop"}}
        apis.answer("POST", "http://iam.googleapis.com/v1/projects/p/serviceAccounts", json.dumps(body).encode())
    elif kind == "instance":
        apis.instances[name] = new_instance(name, region, "2020-02-02T02:02:02.222Z")
        apis.instances[name]["databases"] += ["shop", "clicks"]
        apis.instances[name]["users"]["clicks"] = "theirs"


FOREIGN = {
    "function": "the function click-counter in europe-west1 is there already",
    "service": "gcloud run services delete click-counter",
    "secret": f"the secret {SECRET} is there already",
    "account": "Choose another name: SERVICE_ACCOUNT=…",
    "instance": "DATABASE_URL=postgresql://USER:PASSWORD@/DATABASE?host=/cloudsql/my-project:europe-west1:click-counter",
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_somebody_else_made_is_neither_overwritten_nor_removed(project, kind):
    others_things(project.apis, kind)
    before = project.state
    project.refused(FOREIGN[kind])
    assert project.deployed(*ALL) == []
    assert project.state == before


# --- Refusals and failures --------------------------------------------------------------------------------------------


def denied(permission):
    return error(403, f"Permission '{permission}' denied on resource '{PROJECT}' (or it may not exist).")


SECRETS, FUNCTIONS = "secrets describe", "functions describe"
APIS = {
    "projects": ("cloudresourcemanager", "projects describe", error(403, "The caller does not have permission")),
    "services": ("serviceusage", "services list", error(403, "Permission denied to list services")),
    "accounts": (" iam ", "iam service-accounts list", denied("iam.serviceAccounts.list")),
    "Cloud Run": (" run ", "run services", denied("run.services.get")),
    "instances": ("sqladmin", "sql instances list", sql_error(403, "The client is not authorized.", "notAuthorized")),
    "instances, not enabled": ("sqladmin", "sql instances list", disabled("sqladmin")),
    "secrets": ("secretmanager", SECRETS, denied("secretmanager.secrets.get")),
    "secrets, not enabled": ("secretmanager", SECRETS, disabled("secretmanager")),
    "secrets, too many requests": ("secretmanager", SECRETS, error(429, "Quota exceeded for 'Access requests'.")),
    "another secret": ("secretmanager", SECRETS, error(404, f"Secret [projects/{NUMBER}/secrets/other] not found.")),
    "functions": ("cloudfunctions", FUNCTIONS, denied("cloudfunctions.functions.get")),
    "functions, not enabled": ("cloudfunctions", FUNCTIONS, disabled("cloudfunctions")),
    "functions, broken": ("cloudfunctions", FUNCTIONS, error(500, "Internal error encountered.")),
    "another function": (
        "cloudfunctions",
        FUNCTIONS,
        error(404, "Resource 'projects/p/locations/r/functions/f' was not found"),
    ),
}


@pytest.mark.parametrize("api", APIS)
def test_api_that_refuses_is_not_taken_for_an_empty_project(live, api):
    pattern, command, answer = APIS[api]
    live.apis.faults = [(pattern, answer, -1)]
    words = f"this look-up failed: gcloud {command}", "The look-up changed nothing", "Run ./deploy.sh again"
    live.refused(*words, answer.body["error"]["message"])
    if api in ("instances", "accounts", "functions, not enabled"):
        live.refused(*words, arguments=ALL)


PASSING = {
    "concurrent policy change": ("cloudresourcemanager.*setIamPolicy", "projects add-iam-policy-binding", CONFLICT),
    "account not known yet": ("secretmanager.*setIamPolicy", "secrets add-iam-policy-binding",
                              error(400, f"Service account {ACCOUNT} does not exist.")),
    "instance busy": ("POST sqladmin.*databases", "sql databases create", BUSY),
    "function busy": ("POST cloudfunctions .*functions[?]", "functions deploy",
                      error(409, "unable to queue the operation", "ABORTED")),
}  # fmt: skip


def test_conflict_that_passes_is_tried_again(project):
    project.apis.faults = [(pattern, answer, 2) for pattern, _, answer in PASSING.values()]
    project.apis.lag = 3  # of a service that was just enabled
    project.deployed()
    check_password(project)
    assert all(left == 0 for *_, left in project.apis.faults)
    assert project.slept.read_text() == "10\n" * 10


BUILD = (3, "Build failed with status: FAILURE. Could not build the function due to a missing permission on the build "
            "service account.")  # fmt: skip
COMPUTE = f"{NUMBER}-compute@developer.gserviceaccount.com"
FAILURES = {
    "billing": (
        "batchEnable",
        "services enable",
        error(400, f"Billing account for project '{NUMBER}' is not found."),
        "gcloud billing projects link my-project --billing-account=ID",
    ),
    "locations": (
        "POST secretmanager",
        "secrets create",
        error(400, "Constraint constraints/gcp.resourceLocations violated"),
        "SECRET_LOCATIONS=europe-west1,europe-west4",
    ),
    "instances": (
        "POST sqladmin.*instances",
        "sql instances create",
        sql_error(
            403,
            "Failed to create instance because the"
            " project or creator has reached the max instance per project/creator limit.",
            "errorMaxInstancePerLabel",
        ),
        "https://console.cloud.google.com/iam-admin/quotas?project=my-project",
    ),
    "quota": (
        "PATCH secretmanager",
        "secrets update",
        error(429, "Quota exceeded for 'Write requests'."),
        "Google's limits",
    ),
    "actAs": (
        "POST cloudfunctions .*functions[?]",
        "functions deploy",
        error(
            403,
            "Caller is missing permission"
            f" 'iam.serviceaccounts.actAs' on service account projects/-/serviceAccounts/{COMPUTE}.",
        ),
        f"gcloud iam service-accounts add-iam-policy-binding {COMPUTE} --project=my-project --member=user:YOU",
    ),
    "build": (
        "CREATE_FUNCTION",
        "functions deploy",
        BUILD,
        f"--member=serviceAccount:{COMPUTE} --role=roles/cloudbuild.builds.builder",
    ),
    "revision": (
        "RUN",
        "run services update click-counter --region=europe-west1 --project=my-project --set-cloudsql",
        (0, "The user-provided container failed to start."),
        "container failed to start",
    ),
    "allUsers": (
        " run .*setIamPolicy",
        "run services add-iam-policy-binding",
        error(
            400,
            "One or more users named in the"
            " policy do not belong to a permitted customer, perhaps due to an organization policy.",
        ),
        "--no-invoker-iam-check",
    ),
    "instance": ("CREATE", "sql instances create", ("INTERNAL_ERROR", "Failed to create subnetwork."), "is FAILED"),
}


def test_failure_names_its_remedy_and_the_next_run_goes_on(project):
    """One after the other on the way of a first deployment, which gets a step further each time."""
    for name, (pattern, _, answer, remedy) in FAILURES.items():
        if name == "instance":
            continue
        if isinstance(answer, tuple):
            project.apis.failing = {pattern: answer}
        else:
            project.apis.faults = [(pattern, answer, -1)]
        done = project.deploy()
        project.apis.faults, project.apis.failing = [], {}
        assert (done.returncode, remedy in done.stderr, "it goes on here" in done.stderr) == (2, True, True), (
            done.stderr
        )
    project.deployed()
    check_password(project)


@pytest.mark.parametrize("keeps_labels", [False, True], ids=["as it was", "as it was to be"])
def test_after_an_update_that_failed_the_next_run_deploys_again(live, keeps_labels):
    """However the function then looks."""
    live.apis.failing, live.apis.keeps_labels = {"UPDATE_FUNCTION": BUILD}, keeps_labels
    assert live.deploy(MEMORY="1Gi", COUNTERS="likes").returncode == 2
    live.apis.failing = {}
    assert live.deployed(MEMORY="1Gi", COUNTERS="likes") == DEPLOYED[1:]
    assert live.deployed(MEMORY="1Gi") == []


def test_without_an_account_it_says_how_to_log_in(project):
    del project.environment["CLOUDSDK_AUTH_ACCESS_TOKEN_FILE"]
    project.refused("gcloud auth login")


# --- The quick gcloud -------------------------------------------------------------------------------------------------


class Compared(QuickGcloud):
    """The quick gcloud, each of whose answers must be the real one's, and leave the same behind."""

    def __init__(self, apis, gcloud):
        super().__init__(apis)
        self.gcloud, self.project, self.calls, self.wrong = gcloud, None, {}, []
        self.lock = threading.Lock()

    def __call__(self, arguments, environment, given):
        with self.lock:
            before = self.apis.save()
            code, output, errors = ask(self.gcloud, arguments, environment, given)
            after = self.project.state
            self.apis.restore(before)
            quick = super().__call__(arguments, environment, given)
            self.calls.setdefault(" ".join(arguments), (arguments, environment, given))
            says_less = squeezed(quick[2]) in squeezed(errors)
            if (code, output) != quick[:2] or not says_less or self.project.state != after:
                self.wrong.append(
                    f"{' '.join(arguments)}\n  quick: {quick}\n  real:  {(code, output, errors)}\n"
                    f"  {'the same' if self.project.state == after else 'not the same'} is left"
                )
            return quick


def ask(port, arguments, environment, given=""):
    """Exit code, output and errors of the real gcloud."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        parts = [
            str(len(arguments)),
            "/" if "--source=." not in arguments else str(ROOT),
            environment,
            *arguments,
            given,
        ]
        connection.sendall("".join(f"{part}\0" for part in parts).encode())
        code, output, errors = connection.makefile("rb").read().decode().split("\0")[:3]
    return int(code), output, errors


def squeezed(text):
    return re.sub(r"\s+", " ", text).strip()


def test_quick_gcloud_answers_as_the_real_one(gcloud, shared, tmp_path):
    apis = GoogleApis(shared.url)
    compared = Compared(apis, gcloud)

    def again(command):
        """A call that deploy.sh has made, once more."""
        for line, call in compared.calls.items():
            if line.startswith(command):
                return compared(*call)
        raise AssertionError(command)

    with apis.served() as proxy, served(compared) as port:
        compared.project = project = Project(apis, proxy, port, tmp_path)
        project.deployed(DATABASE_URL=URL, COUNTERS="likes,post-*", MAX_COUNTERS="7")
        project.deployed(DATABASE_URL="", COUNTERS="", MEMORY="1Gi")
        apis.run[KEY]["resource"]["spec"]["traffic"] = [{"revisionName": "click-counter-1", "percent": 100}]
        apis.instances["click-counter"]["resource"]["settings"]["deletionProtectionEnabled"] = False
        apis.secrets[SECRET]["versions"][-1]["state"] = "DESTROYED"
        project.deployed(DATABASE_URL="")
        live = apis.save()
        apis.policy.grant("roles/cloudsql.client", "user:x", expression="true")
        again("projects get-iam-policy")
        project.deploy(PROJECT_ID="another-project")
        for pattern, command, answer in APIS.values():
            apis.faults = [(pattern, answer, -1)]
            again(command)
        apis.faults = []
        apis.secrets[SECRET]["versions"][-1]["state"] = "DISABLED"
        apis.instances["click-counter"]["resource"]["settings"]["activationPolicy"] = "NEVER"
        for command in ("secrets versions list", "secrets versions access", "sql instances list", "sql databases list"):
            again(command)
        apis.restore(live)
        project.deployed(*ALL)
        for command in ("secrets describe", "secrets versions list", "functions describe", "run services describe",
                        "sql instances list", "sql databases list", "iam service-accounts list"):  # fmt: skip
            again(command)
        for name in sorted(FAILURES):
            pattern, command, answer, _ = FAILURES[name]
            apis.restore(live)
            if name in ("actAs", "build", "instance", "instances"):
                apis.functions.clear()
                apis.run.clear()
                apis.instances.clear()
            apis.failing, apis.faults = (
                ({pattern: answer}, []) if isinstance(answer, tuple) else ({}, [(pattern, answer, -1)])
            )
            again(command)
        apis.failing = {}
        for pattern, command, answer in PASSING.values():
            apis.restore(live)
            apis.faults = [(pattern, answer, 1)]
            again(command)
        apis.restore(live)
        apis.instances["click-counter"]["databases"].append("shop")
        project.deployed(*ALL)
    assert compared.wrong == [], "\n".join(compared.wrong)
    known = {
        name.replace("_", " ")
        for name in vars(QuickGcloud)
        if re.match("(projects|services|iam|secrets|sql|functions|run)_", name)
    }
    seen = [line.replace("-", " ") for line in compared.calls]
    assert {command for command in known if not any(line.startswith(command) for line in seen)} == set()


# --- The rest ---------------------------------------------------------------------------------------------------------


TOLD = [
    "billing projects link p --billing-account=x",
    "billing accounts list",
    "iam service-accounts add-iam-policy-binding a@p.iam.gserviceaccount.com --project=p --member=user:y --role=r",
    "projects add-iam-policy-binding p --member=serviceAccount:a --role=r",
    "builds list --region=r --limit=1 --project=p",
    "run services update f --region=r --project=p --no-invoker-iam-check",
    "run services delete f --region=r --project=p",
    "functions logs read f --gen2 --region=r --project=p",
    "sql instances patch i --project=p --activation-policy=ALWAYS",
    "sql instances describe i --project=p",
    "secrets versions enable 1 --secret=s --project=p",
]  # what the messages of deploy.sh tell to run


def test_what_messages_and_readme_tell_to_run_is_understood(gcloud, project):
    """Exit code 2 is an argument that gcloud does not know."""
    script = (ROOT / "deploy.sh").read_text().replace("\\\n", "")
    readme = (ROOT / "README.md").read_text().partition("## Deploy it\n")[2].partition("\n## ")[0]
    lines = [*TOLD, *re.findall(r"`gcloud ((?:sql|run|secrets)[^`]*)`", readme)]
    assert [line for line in TOLD if f"gcloud {' '.join(line.split()[:2])}" not in squeezed(script)] == []
    environment = "".join(
        f"{key}={value}\n" for key, value in project.environment.items() if key.startswith("CLOUDSDK_")
    )
    for line in lines:
        code, _, said = ask(
            gcloud, shlex.split(line), f"{environment}CLOUDSDK_CORE_PROJECT=p\nCLOUDSDK_CORE_DISABLE_PROMPTS=1"
        )
        assert code in (0, 1), (line, said)
    assert ask(gcloud, ["functions", "deploy", "x", "--no-such-flag"], environment)[0] == 2
    project.apis.unknown.clear()


def test_real_gcloud_writes_the_password_to_no_file(tmp_path):
    """It would log the values of its flags, also of those that come from standard input."""
    environment = {**os.environ, "CLOUDSDK_CONFIG": str(tmp_path), "CLOUDSDK_CORE_DISABLE_FILE_LOGGING": "1"}
    command = [GCLOUD, "sql", "users", "create", "u", "--instance=i", "--project=p", "--flags-file=-"]
    subprocess.run(command, input='--password: "hunter2"', text=True, env=environment, capture_output=True)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"hunter2" in path.read_bytes()]


def test_exactly_the_function_is_uploaded(tmp_path):
    copied = tmp_path / "copy"
    shutil.copytree(ROOT, copied, ignore=shutil.ignore_patterns(".venv*", ".git", "__pycache__"))
    for secret in (".env", "clicks.sqlite3", ".venv/x.py", "__pycache__/main.pyc", "notes.txt"):
        (copied / secret).parent.mkdir(exist_ok=True)
        (copied / secret).write_text("secret")
    environment = {**os.environ, "CLOUDSDK_CONFIG": str(tmp_path / "config")}
    listed = subprocess.run([GCLOUD, "meta", "list-files-for-upload", copied], capture_output=True, text=True,
                            check=True, env=environment).stdout.split()  # fmt: skip
    static = {str(path.relative_to(copied)) for path in (copied / "static").rglob("*") if path.is_file()}
    modules = {path.name for path in copied.glob("*.py")} - {"counters.py"}
    assert set(listed) == modules | static | {"schema.sql", "requirements.txt"}
