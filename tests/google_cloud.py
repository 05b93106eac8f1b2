"""A project in Google Cloud for the tests of deploy.sh: the stand-in of the APIs, and a gcloud in front of it.

That is the real one or a quick one of our own, whose answers test_gcloud.py compares with the real one's.
"""

from __future__ import annotations

import base64
import copy
import functools
import json
import os
import re
import shutil
import signal
import socket
import socketserver
import subprocess
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from google_apis import PROJECT, GoogleApis, Json, Lost
from servers import ROOT

SECRET = "click-counter-database-url"
GCLOUD = shutil.which("gcloud")
APIS = {
    name: name
    for name in (
        "artifactregistry",
        "cloudbuild",
        "cloudfunctions",
        "cloudresourcemanager",
        "iam",
        "run",
        "secretmanager",
        "serviceusage",
        "storage",
    )
} | {"sql": "sqladmin"}
Call = Callable[[list[str], str, str], tuple[int, str, str]]  # arguments, environment, input: code, output, errors


class Refused(Exception):
    """gcloud exits with 1 and says this."""


# --- The quick gcloud -------------------------------------------------------------------------------------------------


def value_of(resource: Any, key: str) -> Any:
    """A key of gcloud's formats: dots, a quoted part in brackets, [] for every item, basename()."""
    for part in re.findall(r'\["([^"]+)"\]|(\[\])|([^.\[\]]+)', key):
        name = "".join(part)
        if name == "[]":
            pass
        elif name == "basename()":
            resource = (resource or "").rsplit("/", 1)[-1]
        elif isinstance(resource, list):
            resource = ";".join(str(item.get(name, "")) for item in resource)
        else:
            resource = (resource or {}).get(name)
    return "" if resource is None else resource


def formatted(resources: list[Json], form: str) -> str:
    match = re.fullmatch(r'value(?:\[separator="(.)"\])?\((.*)\)', form)
    if match is None:
        assert form == "none"
        return ""
    rows = [[str(value_of(resource, key)) for key in match[2].split(",")] for resource in resources]
    return "".join((match[1] or "\t").join(row) + "\n" for row in rows)


def pairs(text: str) -> dict[str, str]:
    """Flags as gcloud reads dictionaries: a=b,c=d, or with another separator ^|^a=b|c=d."""
    match = re.fullmatch(r"\^(.)\^(.*)", text)
    separator, text = (match[1], match[2]) if match else (",", text)
    return dict(pair.split("=", 1) for pair in text.split(separator) if pair)


class QuickGcloud:
    """What gcloud asks the APIs for, and how it says what they answer."""

    def __init__(self, apis: GoogleApis) -> None:
        self.apis = apis

    def __call__(self, arguments: list[str], environment: str, given: str) -> tuple[int, str, str]:
        words = [word for word in arguments if not word.startswith("--")]
        flags = dict(word[2:].partition("=")[::2] for word in arguments if word.startswith("--"))
        depth = 3 if words[0] in ("iam", "sql", "run") or words[1] == "versions" else 2
        command = "_".join(words[:depth]).replace("-", "_")
        try:
            answer = getattr(self, command)(words[-1], {**flags, "words": words}, given)
        except Refused as refused:
            return 1, "", f"ERROR: (gcloud.{'.'.join(words[:depth])}) {refused}\n"
        except Lost:
            return 1, "", "ERROR: the network cannot be reached\n"
        if isinstance(answer, str):
            return 0, answer, ""
        limit = int(flags.get("limit", "1000"))
        return 0, formatted(answer[:limit] if isinstance(answer, list) else [], flags["format"]), ""

    def ask(self, line: str, body: Any = None, say: str = "{status}: {message}") -> Any:
        """The answer to `METHOD api path`; where it is an error, what gcloud says of it."""
        method, api, path = line.split()
        url = f"http://{api}.googleapis.com{urllib.parse.quote(path, safe='/:?=&')}"
        code, answer = self.apis.answer(method, url, b"" if body is None else json.dumps(body).encode())
        if code == 200:
            return answer
        error = answer["error"]
        if code == 403 and (api == "iam" or (method, api) == ("GET", "sqladmin")):
            say = self.DENIED
        raise Refused(say.format(code=code, status=error.get("status"), message=error["message"], line=line))

    DENIED = (
        f"[None] does not have permission to access projects instance [{PROJECT}] (or it may not exist): {{message}}"
    )

    # --- Projects, services, accounts ---

    def projects_describe(self, name: str, flags: Json, given: str) -> list[Json]:
        say = self.DENIED.replace(f"[{PROJECT}]", f"[{name}]")
        return [self.ask(f"GET cloudresourcemanager /v1/projects/{name}", say=say)]

    def services_list(self, name: str, flags: Json, given: str) -> list[Json]:
        return self.ask(f"GET serviceusage /v1/projects/{PROJECT}/services", say=self.DENIED)["services"]

    def services_enable(self, name: str, flags: Json, given: str) -> None:
        names = flags["words"][2:]
        where = f"/v1/projects/{PROJECT}/services" + (":batchEnable" if names[1:] else f"/{name}:enable")
        operation = self.ask(f"POST serviceusage {where}", {"serviceIds": names})
        self.wait("serviceusage", "/v1/", operation)

    def iam_service_accounts_list(self, name: str, flags: Json, given: str) -> list[Json]:
        return self.ask(f"GET iam /v1/projects/{PROJECT}/serviceAccounts").get("accounts", [])

    def iam_service_accounts_create(self, name: str, flags: Json, given: str) -> None:
        account = {"displayName": flags["display-name"], "description": flags["description"]}
        self.ask(f"POST iam /v1/projects/{PROJECT}/serviceAccounts", {"accountId": name, "serviceAccount": account})

    def iam_service_accounts_delete(self, name: str, flags: Json, given: str) -> None:
        self.ask(f"DELETE iam /v1/projects/-/serviceAccounts/{name}")

    def wait(self, api: str, path: str, operation: Json, say: str = "{code}, {message}") -> None:
        while not operation.get("done"):
            operation = self.ask(f"GET {api} {path}{operation['name']}")
        if "error" in operation:
            raise Refused(say.format(**operation["error"]))

    # --- Policies ---

    def policy(self, kind: str, name: str, flags: Json, change: Callable[[Json, str, str], None]) -> list[Json]:
        region = flags.get("region")
        method, where = {
            "projects": ("POST", f"cloudresourcemanager /v1/projects/{name}"),
            "secrets": ("GET", f"secretmanager /v1/projects/{PROJECT}/secrets/{name}"),
            "run": ("GET", f"run /v1/projects/{PROJECT}/locations/{region}/services/{name}"),
        }[kind]
        policy = self.ask(f"{method} {where}:getIamPolicy")
        if "member" not in flags:
            assert flags["flatten"] == "bindings[].members"
            return [{"bindings": {**binding, "members": member}} for binding in policy.get("bindings", [])
                    for member in binding["members"]] or [{}]  # fmt: skip
        change(policy, flags["role"], flags["member"])
        say = {"projects": f"Resource in projects [{name}:setIamPolicy] is the subject of a conflict: {{message}}",
               "secrets": "Status code: {code}. {message}.", "run": "{status}: {message}"}[kind]  # fmt: skip
        self.ask(f"POST {where}:setIamPolicy", {"policy": policy}, say)
        return []

    def add(self, policy: Json, role: str, member: str) -> None:
        bindings = policy.setdefault("bindings", [])
        for binding in bindings:
            if binding["role"] == role and "condition" not in binding:
                binding["members"].append(member)
                return
        bindings.append({"role": role, "members": [member]})

    def drop(self, policy: Json, role: str, member: str) -> None:
        for binding in policy["bindings"]:
            if binding["role"] == role and "condition" not in binding:
                binding["members"].remove(member)

    def __getattr__(self, command: str) -> Any:
        match = re.fullmatch("(projects|secrets|run)(_services)?_(get|add|remove)_iam_policy(_binding)?", command)
        if match is None:
            raise AttributeError(f"the quick gcloud does not know {command}")
        change = self.drop if match[3] == "remove" else self.add
        return lambda name, flags, given: self.policy(match[1], name, flags, change)

    # --- Secrets ---

    SECRETS = f"secretmanager /v1/projects/{PROJECT}/secrets"

    def secrets_describe(self, name: str, flags: Json, given: str) -> list[Json]:
        return [self.ask(f"GET {self.SECRETS}/{name}")]

    def secrets_create(self, name: str, flags: Json, given: str) -> None:
        replication: Json = {"automatic": {}}
        if "locations" in flags:
            replication = {"userManaged": {"replicas": [{"location": one} for one in flags["locations"].split(",")]}}
        body = {"labels": pairs(flags["labels"]), "replication": replication}
        self.ask(f"POST {self.SECRETS}?secretId={name}", body)

    def secrets_update(self, name: str, flags: Json, given: str) -> None:
        labels = self.ask(f"GET {self.SECRETS}/{name}").get("labels", {}) | pairs(flags["update-labels"])
        self.ask(f"PATCH {self.SECRETS}/{name}?updateMask=labels", {"labels": labels})

    def secrets_delete(self, name: str, flags: Json, given: str) -> None:
        self.ask(f"DELETE {self.SECRETS}/{name}")

    def secrets_versions_list(self, name: str, flags: Json, given: str) -> list[Json]:
        return self.ask(f"GET {self.SECRETS}/{name}/versions").get("versions", [])

    def secrets_versions_access(self, name: str, flags: Json, given: str) -> str:
        payload = self.ask(f"GET {self.SECRETS}/{flags['secret']}/versions/{name}:access")["payload"]
        return base64.b64decode(payload["data"]).decode()

    def secrets_versions_add(self, name: str, flags: Json, given: str) -> None:
        data = base64.b64encode(given.encode()).decode()
        self.ask(f"POST {self.SECRETS}/{name}:addVersion", {"payload": {"data": data}})

    # --- Cloud SQL ---

    SQL = f"/sql/v1beta4/projects/{PROJECT}"

    def sql(self, line: str, body: Json | None = None) -> Any:
        method, path = line.split()
        plain = "HTTPError {code}: {message}" if path.count("/") > 1 and method != "PATCH" else "{message}"
        return self.ask(f"{method} sqladmin {self.SQL}{path}", body, plain)

    def change_sql(self, line: str, body: Json | None = None) -> None:
        operation = self.sql(line, body)
        while operation["status"] != "DONE":
            operation = self.ask(f"GET sqladmin {self.SQL}/operations/{operation['name']}")
        for error in operation.get("error", {}).get("errors", []):
            raise Refused(f"[{error['code']}] {error['message']}")

    def sql_instances_list(self, name: str, flags: Json, given: str) -> list[Json]:
        instances = copy.deepcopy(self.sql("GET /instances").get("items", []))
        for instance in instances:
            if instance["settings"]["activationPolicy"] == "NEVER":
                instance["state"] = "STOPPED"
        return instances

    def sql_instances_create(self, name: str, flags: Json, given: str) -> None:
        settings = {
            "tier": flags["tier"],
            "storageAutoResize": False,
            "activationPolicy": "ALWAYS",
            "deletionProtectionEnabled": "deletion-protection" in flags,
            "dataDiskSizeGb": flags["storage-size"],
            "backupConfiguration": {"startTime": flags["backup-start-time"]},
        }
        body = {
            "name": name,
            "region": flags["region"],
            "databaseVersion": flags["database-version"],
            "settings": settings,
        }
        self.change_sql("POST /instances", body)

    def sql_instances_patch(self, name: str, flags: Json, given: str) -> None:
        self.sql(f"GET /instances/{name}")
        settings = {"deletionProtectionEnabled": "deletion-protection" in flags}
        self.change_sql(f"PATCH /instances/{name}", {"settings": settings})

    def sql_instances_delete(self, name: str, flags: Json, given: str) -> None:
        self.change_sql(f"DELETE /instances/{name}")

    def sql_databases_list(self, name: str, flags: Json, given: str) -> list[Json]:
        return self.sql(f"GET /instances/{flags['instance']}/databases")["items"]

    def sql_databases_create(self, name: str, flags: Json, given: str) -> None:
        self.change_sql(f"POST /instances/{flags['instance']}/databases", {"name": name})

    def sql_databases_delete(self, name: str, flags: Json, given: str) -> None:
        self.change_sql(f"DELETE /instances/{flags['instance']}/databases/{name}")

    def sql_users_list(self, name: str, flags: Json, given: str) -> list[Json]:
        return self.sql(f"GET /instances/{flags['instance']}/users")["items"]

    def sql_users_create(self, name: str, flags: Json, given: str, method: str = "POST") -> None:
        password = given.removeprefix("--password: ").strip().strip('"')
        self.change_sql(f"{method} /instances/{flags['instance']}/users", {"name": name, "password": password})

    def sql_users_set_password(self, name: str, flags: Json, given: str) -> None:
        self.sql_users_create(name, flags, given, "PUT")

    def sql_users_delete(self, name: str, flags: Json, given: str) -> None:
        self.change_sql(f"DELETE /instances/{flags['instance']}/users?name={name}")

    # --- Functions, and the services behind them ---

    SAY = "ResponseError: status=[{code}], code=[Ok], message=[{message}]"

    def functions_describe(self, name: str, flags: Json, given: str) -> list[Json]:
        where = f"/v2/projects/{PROJECT}/locations/{flags['region']}/functions/{name}"
        return [self.ask(f"GET cloudfunctions {where}", say=self.SAY)]

    def functions_deploy(self, name: str, flags: Json, given: str) -> None:
        where = f"/v2/projects/{PROJECT}/locations/{flags['region']}/functions"
        try:
            [before] = self.functions_describe(name, flags, given)
        except Refused as refused:
            if "was not found" not in str(refused):
                raise
            before = {}
        environment = {**before.get("serviceConfig", {}).get("environmentVariables", {}),
                       **pairs(flags.get("update-env-vars", ""))}  # fmt: skip
        for variable in flags.get("remove-env-vars", "").split(","):
            environment.pop(variable, None)
        key, secret = flags["set-secrets"].split("=")
        config = {
            "environmentVariables": environment,
            "serviceAccountEmail": flags["service-account"],
            "availableMemory": flags["memory"],
            "secretEnvironmentVariables": [{"key": key, "secret": secret.split(":")[0], "version": "latest"}],
        }
        body = {"labels": {**before.get("labels", {}), **pairs(flags["update-labels"])}, "serviceConfig": config,
                "buildConfig": {"runtime": flags["runtime"], "entryPoint": flags["entry-point"]}}  # fmt: skip
        fields = "labels,service_config.environment_variables,service_config.available_memory"
        line = f"PATCH cloudfunctions {where}/{name}?updateMask={fields}" if before else \
               f"POST cloudfunctions {where}?functionId={name}"  # fmt: skip
        operation = self.ask(line, body, self.SAY)
        self.wait("cloudfunctions", "/v2/", operation, "OperationError: code={code}, message={message}")

    def functions_delete(self, name: str, flags: Json, given: str) -> None:
        where = f"/v2/projects/{PROJECT}/locations/{flags['region']}/functions/{name}"
        self.wait("cloudfunctions", "/v2/", self.ask(f"DELETE cloudfunctions {where}", say=self.SAY))

    def _service(self, name: str, flags: Json, method: str = "GET", body: Json | None = None) -> Json:
        where = f"/apis/serving.knative.dev/v1/namespaces/{PROJECT}/services/{name}"
        try:
            return self.ask(f"{method} {flags['region']}-run {where}", body)
        except Refused as refused:
            if str(refused).startswith("NOT_FOUND"):
                raise Refused(f"Cannot find service [{name}]") from refused
            raise

    def run_services_describe(self, name: str, flags: Json, given: str) -> list[Json]:
        return [self._service(name, flags)]

    def run_services_update(self, name: str, flags: Json, given: str) -> None:
        service = copy.deepcopy(self._service(name, flags))
        annotations = service["spec"]["template"]["metadata"]["annotations"]
        if "set-cloudsql-instances" in flags:
            annotations["run.googleapis.com/cloudsql-instances"] = flags["set-cloudsql-instances"]
        if "clear-cloudsql-instances" in flags:
            annotations["run.googleapis.com/cloudsql-instances"] = None
        if "cpu-boost" in flags:
            annotations["run.googleapis.com/startup-cpu-boost"] = "True"
        self._service(name, flags, "PUT", service)
        if "RUN" in self.apis.failing:
            raise Refused(self.apis.failing["RUN"][1])

    def run_services_update_traffic(self, name: str, flags: Json, given: str) -> None:
        service = copy.deepcopy(self._service(name, flags))
        service["spec"]["traffic"] = [{"latestRevision": True, "percent": 100}]
        self._service(name, flags, "PUT", service)


# --- The real gcloud --------------------------------------------------------------------------------------------------


@contextmanager
def real_gcloud() -> Iterator[int]:
    """The port of gcloud_server.py."""
    sdk = Path(str(GCLOUD)).resolve().parents[1]
    bundled = sorted(sdk.glob("platform/bundledpython*/bin/python3"))
    python = bundled[0] if bundled else os.environ.get("CLOUDSDK_PYTHON", "python3")
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{sdk}/lib:{sdk}/lib/third_party",
        "TERM": "dumb",
        "CLOUDSDK_ROOT_DIR": str(sdk),
        "CLOUDSDK_ENCODING": "UTF-8",
        "PYTHONIOENCODING": "UTF-8",
    }
    command = [python, "-S", "-W", "ignore", ROOT / "tests" / "gcloud_server.py"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        yield int(process.stdout.readline())


# --- A project --------------------------------------------------------------------------------------------------------


@contextmanager
def served(call: Call) -> Iterator[int]:
    """The port on which tests/gcloud finds the quick gcloud."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            count = int(self.text())
            _, environment, *arguments = [self.text() for _ in range(count + 2)]
            with suppress(BrokenPipeError):
                self.wfile.write("".join(f"{part}\0" for part in call(arguments, environment, self.text())).encode())

        def text(self) -> str:
            read = bytearray()
            while (byte := self.rfile.read(1)) != b"\0":
                assert byte, "the client went away"
                read += byte
            return read.decode()

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


class Project:
    """deploy.sh, run in a Google Cloud project of its own."""

    def __init__(self, apis: GoogleApis, proxy: int, gcloud: int, folder: Path) -> None:
        self.apis = apis
        programs = folder / "bin"
        programs.mkdir(exist_ok=True)
        self.calls_file, self.slept = folder / "calls", folder / "slept"
        shutil.copy(ROOT / "tests" / "gcloud", programs)
        (programs / "sleep").write_text(f"#!/bin/sh\necho $1 >>{self.slept}\n")
        (programs / "sleep").chmod(0o755)
        (folder / "token").write_text("ya29.stand-in")
        self.environment = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "HOME": str(folder),
            "STANDIN": str(gcloud),
            "CALLS": str(self.calls_file),
            "PROJECT_ID": PROJECT,
            "CLOUDSDK_CONFIG": str(folder / "config"),
            "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE": str(folder / "token"),
            "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "1",
            "CLOUDSDK_CORE_CHECK_GCE_METADATA": "false",
            "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "1",
            "CLOUDSDK_SURVEY_DISABLE_PROMPTS": "1",
            "CLOUDSDK_PROXY_TYPE": "http",
            "CLOUDSDK_PROXY_ADDRESS": "127.0.0.1",
            "CLOUDSDK_PROXY_PORT": str(proxy),
        } | {f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{name.upper()}": f"http://{host}.googleapis.com/"
             for name, host in APIS.items()}  # fmt: skip
        self.outputs = ""

    def deploy(self, *arguments: str, answer: str = "", script: Path = ROOT / "deploy.sh", **variables: str) -> Any:
        """Run it; `apis.changes`, `calls` and `slept` then have those of this run alone."""
        if self.apis.cut:  # what was interrupted has to end first
            with socket.create_connection(("127.0.0.1", int(self.environment["STANDIN"]))) as connection:
                connection.sendall(b"0\0/\0\0\0")
                connection.makefile("rb").read()
        self.apis.cut = False
        self.apis.changes.clear()
        self.calls_file.write_text("")
        self.slept.write_text("")
        process = subprocess.Popen([script, *arguments], env={**self.environment, **variables}, text=True,
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   start_new_session=True)  # fmt: skip
        self.kill = functools.partial(os.killpg, process.pid, signal.SIGKILL)
        try:
            start = time.monotonic()
            output, errors = process.communicate(answer, timeout=120)
            self.seconds = time.monotonic() - start
        finally:
            with suppress(ProcessLookupError):
                self.kill()
        self.outputs += output + errors
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    def deployed(self, *arguments: str, **variables: str) -> list[str]:
        """Run it to its end; return the changes, the first words of each."""
        done = self.deploy(*arguments, **variables)
        assert done.returncode == 0, self.outputs
        assert self.apis.unknown == []
        return self.changes

    def refused(self, *words: str, arguments: tuple[str, ...] = (), **variables: str) -> str:
        """Run it; it must say this and leave everything as it was."""
        before = self.state
        done = self.deploy(*arguments, **variables)
        assert done.returncode == 2, self.outputs
        assert done.stderr.count("deploy.sh: ") == 1, done.stderr
        assert [word for word in words if word not in done.stderr] == [], done.stderr
        assert "line " not in done.stderr  # an error of bash
        assert (self.apis.changes, self.state) == ([], before)
        return str(done.stderr)

    @property
    def calls(self) -> list[str]:
        """The calls of gcloud, a line each."""
        return self.calls_file.read_text().splitlines()

    @property
    def changes(self) -> list[str]:
        """The calls that change something, the words before their flags, at most four."""
        words = [[word for word in call.split(" ")[:4] if not word.startswith("--")] for call in self.calls
                 if call.endswith(" --format=none")]  # fmt: skip
        return [" ".join(call) for call in words]

    @property
    def state(self) -> Json:
        """What is there, in short."""
        apis = self.apis

        def roles(policy: Any) -> list[tuple[str, str]]:
            return sorted((one["role"], member) for one in policy.bindings for member in one["members"])

        def of_instance(one: Json) -> Json:
            resource, settings = one["resource"], one["resource"]["settings"]
            return {"state": resource["state"], "region": resource["region"], "created": resource["createTime"],
                    "protected": settings["deletionProtectionEnabled"], "tier": settings["tier"],
                    "grows": settings["storageAutoResize"], "backup": settings["backupConfiguration"]["startTime"],
                    "databases": one["databases"], "users": one["users"]}  # fmt: skip

        def of_run(one: Json) -> Json:
            spec = one["resource"]["spec"]
            annotations = spec["template"]["metadata"]["annotations"]
            return {"sockets": annotations.get("run.googleapis.com/cloudsql-instances"),
                    "boost": annotations.get("run.googleapis.com/startup-cpu-boost"), "roles": roles(one["policy"]),
                    "traffic": spec["traffic"]}  # fmt: skip

        return copy.deepcopy(
            {
                "services": sorted(apis.services),
                "roles": roles(apis.policy),
                "accounts": {email: one.get("description") for email, one in apis.accounts.items()},
                "secrets": {
                    name: {
                        "labels": one["labels"],
                        "roles": roles(one["policy"]),
                        "replication": one["replication"],
                        "versions": [(version["data"], version["state"]) for version in one["versions"]],
                    }
                    for name, one in apis.secrets.items()
                },
                "instances": {name: of_instance(one) for name, one in apis.instances.items()},
                "functions": {
                    key: {
                        "state": one["state"],
                        "made_by": one["labels"].get("made_by"),
                        "env": one["serviceConfig"]["environmentVariables"],
                    }
                    for key, one in apis.functions.items()
                },
                "run": {key: of_run(one) for key, one in apis.run.items()},
            }
        )
