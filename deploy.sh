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
# The Cloud SQL instance. One that is there already is used when INSTANCE names it, with a new database in it:
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

BACKUP=03:17 # the time of the instance's backups, an odd one
secret="$FUNCTION-database-url"
project="--project=$PROJECT_ID"

# --- Calling gcloud ---------------------------------------------------------------------------------------------

given='' just_enabled='' place='' url_region='' url_instance=''
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
look() { # arguments of gcloud
  local said try
  answer=''
  [ -z "$dry_run" ] || { show look gcloud "$@" && return; }
  for try in 1 2 3 4 5 6; do
    if answer=$(gcloud "$@" 2>"$errors" </dev/null); then return; fi
    answer='' said=$(cat "$errors")
    ! is_not_found "$1 $2" "$said" || return 0
    if [ -z "$just_enabled" ] || ! passes "$said" "$try"; then break; fi
  done
  abort "this look-up failed: gcloud $1 $2 $3
$said
The look-up changed nothing. Mend what gcloud says (PROJECT_ID is $PROJECT_ID), and run ./deploy.sh again: it goes on here."
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

# Change something; what gcloud says goes to standard error. `given`, if set, comes on standard input.
change() { # arguments of gcloud
  local said try input="$given"
  given=''
  [ -z "$dry_run" ] || { show change gcloud "$@" && return; }
  for try in 1 2 3 4 5 6; do
    said=$(printf '%s' "$input" | gcloud "$@" 2>&1 | tee >(cat >&2)) && return
    passes "$said" "$try" || break
  done
  abort "this failed: gcloud $1 $2 $3. $(remedy "$said") Run ./deploy.sh again: it goes on here."
}

# What was just made or enabled is not known everywhere at once, and a function that was just removed may still hold its
# connection: wait.
passes() { # what gcloud said, which attempt this was
  case "$1" in
    *"does not exist"* | *"has not been used"* | *SERVICE_DISABLED* | *"being accessed by other users"*) ;;
    *) return 1 ;;
  esac
  [ "$2" -lt 6 ] || return 1
  say "not known everywhere yet: trying again in 10 s"
  sleep 10
}

remedy() { # what gcloud said
  case "$1" in
    *gcp.resourceLocations*) printf '%s' "A policy of your organisation permits only some locations. Choose them with REGION\
 and, for the secret, like SECRET_LOCATIONS=europe-west1,europe-west4." ;;
    *"permitted customer"* | *"permitted organization"* | *llowedPolicyMember*) printf '%s' "A policy of your organisation\
 (iam.allowedPolicyMemberDomains) forbids opening it to everybody. It works for those whom you permit to call it. To open\
 it, have the policy permit allUsers in this project, or switch the check off:\
 gcloud run services update $FUNCTION --region=$REGION $project --no-invoker-iam-check." ;;
    *) printf 'Mend what it says above; --help names the variables that choose another name, place or Postgres.' ;;
  esac
}

has_line() { [[ $'\n'"$2"$'\n' = *$'\n'"$1"$'\n'* ]]; } # line, lines

has_role() { # role, member, kind of resource, its name and flags
  read -ra group <<<"$3"
  look "${group[@]}" get-iam-policy "${@:4}" '--flatten=bindings[].members' "--filter=bindings.role=$1" \
    '--format=value(bindings.members)'
  has_line "$2" "$answer"
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
    case "$entry" in
      http*://*[!/]/) abort "$1: '$entry' ends with a slash. Write it without: ${entry%/}" ;;
      http:*:80 | https:*:443) abort "$1: '$entry' names the default port. Write it without: ${entry%:*}" ;;
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
  local file python=python3 only="Take only the URL, without quotes: $EXAMPLE"
  local words='^[A-Za-z ]+=' own_name='^(DATABASE_URL|export |set |[$]env:)|^[A-Za-z_]+ *[=:] *[^a-z]?postgres'
  local has="The function has only Cloud SQL's, /cloudsql/$PROJECT_ID:REGION:INSTANCE"
  local own="^socket /cloudsql/$PROJECT_ID:([a-z0-9-]+):([a-z0-9-]+)(/.*)?$"
  case "$1" in
    psql* | PGPASSWORD=*) abort "DATABASE_URL holds the whole psql command. $only" ;;
    [Jj][Dd][Bb][Cc]:*) abort "DATABASE_URL is written for Java. Write user and password before the host: $EXAMPLE" ;;
  esac
  ! [[ "$1" =~ $own_name ]] || abort "DATABASE_URL holds its own name once more. $only"
  [[ "$1" != [\'\"\`]* && "$1" != *[\'\"\`] && "$1" != $'\xe2\x80'* ]] || abort "DATABASE_URL begins or ends with a quote. $only"
  ! [[ "$1" =~ $words ]] || abort "DATABASE_URL is a list of words. Write it as a URL: $EXAMPLE"
  [ ! -x .venv/bin/python ] || python=.venv/bin/python
  command -v "$python" >/dev/null || abort "DATABASE_URL is read by python3, which is missing. Install Python 3.11 or newer"
  place=$(K_SERVICE=x DATABASE_URL=$1 "$python" -SBc "$JUDGE" 2>&1) || abort "$place"
  file=${place#certificate } file=${file#/workspace/}
  if [[ "$place" =~ $own ]]; then
    url_region=${BASH_REMATCH[1]} url_instance=${BASH_REMATCH[2]}
    return
  fi
  case "$place" in
    "socket "*PROJECT_ID:* | "socket "*:REGION:*) abort "DATABASE_URL holds a placeholder. Put project and region there" ;;
    "socket /cloudsql/"*) abort "DATABASE_URL names no Cloud SQL instance of $PROJECT_ID. $has" ;;
    "socket "*) abort "DATABASE_URL names a socket of this machine. $has" ;;
    '' | "certificate /etc/ssl/"*) ;;
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

check_account() {
  [ -n "$dry_run" ] || command -v gcloud >/dev/null ||
    abort "gcloud is missing. Install it: https://cloud.google.com/sdk/docs/install"
  look auth list --filter=status:ACTIVE '--format=value(account)'
  [ -n "$answer$dry_run" ] || abort "no account. Run: gcloud auth login"
  look projects describe "$PROJECT_ID" '--format=value(projectId)'
}

# --- What is there, and whose it is -----------------------------------------------------------------------------

SETTINGS=(COUNTERS MAX_COUNTERS ALLOWED_ORIGINS CLICKS_PER_MINUTE)
deployed=('' '' '' '' '' '' '' '') # the function: mark, version of the secret, state, sum of the files, the settings
secret_is='' function_is='' account_is='' # ours or foreign, where it is there
enabled='' stored='' version='' state='' databases='' users=''
record='' record_region='' record_account='' record_instance='' record_made='' record_database='' record_user=''
url='' kind='' made='' connection='' uri='' unchecked='' remove_instance='' looked='' note='' gone='' kept=''

enable() { # services
  local service missing=()
  for service in "${@/%/.googleapis.com}"; do
    has_line "$service" "$enabled" || missing+=("$service")
  done
  [ ${#missing[@]} -eq 0 ] || { change services enable "${missing[@]}" "$project" && just_enabled=1; }
}

look_around() {
  step "what is there"
  look_at_secret
  from_record REGION "$record_region" europe-west1
  from_record SERVICE_ACCOUNT "$record_account" "$FUNCTION"
  [[ "$SERVICE_ACCOUNT" =~ ^.{6,30}$ ]] ||
    abort "FUNCTION=$FUNCTION cannot name the service account, too: set SERVICE_ACCOUNT to 6 to 30 letters, digits and hyphens"
  account="$SERVICE_ACCOUNT@$PROJECT_ID.iam.gserviceaccount.com"
  mark="Made by deploy.sh for the click counter $FUNCTION"
  look_at_function
  # In a list what is missing is missing; to describe it would be refused as if a right were missing.
  look iam service-accounts list "$project" "--filter=email=$account" '--format=value[separator="|"](email,description)'
  [ -z "$answer" ] || account_is=foreign
  [ "$answer" != "$account|$mark" ] || account_is=ours
}

# The secret's labels record what was made, and which Cloud SQL instance the counts are in. Half a record is none.
RECORD='^click-counter([|][a-z0-9-]+){2}[|]([|][|][|]|[a-z0-9-]+[|](begun|(no-)?[0-9]+)([|][a-z0-9_-]+){2})$'

look_at_secret() {
  local labels=labels.made_by,labels.region,labels.account,labels.instance,labels.instance_made,labels.database,labels.user
  look secrets describe "$secret" "$project" "--format=value[separator=\"|\"]($labels)"
  [ -n "$answer" ] || return 0
  secret_is=foreign
  [[ "$answer" =~ $RECORD ]] || return 0
  secret_is=ours record=$answer
  IFS='|' read -r _ record_region record_account record_instance record_made record_database record_user <<<"$record"
}

look_at_function() {
  local of_function='labels.made_by,labels.secret_version,state,labels.source'
  look functions describe "$FUNCTION" --gen2 "--region=$REGION" "$project" \
    "--format=value[separator=\"|\"]($of_function$(printf ',serviceConfig.environmentVariables.%s' "${SETTINGS[@]}"))"
  [ -z "$answer" ] || IFS='|' read -ra deployed <<<"$answer|end"
  [ -n "$answer" ] || # every function has a service of its name; one without a function is somebody's
    look run services describe "$FUNCTION" "--region=$REGION" "$project" '--format=value(metadata.name)'
  [ -z "$answer" ] || function_is=foreign
  [ "${deployed[0]}" != click-counter ] || function_is=ours
}

from_record() { # variable, its record, its default
  [ -z "$2" ] || [ "${!1:-$2}" = "$2" ] || abort "$FUNCTION was deployed with $1=$2. Use that, or choose another FUNCTION"
  printf -v "$1" '%s' "${!1:-${2:-$3}}"
}

refuse() { # what, which variable chooses another, what else helps
  abort "$1 is there already, and this script did not make it. Choose another name: $2=…${3:-}"
}

look_at_stored() { # in the newest version
  look secrets versions list "$secret" "$project" --limit=1 '--format=value[separator="|"](name.basename(),state)'
  version=${answer%%|*}
  case "$answer" in
    *'|DISABLED') abort "version $version of the secret $secret is disabled. Enable it:\
 gcloud secrets versions enable $version --secret=$secret $project" ;;
    *'|ENABLED') look secrets versions access "$version" "--secret=$secret" "$project" && stored=$answer ;;
  esac
}

# Which database: `kind` is made (in Cloud SQL, by this script), own (in this project's Cloud SQL, by its owner) or other.
choose_database() {
  url=$DATABASE_URL kind=made
  [ -n "$url" ] || { [ -n "$take_back_url" ] && ! is_made "$stored"; } || url=$stored
  if [ -n "$url" ] && ! is_made "$url"; then
    [ "$url" = "$DATABASE_URL" ] || read_url "$url"
    [ -z "$INSTANCE$DATABASE$DATABASE_USER" ] || abort "the counts are in the Postgres of DATABASE_URL. Leave INSTANCE, DATABASE\
 and DATABASE_USER out, or, to move into Cloud SQL with INSTANCE=${INSTANCE:-click-counter}, run with DATABASE_URL= as well"
    kind=other
    [ -z "$url_instance" ] || kind=own INSTANCE=$url_instance
  elif [ "$secret_is$url$take_back_url" = ours ] && { [ -n "$version" ] || [ -z "$record_instance" ]; }; then
    abort "the secret $secret holds no URL. Give DATABASE_URL again, or an empty one (DATABASE_URL= ./deploy.sh) for Cloud SQL"
  fi
}

check_record() { # that the variables agree with it, if there is one
  [ -z "$record_instance" ] || [ "$record_instance $record_database $record_user" = \
    "${INSTANCE:-$record_instance} ${DATABASE:-$record_database} ${DATABASE_USER:-$record_user}" ] ||
    abort "the counts of $FUNCTION are in INSTANCE=$record_instance DATABASE=$record_database DATABASE_USER=$record_user.\
 Leave these variables out. To move, export the counts and run --teardown --with-database first"
}

is_made() { # URL; whether it is that of the user that was made here; its password into `password`
  local form="^postgresql://${record_user:-/}:([A-Za-z0-9._~-]+)@/$record_database"'\?host=/cloudsql/'
  [[ "$1" =~ $form"$PROJECT_ID":[a-z0-9-]+:"$record_instance"$ ]] || return 1
  password=${BASH_REMATCH[1]}
}

look_at_instance() { # instance
  local settings=settings.tier,settings.deletionProtectionEnabled,settings.backupConfiguration.startTime
  looked=$1 state='' region='' created='' tier='' protected='' backup='' grows=''
  look sql instances list "$project" "--filter=name=$1" \
    "--format=value[separator=\"|\"](state,region,createTime,$settings,settings.storageAutoResize)"
  [ -n "$answer" ] || return 0
  IFS='|' read -r state region created tier protected backup grows <<<"$answer"
  created=${created//[!0-9]/} created=${created:-0}
}

# Whether the instance that was looked at is the recorded one, not another that somebody else made under its name: by the
# time of its creation, or, where the run that made it was interrupted, by the odd time of its backups and its fixed size.
is_of_record() {
  case "$record_made" in
    begun) [ "$backup" = "$BACKUP" ] && [ "$grows" != True ] ;;
    *) [ "$created" = "${record_made#no-}" ] ;;
  esac
}

wait_for_instance() { # until it runs or is gone
  local minutes=0
  while [ -n "$state" ] && [ "$state" != RUNNABLE ]; do
    case "$state" in
      PENDING_* | *MAINTENANCE | REPAIRING) ;;
      STOPPED) abort "the Cloud SQL instance $INSTANCE is $state. Start it:\
 gcloud sql instances patch $INSTANCE $project --activation-policy=ALWAYS" ;;
      *) abort "the Cloud SQL instance $INSTANCE is $state. See: gcloud sql instances describe $INSTANCE $project. If its\
 creation failed: ./deploy.sh --teardown --with-database" ;;
    esac
    [ $((minutes += 1)) -le 20 ] || abort "the instance is $state for 20 minutes. Run ./deploy.sh again later: it goes on here."
    say "$INSTANCE is $state: waiting"
    sleep 60
    look_at_instance "$INSTANCE"
  done
}

look_at_databases() {
  look sql databases list "--instance=$INSTANCE" "$project" '--format=value(name)'
  databases=$(grep -vxF postgres <<<"$answer" || :)
  look sql users list "--instance=$INSTANCE" "$project" '--format=value(name)'
  users=$answer
}

look_at_database() {
  local database=${record_database:-clicks} user=${record_user:-clicks} socket
  look_at_instance "${record_instance:-${INSTANCE:-click-counter}}"
  if [ "$kind" = made ]; then
    if [ -n "$record_instance" ] && ! is_of_record; then # all of that is gone
      record_instance='' record_made='' record_database='' record_user='' url=''
    fi
    check_record
    [ "$record_made" != begun ] || record_database='' record_user='' # nothing was made in it yet
    given_instance=$INSTANCE
    INSTANCE=${INSTANCE:-$looked} DATABASE=${DATABASE:-$database} DATABASE_USER=${DATABASE_USER:-$user}
  fi
  [ "$INSTANCE" = "$looked" ] || look_at_instance "$INSTANCE"
  wait_for_instance
  [ "$kind" = own ] || url_region=$REGION
  region=${region:-$url_region} TIER=${tier:-$TIER}
  connection="$PROJECT_ID:$region:$INSTANCE" socket="/cloudsql/$PROJECT_ID:$region:$INSTANCE/.s.PGSQL.5432"
  [ ${#socket} -le 107 ] || abort "the socket's path $socket is longer than 107 bytes. Take a shorter INSTANCE"
  if [ "$kind" = own ]; then
    [ -n "$state$dry_run" ] || abort "there is no Cloud SQL instance $INSTANCE"
    [ "$place" = "socket $socket" ] || abort "DATABASE_URL: the socket of the instance $INSTANCE is at $socket"
  elif [ -z "$state" ]; then
    made=begun
  else
    [ -n "$given_instance$record_instance" ] || abort "a Cloud SQL instance $INSTANCE is there already, and this script did not\
 make it. INSTANCE=$INSTANCE moves into it, INSTANCE=… with another name makes one"
    made=${record_made:-no-$created}
    [ "$made" != begun ] || made=$created
    look_at_databases
    [ -n "$record_database" ] || ! has_line "$DATABASE" "$databases" ||
      refuse "the database $DATABASE in the instance $INSTANCE" DATABASE
    [ -n "$record_user" ] || ! has_line "$DATABASE_USER" "$users" ||
      refuse "the user $DATABASE_USER in the instance $INSTANCE" DATABASE_USER
  fi
}

# --- The steps --------------------------------------------------------------------------------------------------

make_service_account() {
  step "service account $SERVICE_ACCOUNT"
  [ "$account_is" = ours ] ||
    change iam service-accounts create "$SERVICE_ACCOUNT" "$project" "--display-name=Click counter" "--description=$mark"
  [ "$kind" = other ] || grant roles/cloudsql.client "serviceAccount:$account" projects "$PROJECT_ID"
}

labels() { # of the secret: the record
  printf 'made_by=click-counter,region=%s,account=%s' "$REGION" "$SERVICE_ACCOUNT"
  [ "$kind" != made ] ||
    printf ',instance=%s,instance_made=%s,database=%s,user=%s' "$INSTANCE" "$made" "$DATABASE" "$DATABASE_USER"
}

# The record is written before what it records is made: whatever is interrupted, a later run knows what is its own.
make_secret() {
  step "secret $secret"
  local replication=(--replication-policy=automatic)
  [ -z "$SECRET_LOCATIONS" ] || replication=(--replication-policy=user-managed "--locations=$SECRET_LOCATIONS")
  if [ -z "$secret_is" ]; then
    change secrets create "$secret" "$project" "${replication[@]}" "--labels=$(labels)"
  elif [ "$kind" = made ] && [ "${record#*|*|*|}" != "$INSTANCE|$made|$DATABASE|$DATABASE_USER" ]; then
    change secrets update "$secret" "$project" "--update-labels=$(labels)"
  fi
  grant roles/secretmanager.secretAccessor "serviceAccount:$account" secrets "$secret" "$project"
}

make_database() {
  if [ -z "$state" ]; then
    step "Cloud SQL instance $INSTANCE ($TIER): this takes ten minutes"
    change sql instances create "$INSTANCE" "$project" "--region=$region" "--database-version=$POSTGRES" \
      --edition=ENTERPRISE "--tier=$TIER" "--storage-size=$STORAGE_GB" --no-storage-auto-increase --deletion-protection \
      --backup "--backup-start-time=$BACKUP" --server-ca-mode=GOOGLE_MANAGED_INTERNAL_CA
    look_at_instance "$INSTANCE"
    made=$created
    change secrets update "$secret" "$project" "--update-labels=$(labels)"
  elif [ "${made#no}" = "$made" ] && [ "$protected" != True ]; then # after a teardown that was interrupted
    change sql instances patch "$INSTANCE" "$project" --deletion-protection
  fi
  step "database $DATABASE"
  has_line "$DATABASE" "$databases" || change sql databases create "$DATABASE" "--instance=$INSTANCE" "$project"
}

random() { od -An "-N$1" -tx1 /dev/urandom | tr -d ' \n'; } # bytes, in hexadecimal

store_url() {
  step "the URL of the database"
  if [ "$kind" = made ]; then
    is_made "$url" || password=$(random 24)
    url="postgresql://$DATABASE_USER:$password@/$DATABASE?host=/cloudsql/$connection"
  fi
  if [ "$url" != "$stored" ]; then
    given=$url
    change secrets versions add "$secret" "$project" --data-file=-
    look_at_stored
  fi
  version=${version:-1}
}

# The URL holds the only copy of the password, so it is stored before the user gets it. A function that was deployed
# with this version of the secret shows that the user has got it; otherwise it is set, again if need be.
make_user() {
  step "database user $DATABASE_USER"
  local verb=create
  if has_line "$DATABASE_USER" "$users"; then
    [ "$version" != "${deployed[1]}" ] || return 0
    verb=set-password
  fi
  given="--password: \"$password\""
  change sql users "$verb" "$DATABASE_USER" "--instance=$INSTANCE" "$project" --flags-file=-
}

deploy_function() {
  step "function $FUNCTION"
  local i variable source sets='' removes=''
  for i in 0 1 2 3; do
    variable=${SETTINGS[i]}
    if [ -n "${!variable+set}" ] && [ "${!variable}" != "${deployed[i + 4]}" ]; then
      if [ -n "${!variable}" ]; then sets="$sets|$variable=${!variable}"; else removes="$removes,$variable"; fi
    fi
  done
  local flags=(
    --trigger-http --entry-point=handler "--runtime=$RUNTIME" --source=. "--service-account=$account" "--cpu=$CPU"
    "--memory=$MEMORY" "--concurrency=$CONCURRENCY" "--min-instances=$MIN_INSTANCES" "--max-instances=$MAX_INSTANCES"
    --timeout=30s "--set-secrets=DATABASE_URL=$secret:latest"
  )
  # Files and flags are summed up in a label, so that a second run finds that nothing has changed.
  source=$({
    sed -n 's/^!\([^*]*[^*/]\)\/\{0,1\}$/\1/p' .gcloudignore | tr '\n' '\0' |
      xargs -0 sh -c 'find "$@" -type f' sh | sort | tr '\n' '\0' | xargs -0 cksum
    printf '%s\n' "${flags[@]}"
  } | cksum | tr ' ' -)
  [ "$sets$removes ${deployed[1]} ${deployed[2]} ${deployed[3]}" != " $version ACTIVE $source" ] || return 0
  [ -z "$sets" ] || flags+=("--update-env-vars=^|^${sets#|}")
  [ -z "$removes" ] || flags+=("--remove-env-vars=${removes#,}")
  change functions deploy "$FUNCTION" --gen2 "--region=$REGION" "$project" "${flags[@]}" \
    "--update-labels=made_by=click-counter,source=$source,secret_version=$version"
}

# What `functions deploy` has no flags for is set on the Cloud Run service that it makes. A new revision usually keeps it.
attach_database() {
  step "the socket, and a faster start"
  local sockets boost latest update=() of_revision='spec.template.metadata.annotations["run.googleapis.com'
  look run services describe "$FUNCTION" "--region=$REGION" "$project" "--format=value[separator=\"|\"](status.url,\
$of_revision/cloudsql-instances\"],$of_revision/startup-cpu-boost\"],\
metadata.annotations[\"run.googleapis.com/invoker-iam-disabled\"],spec.traffic[].latestRevision)"
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
  step "open to all visitors"
  [ "$unchecked" = true ] ||
    grant roles/run.invoker allUsers "run services" "$FUNCTION" "--region=$REGION" "$project"
}

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

# --- And back ---------------------------------------------------------------------------------------------------

plan() { # whose, what
  case "$1" in
    ours) gone="$gone  $2"$'\n' ;;
    foreign) kept="$kept  $2, which this script did not make"$'\n' ;;
    kept) kept="$kept  $2"$'\n' ;;
  esac
}

plan_removal() {
  if [ -n "$dry_run" ]; then # all is there
    function_is=ours account_is=ours secret_is=ours
    record_instance=${INSTANCE:-click-counter} record_database=${DATABASE:-clicks} record_user=${DATABASE_USER:-clicks}
  fi
  plan "$function_is" "the function $FUNCTION in $REGION"
  plan "$account_is" "the service account $SERVICE_ACCOUNT and its role"
  check_record
  INSTANCE=$record_instance DATABASE=$record_database DATABASE_USER=$record_user
  if [ -n "$with_database" ] && [ -n "$INSTANCE" ]; then
    plan_removal_of_database
  elif [ -n "$with_database" ]; then
    plan kept "every Cloud SQL instance: no secret of this script records that the counts are in one"
  elif [ -n "$INSTANCE" ]; then
    secret_is=kept
    plan kept "the counts: database $DATABASE and user $DATABASE_USER in the Cloud SQL instance $INSTANCE. --with-database\
 removes them, and the secret, which knows the password"
  fi
  plan "$secret_is" "the secret $secret$note"
}

plan_removal_of_database() {
  local others
  look_at_instance "$INSTANCE"
  state=${state:-${dry_run:+RUNNABLE}}
  if is_of_record && [ "$state $record_made" != "FAILED begun" ]; then # such a one holds nothing
    wait_for_instance
    [ -z "$state" ] || look_at_databases
  fi
  [ "$record_made" != begun ] || DATABASE='' DATABASE_USER='' # nothing was made in it yet
  others=$({ grep -vxF -- "$DATABASE" <<<"$databases"
    grep -vxF -e postgres -e "$DATABASE_USER" <<<"$users" | sed 's/./user &/'; } | grep . | paste -sd, - || :)
  if [ -z "$state" ]; then
    note=", and in it the record of the Cloud SQL instance $INSTANCE, which is not there any more"
  elif ! is_of_record || { [ "$record_made" = begun ] && [ -n "$others" ]; }; then
    plan foreign "the Cloud SQL instance $INSTANCE"
    state=''
  elif [ "${record_made#no}" = "$record_made" ] && [ -z "$others" ]; then
    remove_instance=1
    plan ours "the Cloud SQL instance $INSTANCE WITH ALL COUNTS AND BACKUPS (database ${DATABASE:-none})"
  else
    plan ours "the database $DATABASE WITH ALL COUNTS, and the user $DATABASE_USER, in the Cloud SQL instance $INSTANCE"
    plan kept "the Cloud SQL instance $INSTANCE and all else in it: ${others:-nothing}"
  fi
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

remove() {
  [ "$function_is" != ours ] || change functions delete "$FUNCTION" --gen2 "--region=$REGION" "$project"
  if [ "$account_is" = ours ]; then
    if has_role roles/cloudsql.client "serviceAccount:$account" projects "$PROJECT_ID" || [ -n "$dry_run" ]; then
      change projects remove-iam-policy-binding "$PROJECT_ID" "--member=serviceAccount:$account" \
        --role=roles/cloudsql.client --condition=None
    fi
    change iam service-accounts delete "$account" "$project"
  fi
  if [ -n "$remove_instance" ]; then
    change sql instances patch "$INSTANCE" "$project" --no-deletion-protection
    change sql instances delete "$INSTANCE" "$project"
  elif [ -n "$with_database" ] && [ -n "$state" ]; then
    ! has_line "$DATABASE" "$databases" || change sql databases delete "$DATABASE" "--instance=$INSTANCE" "$project"
    ! has_line "$DATABASE_USER" "$users" || change sql users delete "$DATABASE_USER" "--instance=$INSTANCE" "$project"
  fi
  # The last one, for it holds the password and the record of what was made.
  [ "$secret_is" != ours ] || change secrets delete "$secret" "$project"
}

check_settings
check_account
look services list --enabled "$project" '--format=value(config.name)'
enabled=$answer
if [ -n "$teardown" ]; then
  if [ -z "$dry_run" ] && ! grep -qE '^(cloudfunctions|run|secretmanager)[.]googleapis[.]com$' <<<"$enabled"; then
    say "There is nothing to remove: cloudfunctions, run and secretmanager are not enabled in $PROJECT_ID"
    exit
  fi
  look_around
  plan_removal
  confirm
  remove
  exit
fi
step "services"
enable run cloudfunctions cloudbuild artifactregistry secretmanager iam # first, for one that is not enabled hides what is there
look_around
[ "$secret_is" != foreign ] || refuse "the secret $secret" FUNCTION
[ "$function_is" != foreign ] || refuse "a function or Cloud Run service $FUNCTION" FUNCTION "\
. If it is what a removed function left: gcloud run services delete $FUNCTION --region=$REGION $project"
[ "$account_is" != foreign ] || refuse "the service account $SERVICE_ACCOUNT" SERVICE_ACCOUNT
[ "$secret_is" != ours ] || look_at_stored
choose_database
if [ "$kind" != other ]; then
  enable sqladmin sql-component
  look_at_database
fi
check_connections
make_service_account
make_secret
[ "$kind" != made ] || make_database
store_url
[ "$kind" != made ] || make_user
deploy_function
attach_database
open_to_all
smoke_test
