#!/bin/sh
# Backs up every database of the project, in use or not, and checks the backup.
set -eu

usage() {
    cat <<'END'
Usage: backup-databases.sh [--compress] [--verify|--no-verify] [OPTION]...
  --compress    also make one .tar.gz of the backup
  --no-verify   don't check what was written (not recommended)
Other options are those of `aqe-backup create`, such as --root DIR, --label TEXT, --keep N, --json.
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

# The command makes an archive unless told otherwise; this script makes one only when told.
archive=--no-compress
for argument; do
    case $argument in
        -h | --help) usage; exit 0 ;;
        --compress | --no-compress) archive= ;;
    esac
done
aqe_backup create ${archive:+"$archive"} "$@"
