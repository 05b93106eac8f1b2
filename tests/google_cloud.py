"""A stand-in for Google Cloud as gcloud shows it: a project that keeps state, for the tests of deploy.sh.

`tests/gcloud` is its client. What it answers has the shape of the real resources, and what it refuses has the words of
the real gcloud. Changes can be interrupted, look-ups can fail, policies can forbid.
"""

from __future__ import annotations

import copy
import re
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

NUMBER = "840412345678"  # of the project; error texts are full of such numbers
PROJECT = "my-project"
Resource = dict[str, Any]


class Refused(Exception):
    """gcloud exits with 1 and says this."""


class Interrupted(Exception):
    """The connection broke before a change, or after it."""


def empty_project() -> Resource:
    return {"account": "me@example.com", "services": [], "accounts": {}, "roles": [], "instances": {}, "secrets": {},
            "functions": {}, "services_run": {}}  # fmt: skip


def pairs(text: str) -> dict[str, str]:
    """Flags as gcloud reads dictionaries: a=b,c=d, or with another separator ^|^a=b|c=d."""
    match = re.fullmatch(r"\^(.)\^(.*)", text, re.DOTALL)
    separator, text = (match[1], match[2]) if match else (",", text)
    return dict(pair.split("=", 1) for pair in text.split(separator) if pair)


def value_of(resource: Any, key: str) -> Any:
    """A key of gcloud's formats and filters: dots, a quoted part in brackets, [] for every item, basename()."""
    for part in re.findall(r"""\["([^"]+)"\]|\['([^']+)'\]|(\[\])|([^.\[\]]+)""", key):
        name = "".join(part)
        if name == "[]":
            resource = resource or []
        elif name == "basename()":
            resource = resource.rsplit("/", 1)[-1]
        elif isinstance(resource, list):
            resource = ";".join(str(item.get(name, "")) for item in resource)
        else:
            resource = (resource or {}).get(name)
    return resource


def formatted(resources: list[Resource], flags: dict[str, str]) -> str:
    for condition in filter(None, flags.get("filter", "").split(" AND ")):
        key, wanted = re.split("[=:]", condition, maxsplit=1)
        resources = [resource for resource in resources if value_of(resource, key) == wanted]
    resources = resources[: int(flags.get("limit", "1000"))]
    form = re.fullmatch(r"""value(?:\[separator=["'](.)["']\])?\((.*)\)""", flags.get("format", ""))
    if form is None:
        return "".join(f"{resource}\n" for resource in resources)
    keys = form[2].split(",")
    rows = [["" if value is None else str(value) for value in (value_of(resource, key) for key in keys)]
            for resource in resources]  # fmt: skip
    return "".join((form[1] or "\t").join(row) + "\n" for row in rows)


class GoogleCloud:
    """The project, what is to go wrong in it, and the calls that came."""

    def __init__(self) -> None:
        self.state = empty_project()
        self.url = "http://127.0.0.1:1"  # of every function
        self.calls: list[list[str]] = []
        self.changed: list[list[str]] = []
        self.interrupt: tuple[int, str] | None = None  # the change of this number, before or after it
        self.failing: dict[str, str] = {}  # look-ups that begin so, and the words that they fail with
        self.policies: set[str] = set()
        self.words = ("One or more users named in the policy do not belong to a permitted customer, perhaps due to an "
                      "organization policy.")  # fmt: skip
        self.silent = ""  # look-ups that begin so print nothing, and exit with 0
        self.created = 0  # instances
        self.lag = 0  # calls until a service that was just enabled is known

    # --- The server ---------------------------------------------------------------------------------------------

    @contextmanager
    def served(self) -> Iterator[int]:
        """The port on which the clients find it."""
        cloud = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                parts: list[bytes] = []
                while len(parts) < 2 or len(parts) < int(parts[0]) + 2:
                    parts.append(self.text())
                *arguments, given = [part.decode() for part in parts[1:]]
                self.wfile.write(b"".join(str(part).encode() + b"\0" for part in cloud.call(arguments, given)))

            def text(self) -> bytes:
                read = bytearray()
                while (byte := self.rfile.read(1)) != b"\0":
                    assert byte, "the client went away"
                    read += byte
                return bytes(read)

        with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
            yield server.server_address[1]
            server.shutdown()

    def call(self, arguments: list[str], given: str) -> tuple[int, str, str]:
        """What gcloud exits with, and what it says on standard output and on standard error."""
        self.calls.append(arguments)
        words = [word for word in arguments if not word.startswith("--")]
        flags = dict(word[2:].partition("=")[::2] for word in arguments if word.startswith("--"))
        command = " ".join(words)
        error = f"ERROR: (gcloud.{'.'.join(words[: 3 if words[0] in ('iam', 'sql', 'run') else 2])})"
        try:
            for start, text in self.failing.items():
                if command.startswith(start):
                    raise Refused(text)
            resources = self.look(words, flags)
            if resources and self.silent and command.startswith(self.silent):
                resources = []
            if resources is None:
                self.change(arguments, words, flags, given)
                return 0, "", "Done.\n"
            return 0, formatted(resources, flags), ""
        except Refused as refused:
            return 1, "", str(refused) if str(refused).startswith("ERROR") else f"{error} {refused}\n"
        except Interrupted:
            return 1, "", f"{error} the network cannot be reached\n"

    # --- Look-ups -----------------------------------------------------------------------------------------------

    def enabled(self, service: str) -> None:
        known = f"{service}.googleapis.com" in self.state["services"]
        self.lag -= known
        if not known or self.lag >= 0:
            raise Refused(f"PERMISSION_DENIED: {service} API has not been used in project {NUMBER} before or it is "
                          "disabled. reason: SERVICE_DISABLED")  # fmt: skip

    def look(self, words: list[str], flags: dict[str, str]) -> list[Resource] | None:
        """The resources that are asked for; None where this is no look-up."""
        state, name = self.state, words[-1]
        match words[:3]:
            case ["auth", "list"]:
                return [{"account": state["account"], "status": "ACTIVE"}] if state["account"] else []
            case ["projects", "describe", project]:
                if project != PROJECT:
                    raise Refused(f"User [{state['account']}] does not have permission to access projects instance "
                                  f"[{project}] (or it may not exist): Permission denied")  # fmt: skip
                return [{"projectId": project}]
            case ["services", "list"]:
                return [{"config": {"name": service}} for service in state["services"]]
            case ["projects", "get-iam-policy", _]:
                return [{"bindings": {"role": role, "members": member}} for role, member in state["roles"]]
            case ["iam", "service-accounts", "list"]:
                self.enabled("iam")
                return [{"email": email, "description": text} for email, text in state["accounts"].items()]
            case ["sql", "instances", "list"]:
                self.enabled("sqladmin")
                self.delete_pending()
                return [self.instance_as_listed(name) for name in state["instances"]]
            case ["sql", "databases", "list"]:
                return [{"name": database} for database in ["postgres", *self.instance(flags)["databases"]]]
            case ["sql", "users", "list"]:
                return [{"name": user} for user in ["postgres", *self.instance(flags)["users"]]]
            case ["secrets", "describe", _]:
                return [{"labels": self.secret(name)["labels"]}]
            case ["secrets", "get-iam-policy", _]:
                return [{"bindings": {"role": "roles/secretmanager.secretAccessor", "members": member}}
                        for member in self.secret(name)["members"]]  # fmt: skip
            case ["secrets", "versions", "list"]:
                return [{"name": f"projects/{NUMBER}/secrets/{name}/versions/{number}", "state": version["state"]}
                        for number, version in reversed([*enumerate(self.secret(name)["versions"], 1)])
                        if flags.get("filter") != "state=ENABLED" or version["state"] == "ENABLED"]  # fmt: skip
            case ["secrets", "versions", "access"]:
                return self.access(name, flags)
            case ["functions", "describe", _]:
                self.enabled("cloudfunctions")
                if name not in state["functions"] or state["functions"][name]["region"] != flags["region"]:
                    raise Refused("ResponseError: status=[404], code=[Not Found], message=[Resource 'projects/p/"
                                  f"locations/{flags['region']}/functions/{name}' was not found]")  # fmt: skip
                function = state["functions"][name]
                return [{"state": function["state"], "labels": function["labels"],
                         "serviceConfig": {"uri": self.url, "environmentVariables": function["env"]}}]  # fmt: skip
            case ["run", "services", "describe"]:
                self.enabled("run")
                if name not in state["services_run"] or state["services_run"][name]["region"] != flags["region"]:
                    raise Refused(f"Cannot find service [{name}]")
                return [self.run_service(name)]
            case ["run", "services", "get-iam-policy"]:
                return [{"bindings": {"role": "roles/run.invoker", "members": member}}
                        for member in state["services_run"][name]["invokers"]]  # fmt: skip
        return None

    def access(self, name: str, flags: dict[str, str]) -> list[Resource]:
        versions = self.secret(flags["secret"])["versions"]
        number = len(versions) if name == "latest" else int(name)
        if not versions:
            raise Refused(f"NOT_FOUND: Secret [projects/1/secrets/{flags['secret']}] not found or has no versions.")
        version = versions[number - 1]
        if version["state"] != "ENABLED":
            raise Refused(f"FAILED_PRECONDITION: Secret Version [projects/{NUMBER}/secrets/{flags['secret']}/versions/"
                          f"{number}] is in {version['state']} state.")  # fmt: skip
        flags["format"] = "value(payload)"
        return [{"payload": version["value"]}]

    def delete_pending(self) -> None:
        """An instance that is being deleted is gone at the third look."""
        instances = self.state["instances"]
        for name in [name for name, instance in instances.items() if instance["state"] == "PENDING_DELETE"]:
            instances[name]["looks"] = instances[name].get("looks", 0) + 1
            if instances[name]["looks"] == 3:
                del instances[name]

    def instance_as_listed(self, name: str) -> Resource:
        """With the settings of one that was made in the console, where it has no others."""
        instance = self.state["instances"][name]
        settings = {"tier": instance["tier"], "deletionProtectionEnabled": instance["protected"],
                    "backupConfiguration": {"startTime": instance.get("backup", "04:00")},
                    "storageAutoResize": instance.get("grows", True)}  # fmt: skip
        return {"name": name, "state": instance["state"], "region": instance["region"], "settings": settings,
                "createTime": instance.get("created", "2020-02-02T02:02:02.222Z")}  # fmt: skip

    def instance(self, flags: dict[str, str]) -> Resource:
        instance = self.state["instances"].get(flags["instance"])
        if instance is None:
            raise Refused("HTTPError 404: The Cloud SQL instance does not exist.")
        if instance["state"] != "RUNNABLE":
            raise Refused("HTTPError 400: Invalid request: Invalid request since instance is not running.")
        return instance

    def secret(self, name: str) -> Resource:
        self.enabled("secretmanager")
        if name not in self.state["secrets"]:
            raise Refused(f"NOT_FOUND: Secret [projects/{NUMBER}/secrets/{name}] not found. This command is "
                          "authenticated as me@example.com which is the active account.")  # fmt: skip
        return self.state["secrets"][name]

    def run_service(self, name: str) -> Resource:
        service = self.state["services_run"][name]
        annotations = {"run.googleapis.com/cloudsql-instances": ",".join(service["sockets"]) or None,
                       "run.googleapis.com/startup-cpu-boost": "true" if service["boost"] else None}  # fmt: skip
        of_service = {"run.googleapis.com/invoker-iam-disabled": service["unchecked"]}
        spec = {"template": {"metadata": {"annotations": annotations}}, "traffic": service["traffic"]}
        return {"metadata": {"name": name, "annotations": of_service}, "status": {"url": self.url}, "spec": spec}

    # --- Changes ------------------------------------------------------------------------------------------------

    def change(self, arguments: list[str], words: list[str], flags: dict[str, str], given: str) -> None:
        self.changed.append(arguments)
        interrupted = self.interrupt and self.interrupt[0] == len(self.changed)
        if interrupted and self.interrupt[1] == "before":
            raise Interrupted
        before = copy.deepcopy(self.state)
        try:
            self.make(words, flags, given)
        except BaseException:
            self.state = before
            raise
        if interrupted:
            raise Interrupted

    def make(self, words: list[str], flags: dict[str, str], given: str) -> None:
        state, name = self.state, words[-1]
        match words[:3]:
            case ["services", "enable", *_]:
                state["services"] += words[2:]
            case ["iam", "service-accounts", "create"]:
                email = f"{name}@{PROJECT}.iam.gserviceaccount.com"
                self.check(email not in state["accounts"], f"Service account {name} already exists")
                state["accounts"][email] = flags.get("description", "")
            case ["iam", "service-accounts", "delete"]:
                del state["accounts"][name]
                gone, left = f"serviceAccount:{name}", f"deleted:serviceAccount:{name}?uid=1"
                state["roles"] = [[role, left if member == gone else member] for role, member in state["roles"]]
                for secret in state["secrets"].values():
                    secret["members"] = [left if member == gone else member for member in secret["members"]]
            case ["projects", "add-iam-policy-binding", _]:
                self.known(flags["member"])
                state["roles"].append([flags["role"], flags["member"]])
            case ["projects", "remove-iam-policy-binding", _]:
                state["roles"].remove([flags["role"], flags["member"]])
            case ["sql", *_]:
                self.make_sql(words, flags, given)
            case ["secrets", "create", _]:
                self.check(name not in state["secrets"], f"Secret [{name}] already exists")
                self.check("locations" not in self.policies or "locations" in flags,
                           f"Constraint constraints/gcp.resourceLocations violated for [orgpolicy:projects/{NUMBER}] "
                           "attempting to create a secret in [global].")  # fmt: skip
                state["secrets"][name] = {"labels": pairs(flags.get("labels", "")), "versions": [], "members": [],
                                          "locations": flags.get("locations", "")}  # fmt: skip
            case ["secrets", "update", _]:
                self.secret(name)["labels"].update(pairs(flags["update-labels"]))
            case ["secrets", "versions", "add"]:
                self.secret(name)["versions"].append({"value": given, "state": "ENABLED"})
            case ["secrets", "add-iam-policy-binding", _]:
                self.known(flags["member"])
                self.secret(name)["members"].append(flags["member"])
            case ["secrets", "delete", _]:
                del state["secrets"][name]
            case ["functions", "deploy", _]:
                self.deploy(name, flags)
            case ["functions", "delete", _]:
                del state["functions"][name], state["services_run"][name]
            case ["run", "services", action]:
                self.make_run(action, state["services_run"][words[3]], flags)
            case _:
                raise AssertionError(f"the stand-in does not know: {' '.join(words)}")

    def check(self, true: object, otherwise: str) -> None:
        if not true:
            raise Refused(f"FAILED_PRECONDITION: {otherwise}")

    def known(self, member: str) -> None:
        email = member.removeprefix("serviceAccount:")
        self.check(email in self.state["accounts"], f"Service account {email} does not exist.")

    def make_sql(self, words: list[str], flags: dict[str, str], given: str) -> None:
        instances, name = self.state["instances"], words[-1]
        match words[1:3]:
            case ["instances", "create"]:
                self.check(name not in instances, "The Cloud SQL instance already exists.")
                self.check("addresses" not in self.policies, "Constraint constraints/sql.restrictPublicIp violated.")
                self.created += 1
                instances[name] = {"state": "RUNNABLE", "region": flags["region"], "tier": flags["tier"], "users": {},
                                   "databases": [], "protected": "deletion-protection" in flags,
                                   "backup": flags["backup-start-time"], "grows": False,
                                   "created": f"2026-11-25T16:47:53.{self.created:03}Z"}  # fmt: skip
            case ["instances", "patch"]:
                instances[name]["protected"] = "deletion-protection" in flags
            case ["instances", "delete"]:
                self.check(not instances[name]["protected"], "The instance is protected.")
                del instances[name]
            case ["databases", "create"]:
                self.check(name not in self.instance(flags)["databases"], f'database "{name}" already exists')
                self.instance(flags)["databases"].append(name)
            case ["databases", "delete"]:
                self.instance(flags)["databases"].remove(name)
            case ["users", "delete"]:
                del self.instance(flags)["users"][name]
            case ["users", verb]:
                users = self.instance(flags)["users"]
                self.check((name in users) == (verb == "set-password"), f"user {name}: {verb}")
                users[name] = given.removeprefix("--password: ").strip().strip('"')

    def deploy(self, name: str, flags: dict[str, str]) -> None:
        self.known(flags["service-account"])
        secret = self.state["secrets"][flags["set-secrets"].split("=")[1].split(":")[0]]
        self.check(secret["versions"] and f"serviceAccount:{flags['service-account']}" in secret["members"],
                   "Permission denied on secret")  # fmt: skip
        functions, services = self.state["functions"], self.state["services_run"]
        self.check(name in functions or name not in services, f"Could not create Cloud Run service {name}. It exists.")
        function = functions.setdefault(name, {"env": {}, "labels": {}, "region": flags["region"]})
        function["state"] = "ACTIVE"
        function["env"].update(pairs(flags.get("update-env-vars", "")))
        for variable in flags.get("remove-env-vars", "").split(","):
            function["env"].pop(variable, None)
        function["labels"].update(pairs(flags["update-labels"]))
        traffic = [{"latestRevision": True, "percent": 100}]
        services.setdefault(name, {"region": flags["region"], "sockets": [], "boost": False, "invokers": [],
                                   "unchecked": None, "traffic": traffic})  # fmt: skip
        if "allow-unauthenticated" in flags and "allUsers" not in services[name]["invokers"]:
            self.make_run("add-iam-policy-binding", services[name], {"member": "allUsers"})

    def make_run(self, action: str, service: Resource, flags: dict[str, str]) -> None:
        match action:
            case "update-traffic":
                service["traffic"] = [{"latestRevision": True, "percent": 100}]
            case "add-iam-policy-binding":
                self.check("domains" not in self.policies or flags["member"] != "allUsers", self.words)
                service["invokers"].append(flags["member"])
            case "update":
                service["boost"] = service["boost"] or "cpu-boost" in flags
                if "set-cloudsql-instances" in flags:
                    service["sockets"] = flags["set-cloudsql-instances"].split(",")
                if "add-cloudsql-instances" in flags:
                    service["sockets"].append(flags["add-cloudsql-instances"])
                if "clear-cloudsql-instances" in flags:
                    service["sockets"] = []
