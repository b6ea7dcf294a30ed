#!/bin/sh
# Lists, checks, compares, measures and removes backups.
set -eu

usage() {
    cat <<'END'
Usage: manage-backups.sh COMMAND [OPTION]...
  list                 the backups, newest first
  clean [N]            remove all but the newest N (10) of each kind; with --policy, by age
  verify [TIMESTAMP]   check one backup, or all
  compare TIMESTAMP    what differs between a backup and the databases as they are now
  info TIMESTAMP       what is in a backup
  size                 how much room the backups take
  check                whether the backups are recent, sound and not too large
  delete TIMESTAMP     remove one backup
`aqe-backup COMMAND --help` names the options of each, such as --root DIR and --json.
END
}

self=$0
while [ -L "$self" ]; do
    link=$(readlink -- "$self")
    case $link in /*) self=$link ;; *) self=$(dirname -- "$self")/$link ;; esac
done
lib=$(dirname -- "$self")/aqe-backup.sh
[ -f "$lib" ] || { printf '%s: %s is missing; copy it too\n' "${0##*/}" "$lib" >&2; exit 1; }
# shellcheck source=scripts/aqe-backup.sh
. "$lib"

case ${1:-} in
    list | clean | verify | compare | info | size | check | delete) aqe_backup "$@" ;;
    -h | --help | help) usage ;;
    '') usage >&2; exit 2 ;;
    *) printf '%s: no such command: %s\n' "${0##*/}" "$1" >&2; usage >&2; exit 2 ;;
esac
