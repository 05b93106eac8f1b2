"""A stand-in for Google's REST APIs: one project in memory, for the real gcloud and for the quick one of the tests.

It is an HTTP proxy: gcloud is told to use plain HTTP through it, so that every request arrives with the name of its
API as it would at Google. Paths and answers follow the message classes in the Google Cloud SDK's
`generated_clients/apis`, errors are google.rpc.Status. It has what deploy.sh calls; anything else is noted in
`unknown`. What takes time at Google is an operation here, which is unfinished when it is first asked for.

What it cannot show: quotas and delays of the real services, what the build and Cloud Run do with the container, how
long IAM takes, and values that only Google's servers know.
"""

from __future__ import annotations

import base64
import copy
import http.server
import json
import re
import secrets
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

PROJECT, NUMBER, OWNER = "my-project", "840412345678", "me@example.com"
TIME = "2026-11-25T16:47:53.000Z"
Json = dict[str, Any]
STATUS = {
    400: "FAILED_PRECONDITION",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ALREADY_EXISTS",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
}
LOOKS = re.compile(r":(getIamPolicy|generateUploadUrl|wait)$|/token$")  # what is sent with POST and changes nothing
STATE = ("services", "policy", "accounts", "secrets", "instances", "functions", "run", "created")


class Answer(Exception):
    """An HTTP answer other than 200."""

    def __init__(self, code: int, body: Json) -> None:
        super().__init__(code)
        self.code, self.body = code, body


class Lost(Exception):
    """The connection breaks."""


def error(code: int, message: str, status: str = "", reason: str = "", **metadata: str) -> Answer:
    body: Json = {"code": code, "message": message, "status": status or STATUS[code]}
    if reason:
        body["details"] = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason,
                            "domain": "googleapis.com", "metadata": metadata}]  # fmt: skip
    return Answer(code, {"error": body})


def sql_error(code: int, message: str, reason: str = "invalid") -> Answer:
    """Cloud SQL's errors have no status."""
    errors = [{"message": message, "domain": "global", "reason": reason}]
    return Answer(code, {"error": {"code": code, "message": message, "errors": errors}})


def disabled(api: str) -> Answer:
    text = (f"{api} API has not been used in project {NUMBER} before or it is disabled. Enable it by visiting "
            f"https://console.developers.google.com/apis/api/{api}.googleapis.com then retry.")  # fmt: skip
    return error(403, text, reason="SERVICE_DISABLED", service=f"{api}.googleapis.com", consumer=f"projects/{NUMBER}",
                 serviceTitle=api)  # fmt: skip


def tag() -> str:
    """An etag: bytes in the URL's alphabet, in which gcloud sends them back."""
    return base64.urlsafe_b64encode(secrets.token_bytes(9)).decode()


CONFLICT = error(409, "There were concurrent policy changes. Please retry the whole read-modify-write with exponential "
                      "backoff.", "ABORTED")  # fmt: skip
BUSY = sql_error(409, "Operation failed because another operation was already in progress. Try your request after the "
                      "current operation is complete.", "operationInProgress")  # fmt: skip


class Policy:
    """An IAM policy with an etag that must fit."""

    def __init__(self) -> None:
        self.bindings: list[Json] = []
        self.etag = "ACAB"

    def get(self) -> Json:
        return {"version": 1, "etag": self.etag} | ({"bindings": copy.deepcopy(self.bindings)} if self.bindings else {})

    def set(self, policy: Json) -> Json:
        if policy.get("etag", self.etag) != self.etag:
            raise CONFLICT
        self.bindings = [binding for binding in policy.get("bindings", []) if binding.get("members")]
        self.etag = tag()
        return self.get()

    def members(self, role: str) -> list[str]:
        return [member for binding in self.bindings if binding["role"] == role for member in binding["members"]]

    def grant(self, role: str, member: str, **condition: str) -> None:
        extra = {"condition": {"title": "x", **condition}} if condition else {}
        self.bindings.append({"role": role, "members": [member], **extra})

    def forget(self, email: str) -> None:
        """A removed account stays in a policy under another name."""
        for binding in self.bindings:
            binding["members"] = [f"deleted:{member}?uid=1122" if member == f"serviceAccount:{email}" else member
                                  for member in binding["members"]]  # fmt: skip


Handler = Callable[..., Any]
ROUTES: list[tuple[str, re.Pattern[str], Handler]] = []


def route(*lines: str) -> Callable[[Handler], Handler]:
    """What answers `METHOD api path`; {} stands for a segment."""

    def add(handler: Handler) -> Handler:
        ROUTES.extend((line.split()[1], re.compile(line.replace("{}", "([^/:]+)")), handler) for line in lines)
        return handler

    return add


class GoogleApis:
    """The project, what is to go wrong in it, and the requests that came."""

    def __init__(self, url: str = "http://127.0.0.1:1") -> None:
        self.url = url  # of every function
        self.services: set[str] = set()
        self.policy = Policy()
        self.policy.grant("roles/owner", f"user:{OWNER}")
        self.accounts: dict[str, Json] = {}
        self.secrets: dict[str, Json] = {}
        self.instances: dict[str, Json] = {}
        self.functions: dict[str, Json] = {}  # by region/name
        self.run: dict[str, Json] = {}  # by region/name
        self.operations: dict[str, Json] = {}
        self.changes: list[str] = []  # METHOD api path code
        self.unknown: list[str] = []
        self.created = 0  # instances
        # What is to go wrong
        self.faults: list[tuple[str, Answer, int]] = []  # pattern of `METHOD api path?query`, answer, how often
        self.failing: dict[str, tuple[int, str]] = {}  # kinds of operations, and the error that they end with
        self.polls = 1  # how often an operation is unfinished
        self.lag = 0  # requests for which a service that was just enabled is not known yet
        self.interrupt: Callable[[int, str], bool] = lambda number, line: (
            False
        )  # whether the connection breaks after it
        self.interrupted: Callable[[], None] = lambda: None
        self.cut = False  # whether it was; until the next run nothing is answered any more
        self.keeps_labels = False  # whether a function whose update failed shows what was asked for, and is ACTIVE
        self.lock = threading.RLock()

    # --- The server -------------------------------------------------------------------------------------------------

    @contextmanager
    def served(self) -> Iterator[int]:
        """The port of the proxy."""
        apis = self

        class Request(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                data = self.rfile.read(int(self.headers.get("content-length") or 0))
                try:
                    code, body = apis.answer(self.command, self.path, data)
                except Lost:
                    self.close_connection = True
                    return
                payload = json.dumps(body).encode()
                self.send_response(code)
                self.send_header("content-type", "application/json; charset=UTF-8")
                self.send_header("content-length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                pass  # the client went away

        with Server(("127.0.0.1", 0), Request) as server:
            threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
            yield server.server_address[1]
            server.shutdown()

    def answer(self, method: str, url: str, data: bytes) -> tuple[int, Any]:
        """Status and JSON of a request; raise Lost where its connection is to break."""
        parts = urllib.parse.urlsplit(url)
        name = (parts.hostname or "").removesuffix(".googleapis.com")
        region, _, api = name.rpartition("-") if name.endswith("-run") else ("", "", name)
        path = urllib.parse.unquote(parts.path)
        changes = method != "GET" and not LOOKS.search(path) and api != "storage"
        with self.lock:
            if self.cut:
                raise Lost
            if changes:
                self.changes.append(f"{method} {api} {path}")
                self.cut = self.interrupt(len(self.changes), self.changes[-1])
            try:
                self.check(f"{method} {api} {path}?{parts.query}", api)
                query = dict(urllib.parse.parse_qsl(parts.query)) | ({"region": region} if region else {})
                code, result = 200, self.dispatch(f"{method} {api} {path}", query, data)
            except Answer as other:
                code, result = other.code, other.body
            if self.cut:
                self.interrupted()
                raise Lost
            return code, result

    def check(self, line: str, api: str) -> None:
        for i, (pattern, answer, left) in enumerate(self.faults):
            if left and re.search(pattern, line):
                self.faults[i] = (pattern, answer, left - 1)
                raise answer
        if api not in ("oauth2", "cloudresourcemanager", "serviceusage", "storage"):  # gcloud's own project has these
            known = f"{api}.googleapis.com" in self.services
            self.lag -= known and self.lag > 0
            if not known or self.lag > 0:
                raise disabled(api)

    def dispatch(self, line: str, query: Json, data: bytes) -> Any:
        for api, pattern, handler in ROUTES:
            match = pattern.fullmatch(line)
            if match:
                form = api in ("oauth2", "storage") or not data
                return handler(self, *match.groups(), query=query, body={} if form else json.loads(data))
        self.unknown.append(line)
        raise error(501, f"The stand-in does not know {line}")

    def save(self) -> Json:
        """What is there, without operations that go on."""
        return copy.deepcopy({name: getattr(self, name) for name in STATE}) | {"faults": [*self.faults]}

    def restore(self, state: Json) -> None:
        for name, value in copy.deepcopy({name: state[name] for name in STATE}).items():
            setattr(self, name, value)
        self.faults, self.operations = [*state["faults"]], {}

    # --- Operations -------------------------------------------------------------------------------------------------

    def operation(self, kind: str, name: str, finish: Callable[[], Any], fail: Callable[[], Any], target: str) -> Json:
        """`finish` makes the change once the operation has been asked for often enough."""
        operation: Json = {"name": name, "kind": kind, "left": self.polls, "finish": finish, "target": target}
        if kind in self.failing:
            operation |= {"error": self.failing[kind], "finish": fail}
        self.operations[name] = operation
        return operation

    def go_on(self, target: str) -> None:
        """What goes on at Google although nobody asks for the operation: three looks at its resource end it."""
        for operation in self.operations.values():
            if operation["target"] == target and "result" not in operation:
                operation["looks"] = operation.get("looks", 0) + 1
                if operation["looks"] == 3:
                    operation["result"] = operation["finish"]()

    def finish(self) -> None:
        for operation in self.operations.values():
            operation["left"] = 0
            ask(operation)

    def is_busy(self, target: str) -> bool:
        return any(one["target"] == target and "result" not in one for one in self.operations.values())


def ask(operation: Json) -> Json:
    if "result" not in operation:
        operation["left"] -= 1
        if operation["left"] < 0:
            operation["result"] = operation["finish"]()
    return operation


def long_running(operation: Json) -> Json:
    """google.longrunning.Operation"""
    done: Json = {}
    if "result" in operation:
        code, message = operation.get("error", (0, ""))
        done = {"done": True, **({"error": {"code": code, "message": message}} if code else
                                 {"response": operation["result"]})}  # fmt: skip
    return {
        "name": operation["name"],
        **done,
        **({"metadata": operation["metadata"]} if "metadata" in operation else {}),
    }


@route("GET serviceusage /v1/(operations/{})", "GET cloudfunctions /v2/(projects/{}/locations/{}/operations/{})")
def operations_get(apis: GoogleApis, name: str, *_: str, **__: Any) -> Json:
    return long_running(ask(apis.operations[name]))


# --- oauth2, storage, cloudresourcemanager, serviceusage ------------------------------------------------------------


@route("POST oauth2 /token")
def token(apis: GoogleApis, **_: Any) -> Json:
    return {"access_token": "ya29.stand-in", "expires_in": 3599, "token_type": "Bearer", "scope": "openid"}


@route("PUT storage /.*")
def upload(apis: GoogleApis, **_: Any) -> Json:
    return {}


@route("GET cloudresourcemanager /v1/projects/{}")
def project_get(apis: GoogleApis, project: str, **_: Any) -> Json:
    if project not in (PROJECT, NUMBER):
        raise error(403, "The caller does not have permission")
    return {"projectNumber": NUMBER, "projectId": PROJECT, "lifecycleState": "ACTIVE"}


@route("POST cloudresourcemanager /v1/projects/{}:getIamPolicy")
def project_policy(apis: GoogleApis, project: str, **_: Any) -> Json:
    return apis.policy.get()


@route("POST cloudresourcemanager /v1/projects/{}:setIamPolicy")
def project_set_policy(apis: GoogleApis, project: str, *, body: Json, **_: Any) -> Json:
    return apis.policy.set(known(apis, body["policy"]))


def known(apis: GoogleApis, policy: Json) -> Json:
    for member in (member for binding in policy.get("bindings", []) for member in binding.get("members", [])):
        kind, _, email = member.partition(":")
        if kind == "serviceAccount" and email not in apis.accounts:
            raise error(400, f"Service account {email} does not exist.", "INVALID_ARGUMENT")
    return policy


@route("GET serviceusage /v1/projects/{}/services")
def services_list(apis: GoogleApis, project: str, **_: Any) -> Json:
    return {"services": [service(apis, name) for name in sorted(apis.services)]}


@route("GET serviceusage /v1/projects/{}/services/{}")
def services_get(apis: GoogleApis, project: str, name: str, **_: Any) -> Json:
    return service(apis, name)


def service(apis: GoogleApis, name: str) -> Json:
    return {"name": f"projects/{NUMBER}/services/{name}", "config": {"name": name}, "parent": f"projects/{NUMBER}",
            "state": "ENABLED" if name in apis.services else "DISABLED"}  # fmt: skip


@route("POST serviceusage /v1/projects/{}/services/{}:enable", "POST serviceusage /v1/projects/{}/services:batchEnable")
def services_enable(apis: GoogleApis, project: str, *names: str, body: Json, **_: Any) -> Json:
    def finish() -> Json:
        apis.services.update(names or body["serviceIds"])
        return {"@type": "type.googleapis.com/google.api.serviceusage.v1.BatchEnableServicesResponse"}

    name = f"operations/acat.p2-{NUMBER}-{secrets.token_hex(16)}"
    return long_running(apis.operation("services", name, finish, finish, ""))


# --- iam ------------------------------------------------------------------------------------------------------------


@route("GET iam /v1/projects/{}/serviceAccounts")
def accounts_list(apis: GoogleApis, project: str, **_: Any) -> Json:
    return {"accounts": list(apis.accounts.values())} if apis.accounts else {}


@route("POST iam /v1/projects/{}/serviceAccounts")
def accounts_create(apis: GoogleApis, project: str, *, body: Json, **_: Any) -> Json:
    email = f"{body['accountId']}@{PROJECT}.iam.gserviceaccount.com"
    if email in apis.accounts:
        raise error(409, f"Service account {body['accountId']} already exists within project projects/{PROJECT}.")
    apis.accounts[email] = {"name": f"projects/{PROJECT}/serviceAccounts/{email}", "email": email,
                            **body["serviceAccount"]}  # fmt: skip
    return apis.accounts[email]


@route("DELETE iam /v1/projects/{}/serviceAccounts/{}")
def accounts_delete(apis: GoogleApis, project: str, email: str, **_: Any) -> Json:
    if not apis.accounts.pop(email, None):
        raise error(404, f"Unknown service account {email}")
    for policy in [apis.policy, *(one["policy"] for one in (*apis.secrets.values(), *apis.run.values()))]:
        policy.forget(email)
    return {}


# --- secretmanager --------------------------------------------------------------------------------------------------

SECRETS = "/v1/projects/{}/secrets"


def secret_of(apis: GoogleApis, name: str) -> Json:
    if name not in apis.secrets:
        raise error(404, f"Secret [projects/{NUMBER}/secrets/{name}] not found.")
    return apis.secrets[name]


def shown(resource: Json) -> Json:
    return {key: value for key, value in resource.items() if key not in ("versions", "policy", "data")}


@route(f"GET secretmanager {SECRETS}/{{}}")
def secrets_get(apis: GoogleApis, project: str, name: str, **_: Any) -> Json:
    return shown(secret_of(apis, name))


@route(f"POST secretmanager {SECRETS}")
def secrets_create(apis: GoogleApis, project: str, *, query: Json, body: Json, **_: Any) -> Json:
    name = query["secretId"]
    if name in apis.secrets:
        raise error(409, f"Secret [projects/{NUMBER}/secrets/{name}] already exists.")
    check_labels(body.get("labels", {}))
    apis.secrets[name] = {
        "name": f"projects/{NUMBER}/secrets/{name}",
        "replication": body["replication"],
        "etag": tag(),
        "versions": [],
        "policy": Policy(),
        "labels": body.get("labels", {}),
    }
    return shown(apis.secrets[name])


def check_labels(labels: Json) -> None:
    for label in [*labels, *labels.values()]:
        if not re.fullmatch("[a-z0-9_-]{0,63}", label):
            raise error(400, f"Label {label} is malformed", "INVALID_ARGUMENT")


@route(f"PATCH secretmanager {SECRETS}/{{}}")
def secrets_patch(apis: GoogleApis, project: str, name: str, *, query: Json, body: Json, **_: Any) -> Json:
    assert query["updateMask"] == "labels"
    check_labels(body.get("labels", {}))
    secret_of(apis, name)["labels"] = body.get("labels", {})
    return shown(secret_of(apis, name))


@route(f"DELETE secretmanager {SECRETS}/{{}}")
def secrets_delete(apis: GoogleApis, project: str, name: str, **_: Any) -> Json:
    secret_of(apis, name)
    del apis.secrets[name]
    return {}


@route(f"GET secretmanager {SECRETS}/{{}}:getIamPolicy")
def secrets_policy(apis: GoogleApis, project: str, name: str, **_: Any) -> Json:
    return secret_of(apis, name)["policy"].get()


@route(f"POST secretmanager {SECRETS}/{{}}:setIamPolicy")
def secrets_set_policy(apis: GoogleApis, project: str, name: str, *, body: Json, **_: Any) -> Json:
    return secret_of(apis, name)["policy"].set(known(apis, body["policy"]))


@route(f"POST secretmanager {SECRETS}/{{}}:addVersion")
def versions_add(apis: GoogleApis, project: str, name: str, *, body: Json, **_: Any) -> Json:
    versions = secret_of(apis, name)["versions"]
    versions.append({"name": f"projects/{NUMBER}/secrets/{name}/versions/{len(versions) + 1}", "state": "ENABLED",
                     "createTime": TIME, "data": base64.b64decode(body["payload"]["data"]).decode()})  # fmt: skip
    return {**shown(versions[-1]), "clientSpecifiedPayloadChecksum": "dataCrc32c" in body["payload"]}


@route(f"GET secretmanager {SECRETS}/{{}}/versions")
def versions_list(apis: GoogleApis, project: str, name: str, **_: Any) -> Json:
    versions = [shown(version) for version in reversed(secret_of(apis, name)["versions"])]
    return {"versions": versions, "totalSize": len(versions)} if versions else {}


@route(f"GET secretmanager {SECRETS}/{{}}/versions/{{}}", f"GET secretmanager {SECRETS}/{{}}/versions/{{}}:access")
def versions_access(apis: GoogleApis, project: str, name: str, number: str, **_: Any) -> Json:
    version = secret_of(apis, name)["versions"][int(number) - 1]
    where = f"projects/{NUMBER}/secrets/{name}/versions/{number}"
    if version["state"] != "ENABLED":
        raise error(400, f"Secret Version [{where}] is in {version['state']} state.")
    return {"name": where, "payload": {"data": base64.b64encode(version["data"].encode()).decode()}}


# --- sqladmin -------------------------------------------------------------------------------------------------------

SQL = "/sql/v1beta4/projects/{}"


def instance_of(apis: GoogleApis, name: str) -> Json:
    if name not in apis.instances:
        raise sql_error(404, "The Cloud SQL instance does not exist.", "instanceDoesNotExist")
    return apis.instances[name]


def running(apis: GoogleApis, name: str) -> Json:
    instance = instance_of(apis, name)
    if (instance["resource"]["state"], instance["resource"]["settings"]["activationPolicy"]) != ("RUNNABLE", "ALWAYS"):
        raise sql_error(400, "Invalid request: Invalid request since instance is not running.")
    return instance


def sql_operation(apis: GoogleApis, kind: str, name: str, finish: Handler, fail: Handler | None = None) -> Json:
    if apis.is_busy(name):
        apis.go_on(name)
        raise BUSY
    return sql_shown(apis.operation(kind, secrets.token_hex(16), finish, fail or finish, name))


def sql_shown(operation: Json) -> Json:
    done = "result" in operation
    code, message = operation.get("error", ("", ""))
    errors = {"error": {"errors": [{"kind": "sql#operationError", "code": str(code), "message": message}]}}
    return {"kind": "sql#operation", "name": operation["name"], "operationType": operation["kind"], "user": OWNER,
            "status": "DONE" if done else "PENDING", "targetId": operation["target"], "targetProject": PROJECT,
            **(errors if done and code else {})}  # fmt: skip


@route(f"GET sqladmin {SQL}/operations/{{}}")
def sql_operations_get(apis: GoogleApis, project: str, name: str, **_: Any) -> Json:
    return sql_shown(ask(apis.operations[name]))


def new_instance(name: str, region: str, created: str, **settings: Any) -> Json:
    """As one that was made in the console is shown, but for these settings."""
    defaults = {
        "tier": "db-custom-2-7680",
        "activationPolicy": "ALWAYS",
        "storageAutoResize": True,
        "deletionProtectionEnabled": True,
        "backupConfiguration": {"startTime": "04:00", "enabled": True},
    }
    resource = {"kind": "sql#instance", "name": name, "region": region, "state": "RUNNABLE", "createTime": created,
                "databaseVersion": "POSTGRES_16", "project": PROJECT, "backendType": "SECOND_GEN",
                "instanceType": "CLOUD_SQL_INSTANCE", "settings": {**defaults, **settings},
                "connectionName": f"{PROJECT}:{region}:{name}"}  # fmt: skip
    return {"resource": resource, "databases": ["postgres"], "users": {"postgres": ""}}


@route(f"GET sqladmin {SQL}/instances")
def instances_list(apis: GoogleApis, project: str, **_: Any) -> Json:
    for name in list(apis.instances):
        apis.go_on(name)
    items = [instance["resource"] for _, instance in sorted(apis.instances.items())]
    return {"kind": "sql#instancesList"} | ({"items": items} if items else {})


@route(f"GET sqladmin {SQL}/instances/{{}}")
def instances_get(apis: GoogleApis, project: str, name: str, **_: Any) -> Json:
    return instance_of(apis, name)["resource"]


@route(f"POST sqladmin {SQL}/instances")
def instances_insert(apis: GoogleApis, project: str, *, body: Json, **_: Any) -> Json:
    name = body["name"]
    if name in apis.instances:
        raise sql_error(409, "The Cloud SQL instance already exists.", "instanceAlreadyExists")
    apis.created += 1
    instance = new_instance(name, body["region"], TIME.replace("000", f"{apis.created:03}"), **body["settings"])
    resource = instance["resource"]
    resource["state"] = "PENDING_CREATE"
    apis.instances[name] = instance
    return sql_operation(apis, "CREATE", name, lambda: resource.update(state="RUNNABLE"),
                         lambda: resource.update(state="FAILED"))  # fmt: skip


@route(f"PATCH sqladmin {SQL}/instances/{{}}")
def instances_patch(apis: GoogleApis, project: str, name: str, *, body: Json, **_: Any) -> Json:
    settings = instance_of(apis, name)["resource"]["settings"]
    return sql_operation(apis, "UPDATE", name, lambda: settings.update(body["settings"]))


@route(f"DELETE sqladmin {SQL}/instances/{{}}")
def instances_delete(apis: GoogleApis, project: str, name: str, **_: Any) -> Json:
    resource = instance_of(apis, name)["resource"]
    if resource["settings"]["deletionProtectionEnabled"]:
        raise sql_error(400, "The instance is protected. Please disable the deletion protection and try again.")
    operation = sql_operation(apis, "DELETE", name, lambda: apis.instances.pop(name))
    resource["state"] = "PENDING_DELETE"
    return operation


@route(f"GET sqladmin {SQL}/instances/{{}}/(databases|users)")
def in_instance_list(apis: GoogleApis, project: str, name: str, kind: str, **_: Any) -> Json:
    items = [{"kind": f"sql#{kind[:-1]}", "name": one, "instance": name, "project": PROJECT}
             for one in running(apis, name)[kind]]  # fmt: skip
    return {"kind": f"sql#{kind}List", "items": items}


@route(f"POST sqladmin {SQL}/instances/{{}}/databases")
def databases_insert(apis: GoogleApis, project: str, name: str, *, body: Json, **_: Any) -> Json:
    databases, database = running(apis, name)["databases"], body["name"]
    if database in databases:
        raise sql_error(
            400,
            f'Invalid request: failed to create database {database}. Detail: pq: database "{database}" already exists.',
        )
    return sql_operation(apis, "CREATE_DATABASE", name, lambda: databases.append(database))


@route(f"DELETE sqladmin {SQL}/instances/{{}}/databases/{{}}")
def databases_delete(apis: GoogleApis, project: str, name: str, database: str, **_: Any) -> Json:
    databases = running(apis, name)["databases"]
    return sql_operation(apis, "DELETE_DATABASE", name, lambda: databases.remove(database))


@route(f"POST sqladmin {SQL}/instances/{{}}/users", f"PUT sqladmin {SQL}/instances/{{}}/users")
def users_set(apis: GoogleApis, project: str, name: str, *, query: Json, body: Json, **_: Any) -> Json:
    users = running(apis, name)["users"]
    return sql_operation(apis, "UPDATE_USER", name, lambda: users.update({body["name"]: body["password"]}))


@route(f"DELETE sqladmin {SQL}/instances/{{}}/users")
def users_delete(apis: GoogleApis, project: str, name: str, *, query: Json, **_: Any) -> Json:
    users = running(apis, name)["users"]
    return sql_operation(apis, "DELETE_USER", name, lambda: users.pop(query["name"]))


# --- cloudbuild, cloudfunctions -------------------------------------------------------------------------------------

FUNCTIONS = "/v2/projects/{}/locations/{}/functions"


@route("GET cloudbuild /v1/projects/{}/locations/{}/defaultServiceAccount")
def builder(apis: GoogleApis, project: str, region: str, **_: Any) -> Json:
    email = f"{NUMBER}-compute@developer.gserviceaccount.com"
    return {"name": f"projects/{NUMBER}/locations/{region}/defaultServiceAccount",
            "serviceAccountEmail": f"projects/{PROJECT}/serviceAccounts/{email}"}  # fmt: skip


@route("GET cloudfunctions /v2/projects/{}/locations/{}/runtimes")
def runtimes(apis: GoogleApis, project: str, region: str, **_: Any) -> Json:
    return {"runtimes": [{"name": f"python3{minor}", "stage": "GA", "environment": "GEN_2"} for minor in (11, 12, 13)]}


@route(f"POST cloudfunctions {FUNCTIONS}:generateUploadUrl")
def upload_url(apis: GoogleApis, project: str, region: str, **_: Any) -> Json:
    return {"uploadUrl": "http://storage.googleapis.com/uploads/x.zip?Signature=y",
            "storageSource": {"bucket": "uploads", "object": "x.zip"}}  # fmt: skip


@route(f"GET cloudfunctions {FUNCTIONS}/{{}}")
def functions_get(apis: GoogleApis, project: str, region: str, name: str, **_: Any) -> Json:
    apis.go_on(f"{region}/{name}")
    if f"{region}/{name}" not in apis.functions:
        raise error(404, f"Resource 'projects/{PROJECT}/locations/{region}/functions/{name}' was not found")
    return apis.functions[f"{region}/{name}"]


def function_operation(apis: GoogleApis, key: str, kind: str, finish: Handler, fail: Handler) -> Json:
    region = key.split("/")[0]
    name = f"projects/{PROJECT}/locations/{region}/operations/operation-{secrets.token_hex(8)}"
    operation = apis.operation(kind, name, finish, fail, key)
    stages = (
        []
        if kind == "DELETE_FUNCTION"
        else [{"name": "BUILD", "state": "COMPLETE"}, {"name": "SERVICE", "state": "COMPLETE"}]
    )
    operation["metadata"] = {"@type": "type.googleapis.com/google.cloud.functions.v2.OperationMetadata",
                             "operationType": kind, "apiVersion": "v2", "stages": stages}  # fmt: skip
    return long_running(operation)


@route(f"POST cloudfunctions {FUNCTIONS}")
def functions_create(apis: GoogleApis, project: str, region: str, *, query: Json, body: Json, **_: Any) -> Json:
    key = f"{region}/{query['functionId']}"
    if key in apis.functions:
        raise error(409, f"Could not create Cloud Functions function {key}. A function with the same name exists.")
    check_function(apis, body)
    function = {"name": f"projects/{PROJECT}/locations/{region}/functions/{query['functionId']}", "state": "DEPLOYING",
                "environment": "GEN_2", "labels": {}, **body}  # fmt: skip
    function["serviceConfig"].setdefault("environmentVariables", {})["LOG_EXECUTION_ID"] = "true"
    apis.functions[key] = function
    return function_operation(apis, key, "CREATE_FUNCTION", lambda: activate(apis, key),
                              lambda: function.update(state="FAILED"))  # fmt: skip


def activate(apis: GoogleApis, key: str) -> Json:
    function = apis.functions[key]
    function["state"] = "ACTIVE"
    revision(apis, key)
    name = key.split("/")[1]
    function["serviceConfig"] |= {"uri": apis.url, "service": f"{PROJECT}/services/{name}", "revision": f"{name}-1"}
    return {"@type": "type.googleapis.com/google.cloud.functions.v2.Function", **function}


def check_function(apis: GoogleApis, body: Json) -> None:
    """What the real service looks at before it builds."""
    account = body["serviceConfig"]["serviceAccountEmail"]
    if account not in apis.accounts:
        raise error(400, f"Service account projects/-/serviceAccounts/{account} was not found.")
    for one in body["serviceConfig"]["secretEnvironmentVariables"]:
        secret = apis.secrets.get(one["secret"], {})
        if not secret or not any(version["state"] == "ENABLED" for version in secret["versions"]):
            raise error(404, f"Secret projects/{NUMBER}/secrets/{one['secret']}/versions/latest was not found")
        if f"serviceAccount:{account}" not in secret["policy"].members("roles/secretmanager.secretAccessor"):
            raise error(403, f"Permission denied on secret: {one['secret']} for Revision service account {account}.")


@route(f"PATCH cloudfunctions {FUNCTIONS}/{{}}")
def functions_patch(
    apis: GoogleApis, project: str, region: str, name: str, *, query: Json, body: Json, **_: Any
) -> Json:
    key = f"{region}/{name}"
    function = apis.functions[key]
    if apis.is_busy(key):
        raise error(409, "unable to queue the operation", "ABORTED")
    check_function(apis, body)
    before = copy.deepcopy(function)
    for field in query["updateMask"].split(","):
        where, what = function, body
        *parents, last = [re.sub("_(.)", lambda match: match[1].upper(), part) for part in field.split(".")]
        for parent in parents:
            where, what = where.setdefault(parent, {}), what.get(parent, {})
        where.pop(last, None)
        where |= {last: what[last]} if last in what else {}
    function["serviceConfig"].setdefault("environmentVariables", {})["LOG_EXECUTION_ID"] = "true"
    function["state"] = "DEPLOYING"

    def fail() -> None:
        """The old revision serves on. What the resource then shows is not documented."""
        function.update({"state": "ACTIVE"} if apis.keeps_labels else before)

    return function_operation(apis, key, "UPDATE_FUNCTION", lambda: activate(apis, key), fail)


@route(f"DELETE cloudfunctions {FUNCTIONS}/{{}}")
def functions_delete(apis: GoogleApis, project: str, region: str, name: str, **_: Any) -> Json:
    key = f"{region}/{name}"
    if apis.is_busy(key):
        raise error(409, "unable to queue the operation", "ABORTED")
    apis.functions[key]["state"] = "DELETING"

    def finish() -> Json:
        del apis.functions[key]
        apis.run.pop(key, None)
        return {"@type": "type.googleapis.com/google.protobuf.Empty"}

    return function_operation(apis, key, "DELETE_FUNCTION", finish, finish)


# --- run ------------------------------------------------------------------------------------------------------------

RUN = "/apis/serving.knative.dev/v1/namespaces/{}/services/{}"
KEPT = ("run.googleapis.com/cloudsql-instances", "run.googleapis.com/startup-cpu-boost")


def revision(apis: GoogleApis, key: str) -> None:
    """The Cloud Run service of a function, with a new revision of it."""
    name, config = key.split("/")[1], apis.functions[key]["serviceConfig"]
    container = {"image": "image", "env": [{"name": one, "value": value} for one, value in
                                           config["environmentVariables"].items()]}  # fmt: skip
    template = {"metadata": {"annotations": {}, "labels": {"client.knative.dev/nonce": tag()}},
                "spec": {"containers": [container], "serviceAccountName": config["serviceAccountEmail"]}}  # fmt: skip
    if key in apis.run:
        old = apis.run[key]["resource"]["spec"]["template"]["metadata"]["annotations"]
        template["metadata"]["annotations"] = {kept: old[kept] for kept in KEPT if kept in old}
        apis.run[key]["resource"]["spec"]["template"] = template
    else:
        apis.run[key] = new_service(name, template)
    roll_out(apis, key)


def new_service(name: str, template: Json) -> Json:
    metadata = {"name": name, "namespace": NUMBER, "generation": 0, "annotations": {}, "labels": {},
                "selfLink": f"/apis/serving.knative.dev/v1/namespaces/{NUMBER}/services/{name}"}  # fmt: skip
    spec = {"template": template, "traffic": [{"percent": 100, "latestRevision": True}]}
    return {"policy": Policy(), "resource": {"apiVersion": "serving.knative.dev/v1", "kind": "Service",
                                             "metadata": metadata, "spec": spec, "status": {}}}  # fmt: skip


def roll_out(apis: GoogleApis, key: str) -> None:
    """The status as it is after a roll-out that went well, or badly."""
    resource = apis.run[key]["resource"]
    metadata = resource["metadata"]
    metadata["generation"] += 1
    metadata["resourceVersion"] = tag()
    metadata["annotations"]["run.googleapis.com/operation-id"] = secrets.token_hex(8)
    _, message = apis.failing.get("RUN", (0, ""))
    state = (
        {"status": "False", "reason": "HealthCheckContainerError", "message": message}
        if message
        else {"status": "True"}
    )
    name = resource["spec"]["template"]["metadata"].get("name") or f"{metadata['name']}-{metadata['generation']:05}-abc"
    resource["status"] = {
        "observedGeneration": metadata["generation"],
        "conditions": [{"type": kind, **state} for kind in ("Ready", "ConfigurationsReady", "RoutesReady")],
        "latestReadyRevisionName": name,
        "latestCreatedRevisionName": name,
        "traffic": [{"revisionName": name, **target} for target in resource["spec"]["traffic"]],
        "url": apis.url,
        "address": {"url": apis.url},
    }


def service_of(apis: GoogleApis, query: Json, name: str) -> Json:
    key = f"{query['region']}/{name}"
    if key not in apis.run:
        raise error(404, f"Resource '{name}' of kind 'SERVICE' in region '{query['region']}' does not exist.")
    return apis.run[key]


@route(f"GET run {RUN}")
def run_get(apis: GoogleApis, project: str, name: str, *, query: Json, **_: Any) -> Json:
    return service_of(apis, query, name)["resource"]


@route(f"PUT run {RUN}")
def run_put(apis: GoogleApis, project: str, name: str, *, query: Json, body: Json, **_: Any) -> Json:
    service = service_of(apis, query, name)
    service["resource"] = {**body, "status": service["resource"]["status"]}
    for metadata in (body["metadata"], body["spec"]["template"]["metadata"]):  # gcloud writes Python's True
        metadata["annotations"] = {key: {"True": "true"}.get(value, value)
                                   for key, value in metadata["annotations"].items() if value is not None}  # fmt: skip
    roll_out(apis, f"{query['region']}/{name}")
    if "RUN" in apis.failing:
        return service["resource"]
    status = service["resource"]["status"]
    pending = [{"type": one["type"], "status": "Unknown"} for one in status["conditions"]]
    return service["resource"] | {"status": status | {"conditions": pending}}


@route("POST run /v1/(projects/{}/locations/{}/operations/{}):wait")
def run_wait(apis: GoogleApis, name: str, project: str, region: str, operation: str, **_: Any) -> Json:
    [resource] = [
        one["resource"]
        for one in apis.run.values()
        if one["resource"]["metadata"]["annotations"]["run.googleapis.com/operation-id"] == operation
    ]
    return {
        "name": name,
        "done": True,
        "response": {"@type": "type.googleapis.com/google.cloud.run.v1.Service", **resource},
    }


@route("GET run /apis/serving.knative.dev/v1/namespaces/{}/revisions")
def run_revisions(apis: GoogleApis, project: str, *, query: Json, **_: Any) -> Json:
    """gcloud finds the revision that it made by the nonce that it put into its labels."""
    label, _, nonce = query.get("labelSelector", "").partition(" = ")
    items = []
    for service in apis.run.values():
        resource, status = service["resource"], service["resource"]["status"]
        template = resource["spec"]["template"]
        if template["metadata"]["labels"].get(label) == nonce:
            conditions = [{**status["conditions"][0], "type": kind} for kind in ("Ready", "Active", "ContainerHealthy")]
            items.append({"apiVersion": "serving.knative.dev/v1", "kind": "Revision", "spec": template["spec"],
                          "metadata": {**template["metadata"], "name": status["latestCreatedRevisionName"]},
                          "status": {"observedGeneration": 1, "conditions": conditions}})  # fmt: skip
    return {"apiVersion": "serving.knative.dev/v1", "kind": "RevisionList", "items": items, "metadata": {}}


@route("GET run /v1/projects/{}/locations/{}/services/{}:getIamPolicy")
def run_policy(apis: GoogleApis, project: str, region: str, name: str, **_: Any) -> Json:
    return service_of(apis, {"region": region}, name)["policy"].get()


@route("POST run /v1/projects/{}/locations/{}/services/{}:setIamPolicy")
def run_set_policy(apis: GoogleApis, project: str, region: str, name: str, *, body: Json, **_: Any) -> Json:
    return service_of(apis, {"region": region}, name)["policy"].set(body["policy"])
