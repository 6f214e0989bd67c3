#!/bin/sh
# Installs offhook, whose other name is sip4ai, for the person who runs this: no root, nothing outside two folders.
#
#   sh install.sh                                   from the source it lies in
#   curl -sSL URL-OF-THIS-FILE | OFFHOOK_SOURCE=GIT-URL bash
#   sh install.sh --uninstall
#
# Running it again upgrades. Linux and macOS, x86_64 and arm64; tested on Linux x86_64 only, macOS is untested.
set -eu

usage() {
    cat <<'USAGE'
usage: install.sh [--uninstall | --help]

Installs the commands offhook and sip4ai, in a virtual environment of their own. Run again, it upgrades.

environment:
  OFFHOOK_SOURCE   git URL or folder to install from; by default the source that install.sh lies in
  OFFHOOK_HOME     where it is installed (~/.offhook)
  OFFHOOK_BIN      where the two commands are linked (~/.local/bin)
  OFFHOOK_PYTHON   the Python to use, 3.11 or newer; by default the newest on the PATH
  OFFHOOK_EXTRAS   "local" (default: offline voice and recogniser), "local,opus,otel", or "" for none
USAGE
}

say() { printf '%s\n' "$*"; }

fail() {
    printf 'install.sh: %s\n' "$*" >&2
    exit 1
}

# ── the machine ──────────────────────────────────────────────────────────────────────────────────────────

check_machine() {
    case $(uname -s) in
        Linux) ;;
        Darwin) say "note: nobody has tried this on macOS yet" ;;
        *) fail "only Linux and macOS are served, and this is $(uname -s). On Windows, use WSL" ;;
    esac
    case $(uname -m) in
        x86_64 | amd64 | arm64 | aarch64) ;;
        *) say "note: $(uname -m) is neither x86_64 nor arm64: some parts may have to be compiled" ;;
    esac
}

# The newest Python that will do, in $python; those that will not are told.
find_python() {
    too_old='' no_venv=''
    if [ -n "${OFFHOOK_PYTHON:-}" ]; then
        set -- "$OFFHOOK_PYTHON"
    else
        set -- python3.14 python3.13 python3.12 python3.11 python3
    fi
    for candidate in "$@"; do
        command -v "$candidate" >/dev/null 2>&1 || continue
        if ! "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            too_old=$candidate
        elif ! "$candidate" -c 'import ensurepip, venv' >/dev/null 2>&1; then
            no_venv=$candidate
        else
            python=$candidate
            return
        fi
    done
    if [ -n "$no_venv" ]; then
        fail "$no_venv cannot make virtual environments. On Debian and Ubuntu: apt install $no_venv-venv"
    fi
    install_one="Install one (apt install python3 python3-venv, dnf install python3.12, brew install python),"
    install_one="$install_one or name one: OFFHOOK_PYTHON=/path/to/python3.12"
    if [ -n "$too_old" ]; then
        fail "Python 3.11 or newer is needed, and $too_old is $("$too_old" -V 2>&1). $install_one"
    fi
    fail "Python 3.11 or newer is needed, and there is none on the PATH. $install_one"
}

# ── the source ───────────────────────────────────────────────────────────────────────────────────────────

is_source() { [ -f "$1/pyproject.toml" ] && [ -d "$1/src/offhook" ]; }

# What is installed, in $source: where OFFHOOK_SOURCE says, else where this file lies.
find_source() {
    if [ -n "${OFFHOOK_SOURCE:-}" ]; then
        if [ -d "$OFFHOOK_SOURCE" ] && is_source "$OFFHOOK_SOURCE"; then
            source=$(cd "$OFFHOOK_SOURCE" && pwd -P)
        else
            clone
        fi
        return
    fi
    if [ -f "$0" ]; then # not where a shell reads this from a pipe: $0 is the shell's name then
        source=$(cd "$(dirname "$0")" && pwd -P)
        if is_source "$source"; then
            return
        fi
    fi
    fail "there is no released package yet: run install.sh in a checkout of offhook, or set OFFHOOK_SOURCE to the URL of its git repository"
}

clone() {
    command -v git >/dev/null 2>&1 || fail "git is needed to fetch $OFFHOOK_SOURCE. Install it, or set OFFHOOK_SOURCE to a folder"
    source=$new.source
    say "fetching $OFFHOOK_SOURCE"
    git clone --quiet --depth 1 -- "$OFFHOOK_SOURCE" "$source" || fail "$OFFHOOK_SOURCE cannot be fetched"
    is_source "$source" || fail "$OFFHOOK_SOURCE does not hold offhook"
}

# ── the commands ─────────────────────────────────────────────────────────────────────────────────────────

# Whether the link $1 is one of ours.
is_ours() {
    case $(readlink "$1" 2>/dev/null) in
        "$home"/*) ;;
        *) return 1 ;;
    esac
}

check_links() {
    for name in offhook sip4ai; do
        if { [ -e "$bin/$name" ] || [ -L "$bin/$name" ]; } && ! is_ours "$bin/$name"; then
            fail "$bin/$name is there and not from here. Remove it, or choose another folder with OFFHOOK_BIN"
        fi
    done
}

link_commands() {
    for name in offhook sip4ai; do
        ln -sf "$home/current/bin/$name" "$bin/$name"
    done
}

# ── installing ───────────────────────────────────────────────────────────────────────────────────────────

# Pinned lines of requirements.lock for what is installed, hashes and all; what only development needs is left out.
# uv wrote under each package who wants it ("# via"): from there the tree is walked down.
wanted_of_the_lock() {
    "$python" - "$source" "$extras" <<'PYTHON'
import re
import sys
import tomllib
from pathlib import Path

source, extras = Path(sys.argv[1]), sys.argv[2].split(",")


def name_of(requirement):
    return re.sub("[-_.]+", "-", re.split(r"[^\w.-]", requirement.strip())[0]).lower()


project = tomllib.loads((source / "pyproject.toml").read_text())
optional = project["project"]["optional-dependencies"]
unknown = [extra for extra in extras if extra and extra not in optional]
if unknown:
    sys.exit(f"install.sh: OFFHOOK_EXTRAS: there is no {unknown[0]!r}; there are: {', '.join(optional)}")
roots = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
for extra in filter(None, extras):
    roots += optional[extra]

entries, wanted_by = {}, {}
for entry in re.split(r"\n(?=[A-Za-z0-9])", (source / "requirements.lock").read_text()):
    name = name_of(entry)
    entries.setdefault(name, []).append(re.sub(r"(?m)^ *#.*\n?", "", entry).rstrip())  # one for some Pythons, one for others
    for parent in re.findall(r"(?m)^ *#(?: +via)? +([\w.-]+)$", entry):
        wanted_by.setdefault(name_of(parent), []).append(name)

wanted, ahead = set(), [name_of(root) for root in roots]
while ahead:
    name = ahead.pop()
    if name not in wanted:
        wanted.add(name)
        ahead += wanted_by.get(name, [])
if missing := sorted(wanted - set(entries)):
    sys.exit(f"install.sh: requirements.lock has no {missing[0]}, which pyproject.toml wants: get the whole source again")
print("\n".join(line for name in sorted(wanted) for line in entries[name]))
PYTHON
}

pip_install() {
    PIP_USER=no "$new/bin/python" -m pip install --quiet --disable-pip-version-check --no-input "$@"
}

install_into_new() {
    "$python" -m venv "$new" || fail "$python cannot make a virtual environment in $new"
    say "installing offhook from $source, with $("$python" -V); this takes a minute or two"
    cannot="the packages it needs cannot be installed: see above. Another Python may do (OFFHOOK_PYTHON), or fewer parts (OFFHOOK_EXTRAS=)"
    if [ -f "$source/requirements.lock" ]; then
        wanted_of_the_lock >"$new/requirements.txt"
        pip_install --require-hashes --requirement "$new/requirements.txt" || fail "$cannot"
        pip_install --no-deps --no-build-isolation "$source" || fail "offhook cannot be installed"
    else
        pip_install "$source${extras:+[$extras]}" || fail "$cannot"
    fi
    "$new/bin/python" -m pip --disable-pip-version-check check >/dev/null || fail "not all that it needs was installed"
    check_voice
    "$new/bin/sip4ai" serve --help >/dev/null || fail "it was installed, and does not run"
}

# The new one takes over at once; the one before stays, for a server that still runs from it; older ones go.
take_over() {
    before=$(readlink "$home/current" 2>/dev/null || true)
    ln -sfn "$new" "$home/current"
    for old in "$home"/venvs/*; do
        if [ "$old" != "$new" ] && [ "$old" != "$before" ]; then
            rm -rf "$old"
        fi
    done
}

# A folder of its own, in $new; by a short name: espeak-ng, the offline voice, takes 159 bytes of a path.
new_folder() {
    [ -w "$home/venvs" ] || fail "$home/venvs cannot be written to. Choose another folder with OFFHOOK_HOME"
    number=1
    until mkdir "$home/venvs/$number" 2>/dev/null; do
        number=$((number + 1))
    done
    new=$home/venvs/$number
}

check_voice() {
    "$new/bin/python" - <<'PYTHON' || fail "the path of $home is too long for the offline voice. Choose a shorter one with OFFHOOK_HOME, or do without: OFFHOOK_EXTRAS="
import importlib.util
import sys

if importlib.util.find_spec("espeakng_loader"):
    import espeakng_loader

    sys.exit(len(espeakng_loader.get_data_path().encode()) > 159)
PYTHON
}

install() {
    check_machine
    find_python
    mkdir -p "$home/venvs" || fail "$home cannot be made. Choose another folder with OFFHOOK_HOME"
    mkdir -p "$bin" || fail "$bin cannot be made. Choose another folder with OFFHOOK_BIN"
    home=$(cd "$home" && pwd -P)
    bin=$(cd "$bin" && pwd)
    check_links
    new_folder
    trap 'rm -rf "$new" "$new.source"' EXIT
    trap 'exit 130' INT TERM HUP
    find_source
    install_into_new
    take_over
    rm -rf "$new.source"
    trap - EXIT
    link_commands
    installed
}

installed() {
    version=$("$bin/sip4ai" --version) || fail "$bin/sip4ai does not run"
    say "$version is installed: $bin/sip4ai, and the same as $bin/offhook"
    case ":$PATH:" in
        *":$bin:"*) ;;
        *) say "$bin is not on your PATH: add it with  export PATH=\"$bin:\$PATH\"  in your shell's profile" ;;
    esac
    say "next: \`sip4ai\` serves, \`sip4ai --help\` shows what it reads and does"
}

uninstall() {
    if [ -d "$home" ]; then
        home=$(cd "$home" && pwd -P)
    fi
    for name in offhook sip4ai; do
        if [ -L "$bin/$name" ] && is_ours "$bin/$name"; then
            rm -f "$bin/$name"
        fi
    done
    rm -rf "$home/venvs" "$home/current"
    rmdir "$home" 2>/dev/null || true
    say "offhook is uninstalled; configuration and data folders (offhook-data) are left as they are"
}

# All of it is read before anything is done: a download that breaks off does nothing.
main() {
    unset PYTHONHOME PYTHONPATH
    [ -n "${HOME:-}" ] || [ -n "${OFFHOOK_HOME:-}" ] || fail "HOME is not set. Set it, or OFFHOOK_HOME and OFFHOOK_BIN"
    home=${OFFHOOK_HOME:-$HOME/.offhook}
    bin=${OFFHOOK_BIN:-$HOME/.local/bin}
    extras=${OFFHOOK_EXTRAS-local}
    case ${1:-} in
        "") install ;;
        --uninstall) uninstall ;;
        -h | --help) usage ;;
        *) usage >&2; exit 2 ;;
    esac
}

main "$@"
