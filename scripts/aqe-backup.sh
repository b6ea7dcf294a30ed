# shellcheck shell=sh
# Sourced by the scripts beside it: which project is meant, and where the command is. $self: the calling script, no link.

die() {
    printf '%s: %s\n' "${0##*/}" "$2" >&2
    exit "$1"
}

# The project of a script that lies in a folder called `scripts`, unless that is the package's own folder.
project_of() {
    folder=$(CDPATH='' cd -- "$(dirname -- "$1")" && pwd -L) || return
    [ "${folder##*/}" = scripts ] && [ ! -f "${folder%/*}/bin/aqe-backup.js" ] || return
    folder=${folder%/*}
    printf '%s\n' "${folder:-/}"
}

# Sets $command to the one installed in a folder or above it.
installed_above() {
    folder=${1%/}
    while :; do
        command=$folder/node_modules/@agentic-qe/backup/bin/aqe-backup.js
        [ ! -f "$command" ] || return 0
        [ -n "$folder" ] || return 1
        folder=${folder%/*}
    done
}

# cron calls scripts from another folder: the one through which the script was called says more than the current one.
# Neither goes before a project that was named.
name_project() {
    [ -z "${AQE_PROJECT_ROOT:-}" ] || return 0
    # shellcheck disable=SC2154 # set by the calling script
    AQE_PROJECT_ROOT=$(project_of "$0" || project_of "$self" || pwd)
    export AQE_PROJECT_ROOT
}

# Of the package that the script belongs to; a copy of the script belongs to none.
find_command() {
    package=$(CDPATH='' cd -P -- "$(dirname -- "$self")/.." && pwd -P) || die 1 "cannot look into the folder of $self"
    command=$package/bin/aqe-backup.js
    [ -f "$command" ] || installed_above "$package" || installed_above "$AQE_PROJECT_ROOT" ||
        die 1 "@agentic-qe/backup is not installed in $AQE_PROJECT_ROOT, nor above it: npm install @agentic-qe/backup"
}

# Becomes the command.
aqe_backup() {
    name_project
    find_command
    command -v node >/dev/null || die 127 "node is not on PATH, which is $PATH (in a crontab, set PATH; \`command -v node\` in a shell says where it is)"
    exec node "$command" "$@"
}
