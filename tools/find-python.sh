#!/bin/sh
# Prints the Python that `make` builds .venv with: the newest from 3.11 to 3.14 on the PATH that starts and can make
# a virtual environment, or the one that is given (`make PYTHON=...`). Where there is none it says what was found
# and what to install, on standard error, and ends with 1.
#
# All folders of the PATH are searched, not only the first: there a name may be a shim of pyenv that only fails.

# Prints 311 to 314; ends with 3 where the version is another one, with 4 where a part is missing.
check='
import sys
if not (3, 11) <= sys.version_info[:2] <= (3, 14):
    sys.stdout.write("it is Python %d.%d" % sys.version_info[:2]); sys.exit(3)
try:
    import ensurepip, ssl, venv, zlib
except ImportError as error:
    sys.stdout.write("it comes without %s" % error.name); sys.exit(4)
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
printf '%s\n' >&2 "No Python for this project.
Found:
${found:-    none on the PATH
}Expected: Python 3.11, 3.12, 3.13 or 3.14 with its modules venv and ensurepip.
What to do, then the same command again:
    Debian, Ubuntu:  sudo apt install python3-venv   (Debian 12, Ubuntu 24.04 or newer)
    macOS:           brew install python@3.13        (Homebrew)
    Windows:         winget install Python.Python.3.13
    Python is elsewhere:  name it, as in make demo PYTHON=/opt/python3.12/bin/python3"
exit 1
