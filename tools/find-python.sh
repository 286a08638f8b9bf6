#!/bin/sh
# Prints the path of the Python that `make` uses to create .venv: the argument (`make PYTHON=...`), or the newest
# Python from 3.11 to 3.14 on the PATH that works and can create virtual environments. If there is none, prints what
# was found and what to install to standard error and exits with 1.
#
# Searches all folders of the PATH, because the first match may be a pyenv shim that only fails.

# Prints 311 to 314. Exits with 3 for any other version, with 4 if a module is missing.
check='
import sys
if not (3, 11) <= sys.version_info[:2] <= (3, 14):
    sys.stdout.write("it is Python %d.%d" % sys.version_info[:2]); sys.exit(3)
try:
    import ensurepip, ssl, venv, zlib
except ImportError as error:
    sys.stdout.write("it has no module %s" % error.name); sys.exit(4)
sys.stdout.write("%d%02d" % sys.version_info[:2])
'

best= newest=0 found=

try() {
    answer=$("$1" -c "$check" 2>/dev/null </dev/null)
    case $? in
        0) if [ "$answer" -gt "$newest" ]; then best=$1 newest=$answer; fi ;;
        3 | 4) found="$found    $1: $answer
" ;;
        *) found="$found    $1: it does not start
" ;;
    esac
}

if [ $# -gt 0 ]; then
    try "$1"
else
    IFS=:
    for folder in $PATH; do
        for name in python3.14 python3.13 python3.12 python3.11 python3 python; do
            if [ -f "$folder/$name" ] && [ -x "$folder/$name" ]; then try "$folder/$name"; fi
        done
    done
fi

if [ -n "$best" ]; then
    printf '%s\n' "$best"
    exit 0
fi
printf '%s\n' >&2 "No suitable Python for this project.
Found:
${found:-    none on the PATH
}Expected: Python 3.11, 3.12, 3.13 or 3.14 with the modules venv and ensurepip.
Install one, then run the same command again:
    Debian, Ubuntu:  sudo apt install python3-venv   (Debian 12, Ubuntu 24.04 or newer)
    macOS:           brew install python@3.13        (Homebrew)
    Windows:         winget install Python.Python.3.13
    If Python is not on the PATH, pass its path: make demo PYTHON=/opt/python3.12/bin/python3"
exit 1
