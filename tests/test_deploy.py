"""deploy.sh with the quick gcloud in front of a stand-in of Google's APIs: what needs many runs."""

import copy
import functools
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
from google_apis import NUMBER, GoogleApis, error, new_instance
from google_cloud import SECRET, Project, QuickGcloud, served
from servers import COUNTER, PASSWORD, ROOT, Client, copy_function, free_port, new_key, wait_until

URL = "postgresql://u:p%40s$`\"'\\;&|* word@host.example:5432/d?sslmode=require"
ACCOUNT = "click-counter@my-project.iam.gserviceaccount.com"
CONNECTION = "my-project:europe-west1:click-counter"
KEY = "europe-west1/click-counter"
ALL = ("--teardown", "--with-database", "--yes")
SERVICES = [
    "run",
    "cloudfunctions",
    "cloudbuild",
    "artifactregistry",
    "secretmanager",
    "iam",
    "sqladmin",
    "sql-component",
]


@pytest.fixture
def project(tmp_path, shared):
    apis = GoogleApis(shared.url)
    apis.polls = 0
    with served(QuickGcloud(apis)) as port:
        yield Project(apis, 1, port, tmp_path)
    assert apis.unknown == []


@functools.cache
def live_state():
    """What a first deployment with Cloud SQL leaves; set by the first test that needs it."""
    return {}


@pytest.fixture
def live(project):
    if not live_state():
        project.deployed()
        live_state().update(project.apis.save())
    project.apis.restore(live_state())
    return project


def check_password(project):
    """What must hold after every run that ends well: the stored URL opens the database. Return the instance's name."""
    stored, _ = project.state["secrets"][SECRET]["versions"][-1]
    url = re.fullmatch(r"postgresql://(.*):(.*)@/(.*)\?host=/cloudsql/my-project:(.*):(.*)", stored)
    user, password, database, region, name = url.groups()
    instance = project.state["instances"][name]
    assert (instance["users"][user], instance["region"], instance["protected"]) == (password, region, True)
    assert database in instance["databases"]
    return name


def enable_all(apis):
    apis.services = {f"{service}.googleapis.com" for service in SERVICES}


def others_instance(project, name="prod", region="us-central1", **settings):
    """Somebody else's Cloud SQL instance, which holds what must never be lost."""
    enable_all(project.apis)
    instance = new_instance(name, region, "2020-02-02T02:02:02.222Z", **settings)
    instance["databases"] += ["shop", "clicks"]
    instance["users"] |= {"shop": "hers", "clicks": "theirs"}
    project.apis.instances[name] = instance
    return copy.deepcopy(project.state["instances"])


def environment(project):
    return {key: value for key, value in project.state["functions"][KEY]["env"].items() if key != "LOG_EXECUTION_ID"}


DEPLOYED = [f"secrets update {SECRET}", "functions deploy click-counter", f"secrets update {SECRET}"]

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
    [(stored, _)] = state["secrets"][SECRET]["versions"]
    roles = [("roles/owner", "user:me@example.com")]
    if settings:
        assert stored == URL
        assert (state["instances"], state["run"][KEY]["sockets"]) == ({}, None)
    else:
        password = state["instances"]["click-counter"]["users"]["clicks"]
        assert len(password) == 48
        assert stored == f"postgresql://clicks:{password}@/clicks?host=/cloudsql/{CONNECTION}"
        assert state["run"][KEY]["sockets"] == CONNECTION
        roles = [("roles/cloudsql.client", f"serviceAccount:{ACCOUNT}"), *roles]
    assert state["roles"] == roles
    assert state["secrets"][SECRET]["roles"] == [("roles/secretmanager.secretAccessor", f"serviceAccount:{ACCOUNT}")]
    assert (state["run"][KEY]["boost"], state["run"][KEY]["roles"]) == ("true", [("roles/run.invoker", "allUsers")])
    assert project.deployed(**settings) == []


def test_only_what_changed_is_done_again(project):
    project.deployed(DATABASE_URL=URL)
    assert project.deployed(DATABASE_URL=f" {URL}\n") == []
    assert project.deployed(DATABASE_URL=URL, MEMORY="1Gi") == DEPLOYED
    assert project.deployed(DATABASE_URL=URL + "&x=y", MEMORY="1Gi") == [f"secrets versions add {SECRET}", *DEPLOYED]


def test_function_that_failed_is_deployed_again(live):
    live.apis.functions[KEY]["state"] = "FAILED"
    assert live.deployed() == DEPLOYED


def test_setting_stays_unless_it_is_set_and_is_taken_back_where_it_is_empty(live):
    settings = {"COUNTERS": "likes, post-*,", "MAX_COUNTERS": "50", "CLICKS_PER_MINUTE": "0",
                "ALLOWED_ORIGINS": "https://blog.example"}  # fmt: skip
    live.deployed(**settings)
    assert environment(live) == {**settings, "COUNTERS": "likes,post-*"}
    assert live.deployed(**settings) == []
    assert live.deployed() == []
    assert live.deployed(ALLOWED_ORIGINS="", MAX_COUNTERS="7") == DEPLOYED
    assert environment(live) == {"COUNTERS": "likes,post-*", "MAX_COUNTERS": "7", "CLICKS_PER_MINUTE": "0"}
    live.deployed(COUNTERS="", MAX_COUNTERS="", CLICKS_PER_MINUTE="")
    assert environment(live) == {}
    assert live.deployed(COUNTERS="") == []


def test_another_postgres_stays_until_it_is_taken_back_and_cloud_sql_then_has_its_counts(project):
    project.deployed(DATABASE_URL=URL)
    assert project.deployed() == []
    project.deployed(DATABASE_URL="")
    check_password(project)
    assert project.deployed() == []
    project.deployed(DATABASE_URL=URL)
    assert project.state["run"][KEY]["sockets"] is None
    assert project.state["secrets"][SECRET]["versions"][-1] == (URL, "ENABLED")
    project.deployed(DATABASE_URL="")
    check_password(project)
    assert list(project.state["instances"]) == ["click-counter"]


def test_storage_has_a_limit_and_a_variable_chooses_it(project):
    project.deployed(STORAGE_GB="20")
    settings = project.apis.instances["click-counter"]["resource"]["settings"]
    assert (settings["dataDiskSizeGb"], settings["storageAutoResize"]) == ("20", False)


# --- Interruptions ----------------------------------------------------------------------------------------------


def with_another_postgres(project):
    project.deployed(DATABASE_URL=URL)


def without_its_url(project):
    """Its user gets a new password, for the newest version of the secret is gone."""
    project.apis.secrets[SECRET]["versions"][-1]["state"] = "DESTROYED"


INTERRUPTED = {
    "fresh": ("project", None, [], {}),
    "fresh, with another Postgres": ("project", None, [], {"DATABASE_URL": URL}),
    "from another Postgres to Cloud SQL": ("project", with_another_postgres, [], {"DATABASE_URL": ""}),
    "a new password": ("live", without_its_url, [], {"DATABASE_URL": ""}),
    "another setting": ("live", None, [], {"COUNTERS": "likes", "MEMORY": "1Gi"}),
    "teardown": ("live", None, ["--teardown", "--yes"], {}),
    "teardown with the database": ("live", None, ALL, {}),
}


@pytest.mark.parametrize(("start", "prepare", "arguments", "settings"), INTERRUPTED.values(), ids=INTERRUPTED)
def test_after_an_interruption_anywhere_the_next_run_completes(request, start, prepare, arguments, settings):
    """After each change, its answer lost: the run says so; the same run and a deployment then end as they should."""
    project = request.getfixturevalue(start)
    if prepare:
        prepare(project)
    apis, before = project.apis, project.apis.save()
    again = {name: value for name, value in settings.items() if value} or settings
    project.deployed(*arguments, **settings)
    count, complete = len(apis.changes), without_passwords(project.state)
    assert count >= 3
    for number in range(1, count + 1):
        apis.restore(before)
        apis.interrupt = lambda n, _, number=number: n == number
        done = project.deploy(*arguments, **settings)
        assert (done.returncode, len(apis.changes), "it goes on here" in done.stderr) == (2, number, True)
        apis.interrupt = lambda *_: False
        apis.finish()  # what the interrupted run began goes on at Google
        between = apis.save()
        project.deployed(*arguments, **again)
        assert without_passwords(project.state) == complete, f"{number}: {project.outputs}"
        if arguments and number < count:  # whoever changes his mind gets it all back
            apis.restore(between)
            project.deployed()
        if not settings.get("DATABASE_URL") and project.state["secrets"]:
            check_password(project)


def interrupted_at(project, api):
    """Run it until the answer to a change of this API is lost."""
    project.apis.interrupt = lambda _, line: api in line
    assert project.deploy().returncode == 2
    project.apis.interrupt = lambda *_: False


def without_passwords(state):
    """A state without what differs from run to run."""
    text = re.sub(r"[0-9a-f]{48}|2026-?11-?25[^']*|\d+-\d+-\d+'", "…", repr(state))
    return re.sub(r"\('[^']*', 'DESTROYED'\), ", "", text)


def test_look_up_that_fails_locks_the_function_out_of_nothing(live):
    """It once set a new password, and every later run believed the stored URL with the old one."""
    live.apis.faults = [("GET secretmanager.*versions", ODD["no right"], -1)]
    live.deploy(DATABASE_URL="")
    live.apis.faults = []
    assert live.deployed() == []
    check_password(live)


def test_interrupted_again_and_again_it_gets_there(live):
    live.deployed(DATABASE_URL=URL)
    for number in (*range(1, 6), *range(1, 6)):
        live.apis.interrupt = lambda n, _, number=number: n == number
        live.deploy(DATABASE_URL="")
    live.apis.interrupt = lambda *_: False
    live.deployed(DATABASE_URL="")
    check_password(live)


# --- Look-ups that fail -----------------------------------------------------------------------------------------

ODD = {
    "no right": error(403, f"Permission denied on resource projects/{NUMBER} (or it may not exist)."),
    "503": error(500, "backend error, trace 9f4047ab: upstream does not exist"),
    "a proxy": error(404, "<!DOCTYPE html><title>Error 404 (Not Found)!!1</title>"),
    "something else": error(404, "Requested entity was not found. Secret [projects/1/secrets/other] not found"),
}
OTHERS = {
    "GET secretmanager": error(404, f"Secret [projects/{NUMBER}/secrets/click-counter-2-database-url] not found."),
    "GET cloudfunctions": error(
        404, "Resource 'projects/p/locations/europe-west1/functions/click-counter-2' was not found"
    ),
}  # what the APIs say of something else that is not there
LOOKS = ["GET cloudresourcemanager", "POST cloudresourcemanager.*get", "GET serviceusage", "GET secretmanager .*url[?]",
         "GET secretmanager .*versions[?]", "GET secretmanager .*access", "GET secretmanager .*get", "GET iam",
         "GET cloudfunctions", "GET sqladmin .*instances[?]", "GET sqladmin .*databases", "GET sqladmin .*users",
         "GET run .*services/click-counter[?]", "GET run .*get"]  # fmt: skip


@pytest.mark.parametrize("look", LOOKS)
def test_look_up_that_fails_is_not_taken_for_an_answer(live, look):
    for odd in [*ODD.values(), *(OTHERS[start] for start in OTHERS if look.startswith(start))]:
        live.apis.faults = [(look, odd, -1)]
        live.refused(odd.body["error"]["message"], "The look-up changed nothing", "it goes on here")
        if look not in LOOKS[3:4] + LOOKS[7:10]:
            break


def test_look_up_that_fails_on_the_way_is_no_absence(project):
    """Also in an empty project, and in a teardown."""
    empty = project.apis.save()
    for look in LOOKS:
        project.apis.restore(empty)
        project.apis.faults = [(look, ODD["no right"], -1)]
        if project.deploy().returncode == 0:
            assert look in (
                "GET secretmanager .*access",
                "GET sqladmin .*databases",
                "GET sqladmin .*users",
            )  # none yet
        project.apis.faults = []
        if project.apis.changes:
            project.deployed()
            check_password(project)
    for look in ("GET secretmanager .*url[?]", "GET cloudfunctions", "GET iam", "GET sqladmin .*instances[?]",
                 "GET sqladmin .*databases"):  # fmt: skip
        project.apis.faults = [(look, ODD["no right"], -1)]
        project.refused("Permission denied on resource", arguments=ALL)


def test_what_gcloud_says_of_the_project_is_shown(project):
    project.refused("other-project] (or it may not exist)", "PROJECT_ID", PROJECT_ID="other-project")


@pytest.mark.parametrize("cause", ["destroyed", "never stored"])
def test_url_that_is_not_there_any_more_is_asked_for(project, cause):
    """It once became a new Cloud SQL instance."""
    project.deployed(DATABASE_URL=URL)
    versions = project.apis.secrets[SECRET]["versions"]
    if cause == "destroyed":
        versions[-1]["state"] = "DESTROYED"
    else:
        versions.clear()
    project.refused("holds no URL. Give DATABASE_URL again, or an empty one (DATABASE_URL= ./deploy.sh) for Cloud SQL")
    project.deployed(DATABASE_URL=URL)
    assert project.state["secrets"][SECRET]["versions"][-1] == (URL, "ENABLED")


def test_another_postgres_does_not_become_an_earlier_cloud_sql_again(live):
    live.deployed(DATABASE_URL=URL)
    live.apis.secrets[SECRET]["versions"][-1]["state"] = "DESTROYED"
    live.refused("holds no URL. Give DATABASE_URL again, or an empty one")
    live.deployed(DATABASE_URL="")
    check_password(live)


def test_disabled_version_of_the_secret_is_named(live):
    live.apis.secrets[SECRET]["versions"][-1]["state"] = "DISABLED"
    live.refused("version 1 of the secret", f"gcloud secrets versions enable 1 --secret={SECRET}")


# --- What is not its own ----------------------------------------------------------------------------------------


def test_service_that_is_not_enabled_hides_nothing(project):
    """Enabled it is, and then looked at."""
    before = others_instance(project, "click-counter")
    project.apis.services.clear()
    assert "DATABASE_URL=postgresql://USER" in project.deploy().stderr
    assert (project.state["instances"], project.state["secrets"]) == (before, {})


def test_secret_whose_service_was_disabled_later_is_still_read(live):
    live.apis.services -= {"secretmanager.googleapis.com", "sqladmin.googleapis.com"}
    assert live.deployed() == [
        "services enable secretmanager.googleapis.com",
        "services enable sqladmin.googleapis.com",
    ]


@pytest.mark.parametrize("service", ["cloudfunctions", "run", "secretmanager"])
def test_teardown_looks_as_soon_as_one_service_is_enabled(project, service):
    project.apis.services = {f"{service}.googleapis.com"}
    project.refused("has not been used", arguments=ALL)
    project.apis.services = {"iam.googleapis.com", "sqladmin.googleapis.com"}
    assert project.deployed(*ALL) == []
    assert "cloudfunctions, run and secretmanager are not enabled" in project.outputs


@pytest.mark.parametrize("service", ["cloudfunctions", "iam", "sqladmin", "secretmanager"])
def test_teardown_does_not_take_what_it_cannot_see_for_absent(live, service):
    live.apis.services.remove(f"{service}.googleapis.com")
    live.refused("has not been used", arguments=ALL)


HALVES = [
    {"made_by": "click-counter"},
    {"made_by": "click-counte"},
    {"made_by": "click-counter", "region": "europe-west1"},
    {"made_by": "click-counter", "region": "europe-west1", "account": "click-counter", "instance": "prod"},
    {"made_by": "click-counter", "region": "europe-west1", "account": "click-counter", "database": "shop"},
    *({"made_by": "click-counter", "region": "europe-west1", "account": "click-counter", "instance": "prod",
       "instance_made": "20200202020202222", name: "shop"} for name in ("database", "user")),
    {"made_by": "me", "region": "europe-west1", "account": "click-counter", "instance": "prod",
     "instance_made": "20200202020202222", "database": "shop", "user": "shop"},
    {"instance": "prod", "instance_made": "20200202020202222", "database": "shop"},
]  # fmt: skip


def test_half_a_record_is_none(live):
    others_instance(live)
    live.apis.functions.clear()
    live.apis.run.clear()
    for labels in HALVES:
        live.apis.secrets[SECRET]["labels"] = labels
        before = live.state
        live.refused(f"the secret {SECRET} is there already", DATABASE_URL="")
        live.deployed(*ALL)
        assert live.state["instances"] == before["instances"]
        assert live.state["secrets"][SECRET]["versions"] == before["secrets"][SECRET]["versions"]


@pytest.mark.parametrize("kind", ["functions", "accounts", "secrets"])
def test_teardown_leaves_what_somebody_else_made_beside_what_it_removes(live, kind):
    [resource] = getattr(live.apis, kind).values()
    if kind == "accounts":
        resource["description"] = "Bills of the shop"
    else:
        resource["labels"]["made_by"] = "me"
    live.refused("is there already, and this script did not make it")
    assert live.deployed(*ALL)
    assert {name for name in ("functions", "accounts", "secrets") if live.state[name]} == {kind}
    assert list(live.state["instances"]) == (["click-counter"] if kind == "secrets" else [])
    assert "which this script did not make" in live.outputs


def test_service_that_a_removed_function_left_is_named(live):
    live.apis.functions.clear()
    live.refused("gcloud run services delete click-counter --region=europe-west1 --project=my-project")


def test_instance_of_somebody_else_is_used_by_its_url_alone(project):
    before = others_instance(project)
    url = "DATABASE_URL=postgresql://USER:PASSWORD@/DATABASE?host=/cloudsql/my-project:us-central1:prod"
    project.refused("the Cloud SQL instance prod is there already", "INSTANCE=…", url, INSTANCE="prod")
    project.deployed(DATABASE_URL=SOCKETS["host"])
    assert project.deployed() == []
    project.deployed(*ALL)
    assert (project.state["instances"], project.state["secrets"]) == (before, {})


def test_instance_that_somebody_else_made_after_a_creation_that_was_forbidden_is_not_its_own(project):
    project.apis.faults = [("POST sqladmin", error(400, "Constraint constraints/sql.restrictPublicIp violated."), 1)]
    assert project.deploy().returncode == 2
    before = others_instance(project, "click-counter", "europe-west1", storageAutoResize=False,
                             backupConfiguration={"startTime": "03:17"})  # fmt: skip
    project.refused("the Cloud SQL instance click-counter is there already")
    done = project.deploy("--teardown", "--with-database", answer="n\n")
    assert "the Cloud SQL instance click-counter, which this script did not make" in done.stderr
    project.deployed(INSTANCE="click-counter-2")
    assert check_password(project) == "click-counter-2"
    project.deployed(*ALL)
    assert project.state["instances"] == before


@pytest.mark.parametrize("settings", [{"storageAutoResize": True}, {"backupConfiguration": {"startTime": "04:00"}}])
def test_empty_instance_that_was_made_in_another_way_is_not_its_own_either(project, settings):
    project.apis.faults = [("POST sqladmin", error(400, "Constraint constraints/sql.restrictPublicIp violated."), 1)]
    assert project.deploy().returncode == 2
    made = {"storageAutoResize": False, "backupConfiguration": {"startTime": "03:17"}, **settings}
    project.apis.instances["click-counter"] = new_instance(
        "click-counter", "europe-west1", "2020-02-02T02:02:02Z", **made
    )
    project.refused("the Cloud SQL instance click-counter is there already")


def test_instance_that_somebody_else_made_under_the_name_of_a_deleted_one_is_not_its_own(live):
    live.apis.instances["click-counter"]["resource"]["createTime"] = "2027-01-01T00:00:00.000Z"
    before = live.state["instances"]
    live.refused("the Cloud SQL instance click-counter is there already")
    live.deployed(*ALL)
    assert (live.state["instances"], live.state["secrets"]) == (before, {})


def test_instance_whose_owner_changed_its_settings_is_still_its_own(live):
    settings = live.apis.instances["click-counter"]["resource"]["settings"]
    settings.update(backupConfiguration={"startTime": "12:00"}, storageAutoResize=True, tier="db-g1-small")
    assert live.deployed(MAX_INSTANCES="22") == DEPLOYED
    live.deployed(*ALL)
    assert live.state["instances"] == {}


def test_own_instance_in_which_somebody_else_has_a_database_or_a_user_is_kept(live):
    instance = live.apis.instances["click-counter"]
    instance["databases"].append("shop")
    instance["users"]["alice"] = "hers"
    done = live.deploy(*ALL)
    assert (done.returncode, "all else in it: shop,user alice\n" in done.stderr) == (0, True), done.stderr
    left = live.state["instances"]["click-counter"]
    assert (left["databases"], [*left["users"]], left["protected"]) == (
        ["postgres", "shop"],
        ["postgres", "alice"],
        True,
    )


def test_two_counters_in_one_project_share_nothing(live):
    first = live.state
    live.refused("the Cloud SQL instance click-counter is there already", FUNCTION="second-counter")
    live.deployed(FUNCTION="second-counter", INSTANCE="second")
    live.deployed(*ALL, FUNCTION="second-counter")
    assert live.state == first


def test_instance_that_another_counter_made_after_a_creation_that_was_forbidden_is_that_counters(project):
    second = {"FUNCTION": "second-counter", "INSTANCE": "click-counter"}
    project.apis.faults = [("POST sqladmin", error(400, "Constraint constraints/sql.restrictPublicIp violated."), 1)]
    assert project.deploy(**second).returncode == 2
    project.deployed()
    before = project.state["instances"]
    project.refused("the Cloud SQL instance click-counter is there already", **second)
    project.deployed(*ALL, **second)
    assert "the Cloud SQL instance click-counter, which this script did not make" in project.outputs
    assert (project.state["instances"], list(project.state["secrets"])) == (before, [SECRET])


def test_name_of_an_instance_that_is_gone_can_be_exchanged(live):
    """Google keeps the name of a deleted instance for a week."""
    live.apis.instances.clear()
    live.deployed(INSTANCE="click-counter-2", DATABASE="likes")
    assert check_password(live) == "click-counter-2"
    assert live.deployed() == []


def test_visitors_come_to_what_was_deployed_after_a_roll_back(live):
    live.apis.run[KEY]["resource"]["spec"]["traffic"] = [{"revisionName": "click-counter-1", "percent": 100}]
    assert live.deployed() == ["run services update-traffic click-counter"]
    assert live.deployed() == []


def test_longer_names_of_others_are_not_taken_for_its_own(project):
    """A filter on a name will match more in future versions of gcloud."""
    others_instance(project, "click-counter-2", "europe-west1")
    email = ACCOUNT.replace("@", "-2@")
    project.apis.accounts[email] = {"email": email, "description": "Bills of the shop"}
    before = project.state
    project.deployed()
    check_password(project)
    project.deployed(*ALL)
    assert {**project.state, "services": []} == {**before, "services": []}


def test_role_with_a_condition_is_not_the_role(live):
    [binding] = [one for one in live.apis.policy.bindings if one["role"] == "roles/cloudsql.client"]
    binding["condition"] = {"title": "until yesterday", "expression": "request.time < yesterday"}
    assert live.deployed() == ["projects add-iam-policy-binding my-project"]
    assert live.deployed() == []


def test_other_names_than_the_recorded_ones_are_refused(project):
    project.deployed(
        REGION="us-east1", SERVICE_ACCOUNT="likes-account", INSTANCE="likes", DATABASE="likes", DATABASE_USER="me"
    )
    assert project.deployed() == []
    others = {
        "REGION": "europe-west1",
        "SERVICE_ACCOUNT": "another",
        "INSTANCE": "prod",
        "DATABASE": "d",
        "DATABASE_USER": "u",
    }
    for variable, other in others.items():
        project.refused(f"click-counter was deployed with {variable}=", **{variable: other})
        project.refused(f"click-counter was deployed with {variable}=", arguments=ALL, **{variable: other})
    project.deployed(*ALL)
    assert [project.state[kind] for kind in ("functions", "instances", "accounts", "secrets")] == [{}] * 4


# --- Policies ---------------------------------------------------------------------------------------------------

REFUSALS = [
    "One or more users named in the policy do not belong to a permitted customer",
    "not in permitted organization",
    "constraints/iam.managed.allowedPolicyMembers",
]


@pytest.mark.parametrize("words", REFUSALS)
def test_policy_against_all_users_leaves_a_function_that_works_and_names_the_remedy(project, words):
    project.apis.faults = [(" run .*setIamPolicy", error(400, f"allUsers: {words}."), -1)]
    done = project.deploy()
    assert done.returncode == 2
    assert (
        "gcloud run services update click-counter --region=europe-west1 --project=my-project --no-invoker-iam-check"
        in (done.stderr)
    )
    assert project.state["run"][KEY]["sockets"] == CONNECTION
    annotations = project.apis.run[KEY]["resource"]["metadata"]["annotations"]
    annotations["run.googleapis.com/invoker-iam-disabled"] = "true"  # what the remedy does
    assert project.deployed() == []


# --- What is checked first --------------------------------------------------------------------------------------

SETTINGS = [
    ("COUNTERS", "likes,post-*", True),
    ("COUNTERS", " likes , post-* ,,", True),
    ("COUNTERS", "https://blog.example/,http:a:80", True),
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
    assert project.calls == []


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
    enable_all(project.apis)
    project.refused(words, **variables)
    if " of the " not in words and "bytes" not in words:  # for these it has to look first
        assert project.calls == []


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("COUNTER", "COUNTERS"),
        ("ALLOWED_ORIGIN", "ALLOWED_ORIGINS"),
        ("COUNTERSS", "COUNTERS"),
        ("MAX_COUNTER", "MAX_COUNTERS"),
        ("DATABASE_URI", "DATABASE_URL"),
        ("CLICK_PER_MINUTE", "CLICKS_PER_MINUTE"),
        ("MAX_INSTANCE", "MAX_INSTANCES"),
    ],
)
def test_variable_that_is_one_letter_away_from_one_of_its_own_is_named(project, variable, meant):
    done = project.deploy("--dry-run", **{variable: "likes"})
    assert done.stderr.startswith(f"{variable} is no variable of this script. Did you mean {meant}?\n==> services")


def test_its_own_variables_are_not_named(project):
    own = dict.fromkeys(
        ("COUNTERS", "MAX_COUNTERS", "ALLOWED_ORIGINS", "DATABASE_URL", "DATABASE", "DATABASE_USER"), ""
    )
    assert "Did you mean" not in project.deploy("--dry-run", MIN_INSTANCES="1", MAX_INSTANCES="2", **own).stderr


NOTHING_ELSE = "must be the URL of a Postgres and nothing else"
BAD_URLS = {
    "mysql://u:hunter2@h/d": NOTHING_ELSE,
    "nonsense": NOTHING_ELSE,
    "sqlite:///clicks.sqlite3": NOTHING_ELSE,
    "'postgresql://u:hunter2@h/d'": NOTHING_ELSE,
    "postgresql://u:hunter2@h/d'": NOTHING_ELSE,
    'postgresql://u:hunter2@h/d"': NOTHING_ELSE,
    "“postgresql://u:hunter2@h/d”": NOTHING_ELSE,
    "psql 'postgresql://u:hunter2@h/d'": NOTHING_ELSE,
    "PGPASSWORD=hunter2 psql -h h -U u d": NOTHING_ELSE,
    "DATABASE_URL=postgresql://u:hunter2@h/d": NOTHING_ELSE,
    "export DATABASE_URL='postgresql://u:hunter2@h/d'": NOTHING_ELSE,
    "jdbc:postgresql://h:5432/d?user=u&password=hunter2": NOTHING_ELSE,
    "host=h user=u password=hunter2 dbname=d": NOTHING_ELSE,
    "postgresql://u:[YOUR-PASSWORD]@h/d": "holds a placeholder",
    "postgresql://clicks:hunter2@/clicks?host=/cloudsql/PROJECT_ID:REGION:click-counter": "with region and instance",
    "postgresql://u:hunter2@/d?host=/tmp/cloudsql/my-project:europe-west1:db": "names a socket that the function",
    "postgresql://u:hunter2@/d?host=/cloudsql/theirs:europe-west1:db": "this project's Cloud SQL: /cloudsql/my",
    "postgresql://u:hunter2@h:65536/d": "the port must be a number",
    "postgresql://u:hunter2%@h/d": "Write %25",
    "postgresql://u:hunter2@h/d?sslrootcert=main.py": "put it into static/, and write sslrootcert=static/NAME",
    "postgresql://u:hunter2@h/d?sslrootcert=": "is not uploaded",
    "postgresql://u:hunter2@h/d?sslrootcert=static/hunter.pem": "is not uploaded",
    "postgresql://u:hunter2@h/d?sslrootcert=/workspace/static/hunter.pem": "is not uploaded",
    "postgresql://u:hunter2@h/d?sslrootcert=%2Fhome%2Fhunter%2Fca.pem": "is not uploaded",
    "postgresql://u:hunter2@h/d?sslrootcert=static/../README.md": "is not uploaded",
    "postgresql://u:hunter2@/d?host=/cloudsql/my-project:r:db&port=6543": "is at /cloudsql/my-project:r:db/.s",
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
    assert project.calls == []


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
    project.refused("there is no Cloud SQL instance gone", DATABASE_URL=url.replace("prod", "gone"))
    project.refused("is at /cloudsql/my-project:us-central1", DATABASE_URL=url.replace("us-central1", "europe-west1"))
    project.refused("is at /cloudsql/my-project:us-central1", DATABASE_URL=f"{url}&port=6543")
    project.deployed(DATABASE_URL=url)
    assert project.state["run"][KEY]["sockets"] == "my-project:us-central1:prod"
    assert ("roles/cloudsql.client", f"serviceAccount:{ACCOUNT}") in project.state["roles"]
    assert project.deployed() == []
    project.deployed(*ALL)
    assert project.state["instances"] == before


def test_url_of_the_projects_own_cloud_sql_is_known_in_every_spelling(project):
    for url in SOCKETS.values():
        done = project.deploy("--dry-run", DATABASE_URL=url)
        assert "--set-cloudsql-instances=my-project:us-central1:prod" in done.stdout.split()
        assert "sql instances create" not in done.stdout


def test_url_that_readme_tells_to_export_is_still_the_same_database(live):
    stored, _ = live.state["secrets"][SECRET]["versions"][-1]
    assert live.deployed(DATABASE_URL=stored) == []
    done = live.deploy("--dry-run", DATABASE_URL=stored, MAX_INSTANCES="10")
    assert (done.returncode, "26 of the 25" in done.stderr) == (2, True)


def test_tier_of_an_instance_that_is_there_decides_how_many_instances_it_takes(project):
    assert project.deploy("--dry-run", MAX_INSTANCES="22", TIER="db-g1-small").returncode == 0
    others_instance(project)
    project.deployed(DATABASE_URL=SOCKETS["host"], MAX_INSTANCES="40")


def test_instance_that_is_stopped_is_named_and_one_in_the_making_waited_for(live):
    resource = live.apis.instances["click-counter"]["resource"]
    resource["settings"]["activationPolicy"] = "NEVER"
    live.refused("click-counter is STOPPED", "--activation-policy=ALWAYS")
    live.deployed("--teardown", "--yes")  # leaves it alone
    resource["settings"]["activationPolicy"] = "ALWAYS"
    resource["state"] = "PENDING_CREATE"
    live.refused("PENDING_CREATE for 20 minutes", "it goes on here")


# --- And back ---------------------------------------------------------------------------------------------------


def test_teardown_names_what_goes_and_what_stays_and_asks(live):
    for arguments, answer in itertools.product(
        (["--teardown"], ["--teardown", "--with-database"]), ("n\n", "", "yes\n")
    ):
        done = live.deploy(*arguments, answer=answer)
        assert (done.returncode, "nothing was removed" in done.stderr, live.changes) == (2, True, [])
        goes, _, stays = done.stderr.partition("To be removed from my-project:\n")[2].partition("To be kept:\n")
        assert "the function click-counter in europe-west1" in goes
        assert "the service account click-counter" in goes
        if arguments[1:]:
            assert "the Cloud SQL instance click-counter WITH ALL COUNTS AND BACKUPS" in goes
        else:
            assert f"the secret {SECRET}" in stays
            assert "the counts: database clicks and user clicks in the Cloud SQL instance click-counter" in stays


def test_teardown_keeps_the_counts_unless_told_otherwise_and_finds_them_again(live):
    password = live.state["instances"]["click-counter"]["users"]["clicks"]
    assert live.deploy("--teardown", answer="y\n").returncode == 0
    assert (live.state["functions"], live.state["accounts"]) == ({}, {})
    assert live.state["roles"] == [("roles/owner", "user:me@example.com")]
    assert "clicks" in live.state["instances"]["click-counter"]["databases"]
    assert live.deployed("--teardown", "--yes") == []
    live.deployed()
    check_password(live)
    assert live.state["instances"]["click-counter"]["users"]["clicks"] == password
    live.deployed("--teardown", "--yes")
    live.deployed(*ALL)
    assert (live.state["instances"], live.state["secrets"]) == ({}, {})
    done = live.deploy(*ALL)
    assert (done.returncode, "There is nothing to remove" in done.stderr, live.changes) == (0, True, [])


def test_teardown_without_the_record_leaves_the_database(live):
    live.apis.secrets.clear()
    done = live.deploy(*ALL)
    assert (done.returncode, "no secret of this script records" in done.stderr) == (0, True)
    assert (list(live.state["instances"]), live.state["functions"]) == (["click-counter"], {})


def test_database_whose_record_is_lost_is_used_again_by_its_url(live):
    live.apis.secrets.clear()
    live.refused("the Cloud SQL instance click-counter is there already")
    url = f"postgresql://clicks:new@/clicks?host=/cloudsql/{CONNECTION}"
    live.deployed(DATABASE_URL=url)
    assert live.deployed() == []
    assert live.state["secrets"][SECRET]["versions"][-1] == (url, "ENABLED")


def test_teardown_removes_the_record_of_an_instance_that_is_not_there_any_more(live):
    live.apis.instances.clear()
    live.deployed(*ALL)
    assert live.state["secrets"] == {}


def test_name_for_cloud_sql_beside_another_postgres_is_not_ignored(project):
    project.deployed(DATABASE_URL=URL)
    words = "the counts are in the Postgres of DATABASE_URL", "run with DATABASE_URL= as well"
    project.refused(*words, INSTANCE="likes")
    project.refused(*words, DATABASE="likes", DATABASE_URL=URL)
    project.refused(*words, DATABASE_USER="likes", DATABASE_URL=SOCKETS["host"])
    project.deployed(INSTANCE="likes", DATABASE_URL="")
    assert check_password(project) == "likes"


def test_short_name_needs_another_for_the_service_account_only_once(project):
    enable_all(project.apis)
    project.refused("FUNCTION=likes cannot name the service account", FUNCTION="likes")
    project.deployed(FUNCTION="likes", SERVICE_ACCOUNT="likes-account")
    assert project.deployed(FUNCTION="likes") == []
    project.deployed(*ALL, FUNCTION="likes")
    assert (project.state["accounts"], project.state["secrets"]) == ({}, {})


def test_instance_that_failed_is_removed_only_where_it_never_held_anything(live):
    live.apis.instances["click-counter"]["resource"]["state"] = "FAILED"
    live.refused("click-counter is FAILED", "./deploy.sh --teardown --with-database")
    live.refused("gcloud sql instances describe click-counter", arguments=ALL)
    live.apis.restore(GoogleApis().save())
    interrupted_at(live, "POST sqladmin")
    live.apis.instances["click-counter"]["resource"]["state"] = "FAILED"
    live.deployed(*ALL)
    assert (live.state["instances"], live.state["secrets"]) == ({}, {})


@pytest.mark.parametrize("arguments", [(), ALL], ids=["deployment", "teardown"])
def test_instance_that_is_being_deleted_is_waited_for(live, arguments):
    live.apis.instances["click-counter"]["resource"]["settings"]["deletionProtectionEnabled"] = False
    live.apis.polls = 1
    live.apis.answer("DELETE", "http://sqladmin.googleapis.com/sql/v1beta4/projects/p/instances/click-counter", b"")
    assert live.deploy(*arguments).returncode == 0, live.outputs
    assert "click-counter is PENDING_DELETE: waiting" in live.outputs
    if arguments:
        assert (live.state["instances"], live.state["secrets"]) == ({}, {})
    else:
        assert check_password(live) == "click-counter"


# --- The rest ---------------------------------------------------------------------------------------------------


def test_gcloud_neither_asks_nor_logs_nor_translates(project, tmp_path):
    (tmp_path / "bin" / "gcloud").write_text("#!/bin/sh\nenv >&2; exit 1")
    wanted = ["CLOUDSDK_CORE_DISABLE_PROMPTS=1\n", "CLOUDSDK_CORE_DISABLE_FILE_LOGGING=1\n", "\nLC_ALL=C\n"]
    project.refused(*wanted)


def test_help_is_shown_from_any_folder_and_names_every_variable():
    done = subprocess.run(["tests/../deploy.sh", "--help"], cwd=ROOT, capture_output=True, text=True)
    script = (ROOT / "deploy.sh").read_text()
    settings = re.findall(r"^SETTINGS=\((.*)\)", script, re.MULTILINE)[0].split()
    variables = {*settings, "DATABASE_URL", *re.findall(r'"\$\{([A-Z_]+):=', script)}
    assert len(variables) > 15
    assert [variable for variable in variables if variable not in done.stdout] == []


def test_unknown_argument(project):
    project.refused("unknown argument --force", arguments=["--force"])
    project.refused("--with-database goes with --teardown", arguments=["--with-database"])


def test_prefixes_alone_are_not_clicked(project, start, on_sqlite):
    function = start(on_sqlite.url, COUNTERS="post-*")
    project.apis.url = function.url
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
        project.apis.url = f"http://127.0.0.1:{server.server_port}"
        done = project.deploy(DATABASE_URL=URL)
        server.shutdown()
    assert (done.returncode, "counted: 7" in done.stderr) == (0, True)
    assert len(keys) == 4
    assert {(path, str(uuid.UUID(key))) for path, key in keys} == {("/click", keys[0][1])}


def test_function_that_does_not_count_is_noticed(project, start, on_postgres):
    function = start(on_postgres.url.replace(on_postgres.name, "not_there"))
    project.apis.url = function.url
    done = project.deploy(DATABASE_URL=URL)
    assert done.returncode == 2
    assert "counts no click: it answers 503" in done.stderr


def test_dry_run_tells_looks_from_changes_and_calls_nothing(project):
    for arguments, settings in itertools.product(
        (["--dry-run"], ["--dry-run", "--teardown"], ["--dry-run", "--teardown", "--with-database"]),
        ({}, {"INSTANCE": "likes", "DATABASE": "likes"}),
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
            assert re.findall("instance_made=([0-9a-z]*)", done.stdout) == ["begun", "20260101000000000"]
        assert "\\" not in done.stdout
    assert project.calls == []


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
