#!/usr/bin/env bash
# Deploy the click counter: from an empty Google Cloud project to a running URL and one counted click, and back.
#
#   PROJECT_ID=my-project ./deploy.sh                             with a Postgres of its own (Cloud SQL)
#   PROJECT_ID=my-project DATABASE_URL=postgres://… ./deploy.sh   with any other Postgres
#   ./deploy.sh --dry-run                                         print the commands for an empty project, contact nothing
#   ./deploy.sh --teardown [--with-database] [--yes]              remove what it made; the counts only when told to
#
# It can be run again at any point: what is done already is left as it is. It changes and removes only what it made.
#
# Variables and their defaults:
#   PROJECT_ID                                    the Google Cloud project (needed)
#   FUNCTION=click-counter                        its name, and the beginning of the secret's
#   SERVICE_ACCOUNT=                              what the function runs as, before the @; by default named as FUNCTION
#   REGION=europe-west1                           of function and database
#   SECRET_LOCATIONS=                             where the secret is kept, comma-separated; by default Google decides
# The function's settings, see README.md. Unset leaves one as it is, set but empty resets it:
#   COUNTERS  MAX_COUNTERS  ALLOWED_ORIGINS  CLICKS_PER_MINUTE
#   DATABASE_URL                                  another Postgres, kept as a secret; empty: Cloud SQL
# Each instance of the function:
#   RUNTIME=python313  CPU=1  MEMORY=512Mi
#   CONCURRENCY=250                               requests at once
#   MIN_INSTANCES=0  MAX_INSTANCES=8              how many there are
# The Cloud SQL instance that it makes. (One that is there already is used by its URL, see README.md.)
#   INSTANCE=click-counter  DATABASE=clicks  DATABASE_USER=clicks
#   TIER=db-f1-micro  POSTGRES=POSTGRES_16  STORAGE_GB=10
#   CONNECTIONS=                                  that the database takes; known for Cloud SQL's small tiers
set -euo pipefail
cd -- "$(dirname -- "$0")"
export CLOUDSDK_CORE_DISABLE_FILE_LOGGING=1 # gcloud would log the values of its flags, passwords too
export CLOUDSDK_CORE_DISABLE_PROMPTS=1      # and ask whether to enable what a look-up misses
export LC_ALL=C                             # so that [a-z] means these letters and no others

say() { printf '%s\n' "$*" >&2; }
step() { say "==> $*"; }
abort() { say "deploy.sh: $*"; exit 2; }
usage() { sed -n '2,/^set /s/^# \{0,1\}//p' deploy.sh; }

dry_run='' teardown='' with_database='' yes=''
while [ $# -gt 0 ]; do
  case "$1" in
    --dry-run) dry_run=1 ;;
    --teardown) teardown=1 ;;
    --with-database) with_database=1 ;;
    --yes) yes=1 ;;
    --help | -h) usage; exit ;;
    *) abort "unknown argument $1. See ./deploy.sh --help" ;;
  esac
  shift
done
[ -z "$with_database" ] || [ -n "$teardown" ] || abort "--with-database goes with --teardown, which removes what was made"

trim() { # text
  local text=${1#"${1%%[![:space:]]*}"}
  printf '%s' "${text%"${text##*[![:space:]]}"}"
}

take_back_url=${DATABASE_URL+1}
DATABASE_URL=$(trim "${DATABASE_URL:-}")
[ -z "$DATABASE_URL" ] || take_back_url=''
: "${PROJECT_ID:=${dry_run:+my-project}}" "${FUNCTION:=click-counter}" "${SECRET_LOCATIONS:=}"
: "${RUNTIME:=python313}" "${CPU:=1}" "${MEMORY:=512Mi}" "${CONCURRENCY:=250}" "${MIN_INSTANCES:=0}" "${MAX_INSTANCES:=8}"
: "${TIER:=db-f1-micro}" "${POSTGRES:=POSTGRES_16}" "${STORAGE_GB:=10}" "${CONNECTIONS:=}"
# Where these are not given, the record of an earlier run decides, and then the default.
: "${REGION:=}" "${SERVICE_ACCOUNT:=}" "${INSTANCE:=}" "${DATABASE:=}" "${DATABASE_USER:=}"
SETTINGS=(COUNTERS MAX_COUNTERS ALLOWED_ORIGINS CLICKS_PER_MINUTE)

BACKUP=03:17 # the time of the instance's backups, an odd one
secret="$FUNCTION-database-url"
project="--project=$PROJECT_ID"

# --- Calling gcloud ---------------------------------------------------------------------------------------------

given='' just_enabled='' number='' account='' place='' url_region='' url_instance=''
errors=$(mktemp)
trap 'rm -f "$errors"' EXIT

show() { # look or change, command
  local word line="$1:" quote="'" escaped="'\\''"
  shift
  for word in "$@"; do
    case "$word" in
      *[!A-Za-z0-9_@%+=:,./^-]*) word=$quote${word//$quote/$escaped}$quote ;;
    esac
    line="$line $word"
  done
  printf '%s\n' "$line"
}

# Look at something; `answer` is what gcloud prints, and empty where there is no such thing, as always in a dry run.
look() { # format, if any; arguments of gcloud
  local said try=1
  answer=''
  set -- "${@:2}" ${1:+"--format=$1"}
  [ -z "$dry_run" ] || { show look gcloud "$@" && return; }
  until answer=$(gcloud "$@" 2>"$errors" </dev/null); do
    answer='' said=$(cat "$errors")
    ! is_not_found "$1 $2" "$said" || return 0
    passes "$said" $((try++)) || abort "this look-up failed: gcloud $1 $2 $3
$said
The look-up changed nothing. $(remedy "$said") Run ./deploy.sh again: it goes on here."
  done
}

# What gcloud says where there is no such thing, and nothing else: a network that is away, a missing right and a
# disabled service must not look like an empty project.
is_not_found() { # command, what gcloud said
  case "$1: $2" in
    "secrets describe: "*"NOT_FOUND: Secret [projects/"*"/secrets/$secret] not found"*) ;;
    "functions describe: "*"Resource 'projects/"*"/locations/$REGION/functions/$FUNCTION' was not found"*) ;;
    "run services: "*"Cannot find service [$FUNCTION]"*) ;;
    *) return 1 ;;
  esac
}

NOISE='^$|^Done|^Operation|^Updated secret'

# Change something; what gcloud says of it goes to standard error, but not the resource itself: a project's policy holds
# its members' addresses. `given`, if set, comes on standard input.
change() { # arguments of gcloud
  local said try=1 input="$given"
  given=''
  set -- "$@" --format=none
  [ -z "$dry_run" ] || { show change gcloud "$@" && return; }
  until printf '%s' "$input" | gcloud "$@" 2>&1 | tee "$errors" | { grep --line-buffered -vE "$NOISE" >&2 || :; }; do
    said=$(cat "$errors")
    [[ "$try" = 1 || "$said" != *"already exists"* ]] || return 0 # what was waited for has made it
    passes "$said" $((try++)) ||
      abort "this failed: gcloud $1 $2 $3. $(remedy "$said") Run ./deploy.sh again: it goes on here."
  done
}

# What was just made or enabled is not known everywhere at once; what another run began, or somebody else does, ends.
passes() { # what gcloud said, which attempt this was
  case "$just_enabled$1" in
    1*"has not been used"* | 1*SERVICE_DISABLED* | *"ervice account"*"does not exist"* | *"concurrent policy changes"*) ;;
    *"another operation was already in progress"* | *"unable to queue the operation"*) ;;
    *"being accessed by other users"*) ;; # a function that was just removed may still hold its connection
    *) return 1 ;;
  esac
  [ "$2" -lt 30 ] || return 1
  say "that passes: trying again in 10 s"
  sleep 10
}

remedy() { # what gcloud said
  local actor='serviceAccounts/([a-z0-9@.-]+[a-z])' to=$account
  ! [[ "$1" =~ $actor ]] || to=${BASH_REMATCH[1]}
  case "$1" in
    *"illing account"* | *BILLING*) printf '%s' "The project needs a billing account:\
 gcloud billing projects link $PROJECT_ID --billing-account=ID (gcloud billing accounts list shows the IDs)." ;;
    *.act[aA]s*) printf '%s' "You may not let something run as $to. Its owner permits it:\
 gcloud iam service-accounts add-iam-policy-binding $to $project --member=user:YOU --role=roles/iam.serviceAccountUser" ;;
    *"missing permission on the build service account"* | *"Build failed"*) printf '%s' "If the build lacks permissions: gcloud\
 projects add-iam-policy-binding $PROJECT_ID --member=serviceAccount:${number:-NUMBER}-compute@developer.gserviceaccount.com\
 --role=roles/cloudbuild.builds.builder. Otherwise see its log: gcloud builds list --region=$REGION --limit=1 $project" ;;
    *"uota exceeded"* | *"max instance per project"* | *RESOURCE_EXHAUSTED*) printf '%s' "One of Google's limits is reached. One per\
 minute passes; for more: https://console.cloud.google.com/iam-admin/quotas?project=$PROJECT_ID" ;;
    *gcp.resourceLocations*) printf '%s' "A policy of your organisation permits only some locations. Choose them with REGION\
 and, for the secret, like SECRET_LOCATIONS=europe-west1,europe-west4." ;;
    *"permitted customer"* | *"permitted organization"* | *llowedPolicyMember*) printf '%s' "A policy of your organisation\
 (iam.allowedPolicyMemberDomains) forbids opening it to everybody. It works for those whom you permit to call it. To open\
 it, have the policy permit allUsers in this project, or switch the check off:\
 gcloud run services update $FUNCTION --region=$REGION $project --no-invoker-iam-check." ;;
    *) printf 'Mend what gcloud says (PROJECT_ID is %s; --help names what else can be chosen).' "$PROJECT_ID" ;;
  esac
}

has_line() { [[ $'\n'"$2"$'\n' = *$'\n'"$1"$'\n'* ]]; } # line, lines

line_of() { # its first field, lines
  local line
  while IFS= read -r line; do
    [ "${line%%|*}" != "$1" ] || printf '%s' "$line"
  done <<<"$2"
}

has_role() { # role, member, kind of resource, its name and flags; roles with a condition are others
  read -ra group <<<"$3"
  look 'value[separator="|"](bindings.role,bindings.members,bindings.condition.expression)' \
    "${group[@]}" get-iam-policy "${@:4}" '--flatten=bindings[].members'
  has_line "$1|$2|" "$answer"
}

grant() { # the same
  has_role "$@" || change "${group[@]}" add-iam-policy-binding "${@:4}" "--member=$2" "--role=$1" --condition=None
}

# --- What is checked before anything is done --------------------------------------------------------------------

well_formed() { # variable, extended regular expression, what is right
  [[ "${!1}" =~ ^($2)$ ]] || abort "$1='${!1}' is malformed: $3"
}

check_settings() {
  local variable
  [ -n "$PROJECT_ID" ] || abort "PROJECT_ID is missing. Run: PROJECT_ID=my-project ./deploy.sh (gcloud projects list shows them)"
  well_formed PROJECT_ID '[a-z][a-z0-9-]{4,28}[a-z0-9]' "6 to 30 lower-case letters, digits and hyphens"
  well_formed FUNCTION '[a-z][a-z0-9-]{0,46}[a-z0-9]' "2 to 48 lower-case letters, digits and hyphens"
  well_formed SERVICE_ACCOUNT '([a-z][a-z0-9-]{4,28}[a-z0-9])?' "6 to 30 lower-case letters, digits and hyphens"
  well_formed REGION '([a-z]+-[a-z]+[0-9]+)?' "write it like europe-west1"
  well_formed INSTANCE '([a-z][a-z0-9-]{0,62})?' "at most 63 lower-case letters, digits and hyphens"
  for variable in DATABASE DATABASE_USER; do
    well_formed $variable '([a-z_][a-z0-9_-]{0,62})?' "at most 63 lower-case letters, digits, _ and -"
    ! [[ "${!variable}" =~ ^(postgres|template[01]|cloudsql.*)$ ]] ||
      abort "$variable=${!variable} is Cloud SQL's own. Choose another name"
  done
  [ -z "$teardown" ] || return 0
  well_formed SECRET_LOCATIONS '([a-z0-9-]+(,[a-z0-9-]+)*)?' "regions separated by commas, like europe-west1,europe-west4"
  well_formed RUNTIME 'python3(1[1-9]|[2-9][0-9])' "python311 or newer, like python313"
  well_formed TIER 'db-[a-z0-9-]+' "write it like db-f1-micro"
  well_formed POSTGRES 'POSTGRES_[1-9][0-9]' "write it like POSTGRES_16"
  well_formed STORAGE_GB '[1-9][0-9]{1,2}|[12][0-9]{3}|3000' "a whole number from 10 to 3000"
  well_formed CONNECTIONS '([1-9][0-9]{0,5})?' "a whole number"
  check_size
  check_list COUNTERS '[A-Za-z0-9._:/-]{1,100}\*?' "COUNTERS=likes,post-*"
  check_list ALLOWED_ORIGINS 'https?://([a-z0-9._-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?' \
    "ALLOWED_ORIGINS=https://blog.example, in lower case and without a path"
  for variable in MAX_COUNTERS CLICKS_PER_MINUTE; do
    [ -n "${!variable:-}" ] || continue
    printf -v "$variable" '%s' "$(trim "${!variable}")"
    well_formed "$variable" '[0-9]{1,9}' "write it like $variable=1000"
  done
  [ -z "$DATABASE_URL" ] || read_url "$DATABASE_URL"
}

# A variable that is one letter away from one of these would be ignored without a word.
name_near_misses() {
  local variable i near exported
  exported=" $(compgen -e | tr '\n' ' ') "
  for variable in "${SETTINGS[@]}" DATABASE_URL PROJECT_ID FUNCTION SERVICE_ACCOUNT SECRET_LOCATIONS RUNTIME CONCURRENCY \
    MIN_INSTANCES MAX_INSTANCES INSTANCE DATABASE DATABASE_USER POSTGRES STORAGE_GB CONNECTIONS; do
    near="${variable}[A-Z_]"
    for ((i = 0; i < ${#variable}; i++)); do
      near="$near|${variable:0:i}[A-Z_]?${variable:i+1}|${variable:0:i}[A-Z_]${variable:i}"
    done
    near=" ($near) " exported=${exported/ $variable / }
    ! [[ "$exported" =~ $near ]] || say "${BASH_REMATCH[1]} is no variable of this script. Did you mean $variable?"
  done
}

# https://cloud.google.com/run/docs/configuring/services/memory-limits
check_size() {
  local mebibytes least most
  well_formed CONCURRENCY '[1-9][0-9]{0,2}|1000' "a whole number from 1 to 1000"
  well_formed MIN_INSTANCES '0|[1-9][0-9]{0,2}' "a whole number from 0 to 999"
  well_formed MAX_INSTANCES '[1-9][0-9]{0,2}' "a whole number from 1 to 999"
  [ "$MIN_INSTANCES" -le "$MAX_INSTANCES" ] || abort "MIN_INSTANCES=$MIN_INSTANCES is more than MAX_INSTANCES=$MAX_INSTANCES"
  well_formed CPU '1|2|4|6|8' "1, 2, 4, 6 or 8 (less than one would take one request at a time)"
  well_formed MEMORY '[1-9][0-9]{0,4}(Mi|Gi)' "write it like 512Mi or 1Gi"
  least=$((CPU < 4 ? 128 : CPU < 6 ? 2048 : 4096)) most=$((CPU * 4096))
  mebibytes=${MEMORY%?i}
  [ "$MEMORY" = "${MEMORY%Gi}" ] || mebibytes=$((mebibytes * 1024))
  [ "$mebibytes" -ge "$least" ] && [ "$mebibytes" -le "$most" ] ||
    abort "MEMORY=$MEMORY does not go with CPU=$CPU, which takes ${least}Mi to ${most}Mi"
}

# The rules of main.py.
check_list() { # variable, extended regular expression, example
  [ -n "${!1:-}" ] || return 0
  local rest="${!1}," entry entries=''
  while [ -n "$rest" ]; do
    entry=$(trim "${rest%%,*}")
    rest=${rest#*,}
    [ -n "$entry" ] || continue
    case "$1 $entry" in
      ALLOWED_ORIGINS*://*[!/]/) abort "$1: '$entry' ends with a slash. Write it without: ${entry%/}" ;;
      ALLOWED_ORIGINS\ http:*:80 | ALLOWED_ORIGINS\ https:*:443)
        abort "$1: '$entry' names the default port. Write it without: ${entry%:*}" ;;
    esac
    [[ "$entry" =~ ^($2)$ ]] || abort "$1: '$entry' is malformed. Write it like $3"
    entries="$entries,$entry"
  done
  [ -n "$entries" ] || [ "$1" = ALLOWED_ORIGINS ] || abort "$1 has no entry. Write it like $3, or leave it empty for the default"
  printf -v "$1" '%s' "${entries#,}"
}

EXAMPLE='postgresql://USER:PASSWORD@HOST:5432/DATABASE?sslmode=require'
JUDGE='import pathlib, sys
sys.version_info >= (3, 11) or sys.exit("DATABASE_URL is read by Python 3.11 or newer, which is not here. Install it")
pathlib.Path.is_file = lambda path: True  # a certificate must be where the function runs
from database_url import DATABASE
socket, certificate = DATABASE.arguments.get("unix_sock"), DATABASE.sslrootcert
print(f"socket {socket}" if socket else "" if certificate is None else f"certificate {certificate}")'

# What the function itself, database_url.py, reads in a URL, into `place`: its socket or its certificate.
# Nothing of the URL is shown, for in one that is malformed the password may be anywhere.
read_url() { # URL
  local file python=python3 own="^socket /cloudsql/$PROJECT_ID:([a-z0-9-]+):([a-z0-9-]+)(/.*)?$"
  [[ "$1" = postgres*://* && "$1" != *[\'\"\`] ]] || abort "DATABASE_URL must be the URL of a Postgres and nothing else: no\
 quotes, no command, no name before it. Write it like $EXAMPLE"
  [ ! -x .venv/bin/python ] || python=.venv/bin/python
  command -v "$python" >/dev/null || abort "DATABASE_URL is read by python3, which is missing. Install Python 3.11 or newer"
  place=$(K_SERVICE=x DATABASE_URL=$1 "$python" -SBc "$JUDGE" 2>&1) || abort "$place"
  file=${place#certificate } file=${file#/workspace/}
  if [[ "$place" =~ $own ]]; then
    url_region=${BASH_REMATCH[1]} url_instance=${BASH_REMATCH[2]}
    return
  fi
  case "$place" in
    '' | "certificate /etc/ssl/"*) ;;
    "socket "*) abort "DATABASE_URL names a socket that the function does not have. It has those of this project's Cloud SQL:\
 /cloudsql/$PROJECT_ID:REGION:INSTANCE, with region and instance filled in" ;;
    *) [[ "$file" != *..* && "${file#./}" = static/* && -f "$file" ]] ||
      abort "DATABASE_URL: the file of sslrootcert is not uploaded. A certificate is no secret: put it into static/, and\
 write sslrootcert=static/NAME" ;;
  esac
}

# Each instance holds one connection; while a new revision takes over, those of the old one are still there.
check_connections() {
  local most=$CONNECTIONS need=$((MAX_INSTANCES * 2 + 6))
  case "$most $kind $TIER" in
    ' other '*) return 0 ;;
    ' '*' db-f1-micro') most=25 ;;
    ' '*' db-g1-small') most=50 ;;
    ' '*) most=100 ;;
  esac
  [ "$need" -le "$most" ] || abort "MAX_INSTANCES=$MAX_INSTANCES needs $MAX_INSTANCES x 1 connection, twice while a new revision\
 takes over, and 6 for administration: $need of the $most that the database takes. Lower it to $(((most - 6) / 2)), or take a larger TIER"
}

# --- What was made: the record, and which database it is --------------------------------------------------------

enabled='' record='' record_region='' record_account='' record_instance='' record_made='' record_database=''
record_user='' record_deployed='' version='' stored='' url='' kind='' connection='' password=''

enable() { # services
  local service missing=()
  for service in "${@/%/.googleapis.com}"; do
    has_line "$service" "$enabled" || missing+=("$service")
  done
  [ ${#missing[@]} -eq 0 ] || { change services enable "${missing[@]}" "$project" && just_enabled=1; }
}

from_record() { # variable, its record, its default
  [ -z "$2" ] || [ "${!1:-$2}" = "$2" ] || abort "$FUNCTION was deployed with $1=$2. Leave $1 out, or choose another\
 FUNCTION. To move the counts, export them and run --teardown --with-database first"
  printf -v "$1" '%s' "${!1:-${2:-$3}}"
}

is_made() { # URL; whether it is that of the user that was made here; its password into `password`
  local form="^postgresql://${record_user:-/}:([A-Za-z0-9._~-]+)@/$record_database"'\?host=/cloudsql/'
  [[ "$1" =~ $form"$PROJECT_ID:$REGION:$record_instance"$ ]] || return 1
  password=${BASH_REMATCH[1]}
}

# Which database: `kind` is made (in Cloud SQL, by this script), own (in this project's Cloud SQL, by its owner) or other.
choose_database() {
  url=$DATABASE_URL kind=made
  [ -n "$url" ] || { [ -n "$take_back_url" ] && ! is_made "$stored"; } || url=$stored
  if [ -n "$url" ] && ! is_made "$url"; then
    [ "$url" = "$DATABASE_URL" ] || read_url "$url"
    [ -z "$INSTANCE$DATABASE$DATABASE_USER" ] || abort "the counts are in the Postgres of DATABASE_URL. Leave INSTANCE, DATABASE\
 and DATABASE_USER out, or, to move into a new Cloud SQL instance, run with DATABASE_URL= as well"
    kind=other
    [ -z "$url_instance" ] || kind=own
  elif [ "$secret_is$url$take_back_url" = ours ] && { [ -n "$version" ] || [ -z "$record_instance" ]; }; then
    abort "the secret $secret holds no URL. Give DATABASE_URL again, or an empty one (DATABASE_URL= ./deploy.sh) for Cloud SQL"
  fi
  [ "$kind" = other ] || enable sqladmin sql-component
  [ "$kind" != own ] || look_at_own_instance
}

look_at_own_instance() { # of the project's owner
  look_at_state_of_instance "$url_instance"
  connection="$PROJECT_ID:$url_region:$url_instance"
  [ -n "$state$dry_run" ] || abort "there is no Cloud SQL instance $url_instance"
  region=${region:-$url_region}
  [ "$place $url_region" = "socket /cloudsql/$connection/.s.PGSQL.5432 $region" ] ||
    abort "DATABASE_URL: the socket of the instance is at /cloudsql/$PROJECT_ID:$region:$url_instance/.s.PGSQL.5432"
  TIER=${tier:-$TIER}
}

# A state that passes is waited for: what an interrupted run began goes on at Google.
settle() { # resource, its name
  local tries=0
  while "look_at_state_of_$1" "$2"; do
    case "$state" in
      PENDING_* | *MAINTENANCE | REPAIRING | DEPLOYING | DELETING) ;;
      *) return ;;
    esac
    [ $((tries += 1)) -le 40 ] || abort "$2 is $state for 20 minutes. Run ./deploy.sh again later: it goes on here."
    say "$2 is $state: waiting"
    sleep 30
  done
}

# --- The resources ----------------------------------------------------------------------------------------------
# In the order in which they are made, and backwards removed. `look_at_…` leaves its verdict in `…_is`: empty where there
# is none, ours or foreign.

RESOURCES=(secret service_account instance database user function)
secret_is='' service_account_is='' instance_is='' database_is='' user_is='' function_is=''

describe() { # resource; into `what` and, the variable that chooses another, `chosen_by`
  case "$1" in
    secret) what="the secret $secret" chosen_by=FUNCTION ;;
    service_account) what="the service account $SERVICE_ACCOUNT" chosen_by=SERVICE_ACCOUNT ;;
    instance) what="the Cloud SQL instance $INSTANCE" chosen_by=INSTANCE ;;
    database) what="the database $DATABASE" ;;
    user) what="the database user $DATABASE_USER" ;;
    function) what="the function $FUNCTION in $REGION" chosen_by=FUNCTION ;;
  esac
}

# The secret holds the database's URL, and in its labels the record: it is written before what it records is made, so
# that a run knows what an interrupted one had made. Half a record is none.
RECORD='^click-counter([|][a-z0-9-]+){2}[|]([|][|][|]|[a-z0-9-]+[|](begun|[0-9]+)([|][a-z0-9_-]+){2})[|][a-z0-9-]*$'

look_at_secret() {
  look "value[separator=\"|\"](labels.made_by$(printf ',labels.%s' region account instance instance_made database user deployed))" \
    secrets describe "$secret" "$project"
  [ -z "$answer" ] || secret_is=foreign
  if [[ "$answer" =~ $RECORD ]]; then
    secret_is=ours record=$answer
    IFS='|' read -r _ record_region record_account record_instance record_made record_database record_user record_deployed \
      <<<"$record"
  fi
  from_record REGION "$record_region" europe-west1
  from_record SERVICE_ACCOUNT "$record_account" "$FUNCTION"
  [[ "$SERVICE_ACCOUNT" =~ ^.{6,30}$ ]] ||
    abort "FUNCTION=$FUNCTION cannot name the service account, too: set SERVICE_ACCOUNT to 6 to 30 letters, digits and hyphens"
  account="$SERVICE_ACCOUNT@$PROJECT_ID.iam.gserviceaccount.com"
  [ "$secret_is$teardown" != ours ] || look_at_stored
}

look_at_stored() { # in the newest version; `state` alone is shown as that command's own table shows it: enabled
  look 'value[separator="|"](name.basename(),state.basename())' secrets versions list "$secret" "$project" --limit=1
  version=${answer%%|*}
  case "$answer" in
    *'|DISABLED') abort "version $version of the secret $secret is disabled. Enable it:\
 gcloud secrets versions enable $version --secret=$secret $project" ;;
    *'|ENABLED') look '' secrets versions access "$version" "--secret=$secret" "$project" && stored=$answer ;;
  esac
}

labels() { # the record
  printf 'made_by=click-counter,region=%s,account=%s' "$REGION" "$SERVICE_ACCOUNT"
  [ "$kind" != made ] ||
    printf ',instance=%s,instance_made=%s,database=%s,user=%s' "$INSTANCE" "${created:-begun}" "$DATABASE" "$DATABASE_USER"
}

keep() { change secrets update "$secret" "$project" "--update-labels=$1"; } # labels

make_secret() {
  local replication=(--replication-policy=automatic)
  [ -z "$SECRET_LOCATIONS" ] || replication=(--replication-policy=user-managed "--locations=$SECRET_LOCATIONS")
  if [ -z "$secret_is" ]; then
    change secrets create "$secret" "$project" "${replication[@]}" "--labels=$(labels)"
  elif [ "$kind" = made ] && [ "${record#*|*|*|}" != "$INSTANCE|${created:-begun}|$DATABASE|$DATABASE_USER|$record_deployed" ]; then
    keep "$(labels)"
  fi
  [ "$kind" = made ] || store_url
}

store_url() {
  [ "$url" = "$stored" ] || { given=$url && change secrets versions add "$secret" "$project" --data-file=- && look_at_stored; }
  version=${version:-1}
}

remove_secret() { change secrets delete "$secret" "$project"; }

look_at_service_account() { # in a list, for to describe one that is missing is refused as if a right were missing
  mark="Made by deploy.sh for the click counter $FUNCTION"
  look 'value[separator="|"](email,description)' iam service-accounts list "$project"
  [ -z "$(line_of "$account" "$answer")" ] || service_account_is=foreign
  ! has_line "$account|$mark" "$answer" || service_account_is=ours
}

make_service_account() {
  [ -n "$service_account_is" ] ||
    change iam service-accounts create "$SERVICE_ACCOUNT" "$project" "--display-name=Click counter" "--description=$mark"
  [ "$kind" = other ] || grant roles/cloudsql.client "serviceAccount:$account" projects "$PROJECT_ID"
  grant roles/secretmanager.secretAccessor "serviceAccount:$account" secrets "$secret" "$project"
}

remove_service_account() {
  if has_role roles/cloudsql.client "serviceAccount:$account" projects "$PROJECT_ID" || [ -n "$dry_run" ]; then
    change projects remove-iam-policy-binding "$PROJECT_ID" "--member=serviceAccount:$account" \
      --role=roles/cloudsql.client --condition=None
  fi
  change iam service-accounts delete "$account" "$project"
}

look_at_state_of_instance() { # instance
  local settings=settings.tier,settings.deletionProtectionEnabled,settings.backupConfiguration.startTime
  state='' region='' created='' tier='' protected='' backup='' grows=''
  look "value[separator=\"|\"](name,state,region,createTime,$settings,settings.storageAutoResize)" sql instances list "$project"
  IFS='|' read -r _ state region created tier protected backup grows <<<"$(line_of "$1" "$answer")"
  created=${created//[!0-9]/}
}

databases='' users='' others='' # what is in it, without what every instance has

look_into() { # instance
  [ "$state" = RUNNABLE ] || return 0
  look 'value(name)' sql databases list "--instance=$1" "$project"
  databases=$(grep -vxF postgres <<<"$answer" || :)
  look 'value(name)' sql users list "--instance=$1" "$project"
  users=$(grep -vxF postgres <<<"$answer" || :)
}

# Whether the instance that was looked at is the recorded one, not another that somebody else made under its name: by the
# time of its creation, or, where the run that made it was interrupted, by the odd time of its backups and its fixed size,
# and by holding nothing yet.
is_recorded() {
  if [ "$record_made" = begun ]; then
    [ "$backup" = "$BACKUP" ] && [ "$grows" != True ] && look_into "$record_instance" && [ -z "$databases$users" ]
  else
    [ -n "$state" ] && [ "$created" = "$record_made" ] && look_into "$record_instance"
  fi
}

look_at_instance() {
  local name=${record_instance:-${INSTANCE:-click-counter}}
  settle instance "$name"
  if is_recorded; then
    instance_is=ours
  elif [ -z "$teardown" ]; then # all of that is gone
    record_instance='' record_made='' record_database='' record_user='' url='' databases='' users=''
  fi
  from_record INSTANCE "$record_instance" click-counter
  from_record DATABASE "$record_database" clicks
  from_record DATABASE_USER "$record_user" clicks
  [ "$INSTANCE" = "$name" ] || settle instance "$INSTANCE"
  [ -z "$state" ] || instance_is=${instance_is:-foreign}
  TIER=${tier:-$TIER} connection="$PROJECT_ID:$REGION:$INSTANCE"
  [ ${#connection} -le 79 ] || abort "the socket's path /cloudsql/$connection/.s.PGSQL.5432 is longer than 107 bytes. Take a\
 shorter INSTANCE"
  others=$({ grep -vxF -- "$DATABASE" <<<"$databases"
    grep -vxF -- "$DATABASE_USER" <<<"$users" | sed 's/./user &/'; } | grep . | paste -sd, - || :)
  case "$instance_is $state $record_made$teardown" in
    ours\ RUNNABLE* | "ours FAILED begun1" | [!o]* | ' '*) ;; # a failed one holds nothing
    *STOPPED*) abort "the Cloud SQL instance $INSTANCE is $state. Start it:\
 gcloud sql instances patch $INSTANCE $project --activation-policy=ALWAYS" ;;
    *) abort "the Cloud SQL instance $INSTANCE is $state. See: gcloud sql instances describe $INSTANCE $project. If its\
 creation failed: ./deploy.sh --teardown --with-database" ;;
  esac
}

make_instance() {
  if [ -z "$instance_is" ]; then
    say "this takes ten minutes"
    change sql instances create "$INSTANCE" "$project" "--region=$REGION" "--database-version=$POSTGRES" \
      --edition=ENTERPRISE "--tier=$TIER" "--storage-size=$STORAGE_GB" --no-storage-auto-increase --deletion-protection \
      --backup "--backup-start-time=$BACKUP" --server-ca-mode=GOOGLE_MANAGED_INTERNAL_CA
    look_at_state_of_instance "$INSTANCE"
    [ -z "$dry_run" ] || created=20260101000000000
    keep "instance_made=$created"
  elif [ "$protected" != True ]; then # after a teardown that was interrupted
    change sql instances patch "$INSTANCE" "$project" --deletion-protection
  fi
}

remove_instance() {
  change sql instances patch "$INSTANCE" "$project" --no-deletion-protection
  change sql instances delete "$INSTANCE" "$project"
}

look_at_database() { [ "$instance_is" != ours ] || ! has_line "$DATABASE" "$databases" || database_is=ours; }
make_database() { [ -n "$database_is" ] || change sql databases create "$DATABASE" "--instance=$INSTANCE" "$project"; }
remove_database() { change sql databases delete "$DATABASE" "--instance=$INSTANCE" "$project"; }

look_at_user() { [ "$instance_is" != ours ] || ! has_line "$DATABASE_USER" "$users" || user_is=ours; }
remove_user() { change sql users delete "$DATABASE_USER" "--instance=$INSTANCE" "$project"; }
random() { od -An "-N$1" -tx1 /dev/urandom | tr -d ' \n'; } # bytes, in hexadecimal

# The URL holds the only copy of the password, so it is stored before the user gets it. The record of a deployment that
# was begun with this version of the secret shows that the user has got it; otherwise it is set, again if need be.
make_user() {
  local verb=create
  is_made "$url" || password=$(random 24)
  url="postgresql://$DATABASE_USER:$password@/$DATABASE?host=/cloudsql/$connection"
  store_url
  [ -z "$user_is" ] || verb=set-password
  [ "$user_is $version" != "ours ${record_deployed##*-}" ] || return 0
  given="--password: \"$password\""
  change sql users "$verb" "$DATABASE_USER" "--instance=$INSTANCE" "$project" --flags-file=-
}

deployed=('' '' '' '' '' '') # the function: mark, state, the settings
uri='' unchecked=''

look_at_state_of_function() { # function
  look "value[separator=\"|\"](labels.made_by,state$(printf ',serviceConfig.environmentVariables.%s' "${SETTINGS[@]}"))" \
    functions describe "$1" --gen2 "--region=$REGION" "$project"
  IFS='|' read -ra deployed <<<"${answer:-|||||}|end"
  state=${deployed[1]}
}

look_at_function() {
  settle function "$FUNCTION"
  [ -n "$answer" ] || # every function has a service of its name; one without a function is somebody's
    look 'value(metadata.name)' run services describe "$FUNCTION" "--region=$REGION" "$project"
  [ -z "$answer" ] || function_is=foreign
  # shellcheck disable=SC2034 # it is read by its name
  [ "${deployed[0]}" != click-counter ] || function_is=ours
}

# The record of what was deployed is written once it has been: what a deployment that failed or was interrupted leaves in
# the function itself is no proof.
make_function() {
  local i variable sum sets='' removes=''
  for i in 0 1 2 3; do
    variable=${SETTINGS[i]}
    if [ -n "${!variable+set}" ] && [ "${!variable}" != "${deployed[i + 2]}" ]; then
      if [ -n "${!variable}" ]; then sets="$sets|$variable=${!variable}"; else removes="$removes,$variable"; fi
    fi
  done
  local flags=(
    --trigger-http --entry-point=handler "--runtime=$RUNTIME" --source=. "--service-account=$account" "--cpu=$CPU"
    "--memory=$MEMORY" "--concurrency=$CONCURRENCY" "--min-instances=$MIN_INSTANCES" "--max-instances=$MAX_INSTANCES"
    --timeout=30s "--set-secrets=DATABASE_URL=$secret:latest" --update-labels=made_by=click-counter
  )
  sum=$({
    sed -n 's/^!\([^*]*[^*/]\)\/\{0,1\}$/\1/p' .gcloudignore | tr '\n' '\0' |
      xargs -0 sh -c 'find "$@" -type f' sh | sort | tr '\n' '\0' | xargs -0 cksum
    printf '%s\n' "${flags[@]}"
  } | cksum | tr ' ' -)-$version
  if [ "$sets$removes ${deployed[1]} $record_deployed" != " ACTIVE $sum" ]; then
    [ -z "$sets" ] || flags+=("--update-env-vars=^|^${sets#|}")
    [ -z "$removes" ] || flags+=("--remove-env-vars=${removes#,}")
    [ "$record_deployed" = "begun-$version" ] || keep "deployed=begun-$version"
    change functions deploy "$FUNCTION" --gen2 "--region=$REGION" "$project" "${flags[@]}"
    keep "deployed=$sum"
  fi
  attach_database
  open_to_all
}

# What `functions deploy` has no flags for is set on the Cloud Run service that it makes. A new revision usually keeps it.
attach_database() {
  local sockets boost latest update=() of_revision='spec.template.metadata.annotations["run.googleapis.com'
  look "value[separator=\"|\"](status.url,$of_revision/cloudsql-instances\"],$of_revision/startup-cpu-boost\"],\
metadata.annotations[\"run.googleapis.com/invoker-iam-disabled\"],spec.traffic[].latestRevision)" \
    run services describe "$FUNCTION" "--region=$REGION" "$project"
  IFS='|' read -r uri sockets boost unchecked latest <<<"$answer"
  [ "$sockets" = "$connection" ] || update=("--set-cloudsql-instances=$connection")
  [ -z "$sockets" ] || [ -n "$connection" ] || update=(--clear-cloudsql-instances)
  [ "$boost" = true ] || update+=(--cpu-boost)
  [ ${#update[@]} -eq 0 ] || change run services update "$FUNCTION" "--region=$REGION" "$project" "${update[@]}"
  [[ -n "$dry_run" || "$latest" = *True* ]] || # after a roll back the old revision would keep the visitors
    change run services update-traffic "$FUNCTION" "--region=$REGION" "$project" --to-latest
}

# Late, for a policy may forbid it, and then the function works for those who may call it.
open_to_all() {
  [ "$unchecked" = true ] || grant roles/run.invoker allUsers "run services" "$FUNCTION" "--region=$REGION" "$project"
}

remove_function() { change functions delete "$FUNCTION" --gen2 "--region=$REGION" "$project"; }

# --- The way there, and back ------------------------------------------------------------------------------------

smoke_test() {
  step "one click"
  local said value try key logs="Look at: gcloud functions logs read $FUNCTION --gen2 --region=$REGION $project"
  local curl=(curl --silent --show-error --max-time 30)
  [ -z "$dry_run" ] || { show change curl --request POST "https://$FUNCTION-XXXX.run.app/click" && return; }
  key=$(random 16 | sed 's/^\(.\{8\}\)\(.\{4\}\)\(.\{4\}\)\(.\{4\}\)/\1-\2-\3-\4-/') # as a UUID; sent again, it counts once
  for try in 1 2 3 4 5 6 7 8 9; do # a new name and new rights take a while
    [ "$try" = 1 ] || sleep 10
    said=$("${curl[@]}" --write-out ' %{http_code}' --request POST --header "Idempotency-Key: $key" "$uri/click") || :
    value=$(sed -n 's/.*"value": *\([0-9][0-9]*\).* 200$/\1/p' <<<"$said")
    if [ -n "$value" ]; then
      say "counted: $value"
      break
    elif [ "${said##* }" = 400 ] && "${curl[@]}" --fail --output /dev/null "$uri/health"; then
      say "no click: COUNTERS names no counter to try, only prefixes"
      break
    fi
    [ "$try" -lt 9 ] || abort "${uri:-the function, which has no URL,} counts no click: it answers ${said##* }. $logs"
  done
  printf '%s\n' "$uri"
}

refuse_foreign() { # resource
  local is=$1_is help=''
  [ "${!is}" = foreign ] || return 0
  describe "$1"
  case "$1" in
    instance) help=". To use it, make a database and a user in it, and give its URL:\
 DATABASE_URL=postgresql://USER:PASSWORD@/DATABASE?host=/cloudsql/$PROJECT_ID:${region:-$REGION}:$INSTANCE" ;;
    function) help=". If it is but the Cloud Run service that a removed function left: gcloud run services delete $FUNCTION --region=$REGION $project" ;;
  esac
  abort "$what is there already, and this script did not make it. Choose another name: $chosen_by=…$help"
}

deploy() {
  local resource
  step "services"
  enable run cloudfunctions cloudbuild artifactregistry secretmanager iam # first, for one that is not enabled hides what is there
  step "what is there"
  look_at_secret
  refuse_foreign secret
  choose_database
  [ "$kind" = made ] || RESOURCES=(secret service_account function)
  for resource in "${RESOURCES[@]:1}"; do
    "look_at_$resource"
    refuse_foreign "$resource"
  done
  check_connections
  for resource in "${RESOURCES[@]}"; do
    describe "$resource"
    step "$what"
    "make_$resource"
  done
  smoke_test
}

gone='' kept='' why=''

plan() { # resource
  local is=$1_is
  describe "$1"
  [ "$1" != database ] || what="$what WITH ALL COUNTS"
  [ "$1 ${!is}" != "instance ours" ] || what="$what WITH ALL COUNTS AND BACKUPS"
  case "${!is}" in
    ours) gone="$gone  $what"$'\n' ;;
    foreign) kept="$kept  $what, which this script did not make"$'\n' ;;
    kept) kept="$kept  $what$why"$'\n' ;;
  esac
}

plan_removal() {
  local resource
  if [ -n "$dry_run" ]; then # all is there
    for resource in "${RESOURCES[@]}"; do printf -v "${resource}_is" ours; done
  fi
  if [ -n "$with_database" ] && [ -z "$record_instance" ]; then
    kept="  every Cloud SQL instance: no secret of this script records that the counts are in one"$'\n'
  elif [ -z "$with_database" ] && [ -n "$record_instance" ]; then
    secret_is=kept why=", which knows the password, and the counts: database $record_database and user $record_user in the\
 Cloud SQL instance $record_instance. --with-database removes both"
  elif [ "$instance_is" = ours ] && [ -n "$others" ]; then
    instance_is=kept why=" and all else in it: $others"
  elif [ "$instance_is" = ours ]; then
    database_is='' user_is='' # they go with it
  fi
  for resource in "${RESOURCES[@]}"; do plan "$resource"; done
}

confirm() {
  [ -z "$gone" ] || say "To be removed from $PROJECT_ID:"$'\n'"${gone%?}"
  [ -z "$kept" ] || say "To be kept:"$'\n'"${kept%?}"
  [ -n "$gone" ] || { say "There is nothing to remove." && exit; }
  [ -z "$yes$dry_run" ] || return 0
  printf 'Remove this? [y/N] ' >&2
  read -r answer || answer=''
  [ "$answer" = y ] || abort "nothing was removed"
}

teardown() {
  local resource i is
  if [ -z "$dry_run" ] && ! grep -qE '^(cloudfunctions|run|secretmanager)[.]googleapis[.]com$' <<<"$enabled"; then
    say "There is nothing to remove: cloudfunctions, run and secretmanager are not enabled in $PROJECT_ID" && exit
  fi
  step "what is there"
  look_at_secret
  if [ -n "$dry_run" ]; then # all is there
    record_instance=${INSTANCE:-click-counter} record_database=${DATABASE:-clicks} record_user=${DATABASE_USER:-clicks}
  fi
  [ -n "$with_database" ] && [ -n "$record_instance" ] || RESOURCES=(secret service_account function)
  for resource in "${RESOURCES[@]:1}"; do "look_at_$resource"; done
  plan_removal
  confirm
  for ((i = ${#RESOURCES[@]} - 1; i >= 0; i--)); do
    is=${RESOURCES[i]}_is
    [ "${!is}" != ours ] || "remove_${RESOURCES[i]}"
  done
}

check_settings
name_near_misses
[ -n "$dry_run" ] || command -v gcloud >/dev/null ||
  abort "gcloud is missing. Install it: https://cloud.google.com/sdk/docs/install"
look 'value(projectNumber)' projects describe "$PROJECT_ID"
number=$answer
look 'value(config.name)' services list --enabled "$project"
enabled=$answer
if [ -n "$teardown" ]; then teardown; else deploy; fi
