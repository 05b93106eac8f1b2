"""deploy.sh against a stand-in Google Cloud that keeps state, and every command against the real gcloud's parser."""

import copy
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import uuid
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import quote

import pytest
from google_cloud import NUMBER, GoogleCloud
from servers import COUNTER, PASSWORD, ROOT, Client, copy_function, free_port, new_key, wait_until

URL = "postgresql://u:p%40s$`\"'\\;&|* word@host.example:5432/d?sslmode=require"
SECRET = "click-counter-database-url"
ACCOUNT = "click-counter@my-project.iam.gserviceaccount.com"
CONNECTION = "my-project:europe-west1:click-counter"
BASE = ["run", "cloudfunctions", "cloudbuild", "artifactregistry", "secretmanager", "iam"]
SERVICES = [f"{service}.googleapis.com" for service in [*BASE, "sqladmin", "sql-component"]]

GCLOUD = shutil.which("gcloud")
needs_gcloud = pytest.mark.skipif(GCLOUD is None, reason="gcloud is not installed here")


class Project:
    """deploy.sh, run in a Google Cloud project of its own."""

    live_state = None

    def __init__(self, cloud, port, folder, uri):
        self.cloud = cloud
        cloud.url = uri
        programs = folder / "bin"
        programs.mkdir()
        shutil.copy(ROOT / "tests" / "gcloud", programs)
        (programs / "sleep").write_text("#!/bin/sh\n")
        (programs / "sleep").chmod(0o755)
        self.environment = {"PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(folder), "STANDIN": str(port)}
        self.outputs = ""

    def deploy(self, *arguments, answer="", script=ROOT / "deploy.sh", **variables):
        """Run it; `cloud.changed` then has the changes of this run alone."""
        self.cloud.changed.clear()
        done = subprocess.run(
            [script, *arguments],
            env={**self.environment, "PROJECT_ID": "my-project", **variables},
            input=answer,
            text=True,
            capture_output=True,
            timeout=120,
        )
        self.outputs += done.stdout + done.stderr
        return done

    def deployed(self, *arguments, **variables):
        """Run it to its end; return the changes, the three words of each."""
        done = self.deploy(*arguments, **variables)
        assert done.returncode == 0, self.outputs
        return self.changes

    def live(self):
        """Have it deployed, without other settings; done once, and then remembered."""
        if not Project.live_state:
            self.deployed()
            Project.live_state = copy.deepcopy(self.state)
        self.cloud.state = copy.deepcopy(Project.live_state)

    @property
    def changes(self):
        return [" ".join(word for word in call[:4] if not word.startswith("--")) for call in self.cloud.changed]

    @property
    def state(self):
        return self.cloud.state

    def refused(self, *words, arguments=(), **variables):
        """Run it; it must say this and leave everything as it was."""
        before = copy.deepcopy(self.state)
        done = self.deploy(*arguments, **variables)
        assert done.returncode == 2, self.outputs
        assert done.stderr.count("deploy.sh: ") == 1
        for word in words:
            assert word in done.stderr
        assert "line " not in done.stderr  # an error of bash
        assert (self.changes, self.state) == ([], before)
        return done.stderr


@pytest.fixture
def project(tmp_path, shared):
    cloud = GoogleCloud()
    with cloud.served() as port:
        yield Project(cloud, port, tmp_path, shared.url)


def check_password(project):
    """What must hold after every run that ends well: the stored URL opens the database. Return the instance's name."""
    stored = project.state["secrets"][SECRET]["versions"][-1]["value"]
    url = re.fullmatch(r"postgresql://(.*):(.*)@/(.*)\?host=/cloudsql/my-project:(.*):(.*)", stored)
    user, password, database, region, name = url.groups()
    instance = project.state["instances"][name]
    assert (instance["users"][user], instance["region"]) == (password, region)
    assert database in instance["databases"]
    return name


def others_instance(project):
    """Somebody else's Cloud SQL instance, which holds what must never be lost."""
    project.state["services"] = [*SERVICES]
    project.state["instances"]["prod"] = {
        "state": "RUNNABLE", "region": "us-central1", "tier": "db-custom-2-7680", "protected": True,
        "databases": ["shop", "crm"], "users": {"shop": "hers"},
    }  # fmt: skip
    return copy.deepcopy(project.state["instances"]["prod"])


# --- A deployment -----------------------------------------------------------------------------------------------

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
    [version] = state["secrets"][SECRET]["versions"]
    service = state["services_run"]["click-counter"]
    if settings:
        assert version["value"] == URL
        assert (state["instances"], state["roles"], service["sockets"]) == ({}, [], [])
    else:
        password = state["instances"]["click-counter"]["users"]["clicks"]
        assert len(password) == 48
        assert version["value"] == f"postgresql://clicks:{password}@/clicks?host=/cloudsql/{CONNECTION}"
        assert state["roles"] == [["roles/cloudsql.client", f"serviceAccount:{ACCOUNT}"]]
        assert service["sockets"] == [CONNECTION]
    assert state["secrets"][SECRET]["members"] == [f"serviceAccount:{ACCOUNT}"]
    assert (service["boost"], service["invokers"]) == (True, ["allUsers"])


@pytest.mark.parametrize("settings", WAYS.values(), ids=WAYS)
def test_second_run_changes_nothing(project, settings):
    assert project.deployed(**settings)
    assert project.deployed(**settings) == []


def test_only_what_changed_is_done_again(project):
    project.deployed(DATABASE_URL=URL)
    assert project.deployed(DATABASE_URL=f" {URL}\n") == []
    assert project.deployed(DATABASE_URL=URL, MEMORY="1Gi") == ["functions deploy click-counter"]
    assert project.deployed(DATABASE_URL=URL + "&x=y", MEMORY="1Gi") == [
        f"secrets versions add {SECRET}",
        "functions deploy click-counter",
    ]


def test_function_that_failed_is_deployed_again(project):
    project.live()
    project.state["functions"]["click-counter"]["state"] = "FAILED"
    assert project.deployed() == ["functions deploy click-counter"]


def test_setting_stays_unless_it_is_set_and_is_taken_back_where_it_is_empty(project):
    settings = {"COUNTERS": "likes, post-*,", "MAX_COUNTERS": "50", "CLICKS_PER_MINUTE": "0",
                "ALLOWED_ORIGINS": "https://blog.example"}  # fmt: skip
    project.deployed(DATABASE_URL=URL, **settings)
    environment = project.state["functions"]["click-counter"]["env"]
    assert environment == {**settings, "COUNTERS": "likes,post-*"}
    assert project.deployed(DATABASE_URL=URL, **settings) == []
    assert project.deployed() == []
    assert project.deployed(ALLOWED_ORIGINS="", MAX_COUNTERS="7") == ["functions deploy click-counter"]
    assert environment == {"COUNTERS": "likes,post-*", "MAX_COUNTERS": "7", "CLICKS_PER_MINUTE": "0"}
    project.deployed(COUNTERS="", MAX_COUNTERS="", CLICKS_PER_MINUTE="")
    assert environment == {}
    assert project.deployed(COUNTERS="") == []


def test_another_postgres_stays_until_it_is_taken_back_and_cloud_sql_then_has_its_counts(project):
    project.deployed(DATABASE_URL=URL)
    assert project.deployed() == []
    project.deployed(DATABASE_URL="")
    check_password(project)
    assert project.deployed() == []
    project.deployed(DATABASE_URL=URL)
    assert project.state["services_run"]["click-counter"]["sockets"] == []
    assert project.state["secrets"][SECRET]["versions"][-1]["value"] == URL
    project.deployed(DATABASE_URL="")
    check_password(project)
    assert list(project.state["instances"]) == ["click-counter"]


def test_storage_has_a_limit_and_a_variable_chooses_it(project):
    project.deployed(STORAGE_GB="20")
    [create] = [call for call in project.cloud.changed if call[:3] == ["sql", "instances", "create"]]
    assert {"--storage-size=20", "--no-storage-auto-increase"} < set(create)


def test_visitors_come_to_what_was_deployed_even_after_a_roll_back(project):
    project.deployed(DATABASE_URL=URL)
    project.state["services_run"]["click-counter"]["traffic"] = [{"revisionName": "click-counter-1", "percent": 100}]
    assert project.deployed() == ["run services update-traffic click-counter"]
    assert project.deployed() == []


# --- Interruptions ----------------------------------------------------------------------------------------------


def fresh(project):
    pass


def live_with_another_postgres(project):
    project.deployed(DATABASE_URL=URL)


def live_without_its_url(project):
    """Its user gets a new password, for the newest version of the secret is gone."""
    project.live()
    project.state["secrets"][SECRET]["versions"][-1]["state"] = "DESTROYED"


def live(project):
    project.live()


def beside_others(project):
    others_instance(project)


def live_beside_others(project):
    others_instance(project)
    project.deployed(INSTANCE="prod")


INTERRUPTED = {
    "fresh": (fresh, [], {}),
    "fresh, with another Postgres": (fresh, [], {"DATABASE_URL": URL}),
    "from another Postgres to Cloud SQL": (live_with_another_postgres, [], {"DATABASE_URL": ""}),
    "into an instance that is there": (beside_others, [], {"INSTANCE": "prod"}),
    "a new password": (live_without_its_url, [], {"DATABASE_URL": ""}),
    "teardown": (live, ["--teardown", "--yes"], {}),
    "teardown with the database": (live, ["--teardown", "--with-database", "--yes"], {}),
    "teardown beside others": (live_beside_others, ["--teardown", "--with-database", "--yes"], {}),
}


@pytest.mark.parametrize(("prepare", "arguments", "settings"), INTERRUPTED.values(), ids=INTERRUPTED)
def test_after_an_interruption_anywhere_the_next_run_completes(project, prepare, arguments, settings):
    """After each change, its answer lost: the run says so; the same run and a deployment then end as they should.

    Before the next change is the same state, and to the script the same error.
    """
    cloud, again = project.cloud, {name: value for name, value in settings.items() if value} or settings
    prepare(project)
    start = copy.deepcopy(cloud.state)
    count = len(project.deployed(*arguments, **settings))
    complete = without_passwords(cloud.state)
    assert count >= 3
    for number in range(1, count + 1):
        cloud.state, cloud.interrupt = copy.deepcopy(start), (number, "after")
        done = project.deploy(*arguments, **settings)
        cloud.interrupt = None
        assert (done.returncode, len(project.changes)) == (2, number)
        assert "it goes on here" in done.stderr
        between = copy.deepcopy(cloud.state)
        project.deployed(*arguments, **again)
        assert without_passwords(cloud.state) == complete, f"{number}: {project.outputs}"
        if arguments:  # whoever changes his mind gets it all back
            cloud.state = copy.deepcopy(between)
            project.deployed()
        if not settings.get("DATABASE_URL"):
            check_password(project)
            assert all(instance["protected"] for instance in cloud.state["instances"].values())


def interrupted_at(project, command):
    """Run it until the answer to this change is lost."""
    start = copy.deepcopy(project.state)
    number = [change.startswith(command) for change in project.deployed()].index(True) + 1
    project.cloud.state, project.cloud.interrupt = start, (number, "after")
    assert project.deploy().returncode == 2
    project.cloud.interrupt = None


def without_passwords(state):
    """A state without what differs from run to run."""
    text = re.sub(r"[0-9a-f]{48}|2026-?11-?25[^']*", "…", repr(state))
    return re.sub(r"\{'value': '[^']*', 'state': 'DESTROYED'\}, ", "", text)


def test_look_up_that_fails_locks_the_function_out_of_nothing(project):
    """It once set a new password, and every later run believed the stored URL with the old one."""
    project.live()
    project.cloud.failing = {"secrets versions": ODD["no right"]}
    project.cloud.interrupt = (2, "before")
    project.deploy(DATABASE_URL="")
    project.cloud.failing, project.cloud.interrupt = {}, None
    project.deployed()
    check_password(project)


def test_interrupted_again_and_again_it_gets_there(project):
    project.live()
    project.deployed(DATABASE_URL=URL)
    for number, when in itertools.product(range(1, 6), ("before", "after")):
        project.cloud.interrupt = (number, when)
        project.deploy(DATABASE_URL="")
    project.cloud.interrupt = None
    project.deployed(DATABASE_URL="")
    check_password(project)


# --- Look-ups that fail -----------------------------------------------------------------------------------------

ODD = {
    "no right": f"PERMISSION_DENIED: Permission denied on resource projects/{NUMBER} (or it may not exist).",
    "503": "HttpError 503: backend error, trace 9f4047ab: upstream does not exist",
    "disabled": f"PERMISSION_DENIED: The API has not been used in project {NUMBER} before. reason: SERVICE_DISABLED",
    "a proxy": "HTTPError 404: <!DOCTYPE html><title>Error 404 (Not Found)!!1</title>",
    "something else": "NOT_FOUND: Requested entity was not found. Secret [projects/1/secrets/other] not found",
}
OTHERS = {
    "secrets describe": f"NOT_FOUND: Secret [projects/{NUMBER}/secrets/click-counter-2-database-url] not found.",
    "functions describe": "Resource 'projects/p/locations/europe-west1/functions/click-counter-2' was not found",
    "run services describe": "Cannot find service [click-counter-2]",
}  # what gcloud says of something else that is not there
LOOKS = ["auth list", "projects describe", "services list", "secrets describe", "functions describe",
         "iam service-accounts list", "secrets versions list", "secrets versions access", "sql instances list",
         "sql databases list", "sql users list", "projects get-iam-policy", "secrets get-iam-policy",
         "run services describe", "run services get-iam-policy"]  # fmt: skip


def test_every_look_up_is_in_this_list(project):
    project.deployed()
    looks = [" ".join(call) for call in project.cloud.calls if call not in project.cloud.changed]
    assert [look for look in looks if not look.startswith(tuple(LOOKS))] == []


@pytest.mark.parametrize("look", LOOKS)
def test_look_up_that_fails_is_not_taken_for_an_answer(project, look):
    project.live()
    for odd in [*ODD.values(), OTHERS[look]] if look in OTHERS else [ODD["no right"]]:
        project.cloud.failing = {look: f"ERROR: (gcloud.{look.replace(' ', '.')}) {odd}"}
        project.refused(odd, "The look-up changed nothing", "it goes on here")


def test_look_up_that_fails_on_the_way_is_no_absence(project):
    """Also in an empty project, and in a teardown."""
    for look in LOOKS:
        project.cloud.state = GoogleCloud().state
        project.cloud.failing = {look: ODD["no right"]}
        if project.deploy().returncode == 0:
            assert look in ("sql databases list", "sql users list", "secrets versions access")  # there is none yet
        project.cloud.failing = {}
        if project.changes:
            project.deployed()
            check_password(project)
    for look in ("secrets describe", "functions describe", "iam service-accounts list", "sql instances list",
                 "sql databases list"):  # fmt: skip
        project.cloud.failing = {look: ODD["no right"]}
        project.refused(ODD["no right"], arguments=["--teardown", "--with-database", "--yes"])


def test_what_gcloud_says_of_the_project_is_shown(project):
    project.refused("other-project] (or it may not exist)", "PROJECT_ID", PROJECT_ID="other-project")
    project.cloud.failing = {"projects describe": f"Cloud Resource Manager API has not been used in project {NUMBER}"}
    project.refused("Cloud Resource Manager API has not been used")


@pytest.mark.parametrize("cause", ["destroyed", "never stored", "list", "access"])
def test_url_that_is_not_there_any_more_is_asked_for(project, cause):
    """It once became a new Cloud SQL instance."""
    project.deployed(DATABASE_URL=URL)
    versions = project.state["secrets"][SECRET]["versions"]
    if cause == "destroyed":
        versions[-1]["state"] = "DESTROYED"
    elif cause == "never stored":
        versions.clear()
    else:
        project.cloud.silent = f"secrets versions {cause}"
    project.refused("holds no URL. Give DATABASE_URL again, or an empty one (DATABASE_URL= ./deploy.sh) for Cloud SQL")
    project.cloud.silent = ""
    project.deployed(DATABASE_URL=URL)
    assert versions[-1] == {"value": URL, "state": "ENABLED"}


def test_another_postgres_does_not_become_an_earlier_cloud_sql_again(project):
    project.live()
    project.deployed(DATABASE_URL=URL)
    project.state["secrets"][SECRET]["versions"][-1]["state"] = "DESTROYED"
    project.refused("holds no URL. Give DATABASE_URL again, or an empty one")
    project.deployed(DATABASE_URL="")
    check_password(project)


def test_disabled_version_of_the_secret_is_named(project):
    project.live()
    project.state["secrets"][SECRET]["versions"][-1]["state"] = "DISABLED"
    project.refused("version 1 of the secret", f"gcloud secrets versions enable 1 --secret={SECRET}")


# --- What is not its own ----------------------------------------------------------------------------------------


def others_function(state):
    state["functions"]["click-counter"] = {"state": "ACTIVE", "region": "europe-west1", "env": {}, "labels": {}}
    others_service(state)


def others_service(state):
    state["services_run"]["click-counter"] = {"region": "europe-west1", "sockets": [], "boost": False, "invokers": [],
                                              "unchecked": None, "traffic": []}  # fmt: skip


def others_secret(state):
    state["secrets"][SECRET] = {"labels": {}, "versions": [{"value": URL, "state": "ENABLED"}], "members": [],
                                "locations": ""}  # fmt: skip


def others_account(state):
    state["accounts"][ACCOUNT] = "Bills of the shop"


def account_of_another_counter(state):
    state["accounts"][ACCOUNT] = "Made by deploy.sh for the click counter likes"


def others_default_instance(state):
    state["instances"]["click-counter"] = {"state": "RUNNABLE", "region": "europe-west1", "tier": "db-f1-micro",
                                           "protected": True, "databases": ["shop"], "users": {}}  # fmt: skip


FOREIGN = {
    "function": (others_function, ["click-counter is there already", "FUNCTION=…"]),
    "Cloud Run service": (others_service, ["click-counter is there already", "FUNCTION=…"]),
    "secret": (others_secret, [f"the secret {SECRET} is there already", "FUNCTION=…"]),
    "service account": (others_account, ["the service account click-counter is there already", "SERVICE_ACCOUNT=…"]),
    "another counter's account": (account_of_another_counter, ["is there already", "SERVICE_ACCOUNT=…"]),
    "instance": (others_default_instance, ["a Cloud SQL instance click-counter is there already",
                                           "INSTANCE=click-counter moves into it"]),
}  # fmt: skip


@pytest.mark.parametrize(("make", "words"), FOREIGN.values(), ids=FOREIGN)
def test_what_somebody_else_made_is_neither_overwritten_nor_removed(project, make, words):
    project.state["services"] = [*SERVICES]
    make(project.state)
    project.refused(*words)
    before = copy.deepcopy(project.state)
    done = project.deploy("--teardown", "--with-database", "--yes")
    assert done.returncode == 0
    assert (project.changes, project.state) == ([], before)


@pytest.mark.parametrize(("make", "words"), FOREIGN.values(), ids=FOREIGN)
def test_service_that_is_not_enabled_hides_nothing(project, make, words):
    """Enabled it is, and then looked at."""
    make(project.state)
    before = copy.deepcopy(project.state)
    done = project.deploy()
    assert done.returncode == 2
    assert [word for word in words if word not in done.stderr] == []
    assert {**project.state, "services": []} == before


def test_service_that_was_disabled_later_hides_nothing_either(project):
    others_instance(project)
    project.deployed(INSTANCE="prod")
    project.state["services"].remove("sqladmin.googleapis.com")
    assert project.deployed() == ["services enable sqladmin.googleapis.com"]
    project.state["services"].remove("sqladmin.googleapis.com")
    done = project.deploy(INSTANCE="other")
    assert "the counts of click-counter are in INSTANCE=prod" in done.stderr
    assert project.changes == ["services enable sqladmin.googleapis.com"]


def test_secret_whose_service_was_disabled_later_is_still_read(project):
    others_instance(project)
    project.deployed(INSTANCE="prod")
    project.state["services"].remove("secretmanager.googleapis.com")
    assert project.deployed() == ["services enable secretmanager.googleapis.com"]
    before = copy.deepcopy(project.state["instances"])
    project.cloud.state = GoogleCloud().state
    project.state["instances"] = before
    project.deployed(DATABASE_URL=SOCKETS["host"])
    assert project.state["services_run"]["click-counter"]["sockets"] == ["my-project:us-central1:prod"]


@pytest.mark.parametrize("service", ["cloudfunctions", "run", "secretmanager"])
def test_teardown_looks_as_soon_as_one_service_is_enabled(project, service):
    project.state["services"] = [f"{service}.googleapis.com"]
    project.refused("SERVICE_DISABLED", arguments=["--teardown", "--with-database", "--yes"])
    project.state["services"] = ["iam.googleapis.com", "sqladmin.googleapis.com"]
    assert project.deployed("--teardown", "--with-database", "--yes") == []
    assert "cloudfunctions, run and secretmanager are not enabled" in project.outputs


@pytest.mark.parametrize("service", ["cloudfunctions", "iam", "sqladmin", "secretmanager"])
def test_teardown_does_not_take_what_it_cannot_see_for_absent(project, service):
    project.live()
    project.state["services"].remove(f"{service}.googleapis.com")
    project.refused("SERVICE_DISABLED", arguments=["--teardown", "--with-database", "--yes"])


def test_instance_that_its_owner_deleted_is_ones_own_when_it_is_made_again(project):
    others_instance(project)
    project.deployed(INSTANCE="prod")
    del project.state["instances"]["prod"]
    project.deployed()
    assert check_password(project) == "prod"
    project.deployed("--teardown", "--with-database", "--yes")
    assert project.state["instances"] == {}


def test_service_that_was_just_enabled_is_waited_for(project):
    project.cloud.lag = 3
    assert project.deploy().returncode == 0
    assert project.outputs.count("trying again in 10 s") == 3


def test_labels_of_somebody_elses_secret_are_no_record(project):
    others_instance(project)
    others_secret(project.state)
    project.state["secrets"][SECRET]["labels"] = {"instance": "prod", "instance_made": "yes", "database": "shop"}
    assert project.deployed("--teardown", "--with-database", "--yes") == []


HALVES = [
    {"made_by": "click-counter"},
    {"made_by": "click-counte"},
    {"made_by": "click-counter", "region": "europe-west1"},
    {"made_by": "click-counter", "region": "europe-west1", "account": "click-counter", "instance": "prod"},
    {"made_by": "click-counter", "region": "europe-west1", "account": "click-counter", "database": "shop"},
    *({"made_by": "click-counter", "region": "europe-west1", "account": "click-counter", "instance": "prod",
       "instance_made": made, name: "shop"} for made in ("no", "20200202020202222") for name in ("database", "user")),
    {"made_by": "me", "region": "europe-west1", "account": "click-counter", "instance": "prod", "instance_made": "no",
     "database": "shop", "user": "shop"},
]  # fmt: skip


def test_half_a_record_is_none(project):
    others_instance(project)
    others_secret(project.state)
    for labels in HALVES:
        project.state["secrets"][SECRET]["labels"] = labels
        before = copy.deepcopy(project.state)
        done = project.deploy("--teardown", "--with-database", "--yes")
        assert (done.returncode, project.state) == (0, before)
        project.refused(f"the secret {SECRET} is there already", DATABASE_URL="")


@pytest.mark.parametrize("kind", ["functions", "accounts", "secrets"])
def test_teardown_leaves_what_somebody_else_made_beside_what_it_removes(project, kind):
    project.live()
    if kind == "accounts":
        project.state["accounts"][ACCOUNT] = "Bills of the shop"
    else:
        [resource] = project.state[kind].values()
        resource["labels"]["made_by"] = "me"
    project.refused("is there already, and this script did not make it")
    assert project.deployed("--teardown", "--with-database", "--yes")
    assert {name for name in ("functions", "accounts", "secrets") if project.state[name]} == {kind}
    assert list(project.state["instances"]) == (["click-counter"] if kind == "secrets" else [])
    assert "which this script did not make" in project.outputs


def test_service_that_a_removed_function_left_is_named(project):
    project.live()
    del project.state["functions"]["click-counter"]
    remedy = "gcloud run services delete click-counter --region=europe-west1 --project=my-project"
    project.refused("click-counter is there already", "FUNCTION=…", remedy)


def test_instance_that_somebody_else_made_after_a_creation_that_was_forbidden_is_not_its_own(project):
    for settings in ({"INSTANCE": "prod"}, {}):
        project.cloud.state, project.cloud.policies = GoogleCloud().state, {"addresses"}
        assert project.deploy(**settings).returncode == 2
        assert "restrictPublicIp" in project.outputs
        project.cloud.policies = set()
        others_instance(project)
        name = settings.get("INSTANCE", "click-counter")
        instance = project.state["instances"][name] = project.state["instances"].pop("prod")
        instance["databases"], instance["users"] = ["clicks"], {"clicks": "theirs"}
        before = copy.deepcopy(instance)
        project.refused(f"INSTANCE={name} moves into it")
        project.refused("the database clicks in the instance", INSTANCE=name)
        done = project.deploy("--teardown", "--with-database", answer="n\n")
        assert f"the Cloud SQL instance {name}, which this script did not make" in done.stderr
        project.deployed(INSTANCE=name, DATABASE="likes", DATABASE_USER="likes")
        assert check_password(project) == name
        assert project.deployed() == []
        project.deployed("--teardown", "--with-database", "--yes")
        assert project.state["instances"] == {name: before}


def test_instance_that_somebody_else_made_under_the_name_of_a_deleted_one_is_not_its_own(project):
    project.live()
    project.state["instances"]["click-counter"].update(created="2027-01-01T00:00:00.000Z", users={"clicks": "theirs"})
    before = copy.deepcopy(project.state["instances"])
    project.refused("INSTANCE=click-counter moves into it")
    project.refused("clicks in the instance click-counter is there already", INSTANCE="click-counter")
    project.deployed("--teardown", "--with-database", "--yes")
    assert (project.state["instances"], project.state["secrets"]) == (before, {})


def test_instance_whose_owner_changed_its_settings_is_still_its_own(project):
    project.live()
    project.state["instances"]["click-counter"].update(backup="12:00", grows=True, tier="db-g1-small")
    assert project.deployed() == []
    project.deployed("--teardown", "--with-database", "--yes")
    assert project.state["instances"] == {}


@pytest.mark.parametrize(("kind", "variable"), [("databases", "DATABASE"), ("users", "DATABASE_USER")])
def test_database_and_user_of_somebody_else_are_refused_too(project, kind, variable):
    others_instance(project)
    instance = project.state["instances"]["prod"]
    if kind == "users":
        instance["users"]["clicks"] = "theirs"
    else:
        instance["databases"].append("clicks")
    project.refused("clicks in the instance prod is there already", f"{variable}=…", INSTANCE="prod")
    project.deployed(INSTANCE="prod", **{variable: "likes"})
    project.deployed("--teardown", "--with-database", "--yes")
    assert "clicks" in instance[kind]
    assert "likes" not in instance[kind]


def test_instance_that_is_moved_into_keeps_everything_but_what_was_made_in_it(project):
    before = others_instance(project)
    project.deployed(INSTANCE="prod")
    assert check_password(project) == "prod"
    stored = project.state["secrets"][SECRET]["versions"][-1]["value"]
    assert stored.endswith("@/clicks?host=/cloudsql/my-project:us-central1:prod")
    assert project.state["instances"]["prod"]["databases"] == ["shop", "crm", "clicks"]
    assert project.deployed() == []  # and the next run stays there
    project.refused("the counts of click-counter are in INSTANCE=prod", INSTANCE="other")
    project.refused("the counts of click-counter are in INSTANCE=prod", DATABASE="other")
    done = project.deploy("--teardown", "--with-database", answer="y\n")
    assert "the database clicks WITH ALL COUNTS, and the user clicks, in the Cloud SQL instance prod" in done.stderr
    assert "the Cloud SQL instance prod and all else in it: shop,crm,user shop" in done.stderr
    assert project.state["instances"] == {"prod": before}
    assert (project.state["secrets"], project.state["functions"], project.state["accounts"]) == ({}, {}, {})


def test_instance_that_is_moved_into_is_kept_even_where_it_holds_nothing_else(project):
    others_instance(project)
    project.state["instances"]["prod"]["databases"] = []  # but `postgres`, which may hold anything
    project.deployed(INSTANCE="prod")
    project.deployed("--teardown", "--with-database", "--yes")
    assert project.state["instances"]["prod"]["protected"]


def test_own_instance_in_which_somebody_else_has_a_database_or_a_user_is_kept(project):
    project.live()
    project.state["instances"]["click-counter"]["databases"].append("shop")
    done = project.deploy("--teardown", "--with-database", "--yes")
    assert (done.returncode, "all else in it: shop\n" in done.stderr) == (0, True)
    assert project.state["instances"]["click-counter"]["databases"] == ["shop"]
    assert project.state["instances"]["click-counter"]["protected"]
    project.live()
    project.state["instances"]["click-counter"]["users"]["alice"] = "hers"
    done = project.deploy("--teardown", "--with-database", "--yes")
    assert (done.returncode, "all else in it: user alice\n" in done.stderr) == (0, True)
    assert project.state["instances"]["click-counter"]["users"] == {"alice": "hers"}


def test_two_counters_in_one_project_share_nothing_but_what_they_are_told_to(project, shared):
    project.live()
    first = copy.deepcopy(project.state)
    project.refused("INSTANCE=click-counter moves into it", FUNCTION="second-counter")
    second = {"FUNCTION": "second-counter", "INSTANCE": "click-counter"}
    project.refused("DATABASE=…", **second)
    project.deployed(**second, DATABASE="second", DATABASE_USER="second")
    project.deployed("--teardown", "--with-database", "--yes", FUNCTION="second-counter")
    assert project.state == first


def test_instance_that_another_counter_made_after_a_creation_that_was_forbidden_is_that_counters(project):
    second = {"FUNCTION": "second-counter", "INSTANCE": "click-counter"}
    project.cloud.policies = {"addresses"}
    assert project.deploy(**second).returncode == 2
    project.cloud.policies = set()
    project.deployed()
    before = copy.deepcopy(project.state["instances"])
    project.refused("the database clicks in the instance click-counter is there already", **second)
    done = project.deploy("--teardown", "--with-database", "--yes", **second)
    assert (done.returncode, "the Cloud SQL instance click-counter, which this script did not make" in done.stderr) == (
        0,
        True,
    )
    assert project.state["instances"] == before
    assert SECRET in project.state["secrets"]


def test_name_of_an_instance_that_is_gone_can_be_exchanged(project):
    """Google keeps the name of a deleted instance for a week."""
    project.live()
    project.state["instances"].clear()
    project.deployed(INSTANCE="click-counter-2")
    assert check_password(project) == "click-counter-2"
    assert project.deployed() == []


def test_other_region_is_refused_and_the_recorded_one_goes_on(project):
    project.deployed(REGION="us-east1")
    assert project.deployed() == []
    for arguments in ([], ["--teardown", "--yes"]):
        project.refused("click-counter was deployed with REGION=us-east1", REGION="europe-west1", arguments=arguments)
    project.deployed("--teardown", "--with-database", "--yes")
    assert (project.state["functions"], project.state["instances"]) == ({}, {})


# --- Policies ---------------------------------------------------------------------------------------------------


def test_policy_against_all_users_leaves_a_function_that_works_and_names_the_remedy(project):
    project.cloud.policies = {"domains"}
    done = project.deploy()
    assert done.returncode == 2
    assert "do not belong to a permitted customer" in done.stderr
    remedy = (
        "gcloud run services update click-counter --region=europe-west1 --project=my-project --no-invoker-iam-check"
    )
    assert remedy in done.stderr
    assert project.state["services_run"]["click-counter"]["sockets"] == [CONNECTION]
    project.state["services_run"]["click-counter"]["unchecked"] = "true"  # what the remedy does
    assert project.deployed() == []


@pytest.mark.parametrize("words", ["constraints/iam.managed.allowedPolicyMembers", "not in permitted organization"])
def test_policy_against_all_users_is_known_in_its_other_words_too(project, words):
    project.cloud.policies = {"domains"}
    project.cloud.words = f"allUsers is {words}"
    done = project.deploy()
    assert (done.returncode, "--no-invoker-iam-check" in done.stderr) == (2, True)


def test_policy_on_locations_is_met_by_a_variable(project):
    project.cloud.policies = {"locations"}
    done = project.deploy()
    assert (done.returncode, "SECRET_LOCATIONS=europe-west1,europe-west4" in done.stderr) == (2, True)
    project.deployed(SECRET_LOCATIONS="europe-west1,europe-west4")
    assert project.state["secrets"][SECRET]["locations"] == "europe-west1,europe-west4"


# --- What is checked first --------------------------------------------------------------------------------------

SETTINGS = [
    ("COUNTERS", "likes,post-*", True),
    ("COUNTERS", " likes , post-* ,,", True),
    ("COUNTERS", "a:/b-c.d_E*", True),
    ("COUNTERS", "*", False),
    ("COUNTERS", "a" * 100 + "*", True),
    ("COUNTERS", "a" * 101, False),
    ("COUNTERS", "post-**", False),
    ("COUNTERS", "two words", False),
    ("COUNTERS", "gefällt", False),
    ("COUNTERS", " , ", False),
    ("COUNTERS", "likes\u00a0", False),
    ("COUNTERS", "\x1flikes", False),
    ("COUNTERS", "\t\n\v\f\r likes\r\n", True),
    ("COUNTERS", "a;b", False),
    ("MAX_COUNTERS", "0", True),
    ("MAX_COUNTERS", " 999999999 ", True),
    ("MAX_COUNTERS", "08", True),
    ("MAX_COUNTERS", "1000000000", False),
    ("MAX_COUNTERS", "1,000", False),
    ("MAX_COUNTERS", "5,", False),
    ("MAX_COUNTERS", ",5", False),
    ("MAX_COUNTERS", " ", False),
    ("MAX_COUNTERS", "٣", False),
    ("MAX_COUNTERS", "5\u2003", False),
    ("MAX_COUNTERS", "-1", False),
    ("MAX_COUNTERS", "many", False),
    ("CLICKS_PER_MINUTE", "0", True),
    ("CLICKS_PER_MINUTE", "600", True),
    ("CLICKS_PER_MINUTE", "1.5", False),
    ("CLICKS_PER_MINUTE", "none", False),
    ("ALLOWED_ORIGINS", "https://blog.example", True),
    ("ALLOWED_ORIGINS", "https://blog.example, http://localhost:8000,https://[::1]:8443", True),
    ("ALLOWED_ORIGINS", "http://a_b.example:443", True),
    ("ALLOWED_ORIGINS", "https://blog.example, ,", True),
    ("ALLOWED_ORIGINS", ",", True),
    ("ALLOWED_ORIGINS", " , ", True),
    ("ALLOWED_ORIGINS", " ", True),
    ("ALLOWED_ORIGINS", "https://blog.example:٣", False),
    ("ALLOWED_ORIGINS", "https://blog.example\u00a0", False),
    ("ALLOWED_ORIGINS", "https://blog.example/", False),
    ("ALLOWED_ORIGINS", "https://blog.example/post", False),
    ("ALLOWED_ORIGINS", "https://Blog.example", False),
    ("ALLOWED_ORIGINS", "https://blog.example:443", False),
    ("ALLOWED_ORIGINS", "http://blog.example:80", False),
    ("ALLOWED_ORIGINS", "https://blog.example:123456", False),
    ("ALLOWED_ORIGINS", "blog.example", False),
    ("ALLOWED_ORIGINS", "https://*.example", False),
    ("ALLOWED_ORIGINS", "*", False),
    ("ALLOWED_ORIGINS", "null", False),
]  # fmt: skip


# The function's start with each of the settings, in a fork, for importing the framework takes long.
STARTS = """
import json, os, sys, functions_framework.aio
for setting in json.load(sys.stdin):
    read, write = os.pipe()
    if not os.fork():
        os.dup2(write, 2)
        os.environ.update([setting])
        import main
        os._exit(0)
    os.close(write)
    said = os.fdopen(read).read()
    print(json.dumps([os.waitstatus_to_exitcode(os.wait()[1]), said]), flush=True)
"""


def test_the_script_and_the_function_take_the_same_settings(project):
    """One table, sent through both. The script judges DATABASE_URL last: a malformed one ends the run."""
    rows = json.dumps([row[:2] for row in SETTINGS])
    environment = {"PATH": os.environ["PATH"], "DATABASE_URL": URL}
    done = subprocess.run([sys.executable, "-c", STARTS], input=rows, text=True, env=environment, cwd=ROOT,
                          capture_output=True)  # fmt: skip
    starts = [json.loads(line) for line in done.stdout.splitlines()]
    wrong = []
    for (variable, value, right), (code, said) in zip(SETTINGS, starts, strict=True):
        done = project.deploy("--dry-run", DATABASE_URL="host=h", **{variable: value})
        blames = re.match("deploy.sh: ([A-Z_]*)", done.stderr)[1]
        if (blames, code, variable in said) != (("DATABASE_URL", 0, False) if right else (variable, 1, True)):
            wrong.append((variable, value, done.stderr, said))
    assert wrong == []
    assert project.cloud.calls == []


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"PROJECT_ID": ""}, "PROJECT_ID is missing. Run: PROJECT_ID=my-project ./deploy.sh"),
        ({"PROJECT_ID": "My Project"}, "PROJECT_ID='My Project' is malformed"),
        ({"REGION": "europe west"}, "REGION='europe west' is malformed: write it like europe-west1"),
        ({"FUNCTION": "a;b"}, "FUNCTION='a;b' is malformed"),
        ({"SERVICE_ACCOUNT": "$(id)"}, "SERVICE_ACCOUNT='$(id)' is malformed"),
        ({"DATABASE_USER": "o'neil"}, "DATABASE_USER='o'neil' is malformed"),
        ({"INSTANCE": "i" * 63}, "is longer than 107 bytes"),
        ({"SECRET_LOCATIONS": "Europe"}, "SECRET_LOCATIONS='Europe' is malformed"),
        ({"STORAGE_GB": "9"}, "STORAGE_GB='9' is malformed: a whole number from 10 to 3000"),
        ({"STORAGE_GB": "3001"}, "STORAGE_GB='3001' is malformed"),
        ({"DATABASE": "postgres"}, "DATABASE=postgres is Cloud SQL's own. Choose another name"),
        ({"DATABASE": "template1"}, "DATABASE=template1 is Cloud SQL's own"),
        ({"DATABASE_USER": "cloudsqlsuperuser"}, "DATABASE_USER=cloudsqlsuperuser is Cloud SQL's own"),
        ({"RUNTIME": "python310"}, "RUNTIME='python310' is malformed: python311 or newer"),
        ({"CPU": "3"}, "CPU='3' is malformed: 1, 2, 4, 6 or 8"),
        ({"CPU": "0.5"}, "less than one would take one request at a time"),
        ({"CPU": "4"}, "MEMORY=512Mi does not go with CPU=4, which takes 2048Mi to 16384Mi"),
        ({"MEMORY": "512"}, "MEMORY='512' is malformed: write it like 512Mi or 1Gi"),
        ({"MEMORY": "8Gi"}, "MEMORY=8Gi does not go with CPU=1, which takes 128Mi to 4096Mi"),
        ({"CONCURRENCY": "1001"}, "CONCURRENCY='1001' is malformed: a whole number from 1 to 1000"),
        ({"MAX_INSTANCES": "08"}, "MAX_INSTANCES='08' is malformed"),
        ({"MIN_INSTANCES": "9"}, "MIN_INSTANCES=9 is more than MAX_INSTANCES=8"),
        ({"MAX_INSTANCES": "10"}, "10 x 1 connection, twice while a new revision takes over, and 6 for administration: "
                                  "26 of the 25 that the database takes. Lower it to 9"),
        ({"MAX_INSTANCES": "10", "CONNECTIONS": "20", "DATABASE_URL": URL}, "26 of the 20 that"),
        ({"ALLOWED_ORIGINS": "https://blog.example/"}, "'https://blog.example/' ends with a slash. Write it without: "
                                                       "https://blog.example\n"),
        ({"ALLOWED_ORIGINS": "https://a:443"}, "names the default port. Write it without: https://a\n"),
    ],
)  # fmt: skip
def test_bad_setting_is_refused_before_anything_is_done(project, variables, words):
    project.state["services"] = [*SERVICES]
    project.refused(words, **variables)
    if " of the " not in words and "bytes" not in words:  # for these it has to look first
        assert project.cloud.calls == []


BAD_URLS = {
    "mysql://u:hunter2@h/d": "DATABASE_URL cannot be understood. It looks like postgresql://",
    "'postgresql://u:hunter2@h/d'": "begins or ends with a quote",
    '"postgresql://u:hunter2@h/d"': "begins or ends with a quote",
    "postgresql://u:hunter2@h/d'": "begins or ends with a quote",
    "`postgresql://u:hunter2@h/d`": "begins or ends with a quote",
    "“postgresql://u:hunter2@h/d”": "begins or ends with a quote",
    "‘postgresql://u:hunter2@h/d’": "begins or ends with a quote",  # noqa: RUF001
    "psql 'postgresql://u:hunter2@h/d'": "the whole psql command",
    "PGPASSWORD=hunter2 psql -h h -U u d": "the whole psql command",
    "DATABASE_URL=postgresql://u:hunter2@h/d": "holds its own name once more",
    "DATABASE_URL: postgresql://u:hunter2@h/d": "holds its own name once more",
    "export DATABASE_URL='postgresql://u:hunter2@h/d'": "holds its own name once more",
    "set DATABASE_URL=postgresql://u:hunter2@h/d": "holds its own name once more",
    '$env:DATABASE_URL="postgresql://u:hunter2@h/d"': "holds its own name once more",
    'POSTGRES_URL="postgresql://u:hunter2@h/d"': "holds its own name once more",
    "jdbc:postgresql://h:5432/d?user=u&password=hunter2": "written for Java",
    "host=h user=u password=hunter2 dbname=d": "a list of words",
    "User Id=u;Password=hunter2;Server=h": "a list of words",
    "Host=h;Username=u;Password=hunter2;Database=d": "a list of words",
    "postgresql://u:[YOUR-PASSWORD]@h/d": "holds a placeholder",
    "postgresql://clicks:hunter2@/clicks?host=/cloudsql/PROJECT_ID:REGION:click-counter": "holds a placeholder",
    "postgresql://u:hunter2@/d?host=/tmp/cloudsql/my-project:europe-west1:db": "names a socket of this machine",
    "postgresql://u:hunter2@h:65536/d": "the port must be a number",
    "postgresql://u:hunter2%@h/d": "Write %25",
    "postgresql://u:hunter2@h/d?sslrootcert=main.py": "put it into static/, and write sslrootcert=static/NAME",
    "postgresql://u:hunter2@h/d?sslrootcert=": "is not uploaded",
    "postgresql://u:hunter2@h/d?sslrootcert=static/hunter.pem": "is not uploaded",
    "postgresql://u:hunter2@h/d?sslrootcert=/workspace/static/hunter.pem": "is not uploaded",
    "postgresql://u:hunter2@h/d?sslrootcert=%2Fhome%2Fhunter%2Fca.pem": "is not uploaded",
    "postgresql://u:hunter2@h/d?sslrootcert=static/../README.md": "is not uploaded",
    "postgresql://u:hunter2@/d?host=/cloudsql/theirs:europe-west1:db": "names no Cloud SQL instance of my-project",
    "postgresql://u:hunter2@/d?host=/cloudsql/my-project:r:db&port=6543": "is at /cloudsql/my-project:r:db/.s",
    "sqlite:///clicks.sqlite3": "must name a Postgres",
}


def test_database_url_that_cannot_work_is_told_from_one_that_can(project):
    wrong = {}
    for url, words in BAD_URLS.items():
        done = project.deploy("--dry-run", DATABASE_URL=url)
        found = re.findall("^deploy.sh: (DATABASE_URL.*)", done.stderr, re.MULTILINE)
        if done.returncode != 2 or len(found) != 1 or words not in found[0]:
            wrong[url] = done.stderr
    assert wrong == {}
    assert "hunter" not in project.outputs
    project.refused("DATABASE_URL cannot be understood", DATABASE_URL="nonsense")
    assert project.cloud.calls == []


GOOD_URLS = [
    URL,
    "postgresql+pg8000://u:p@[::1]:5432/d?sslmode=verify-full&sslrootcert=system",
    "postgresql://u:p@h/d?sslrootcert=/etc/ssl/certs/ca-certificates.crt",
    "postgresql://u:p@h/d?sslrootcert=static/index.html",
    "postgresql://u:p@h/d?sslrootcert=%2Fworkspace%2Fstatic%2Findex.html",
    "postgresql://u:DATABASE_PASSWORD1@h/d",
    "postgresql://u:host=x@h/d",
]


def test_database_url_that_works_is_taken(project):
    for url in GOOD_URLS:
        done = project.deploy("--dry-run", DATABASE_URL=f" {url}\n")
        assert (done.returncode, "gcloud sql" in done.stdout) == (0, False), (url, done.stderr)


def test_python_that_is_missing_or_too_old_to_read_the_url_is_named(project, tmp_path):
    for name in ("deploy.sh", "database_url.py", "batch.py"):  # without .venv
        shutil.copy(ROOT / name, tmp_path)
    for program in ("bash", "env", "dirname", "mktemp", "rm"):
        (tmp_path / "bin" / program).symlink_to(shutil.which(program))
    project.environment["PATH"] = str(tmp_path / "bin")
    project.refused("python3, which is missing", script=tmp_path / "deploy.sh", DATABASE_URL=URL)
    old = f"""#!/bin/sh\nexec {sys.executable} -c 'import sys; sys.version_info = (3, 10); exec(sys.argv[1])' "$2"\n"""
    (tmp_path / "bin" / "python3").write_text(old)
    (tmp_path / "bin" / "python3").chmod(0o755)
    project.refused("Python 3.11 or newer", script=tmp_path / "deploy.sh", DATABASE_URL=URL)


SOCKETS = {
    "host": "postgresql://u:hunter2@/d?host=/cloudsql/my-project:us-central1:prod",
    "quoted": "postgresql://u:hunter2@%2Fcloudsql%2Fmy-project%3Aus-central1%3Aprod/d",
    "unix_sock": "postgresql+pg8000://u:hunter2@/d?unix_sock=/cloudsql/my-project:us-central1:prod/.s.PGSQL.5432",
}


def test_url_of_the_projects_own_cloud_sql_gets_the_socket_and_the_role_and_nothing_else(project):
    before = others_instance(project)
    url = SOCKETS["host"]
    project.refused("100 that the database takes", DATABASE_URL=url, MAX_INSTANCES="60")
    project.deployed(DATABASE_URL=url)
    assert project.state["services_run"]["click-counter"]["sockets"] == ["my-project:us-central1:prod"]
    assert project.state["roles"] == [["roles/cloudsql.client", f"serviceAccount:{ACCOUNT}"]]
    assert project.deployed() == []
    project.deployed("--teardown", "--with-database", "--yes")
    assert project.state["instances"] == {"prod": before}


def test_url_of_the_projects_own_cloud_sql_is_known_in_every_spelling(project):
    for url in SOCKETS.values():
        done = project.deploy("--dry-run", DATABASE_URL=url)
        assert "--set-cloudsql-instances=my-project:us-central1:prod" in done.stdout.split()
        assert "sql instances create" not in done.stdout


def test_url_that_readme_tells_to_export_is_still_the_same_database(project):
    project.live()
    stored = project.state["secrets"][SECRET]["versions"][-1]["value"]
    assert project.deployed(DATABASE_URL=stored) == []
    done = project.deploy("--dry-run", DATABASE_URL=stored, MAX_INSTANCES="10")
    assert (done.returncode, "26 of the 25" in done.stderr) == (2, True)
    project.refused("there is no Cloud SQL instance gone", DATABASE_URL=stored.replace("click-counter", "gone"))
    elsewhere = SOCKETS["host"].replace("prod", "click-counter")
    project.refused("is at /cloudsql/my-project:europe-west1", DATABASE_URL=elsewhere)
    project.refused("is at /cloudsql/my-project:europe-west1", DATABASE_URL=f"{stored}&port=6543")


def test_tier_of_an_instance_that_is_there_decides_how_many_instances_it_takes(project):
    assert project.deploy("--dry-run", MAX_INSTANCES="22", TIER="db-g1-small").returncode == 0
    others_instance(project)
    project.deployed(INSTANCE="prod", MAX_INSTANCES="40")


def test_instance_that_is_stopped_is_named_and_one_in_the_making_waited_for(project):
    others_instance(project)["state"] = "STOPPED"
    project.state["instances"]["prod"]["state"] = "STOPPED"
    project.refused("prod is STOPPED", "--activation-policy=ALWAYS", INSTANCE="prod")
    project.state["instances"]["prod"]["state"] = "PENDING_CREATE"
    project.refused("PENDING_CREATE for 20 minutes", "it goes on here", INSTANCE="prod")


# --- And back ---------------------------------------------------------------------------------------------------


def test_teardown_names_what_goes_and_what_stays_and_asks(project):
    project.live()
    for answer in ("n\n", "", "yes\n"):
        done = project.deploy("--teardown", answer=answer)
        assert (done.returncode, "nothing was removed" in done.stderr, project.changes) == (2, True, [])
    goes, stays = done.stderr.partition("To be removed from my-project:\n")[2].split("To be kept:\n")
    assert "the function click-counter in europe-west1" in goes
    assert "the service account click-counter" in goes
    assert "the counts: database clicks and user clicks in the Cloud SQL instance click-counter" in stays
    assert f"the secret {SECRET}" in stays


def test_teardown_keeps_the_counts_unless_told_otherwise_and_finds_them_again(project):
    project.live()
    password = project.state["instances"]["click-counter"]["users"]["clicks"]
    assert project.deploy("--teardown", answer="y\n").returncode == 0
    assert (project.state["functions"], project.state["accounts"], project.state["roles"]) == ({}, {}, [])
    assert project.state["instances"]["click-counter"]["databases"] == ["clicks"]
    assert project.deployed("--teardown", "--yes") == []
    project.deployed()
    check_password(project)
    assert project.state["instances"]["click-counter"]["users"]["clicks"] == password
    project.deployed("--teardown", "--yes")
    project.deployed("--teardown", "--with-database", "--yes")
    assert (project.state["instances"], project.state["secrets"]) == ({}, {})
    done = project.deploy("--teardown", "--with-database", "--yes")
    assert (done.returncode, "There is nothing to remove" in done.stderr, project.changes) == (0, True, [])


def test_teardown_removes_the_secret_of_another_postgres(project):
    project.deployed(DATABASE_URL=URL)
    project.deployed("--teardown", "--yes")
    assert (project.state["secrets"], project.state["functions"], project.state["accounts"]) == ({}, {}, {})


def test_teardown_without_the_record_leaves_the_database(project):
    project.live()
    del project.state["secrets"][SECRET]
    done = project.deploy("--teardown", "--with-database", "--yes")
    assert (done.returncode, "no secret of this script records" in done.stderr) == (0, True)
    assert (list(project.state["instances"]), project.state["functions"]) == (["click-counter"], {})


def test_database_whose_record_is_lost_is_used_again_by_its_url(project):
    project.live()
    del project.state["secrets"][SECRET]
    project.refused("INSTANCE=click-counter moves into it")
    project.refused("the database clicks in the instance click-counter is there already", INSTANCE="click-counter")
    url = f"postgresql://clicks:new@/clicks?host=/cloudsql/{CONNECTION}"
    project.deployed(DATABASE_URL=url)
    assert project.deployed() == []
    assert project.state["secrets"][SECRET]["versions"][-1]["value"] == url


def test_teardown_says_that_the_recorded_instance_is_not_there_any_more(project):
    project.live()
    project.cloud.silent = "sql instances list"
    done = project.deploy("--teardown", "--with-database", answer="n\n")
    gone = f"the secret {SECRET}, and in it the record of the Cloud SQL instance click-counter, which"
    assert (done.returncode, gone in done.stderr, project.changes) == (2, True, [])


def test_teardown_of_another_instance_than_the_recorded_one_is_refused(project):
    others_instance(project)
    project.deployed()
    arguments = ["--teardown", "--with-database", "--yes"]
    project.refused("are in INSTANCE=click-counter", INSTANCE="prod", arguments=arguments)
    project.refused("are in INSTANCE=click-counter", DATABASE="shop", arguments=arguments)


def test_name_for_cloud_sql_beside_another_postgres_is_not_ignored(project):
    others_instance(project)
    project.deployed(DATABASE_URL=URL)
    words = "the counts are in the Postgres of DATABASE_URL", "run with DATABASE_URL= as well"
    project.refused(*words, INSTANCE="prod")
    project.refused(*words, DATABASE="prod", DATABASE_URL=URL)
    project.refused(*words, DATABASE_USER="prod", DATABASE_URL=SOCKETS["host"])
    project.deployed(INSTANCE="prod", DATABASE_URL="")
    assert check_password(project) == "prod"


def test_short_name_needs_another_for_the_service_account_only_once(project):
    project.state["services"] = [*SERVICES]
    project.refused("FUNCTION=likes cannot name the service account", FUNCTION="likes")
    project.deployed(FUNCTION="likes", SERVICE_ACCOUNT="likes-account")
    assert project.deployed(FUNCTION="likes") == []
    project.deployed("--teardown", "--with-database", "--yes", FUNCTION="likes")
    assert (project.state["accounts"], project.state["secrets"]) == ({}, {})


def test_service_account_of_another_name_is_recorded(project):
    project.deployed(SERVICE_ACCOUNT="likes-account")
    assert project.deployed() == []
    project.refused("click-counter was deployed with SERVICE_ACCOUNT=likes-account", SERVICE_ACCOUNT="another")
    project.deployed("--teardown", "--yes")
    assert project.state["accounts"] == {}


def test_question_is_the_last_chance_also_beside_others(project):
    others_instance(project)
    project.deployed(INSTANCE="prod")
    before = copy.deepcopy(project.state)
    assert project.deploy("--teardown", "--with-database", answer="n\n").returncode == 2
    assert project.state == before


def test_instance_that_failed_is_removed_only_where_it_never_held_anything(project):
    arguments = ["--teardown", "--with-database", "--yes"]
    project.live()
    project.state["instances"]["click-counter"]["state"] = "FAILED"
    project.refused("click-counter is FAILED", "./deploy.sh --teardown --with-database")
    project.refused("gcloud sql instances describe click-counter", arguments=arguments)
    project.cloud.state = GoogleCloud().state
    interrupted_at(project, "sql instances create")
    project.state["instances"]["click-counter"]["state"] = "FAILED"
    project.deployed(*arguments)
    assert (project.state["instances"], project.state["secrets"]) == ({}, {})


def test_teardown_leaves_a_stopped_instance_alone(project):
    project.live()
    project.state["instances"]["click-counter"]["state"] = "STOPPED"
    project.deployed("--teardown", "--yes")
    assert (list(project.state["instances"]), project.state["functions"]) == (["click-counter"], {})
    project.refused("click-counter is STOPPED. Start it", arguments=["--teardown", "--with-database", "--yes"])


@pytest.mark.parametrize("arguments", [[], ["--teardown", "--with-database", "--yes"]], ids=["deployment", "teardown"])
def test_instance_that_is_being_deleted_is_waited_for(project, arguments):
    project.live()
    project.state["instances"]["click-counter"]["state"] = "PENDING_DELETE"
    assert project.deploy(*arguments).returncode == 0
    assert "click-counter is PENDING_DELETE: waiting" in project.outputs
    if arguments:
        assert (project.state["instances"], project.state["secrets"]) == ({}, {})
    else:
        assert check_password(project) == "click-counter"


# --- The rest ---------------------------------------------------------------------------------------------------


def test_gcloud_neither_asks_nor_logs_nor_translates(project, tmp_path):
    (tmp_path / "bin" / "gcloud").write_text("#!/bin/sh\nenv >&2; exit 1")
    wanted = ["CLOUDSDK_CORE_DISABLE_PROMPTS=1\n", "CLOUDSDK_CORE_DISABLE_FILE_LOGGING=1\n", "\nLC_ALL=C\n"]
    project.refused(*wanted)


@needs_gcloud
def test_real_gcloud_writes_the_password_to_no_file(tmp_path):
    """It would log the values of its flags, also of those that come from standard input."""
    environment = {**os.environ, "CLOUDSDK_CONFIG": str(tmp_path), "CLOUDSDK_CORE_DISABLE_FILE_LOGGING": "1"}
    command = [GCLOUD, "sql", "users", "create", "u", "--instance=i", "--project=p", "--flags-file=-"]
    subprocess.run(command, input='--password: "hunter2"', text=True, env=environment, capture_output=True)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"hunter2" in path.read_bytes()]


def test_help_is_shown_from_any_folder_and_names_every_variable():
    done = subprocess.run(["tests/../deploy.sh", "--help"], cwd=ROOT, capture_output=True, text=True)
    script = (ROOT / "deploy.sh").read_text()
    settings = re.findall(r"^SETTINGS=\((.*)\)", script, re.MULTILINE)[0].split()
    variables = {*settings, "DATABASE_URL", *re.findall(r'"\$\{([A-Z_]+):=', script)}
    assert len(variables) > 15
    assert [variable for variable in variables if variable not in done.stdout] == []


def test_no_secret_is_ever_shown_or_an_argument(project):
    project.deployed()
    project.deployed(DATABASE_URL=URL)
    project.deployed(DATABASE_URL="")
    project.deployed("--dry-run", DATABASE_URL=URL)
    project.deployed("--teardown", "--yes")
    secrets = [version["value"] for version in project.state["secrets"][SECRET]["versions"]]
    passwords = [password for url in secrets for password in re.findall(r":([0-9a-f]{48})@", url)]
    assert len(passwords) == 2
    for seen in (project.outputs, repr(project.cloud.calls)):
        assert not [secret for secret in (*secrets, *passwords, "p%40s") if secret in seen]


def test_without_an_account_it_says_how_to_log_in(project):
    project.state["account"] = ""
    project.refused("gcloud auth login")


def test_unknown_argument(project):
    project.refused("unknown argument --force", arguments=["--force"])
    project.refused("--with-database goes with --teardown", arguments=["--with-database"])


def test_prefixes_alone_are_not_clicked(project, start, on_sqlite):
    function = start(on_sqlite.url, COUNTERS="post-*")
    project.cloud.url = function.url
    done = project.deploy(DATABASE_URL=URL, COUNTERS="post-*")
    assert (done.returncode, done.stdout) == (0, f"{function.url}\n")
    assert "COUNTERS names no counter to try" in done.stderr
    assert on_sqlite.values() == {}


def test_function_that_is_not_known_everywhere_yet_gets_the_same_click_again(project):
    keys, statuses = [], [404, 403, 503, 200]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            keys.append((self.path, self.headers["Idempotency-Key"]))
            self.send_response(statuses[len(keys) - 1])
            self.end_headers()
            self.wfile.write(b'{"name": "likes", "value": 7}')

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        project.cloud.url = f"http://127.0.0.1:{server.server_port}"
        done = project.deploy(DATABASE_URL=URL)
        server.shutdown()
    assert (done.returncode, "counted: 7" in done.stderr) == (0, True)
    assert len(keys) == 4
    assert {(path, str(uuid.UUID(key))) for path, key in keys} == {("/click", keys[0][1])}


def test_function_that_does_not_count_is_noticed(project, start, on_postgres):
    function = start(on_postgres.url.replace(on_postgres.name, "not_there"))
    project.cloud.url = function.url
    done = project.deploy(DATABASE_URL=URL)
    assert done.returncode == 2
    assert "counts no click: it answers 503" in done.stderr


def test_dry_run_tells_looks_from_changes_and_calls_nothing(project):
    for arguments, settings in itertools.product(
        (["--dry-run"], ["--dry-run", "--teardown"], ["--dry-run", "--teardown", "--with-database"]),
        ({}, {"INSTANCE": "prod", "DATABASE": "likes"}),
    ):
        done = project.deploy(*arguments, PROJECT_ID="", COUNTERS="likes,post-*", **settings)
        assert done.returncode == 0
        kinds = {line.split(" ")[0] for line in done.stdout.splitlines()}
        assert kinds == {"look:", "change:"}
        if "--teardown" not in arguments:
            assert "--update-env-vars=^|^COUNTERS=likes,post-*" in shlex.split(done.stdout)
            assert (
                done.stdout.splitlines()[-1] == "change: curl --request POST https://click-counter-XXXX.run.app/click"
            )
        assert "\\" not in done.stdout
    assert project.cloud.calls == []


def shape(command):
    """What the parser checks: of values only those of --format and --filter, and of dictionaries."""
    return command[:3], *sorted(word if "(" in word or "^" in word else word.split("=")[0] for word in command[3:]
                                if word.startswith("--"))  # fmt: skip


@needs_gcloud
def test_every_command_parses_with_the_real_gcloud(project, tmp_path):
    """Without an account gcloud exits with 1, but with 2 where it does not understand an argument."""
    commands = set()
    others_instance(project)
    runs = [{}, {"DATABASE_URL": URL}, {"COUNTERS": "a,b", "MAX_COUNTERS": "5"}, {"COUNTERS": "", "DATABASE_URL": ""}]
    for settings in runs:
        for arguments in ([], ["--teardown", "--with-database"]):
            lines = project.deploy("--dry-run", *arguments, **settings).stdout.splitlines()
            commands |= {tuple(shlex.split(line)[2:]) for line in lines if " gcloud " in line}
        project.deployed(**settings)
    project.state["services_run"]["click-counter"]["traffic"] = []
    project.state["instances"]["click-counter"]["protected"] = False
    project.deployed()
    project.deployed("--teardown", "--with-database", "--yes")
    project.deployed(INSTANCE="prod", SECRET_LOCATIONS="europe-west1,europe-west4")
    project.deployed("--teardown", "--with-database", "--yes")
    commands |= {tuple(call) for call in project.cloud.calls}
    commands = {shape(command): command for command in sorted(commands)}.values()
    # What its messages and README tell to run.
    readme = (ROOT / "README.md").read_text().partition("## Deploy it\n")[2].partition("\n## ")[0]
    told = ["run services update f --region=r --no-invoker-iam-check", "functions logs read f --gen2 --region=r",
            "sql instances patch i --activation-policy=ALWAYS", "secrets versions enable 1 --secret=s",
            *re.findall(r"`gcloud ((?:sql|run|secrets)[^`]*)`", readme)]  # fmt: skip
    commands = [*commands, *((*shlex.split(line), "--project=p") for line in told)]
    assert len(commands) > 40
    environment = {**os.environ, "CLOUDSDK_CONFIG": str(tmp_path / "config"), "CLOUDSDK_CORE_DISABLE_PROMPTS": "1"}
    environment["CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK"] = "1"

    found = subprocess.run([GCLOUD, "info", "--format=value(installation.sdk_root,basic.python_location)"],
                           capture_output=True, text=True, check=True, env=environment)  # fmt: skip
    root, python = found.stdout.rstrip("\n").split("\t")
    wrong = ["functions", "deploy", "x", "--no-such-flag"]
    parser = [python, "-S", ROOT / "tests" / "parse_gcloud.py"]
    done = subprocess.run(parser, input=json.dumps([*commands, wrong]), capture_output=True, text=True, cwd=ROOT,
                          env={**environment, "PYTHONPATH": f"{root}/lib"})  # fmt: skip
    *answers, (code, _) = map(json.loads, done.stdout.splitlines())
    assert code == 2
    for command, (code, said) in zip(commands, answers, strict=True):
        expected = (0, "") if command[:2] == ("auth", "list") else (1, "active account")
        assert (code, expected[1] in said) == (expected[0], True), (command, said)


@needs_gcloud
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
    modules = set(re.findall(r"^!(\w+\.\w+)$", (ROOT / ".gcloudignore").read_text(), re.MULTILINE))
    assert {"main.py", "db.py", "schema.sql", "requirements.txt"} <= modules
    assert set(listed) == modules | static


def test_function_as_uploaded_counts_through_the_socket_of_cloud_sql(tmp_path, postgres):
    """A copy of just the uploaded files, in a fresh environment, started as the buildpack starts it."""
    copied = copy_function(tmp_path / "uploaded")
    programs = tmp_path / "venv" / "bin"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", programs.parent], check=True)
    pip = [sys.executable, "-m", "pip", "--python", programs / "python", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "-r", copied / "requirements.txt"], check=True)
    port, name = free_port(), postgres.new_database()
    with postgres.cloud_sql() as folder:
        url = f"postgresql://postgres:{quote(PASSWORD, safe='')}@/{name}?host={folder}"
        environment = {"PATH": os.environ["PATH"], "K_SERVICE": "click-counter", "PORT": str(port), "HOST": "127.0.0.1",
                       "FUNCTION_TARGET": "handler", "FUNCTION_SIGNATURE_TYPE": "http",
                       "DATABASE_URL": url}  # fmt: skip
        process = subprocess.Popen([programs / "functions-framework"], cwd=copied, env=environment)
        client, key = Client(port), new_key()
        try:
            wait_until(lambda: process.poll() is not None or client.answers(), 60)
            wait_until(lambda: client.click(key=key).status == 200, 60)  # 503 on a machine that is very busy
            assert client.click(key=key).json() == {"name": COUNTER, "value": 1}
        finally:
            client.connection.close()
            process.terminate()
            process.wait(20)
