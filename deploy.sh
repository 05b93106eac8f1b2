#!/usr/bin/env bash
# Deploy the click counter: from an empty Google Cloud project to a running URL and one counted click, and back.
#
#   PROJECT_ID=my-project ./deploy.sh                          with a Postgres of its own (Cloud SQL)
#   PROJECT_ID=my-project DATABASE_URL=postgres://… ./deploy.sh   with any other Postgres
#   ./deploy.sh --dry-run                                      print the commands for an empty project, contact nothing
#   ./deploy.sh --teardown [--with-database] [--yes]           remove what it made; the database only when told to
#
# It can be run again at any point: what is done already is left as it is.
#
# Variables and their defaults:
#   PROJECT_ID                                    the Google Cloud project (needed)
#   DATABASE_URL                                  a Postgres of another provider; kept as a secret
#   REGION=europe-west1                           of function and database
#   FUNCTION=click-counter                        its name, and the beginning of the secret's
#   SERVICE_ACCOUNT=click-counter                 what the function runs as, before the @
#   COUNTERS= MAX_COUNTERS= ALLOWED_ORIGINS=      the function's settings, see README.md; empty: as they are
#   RUNTIME=python313  CPU=1  MEMORY=512Mi        of each instance
#   CONCURRENCY=250                               requests at once for each instance
#   MIN_INSTANCES=0  MAX_INSTANCES=8              the latter caps the cost
#   INSTANCE=click-counter  TIER=db-f1-micro      the Cloud SQL instance
#   POSTGRES=POSTGRES_16  DATABASE=clicks  DATABASE_USER=clicks
#   CONNECTIONS=                                  that the database takes; known for Cloud SQL's small tiers
set -euo pipefail
cd -- "$(dirname -- "$0")"
export CLOUDSDK_CORE_DISABLE_FILE_LOGGING=1 # gcloud would log the values of its flags, passwords too

say() { printf '%s\n' "$*" >&2; }
step() { say "==> $*"; }
abort() { say "deploy.sh: $*"; exit 2; } # 1 is the answer that there is none
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

PROJECT_ID=${PROJECT_ID:-}
DATABASE_URL=$(printf '%s' "${DATABASE_URL:-}") # without newlines at its end
REGION=${REGION:-europe-west1}
FUNCTION=${FUNCTION:-click-counter}
SERVICE_ACCOUNT=${SERVICE_ACCOUNT:-click-counter}
RUNTIME=${RUNTIME:-python313}
CPU=${CPU:-1}
MEMORY=${MEMORY:-512Mi}
CONCURRENCY=${CONCURRENCY:-250}
MIN_INSTANCES=${MIN_INSTANCES:-0}
MAX_INSTANCES=${MAX_INSTANCES:-8}
INSTANCE=${INSTANCE:-click-counter}
TIER=${TIER:-db-f1-micro}
POSTGRES=${POSTGRES:-POSTGRES_16}
DATABASE=${DATABASE:-clicks}
DATABASE_USER=${DATABASE_USER:-clicks}
if [ -n "$dry_run" ]; then PROJECT_ID=${PROJECT_ID:-my-project}; fi

member="serviceAccount:$SERVICE_ACCOUNT@$PROJECT_ID.iam.gserviceaccount.com"
secret="$FUNCTION-database-url"
connection="$PROJECT_ID:$REGION:$INSTANCE"

# --- Calling gcloud ---------------------------------------------------------------------------------------------

show() { # command
  local line
  printf -v line '%q ' "$@"
  printf '%s\n' "${line% }"
}

# Ask something; 1 where there is no such thing. In a dry run the command is shown, and there is nothing yet (in a
# teardown there is).
ask() { # arguments of gcloud
  if [ -n "$dry_run" ]; then
    show gcloud "$@" >&3
    [ -n "$teardown" ]
    return
  fi
  local said
  { said=$(gcloud "$@" 2>&1 >&4 4>&-); } 4>&1 && return
  case "$said" in
    *NOT_FOUND* | *"not found"* | *"does not exist"* | *"could not be found"* | *"404"*) return 1 ;;
    *SERVICE_DISABLED* | *"has not been used"* | *"is not enabled"*) return 1 ;;
  esac
  abort "this failed: gcloud $1 $2 $3
$said
Mend that and run ./deploy.sh again: it goes on here."
}

given='' # what the next command gets on standard input

# Do something; what gcloud says goes to standard error. What was just made is not known everywhere at once: try again.
run() { # arguments of gcloud
  if [ -n "$dry_run" ]; then
    show gcloud "$@" >&3
    return
  fi
  local said try
  for try in 1 2 3 4 5 6; do
    said=$(printf '%s' "$given" | gcloud "$@" 2>&1 | tee >(cat >&2)) && return
    case "$said" in
      *"does not exist"* | *"has not been used"* | *SERVICE_DISABLED*) ;;
      *) break ;;
    esac
    [ "$try" = 6 ] || { say "not known everywhere yet: trying again in 10 s" && sleep 10; }
  done
  abort "this failed: gcloud $1 $2 $3. Mend what it says above and run ./deploy.sh again: it goes on here."
}

feed() { # what comes on standard input, arguments of gcloud
  given=$1
  shift
  run "$@"
  given=''
}

has_line() { # line; of standard input
  grep -qxF -- "$1" # and reads it to its end, for a broken pipe would count as a failure
}

exec 3>&1

# --- What is checked before anything is done --------------------------------------------------------------------

well_formed() { # variable, extended regular expression, what is right
  if ! [[ "${!1}" =~ ^($2)$ ]]; then
    abort "$1='${!1}' is malformed: $3"
  fi
}

check_settings() {
  [ -n "$PROJECT_ID" ] || abort "PROJECT_ID is missing. Run: PROJECT_ID=my-project ./deploy.sh (gcloud projects list shows them)"
  well_formed PROJECT_ID '[a-z][a-z0-9-]{4,28}[a-z0-9]' "6 to 30 lower-case letters, digits and hyphens"
  well_formed REGION '[a-z]+-[a-z]+[0-9]+' "like europe-west1"
  well_formed FUNCTION '[a-z][a-z0-9-]{0,46}[a-z0-9]' "2 to 48 lower-case letters, digits and hyphens"
  well_formed SERVICE_ACCOUNT '[a-z][a-z0-9-]{4,28}[a-z0-9]' "6 to 30 lower-case letters, digits and hyphens"
  well_formed INSTANCE '[a-z][a-z0-9-]{0,84}' "lower-case letters, digits and hyphens"
  well_formed DATABASE '[a-z_][a-z0-9_-]{0,62}' "lower-case letters, digits, _ and -"
  well_formed DATABASE_USER '[a-z_][a-z0-9_-]{0,62}' "lower-case letters, digits, _ and -"
  well_formed MIN_INSTANCES '[0-9]{1,4}' "a number"
  well_formed MAX_INSTANCES '[1-9][0-9]{0,3}' "a number from 1"
  CONNECTIONS=${CONNECTIONS:-}
  well_formed CONNECTIONS '[0-9]{0,5}' "a number"
  well_formed CONCURRENCY '[1-9][0-9]{0,3}' "a number from 1 to 1000"
  if [ -n "$DATABASE_URL" ]; then
    case "$DATABASE_URL" in
      postgres://* | postgresql://* | postgresql+*://*) ;;
      *) abort "DATABASE_URL must look like postgresql://USER:PASSWORD@HOST:5432/DATABASE?sslmode=require" ;;
    esac
  else
    local socket="/cloudsql/$connection/.s.PGSQL.5432"
    [ ${#socket} -le 107 ] || abort "the socket's path $socket is longer than 107 bytes. Take a shorter INSTANCE"
  fi
  check_connections
}

# Each instance holds one connection; while a new revision takes over, those of the old one are still there.
check_connections() {
  local most=$CONNECTIONS
  if [ -z "$most" ] && [ -z "$DATABASE_URL" ]; then
    case "$TIER" in
      db-f1-micro) most=25 ;;
      db-g1-small) most=50 ;;
      *) most=100 ;;
    esac
  fi
  [ -n "$most" ] || return 0
  local need=$((MAX_INSTANCES * 2 + 6))
  [ "$need" -le "$most" ] || abort "MAX_INSTANCES=$MAX_INSTANCES needs $MAX_INSTANCES x 1 connection, twice while a new revision\
 takes over, and 6 for administration: $need of the $most that the database takes. Lower it to $(((most - 6) / 2)), or take a larger TIER"
}

check_account() {
  [ -z "$dry_run" ] || return 0
  command -v gcloud >/dev/null || abort "gcloud is missing. Install it: https://cloud.google.com/sdk/docs/install"
  [ -n "$(ask auth list --filter=status:ACTIVE '--format=value(account)')" ] || abort "no account. Run: gcloud auth login"
  ask projects describe "$PROJECT_ID" '--format=value(projectId)' >/dev/null ||
    abort "the project $PROJECT_ID cannot be seen. Make it, or run: gcloud auth login"
}

# --- The steps --------------------------------------------------------------------------------------------------

enable_services() {
  step "services"
  local enabled service
  local missing=()
  local wanted="run cloudfunctions cloudbuild artifactregistry secretmanager iam"
  [ -n "$DATABASE_URL" ] || wanted="$wanted sqladmin sql-component"
  enabled=$(ask services list --enabled "--project=$PROJECT_ID" '--format=value(config.name)') || [ $? -eq 1 ]
  for service in $wanted; do
    has_line "$service.googleapis.com" <<<"$enabled" || missing+=("$service.googleapis.com")
  done
  if [ ${#missing[@]} -gt 0 ]; then
    run services enable "${missing[@]}" "--project=$PROJECT_ID" --quiet
  fi
}

project_roles() { # of the service account
  ask projects get-iam-policy "$PROJECT_ID" '--flatten=bindings[].members' \
    "--filter=bindings.members=$member" '--format=value(bindings.role)' || [ $? -eq 1 ]
}

make_service_account() {
  step "service account $SERVICE_ACCOUNT"
  ask iam service-accounts describe "${member#*:}" "--project=$PROJECT_ID" >/dev/null ||
    run iam service-accounts create "$SERVICE_ACCOUNT" "--project=$PROJECT_ID" "--display-name=Click counter" --quiet
  [ -z "$DATABASE_URL" ] || return 0
  local roles
  roles=$(project_roles)
  has_line roles/cloudsql.client <<<"$roles" ||
    run projects add-iam-policy-binding "$PROJECT_ID" "--member=$member" --role=roles/cloudsql.client --condition=None --quiet
}

instance_state() {
  ask sql instances list "--project=$PROJECT_ID" "--filter=name=$INSTANCE" '--format=value(state)' || [ $? -eq 1 ]
}

make_database() {
  step "Cloud SQL instance $INSTANCE ($TIER): the first time this takes ten minutes"
  local state names minutes=0
  state=$(instance_state)
  if [ -z "$state" ]; then
    run sql instances create "$INSTANCE" "--project=$PROJECT_ID" "--region=$REGION" "--database-version=$POSTGRES" \
      --edition=ENTERPRISE "--tier=$TIER" --storage-size=10 --storage-auto-increase --deletion-protection --backup \
      --backup-start-time=03:00 --server-ca-mode=GOOGLE_MANAGED_INTERNAL_CA --quiet
    state=RUNNABLE
  fi
  while [ "$state" != RUNNABLE ]; do
    case "$state" in
      PENDING_CREATE | MAINTENANCE) ;;
      *) abort "the instance is ${state:-gone}. Look at: gcloud sql instances describe $INSTANCE --project=$PROJECT_ID" ;;
    esac
    [ $((minutes += 1)) -le 20 ] || abort "the instance is $state for 20 minutes. Run ./deploy.sh again later: it goes on here."
    say "it is $state: waiting"
    sleep 60
    state=$(instance_state)
  done
  step "database $DATABASE"
  names=$(ask sql databases list "--instance=$INSTANCE" "--project=$PROJECT_ID" '--format=value(name)') || [ $? -eq 1 ]
  has_line "$DATABASE" <<<"$names" ||
    run sql databases create "$DATABASE" "--instance=$INSTANCE" "--project=$PROJECT_ID" --quiet
}

# The stored URL holds the only copy of the password. Without one the user gets a new password.
make_user() { # the URL that is stored
  step "database user $DATABASE_USER"
  local start="postgresql://$DATABASE_USER:" end="@/$DATABASE?host=/cloudsql/$connection" users password verb=create
  case "$1" in
    "$start"*"$end")
      url=$1
      return
      ;;
  esac
  password=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
  users=$(ask sql users list "--instance=$INSTANCE" "--project=$PROJECT_ID" '--format=value(name)') || [ $? -eq 1 ]
  if has_line "$DATABASE_USER" <<<"$users"; then verb=set-password; fi
  feed "--password: \"$password\"" \
    sql users "$verb" "$DATABASE_USER" "--instance=$INSTANCE" "--project=$PROJECT_ID" --quiet --flags-file=-
  url=$start$password$end
}

store_url() { # the URL that is stored
  step "secret $secret"
  ask secrets describe "$secret" "--project=$PROJECT_ID" >/dev/null ||
    run secrets create "$secret" "--project=$PROJECT_ID" --replication-policy=automatic --quiet
  [ "$1" = "$url" ] || feed "$url" secrets versions add "$secret" "--project=$PROJECT_ID" --data-file=- --quiet
  local members
  members=$(ask secrets get-iam-policy "$secret" "--project=$PROJECT_ID" '--flatten=bindings[].members' \
    --filter=bindings.role=roles/secretmanager.secretAccessor '--format=value(bindings.members)') || [ $? -eq 1 ]
  has_line "$member" <<<"$members" ||
    run secrets add-iam-policy-binding "$secret" "--project=$PROJECT_ID" "--member=$member" \
      --role=roles/secretmanager.secretAccessor --quiet
}

deploy_function() {
  step "function $FUNCTION"
  local variable version label now environment=''
  for variable in COUNTERS MAX_COUNTERS ALLOWED_ORIGINS; do
    [ -z "${!variable:-}" ] || environment="$environment|$variable=${!variable}"
  done
  local flags=(
    --trigger-http --entry-point=handler --allow-unauthenticated "--runtime=$RUNTIME" --source=.
    "--service-account=${member#*:}" "--cpu=$CPU" "--memory=$MEMORY" "--concurrency=$CONCURRENCY"
    "--min-instances=$MIN_INSTANCES" "--max-instances=$MAX_INSTANCES" --timeout=30s
    "--set-secrets=DATABASE_URL=$secret:latest"
  )
  [ -z "$environment" ] || flags+=("--update-env-vars=^|^${environment#|}")
  # Files and settings are summed up in a label, so that a second run finds that nothing has changed.
  version=$(ask secrets versions list "$secret" "--project=$PROJECT_ID" --filter=state=ENABLED --limit=1 \
    '--format=value(name)') || [ $? -eq 1 ]
  label=$({
    find main.py db.py schema.sql requirements.txt static -type f | LC_ALL=C sort | while read -r file; do cksum "$file"; done
    printf '%s\n' "$version" "${flags[@]}"
  } | cksum | tr ' ' -)
  now=$(ask functions describe "$FUNCTION" --gen2 "--region=$REGION" "--project=$PROJECT_ID" \
    '--format=value(state,labels.source)' | tr '\t' ' ') || [ $? -eq 1 ]
  if [ "$now" != "ACTIVE $label" ]; then
    run functions deploy "$FUNCTION" --gen2 "--region=$REGION" "--project=$PROJECT_ID" "${flags[@]}" \
      "--update-labels=source=$label" --quiet
    # After a roll back the old revision would keep the visitors.
    run run services update-traffic "$FUNCTION" "--region=$REGION" "--project=$PROJECT_ID" --to-latest --quiet
  fi
}

# The deploy does that last, so that it is missing where it was interrupted.
open_to_all() {
  step "open to all visitors"
  local members
  members=$(ask run services get-iam-policy "$FUNCTION" "--region=$REGION" "--project=$PROJECT_ID" \
    '--flatten=bindings[].members' --filter=bindings.role=roles/run.invoker '--format=value(bindings.members)') || [ $? -eq 1 ]
  has_line allUsers <<<"$members" ||
    run run services add-iam-policy-binding "$FUNCTION" "--region=$REGION" "--project=$PROJECT_ID" --member=allUsers \
      --role=roles/run.invoker --quiet
}

# A new revision usually keeps the socket; the first one has none.
attach_database() {
  step "the socket of $connection"
  local attached
  attached=$(ask run services describe "$FUNCTION" "--region=$REGION" "--project=$PROJECT_ID" \
    '--format=value(spec.template.metadata.annotations["run.googleapis.com/cloudsql-instances"])') || [ $? -eq 1 ]
  tr ',' '\n' <<<"$attached" | has_line "$connection" ||
    run run services update "$FUNCTION" "--region=$REGION" "--project=$PROJECT_ID" "--add-cloudsql-instances=$connection" --quiet
}

value_of() { # JSON
  sed -n 's/.*"value": *\([0-9][0-9]*\).*/\1/p' <<<"$1"
}

smoke_test() {
  step "one click"
  local uri before after try key
  local logs="Look at: gcloud functions logs read $FUNCTION --gen2 --region=$REGION --project=$PROJECT_ID"
  local curl=(curl --silent --show-error --fail --max-time 30)
  uri=$(ask functions describe "$FUNCTION" --gen2 "--region=$REGION" "--project=$PROJECT_ID" \
    '--format=value(serviceConfig.uri)') || [ $? -eq 1 ]
  [ -z "$dry_run" ] || return 0
  [ -n "$uri" ] || abort "the function has no URL. $logs"
  for try in 1 2 3 4 5 6 7 8 9; do # a new name and new rights take a while
    ! "${curl[@]}" --output /dev/null "$uri/" || break
    [ "$try" -lt 9 ] || abort "$uri does not serve the page. $logs"
    sleep 10
  done
  if [ "$(curl --silent --max-time 30 --output /dev/null --write-out '%{http_code}' "$uri/value")" = 400 ]; then
    "${curl[@]}" --output /dev/null "$uri/health" || abort "$uri is not well. $logs"
    say "no click: COUNTERS names no counter to try, only prefixes"
    printf '%s\n' "$uri"
    return
  fi
  key=$(new_key)
  before=$(value_of "$("${curl[@]}" "$uri/value")")
  "${curl[@]}" --retry 2 --output /dev/null --request POST --header "Idempotency-Key: $key" "$uri/click" || say "no answer"
  after=$(value_of "$("${curl[@]}" "$uri/value")")
  if [ -z "$before" ] || [ -z "$after" ] || [ "$after" -le "$before" ]; then
    abort "$uri counts no click (before: ${before:-no answer}, after: ${after:-no answer}). $logs"
  fi
  say "counted: $after"
  printf '%s\n' "$uri"
}

new_key() {
  od -An -N16 -tx1 /dev/urandom | tr -d ' \n' | sed 's/^\(.\{8\}\)\(.\{4\}\)\(.\{4\}\)\(.\{4\}\)/\1-\2-\3-\4-/'
}

# --- And back ---------------------------------------------------------------------------------------------------

confirm() { # question
  [ -z "$yes" ] && [ -z "$dry_run" ] || return 0
  local answer
  printf '%s [y/N] ' "$1" >&2
  read -r answer || answer=
  [ "$answer" = y ] || abort "nothing was removed"
}

remove() {
  local what="function, secret and service account of $FUNCTION in $PROJECT_ID"
  [ -z "$with_database" ] || what="$what, AND THE DATABASE $INSTANCE WITH ALL COUNTS AND BACKUPS"
  confirm "Remove $what?"
  step "function"
  if ask functions describe "$FUNCTION" --gen2 "--region=$REGION" "--project=$PROJECT_ID" >/dev/null; then
    run functions delete "$FUNCTION" --gen2 "--region=$REGION" "--project=$PROJECT_ID" --quiet
  fi
  step "service account"
  local roles state
  roles=$(project_roles)
  if [ -n "$dry_run" ] || has_line roles/cloudsql.client <<<"$roles"; then
    run projects remove-iam-policy-binding "$PROJECT_ID" "--member=$member" --role=roles/cloudsql.client --condition=None --quiet
  fi
  if ask iam service-accounts describe "${member#*:}" "--project=$PROJECT_ID" >/dev/null; then
    run iam service-accounts delete "${member#*:}" "--project=$PROJECT_ID" --quiet
  fi
  if [ -n "$with_database" ]; then
    step "database"
    state=$(instance_state)
    if [ -n "$state$dry_run" ]; then
      run sql instances patch "$INSTANCE" "--project=$PROJECT_ID" --no-deletion-protection --quiet
      run sql instances delete "$INSTANCE" "--project=$PROJECT_ID" --quiet
    fi
  else
    say "The database is kept. --with-database removes it, too."
  fi
  step "secret" # the last one, for it holds the only copy of the password
  if ask secrets describe "$secret" "--project=$PROJECT_ID" >/dev/null; then
    run secrets delete "$secret" "--project=$PROJECT_ID" --quiet
  fi
}

check_settings
check_account
if [ -n "$teardown" ]; then
  remove
  exit
fi
enable_services
make_service_account
[ -n "$DATABASE_URL" ] || make_database
stored=$(ask secrets versions access latest "--secret=$secret" "--project=$PROJECT_ID") || [ $? -eq 1 ]
url=$DATABASE_URL
[ -n "$url" ] || make_user "$stored"
store_url "$stored"
deploy_function
open_to_all
[ -n "$DATABASE_URL" ] || attach_database
smoke_test
