#!/bin/sh
# Puts a backup back; the state before is saved first.
set -eu

usage() {
    cat <<'END'
Usage: restore-databases.sh TIMESTAMP [--verify|--no-verify] [--force] [OPTION]...
  --no-verify   don't check the backup first (not recommended)
  --force       don't ask, and go on where the restore can't be undone or is suspect
Other options are those of `aqe-backup restore`, such as --root DIR, --archive FILE, --json.
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

# Nothing says which backup: what there is, in the place that was named.
show_backups() {
    usage >&2
    for argument; do
        shift
        case $argument in --force | --verify | --no-verify) ;; *) set -- "$@" "$argument" ;; esac
    done
    (aqe_backup list "$@")
    exit 1
}

chosen='' previous=''
for argument; do
    case $argument in
        -h | --help) usage; exit 0 ;;
        --archive | --archive=*) chosen=yes ;;
        -*) ;;
        *) case $previous in --root | --backup-dir | --database | --busy-timeout | --lock-timeout) ;; *) chosen=yes ;; esac ;;
    esac
    previous=$argument
done
[ -n "$chosen" ] || show_backups "$@"
aqe_backup restore "$@"
