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

take_back_url=''
if [ -n "${DATABASE_URL+set}" ] && [ -z "$DATABASE_URL" ]; then take_back_url=1; fi
DATABASE_URL=$(trim "${DATABASE_URL:-}")
: "${PROJECT_ID:=${dry_run:+my-project}}" "${FUNCTION:=click-counter}" "${SECRET_LOCATIONS:=}"
: "${RUNTIME:=python313}" "${CPU:=1}" "${MEMORY:=512Mi}" "${CONCURRENCY:=250}" "${MIN_INSTANCES:=0}" "${MAX_INSTANCES:=8}"
: "${TIER:=db-f1-micro}" "${POSTGRES:=POSTGRES_16}" "${STORAGE_GB:=10}" "${CONNECTIONS:=}"
# Where these are not given, the record of an earlier run decides, and then the default.
: "${REGION:=}" "${SERVICE_ACCOUNT:=}" "${INSTANCE:=}" "${DATABASE:=}" "${DATABASE_USER:=}"
given_instance=$INSTANCE

secret="$FUNCTION-database-url"
project="--project=$PROJECT_ID"

# --- Calling gcloud ---------------------------------------------------------------------------------------------

given='' just_enabled=''
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
  if [ -n "$dry_run" ]; then
    show look gcloud "$@"
    return
  fi
  for try in 1 2 3 4 5 6; do
    if answer=$(gcloud "$@" 2>"$errors" </dev/null); then return; fi
    answer='' said=$(cat "$errors")
    if is_not_found "$1 $2" "$said"; then return; fi
    if [ -z "$just_enabled" ] || ! passes "$said" "$try"; then break; fi
  done
  abort "this look-up failed: gcloud $1 $2 $3
$said
It changed nothing. Mend what gcloud says$([ "$1" != projects ] || printf ', or choose another PROJECT_ID (gcloud projects list),')\
 and run ./deploy.sh again: it goes on here."
}

# What gcloud says where there is no such thing, and nothing else: a network that is away, a missing right and a
# disabled service must not look like an empty project.
is_not_found() { # command, what gcloud said
  case "$1: $2" in
    "secrets describe: "*"NOT_FOUND: Secret [projects/"*"/secrets/$secret] not found"*) ;;
    "iam service-accounts: "*"NOT_FOUND: Unknown service account"*) ;;
    "functions describe: "*"Resource 'projects/"*"/locations/$REGION/functions/$FUNCTION' was not found"*) ;;
    "run services: "*"Cannot find service [$FUNCTION]"*) ;;
    *) return 1 ;;
  esac
}

# Change something; what gcloud says goes to standard error. `given`, if set, comes on standard input.
change() { # arguments of gcloud
  local said try input="$given"
  given=''
  if [ -n "$dry_run" ]; then
    show change gcloud "$@"
    return
  fi
  for try in 1 2 3 4 5 6; do
    said=$(printf '%s' "$input" | gcloud "$@" 2>&1 | tee >(cat >&2)) && return
    passes "$said" "$try" || break
  done
  abort "this failed: gcloud $1 $2 $3. $(remedy "$1 $2 $3" "$said") Run ./deploy.sh again: it goes on here."
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

remedy() { # command, what gcloud said
  case "$1: $2" in
    *gcp.resourceLocations*) printf '%s' "A policy of your organisation permits only some locations. Choose them with REGION" \
      " and, for the secret, like SECRET_LOCATIONS=europe-west1,europe-west4." ;;
    *"permitted customer"* | *allowedPolicyMemberDomains*) printf '%s' "A policy of your organisation" \
      " (iam.allowedPolicyMemberDomains) forbids opening it to everybody. It works for those whom you permit to call it." \
      " To open it, have the policy permit allUsers in this project, or switch the check off:" \
      " gcloud run services update $FUNCTION --region=$REGION $project --no-invoker-iam-check." ;;
    "sql instances create: "*) printf '%s' "Mend what it says above. INSTANCE chooses another name, REGION another place," \
      " DATABASE_URL another Postgres." ;;
    *) printf 'Mend what it says above.' ;;
  esac
}

has_line() { grep -qxF -- "$1"; } # line; of standard input

# --- What is checked before anything is done --------------------------------------------------------------------

well_formed() { # variable, extended regular expression, what is right
  [[ "${!1}" =~ ^($2)$ ]] || abort "$1='${!1}' is malformed: $3"
}

check_settings() {
  [ -n "$PROJECT_ID" ] || abort "PROJECT_ID is missing. Run: PROJECT_ID=my-project ./deploy.sh (gcloud projects list shows them)"
  well_formed PROJECT_ID '[a-z][a-z0-9-]{4,28}[a-z0-9]' "6 to 30 lower-case letters, digits and hyphens"
  well_formed FUNCTION '[a-z][a-z0-9-]{0,46}[a-z0-9]' "2 to 48 lower-case letters, digits and hyphens"
  [[ "$FUNCTION" =~ ^.{6,30}$ ]] || [ -n "$SERVICE_ACCOUNT" ] ||
    abort "FUNCTION=$FUNCTION cannot name the service account, too: set SERVICE_ACCOUNT to 6 to 30 letters, digits and hyphens"
  well_formed SERVICE_ACCOUNT '|[a-z][a-z0-9-]{4,28}[a-z0-9]' "6 to 30 lower-case letters, digits and hyphens"
  well_formed REGION '|[a-z]+-[a-z]+[0-9]+' "write it like europe-west1"
  [ -z "$teardown" ] || return 0
  well_formed SECRET_LOCATIONS '|[a-z0-9-]+(,[a-z0-9-]+)*' "regions separated by commas, like europe-west1,europe-west4"
  well_formed INSTANCE '|[a-z][a-z0-9-]{0,62}' "at most 63 lower-case letters, digits and hyphens"
  well_formed DATABASE '|[a-z_][a-z0-9_-]{0,62}' "at most 63 lower-case letters, digits, _ and -"
  well_formed DATABASE_USER '|[a-z_][a-z0-9_-]{0,62}' "at most 63 lower-case letters, digits, _ and -"
  well_formed RUNTIME 'python3(1[1-9]|[2-9][0-9])' "python311 or newer, like python313"
  well_formed TIER 'db-[a-z0-9-]+' "write it like db-f1-micro"
  well_formed POSTGRES 'POSTGRES_[1-9][0-9]' "write it like POSTGRES_16"
  well_formed STORAGE_GB '[1-9][0-9]{1,4}' "a whole number from 10"
  well_formed CONNECTIONS '|[1-9][0-9]{0,5}' "a whole number"
  check_size
  check_list COUNTERS '[A-Za-z0-9._:/-]{1,100}\*?' "COUNTERS=likes,post-*"
  check_list ALLOWED_ORIGINS 'https?://([a-z0-9._-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?' \
    "ALLOWED_ORIGINS=https://blog.example, in lower case and without a path"
  check_number MAX_COUNTERS 1000
  check_number CLICKS_PER_MINUTE 600
  [ -z "$DATABASE_URL" ] || check_url
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
  [ -n "$entries" ] || abort "$1 has no entry. Write it like $3, or leave it empty for the default"
  printf -v "$1" '%s' "${entries#,}"
}

check_number() { # variable, example
  [ -n "${!1:-}" ] || return 0
  printf -v "$1" '%s' "$(trim "${!1}")"
  [[ "${!1}" =~ ^[0-9]{1,9}$ ]] || abort "$1: '${!1}' is malformed. Write it like $1=$2"
}

EXAMPLE='postgresql://USER:PASSWORD@HOST:5432/DATABASE?sslmode=require'
POSTGRES_URL='^postgres(ql)?(\+[A-Za-z0-9_]+)?://(([^:/?#@]*)(:([^/?#]*))?@)?'
POSTGRES_URL=$POSTGRES_URL'(\[[0-9A-Fa-f:.]+\]|[^]:/?#@,[]*)(:([0-9]{1,5}))?(/([^/?#@]*))?(\?([^#]*))?$'

# Take a URL to pieces, as db.py does: url_user, url_password, url_host, url_database; 1 where it is none.
split_url() { # URL
  [[ "$1" =~ $POSTGRES_URL ]] || return 1
  url_query="&${BASH_REMATCH[13]}" url_host=${BASH_REMATCH[7]}
  url_user=${BASH_REMATCH[4]} url_password=${BASH_REMATCH[6]} url_database=${BASH_REMATCH[11]}
  ! parameter host || url_host=$value
  ! parameter user || url_user=$value
  ! parameter password || url_password=$value
  ! parameter dbname || url_database=$value
  ! parameter unix_sock || url_host=${value%/.s.PGSQL.*}
  url_host=$(decode "$url_host")
}

parameter() { # name; of the URL's query, into `value`
  [[ "$url_query" =~ \&"$1"=([^&]+) ]] || return 1
  value=${BASH_REMATCH[1]}
}

decode() { # a part of a URL
  local text=${1//\\/\\\\}
  printf '%b' "${text//%/\\x}"
}

# Nothing of the URL is shown, for in one that is malformed the password may be anywhere.
check_url() {
  local part
  case "$DATABASE_URL" in
    [\'\"]*) abort "DATABASE_URL begins with a quote. Leave the inner quotes out: DATABASE_URL='$EXAMPLE'" ;;
    psql*) abort "DATABASE_URL holds the whole psql command. Take only the URL in it, without its quotes: $EXAMPLE" ;;
    DATABASE_URL=* | export*) abort "DATABASE_URL holds its own name once more. Take only what follows DATABASE_URL=" ;;
    jdbc:*) abort "DATABASE_URL is written for Java. Write user and password before the host: $EXAMPLE" ;;
    host=* | user=* | dbname=*) abort "DATABASE_URL is a list of words. Write it as a URL: $EXAMPLE" ;;
  esac
  split_url "$DATABASE_URL" || abort "DATABASE_URL must look like $EXAMPLE, with one host,\
 and with @ : / ? # % in the password written as %40 %3A %2F %3F %23 %25"
  for part in "$url_user" "$url_password" "$url_host" "$url_database"; do
    case "$part" in
      \[*[!0-9A-Fa-f:.]*\] | \<*\> | \*\** | … | ... | USER | PASSWORD | HOST | DATABASE | *[Yy][Oo][Uu][Rr][-_]*)
        abort "DATABASE_URL holds a placeholder. Put the real user, password, host and database there" ;;
    esac
  done
  [ -n "$url_user" ] || abort "DATABASE_URL names no user. Write it like $EXAMPLE"
  [ -n "$url_host" ] || abort "DATABASE_URL names no host. Write it like $EXAMPLE"
  case "$url_host" in
    [Hh][Oo][Ss][Tt] | xxx* | *[.-]xxx*) abort "DATABASE_URL holds a placeholder. Put the real host there" ;;
    /cloudsql/*) ;;
    /*) abort "DATABASE_URL names a socket of this machine. The function has that of Cloud SQL, /cloudsql/PROJECT:REGION:INSTANCE" ;;
  esac
  if parameter sslcert || parameter sslkey; then abort "DATABASE_URL: sslcert and sslkey are not supported. Use a password"; fi
  ! parameter sslmode || [[ "$value" =~ ^(disable|allow|prefer|require|verify-ca|verify-full)$ ]] ||
    abort "DATABASE_URL: sslmode must be one of disable, allow, prefer, require, verify-ca, verify-full"
  ! parameter sslrootcert || [[ "$value" =~ ^(system|(/|%2[Ff]).*)$ ]] || [[ "$value" =~ ^static/[^/]+$ && -f "$value" ]] ||
    abort "DATABASE_URL: the file of sslrootcert is not uploaded. A certificate is no secret: put it into static/, and write\
 sslrootcert=static/${value##*/}"
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
enabled='' stored='' version='' state='' region='' protected='' databases='' users=''
record_region='' record_account='' record_instance='' record_made='' record_database='' record_user=''
url='' kind='' made='' connection='' uri='' unchecked='' remove_instance='' gone='' kept=''

is_enabled() { # service; all were, once there is a secret, so that a teardown must not take what it cannot see for absent
  [ -n "$dry_run" ] || has_line "$1.googleapis.com" <<<"$enabled" || [ "$teardown$secret_is" = 1ours ]
}

whose() { if [ "$1" = "$2" ]; then echo ours; else echo foreign; fi; } # the answer's mark, our mark

look_around() {
  step "what is there"
  ! is_enabled secretmanager || look_at_secret
  from_record REGION "$record_region" europe-west1
  from_record SERVICE_ACCOUNT "$record_account" "$FUNCTION"
  account="$SERVICE_ACCOUNT@$PROJECT_ID.iam.gserviceaccount.com"
  member="--member=serviceAccount:$account"
  mark="Made by deploy.sh for the click counter $FUNCTION"
  ! is_enabled cloudfunctions || look_at_function
  if is_enabled iam; then
    look iam service-accounts describe "$account" "$project" '--format=value[separator="|"](email,description)'
    [ -z "$answer" ] || account_is=$(whose "${answer#*|}" "$mark")
  fi
}

# The secret's labels record what was made, and which Cloud SQL instance the counts are in.
look_at_secret() {
  local labels=labels.made_by,labels.region,labels.account,labels.instance,labels.instance_made,labels.database,labels.user
  look secrets describe "$secret" "$project" "--format=value[separator=\"|\"]($labels)"
  [ -n "$answer" ] || return 0
  secret_is=$(whose "${answer%%|*}" click-counter)
  [ "$secret_is" = foreign ] ||
    IFS='|' read -r _ record_region record_account record_instance record_made record_database record_user <<<"$answer"
}

look_at_function() {
  local of_function='labels.made_by,labels.secret_version,state,labels.source'
  look functions describe "$FUNCTION" --gen2 "--region=$REGION" "$project" \
    "--format=value[separator=\"|\"]($of_function$(printf ',serviceConfig.environmentVariables.%s' "${SETTINGS[@]}"))"
  if [ -n "$answer" ]; then
    IFS='|' read -ra deployed <<<"$answer|end"
    function_is=$(whose "${deployed[0]}" click-counter)
  elif is_enabled run; then # every function has a service of its name; one without a function is somebody's
    look run services describe "$FUNCTION" "--region=$REGION" "$project" '--format=value(metadata.name)'
    [ -z "$answer" ] || function_is=foreign
  fi
}

from_record() { # variable, its record, its default
  [ -z "$2" ] || [ "${!1:-$2}" = "$2" ] || abort "$FUNCTION was deployed with $1=$2. Use that, or choose another FUNCTION"
  printf -v "$1" '%s' "${!1:-${2:-$3}}"
}

refuse() { # what, which variable chooses another
  abort "$1 is there already, and this script did not make it. Choose another name: $2=…"
}

refuse_foreign() {
  [ "$secret_is" != foreign ] || refuse "the secret $secret" FUNCTION
  [ "$function_is" != foreign ] || refuse "a function or Cloud Run service $FUNCTION" FUNCTION
  [ "$account_is" != foreign ] || refuse "the service account $SERVICE_ACCOUNT" SERVICE_ACCOUNT
}

look_at_version() { # the newest one
  look secrets versions list "$secret" "$project" --limit=1 '--format=value[separator="|"](name.basename(),state)'
  version=${answer%%|*}
}

look_at_stored() {
  [ "$secret_is" = ours ] || return 0
  look_at_version
  case "$answer" in
    *'|DISABLED') abort "version $version of the secret $secret is disabled. Enable it:\
 gcloud secrets versions enable $version --secret=$secret $project" ;;
    *'|ENABLED')
      look secrets versions access "$version" "--secret=$secret" "$project"
      stored=$answer
      ;;
  esac
}

# Which database: `kind` is made (in Cloud SQL, by this script), own (in this project's Cloud SQL, by its owner) or other.
choose_database() {
  url=$DATABASE_URL kind=made
  [ -n "$url" ] || { [ -n "$take_back_url" ] && ! is_made "$stored"; } || url=$stored
  if [ -n "$url" ] && ! is_made "$url" && split_url "$url"; then
    case "$url_host" in
      "/cloudsql/$PROJECT_ID:"*) kind=own INSTANCE=${url_host##*:} ;;
      /cloudsql/*) abort "DATABASE_URL names a Cloud SQL instance of another project. It must be one of $PROJECT_ID" ;;
      *) kind=other ;;
    esac
  fi
  [ "$kind" = made ] || return 0
  if ! is_recorded; then
    look_at_instance "$record_instance"
    [ -z "$state" ] || counts_are_elsewhere
    record_instance='' record_made='' record_database='' record_user='' url='' # all of that is gone
  fi
  INSTANCE=${INSTANCE:-${record_instance:-click-counter}}
  DATABASE=${DATABASE:-${record_database:-clicks}}
  DATABASE_USER=${DATABASE_USER:-${record_user:-clicks}}
}

is_recorded() { # whether the variables agree with the record, if there is one
  [ -z "$record_instance" ] || [ "$record_instance $record_database $record_user" = \
    "${INSTANCE:-$record_instance} ${DATABASE:-$record_database} ${DATABASE_USER:-$record_user}" ]
}

counts_are_elsewhere() {
  abort "the counts of $FUNCTION are in INSTANCE=$record_instance DATABASE=$record_database DATABASE_USER=$record_user.\
 Leave these variables out. To move, export the counts and run --teardown --with-database first"
}

is_made() { # URL; whether it is that of the user that was made here; its password into `password`
  local form="^postgresql://${record_user:-/}:([A-Za-z0-9._~-]+)@/$record_database"'\?host=/cloudsql/'
  [[ "$1" =~ $form"$PROJECT_ID":[a-z0-9-]+:"$record_instance"$ ]] || return 1
  password=${BASH_REMATCH[1]}
}

look_at_instance() { # instance
  state=''
  is_enabled sqladmin || return 0
  look sql instances list "$project" "--filter=name=$1" \
    '--format=value[separator="|"](state,region,settings.tier,settings.deletionProtectionEnabled)'
  [ -z "$answer" ] || IFS='|' read -r state region TIER protected <<<"$answer"
}

wait_for_instance() {
  local minutes=0
  while [ "$state" != RUNNABLE ]; do
    case "$state" in
      PENDING_CREATE | MAINTENANCE) ;;
      '') abort "there is no Cloud SQL instance $INSTANCE" ;;
      *) abort "the Cloud SQL instance $INSTANCE is $state. Start it:\
 gcloud sql instances patch $INSTANCE $project --activation-policy=ALWAYS" ;;
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
  [ "$kind" != other ] || return 0
  look_at_instance "$INSTANCE"
  [ -n "$dry_run" ] || { [ -z "$state" ] && [ "$kind" = made ]; } || wait_for_instance
  region=${region:-$REGION}
  connection="$PROJECT_ID:$region:$INSTANCE"
  local socket="/cloudsql/$connection/.s.PGSQL.5432"
  [ ${#socket} -le 107 ] || abort "the socket's path $socket is longer than 107 bytes. Take a shorter INSTANCE"
  if [ "$kind" = own ]; then
    [ "$url_host" = "/cloudsql/$connection" ] || [ -n "$dry_run" ] ||
      abort "DATABASE_URL: the socket of the instance $INSTANCE is at /cloudsql/$connection"
    connection=${url_host#/cloudsql/}
  elif [ -z "$state" ]; then
    made=yes
  else
    made=${record_made:-no}
    [ -n "$given_instance$record_instance" ] || abort "a Cloud SQL instance $INSTANCE is there already, and this script did not\
 make it. INSTANCE=$INSTANCE moves into it, INSTANCE=… with another name makes one"
    look_at_databases
    [ -n "$record_database" ] || ! has_line "$DATABASE" <<<"$databases" ||
      refuse "the database $DATABASE in the instance $INSTANCE" DATABASE
    [ -n "$record_user" ] || ! has_line "$DATABASE_USER" <<<"$users" ||
      refuse "the user $DATABASE_USER in the instance $INSTANCE" DATABASE_USER
  fi
}

# --- The steps --------------------------------------------------------------------------------------------------

# The services, and what is there once more where one was not enabled: it hid what needs it.
enable_services() {
  step "services"
  local service missing=()
  local wanted="run cloudfunctions cloudbuild artifactregistry secretmanager iam"
  [ "$kind" = other ] || wanted="$wanted sqladmin sql-component"
  for service in $wanted; do
    has_line "$service.googleapis.com" <<<"$enabled" || missing+=("$service.googleapis.com")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  change services enable "${missing[@]}" "$project"
  enabled=$enabled$'\n'$(printf '%s\n' "${missing[@]}") just_enabled=1
  [ -n "$dry_run" ] || survey
}

make_service_account() {
  step "service account $SERVICE_ACCOUNT"
  [ "$account_is" = ours ] ||
    change iam service-accounts create "$SERVICE_ACCOUNT" "$project" "--display-name=Click counter" "--description=$mark"
  [ "$kind" != other ] || return 0
  look_at_role
  [ -n "$answer" ] ||
    change projects add-iam-policy-binding "$PROJECT_ID" "$member" --role=roles/cloudsql.client --condition=None
}

look_at_role() {
  look projects get-iam-policy "$PROJECT_ID" '--flatten=bindings[].members' '--format=value(bindings.role)' \
    "--filter=bindings.members=serviceAccount:$account AND bindings.role=roles/cloudsql.client"
}

# The record is written before what it records is made: whatever is interrupted, a later run knows what is its own.
make_secret() {
  step "secret $secret"
  local replication=(--replication-policy=automatic) labels="made_by=click-counter,region=$REGION,account=$SERVICE_ACCOUNT"
  [ -z "$SECRET_LOCATIONS" ] || replication=(--replication-policy=user-managed "--locations=$SECRET_LOCATIONS")
  [ "$kind" != made ] ||
    labels="$labels,instance=$INSTANCE,instance_made=$made,database=$DATABASE,user=$DATABASE_USER"
  if [ -z "$secret_is" ]; then
    change secrets create "$secret" "$project" "${replication[@]}" "--labels=$labels"
  elif [ "$kind" = made ] && [ "$record_instance $record_made" != "$INSTANCE $made" ]; then
    change secrets update "$secret" "$project" "--update-labels=$labels"
  fi
  look secrets get-iam-policy "$secret" "$project" '--flatten=bindings[].members' \
    --filter=bindings.role=roles/secretmanager.secretAccessor '--format=value(bindings.members)'
  has_line "serviceAccount:$account" <<<"$answer" ||
    change secrets add-iam-policy-binding "$secret" "$project" "$member" --role=roles/secretmanager.secretAccessor
}

make_database() {
  if [ -z "$state" ]; then
    step "Cloud SQL instance $INSTANCE ($TIER): this takes ten minutes"
    change sql instances create "$INSTANCE" "$project" "--region=$region" "--database-version=$POSTGRES" \
      --edition=ENTERPRISE "--tier=$TIER" "--storage-size=$STORAGE_GB" --no-storage-auto-increase --deletion-protection \
      --backup --backup-start-time=03:00 --server-ca-mode=GOOGLE_MANAGED_INTERNAL_CA
  elif [ "$made $protected" = "yes False" ]; then # after a teardown that was interrupted
    change sql instances patch "$INSTANCE" "$project" --deletion-protection
  fi
  step "database $DATABASE"
  has_line "$DATABASE" <<<"$databases" || change sql databases create "$DATABASE" "--instance=$INSTANCE" "$project"
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
    look_at_version
  fi
  version=${version:-1}
}

# The URL holds the only copy of the password, so it is stored before the user gets it. A function that was deployed
# with this version of the secret shows that the user has got it; otherwise it is set, again if need be.
make_user() {
  step "database user $DATABASE_USER"
  local verb=create
  if has_line "$DATABASE_USER" <<<"$users"; then
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
    sed -n 's/^!\([^*]*[^*/]\)\/\{0,1\}$/\1/p' .gcloudignore | tr '\n' '\0' | xargs -0 -I{} find {} -type f | sort |
      tr '\n' '\0' | xargs -0 cksum
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
  local sockets boost latest update=() now='status.url
    spec.template.metadata.annotations["run.googleapis.com/cloudsql-instances"]
    spec.template.metadata.annotations["run.googleapis.com/startup-cpu-boost"]
    metadata.annotations["run.googleapis.com/invoker-iam-disabled"]
    spec.traffic[].latestRevision'
  look run services describe "$FUNCTION" "--region=$REGION" "$project" \
    "--format=value[separator=\"|\"]($(printf '%s' "$now" | tr -s '\n ' ','))"
  IFS='|' read -r uri sockets boost unchecked latest <<<"$answer"
  if [ "$sockets" != "$connection" ]; then
    if [ -n "$connection" ]; then update+=("--set-cloudsql-instances=$connection"); else update+=(--clear-cloudsql-instances); fi
  fi
  [ "$boost" = true ] || update+=(--cpu-boost)
  [ ${#update[@]} -eq 0 ] || change run services update "$FUNCTION" "--region=$REGION" "$project" "${update[@]}"
  case "$latest$dry_run" in # after a roll back the old revision would keep the visitors
    *True* | 1) ;;
    *) change run services update-traffic "$FUNCTION" "--region=$REGION" "$project" --to-latest ;;
  esac
}

# Late, for a policy may forbid it, and then the function works for those who may call it.
open_to_all() {
  step "open to all visitors"
  [ "$unchecked" != true ] || return 0
  look run services get-iam-policy "$FUNCTION" "--region=$REGION" "$project" \
    '--flatten=bindings[].members' --filter=bindings.role=roles/run.invoker '--format=value(bindings.members)'
  has_line allUsers <<<"$answer" ||
    change run services add-iam-policy-binding "$FUNCTION" "--region=$REGION" "$project" --member=allUsers \
      --role=roles/run.invoker
}

value_of() { sed -n 's/.*"value": *\([0-9][0-9]*\).*/\1/p' <<<"$1"; } # JSON

smoke_test() {
  step "one click"
  local before after try key
  local logs="Look at: gcloud functions logs read $FUNCTION --gen2 --region=$REGION $project"
  local curl=(curl --silent --show-error --fail --max-time 30)
  if [ -n "$dry_run" ]; then
    show change curl --request POST "https://$FUNCTION-XXXX.run.app/click"
    return
  fi
  [ -n "$uri" ] || abort "the function has no URL. $logs"
  for try in 1 2 3 4 5 6 7 8 9; do # a new name and new rights take a while
    ! "${curl[@]}" --output /dev/null "$uri/" || break
    [ "$try" -lt 9 ] || abort "$uri does not serve the page. $logs"
    sleep 10
  done
  before=$(curl --silent --max-time 30 --write-out ' %{http_code}' "$uri/value") || :
  if [ "${before##* }" = 400 ]; then
    "${curl[@]}" --output /dev/null "$uri/health" || abort "$uri is not well. $logs"
    say "no click: COUNTERS names no counter to try, only prefixes"
    printf '%s\n' "$uri"
    return
  fi
  key=$(random 16 | sed 's/^\(.\{8\}\)\(.\{4\}\)\(.\{4\}\)\(.\{4\}\)/\1-\2-\3-\4-/') # as a UUID
  before=$(value_of "$before")
  after=$(value_of "$("${curl[@]}" --retry 2 --request POST --header "Idempotency-Key: $key" "$uri/click")")
  [ -n "$before" ] && [ "${after:-0}" -gt "$before" ] ||
    abort "$uri counts no click (before: ${before:-no answer}, after: ${after:-no answer}). $logs"
  say "counted: $after"
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
    function_is=ours account_is=ours secret_is=ours record_made=yes
    record_instance=click-counter record_database=clicks record_user=clicks
  fi
  plan "$function_is" "the function $FUNCTION in $REGION"
  plan "$account_is" "the service account $SERVICE_ACCOUNT and its role"
  is_recorded || counts_are_elsewhere
  INSTANCE=$record_instance DATABASE=$record_database DATABASE_USER=$record_user
  if [ -n "$INSTANCE" ]; then
    look_at_instance "$INSTANCE"
    state=${state:-${dry_run:+RUNNABLE}}
    [ -z "$state" ] || plan_removal_of_database
  elif [ -n "$with_database" ]; then
    plan kept "every Cloud SQL instance: no secret $secret records that the counts are in one"
  fi
  plan "$secret_is" "the secret $secret"
}

plan_removal_of_database() {
  local others
  if [ "$state" != FAILED ]; then # such a one holds nothing
    wait_for_instance
    look_at_databases
  fi
  others=$(grep -vxF -- "$DATABASE" <<<"$databases" | paste -sd, - || :)
  if [ -z "$with_database" ]; then
    secret_is=kept
    plan kept "the counts: database $DATABASE and user $DATABASE_USER in the Cloud SQL instance $INSTANCE. --with-database\
 removes them, and the secret, which knows the password"
  elif [ "$record_made" = yes ] && [ -z "$others" ]; then
    remove_instance=1
    plan ours "the Cloud SQL instance $INSTANCE WITH ALL COUNTS AND BACKUPS (database $DATABASE)"
  else
    plan ours "the database $DATABASE WITH ALL COUNTS, and the user $DATABASE_USER, in the Cloud SQL instance $INSTANCE"
    plan kept "the Cloud SQL instance $INSTANCE and its other databases: ${others:-none}"
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
    look_at_role
    [ -z "$answer$dry_run" ] ||
      change projects remove-iam-policy-binding "$PROJECT_ID" "$member" --role=roles/cloudsql.client --condition=None
    change iam service-accounts delete "$account" "$project"
  fi
  if [ -n "$remove_instance" ]; then
    change sql instances patch "$INSTANCE" "$project" --no-deletion-protection
    change sql instances delete "$INSTANCE" "$project"
  elif [ -n "$with_database" ] && [ -n "$state" ]; then
    ! has_line "$DATABASE" <<<"$databases" || change sql databases delete "$DATABASE" "--instance=$INSTANCE" "$project"
    ! has_line "$DATABASE_USER" <<<"$users" || change sql users delete "$DATABASE_USER" "--instance=$INSTANCE" "$project"
  fi
  # The last one, for it holds the password and the record of what was made.
  [ "$secret_is" != ours ] || change secrets delete "$secret" "$project"
}

survey() {
  look_around
  refuse_foreign
  look_at_stored
  choose_database
  look_at_database
  check_connections
}

check_settings
check_account
look services list --enabled "$project" '--format=value(config.name)'
enabled=$answer
if [ -n "$teardown" ]; then
  look_around
  plan_removal
  confirm
  remove
  exit
fi
survey
enable_services
make_service_account
make_secret
[ "$kind" != made ] || make_database
store_url
[ "$kind" != made ] || make_user
deploy_function
attach_database
open_to_all
smoke_test
