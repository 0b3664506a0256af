# The virtual environment that a script runs in, made and filled as far as that is still to be done. Sourced, not run.
#   PYTHON  the interpreter to make it with (default: the first of python3.11, 3.12, 3.13 and python3 that will do)
#   VENV    where it stands (default: .venv in the repository)

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${VENV:-$root/.venv}
[[ $venv == /* ]] || venv=$PWD/$venv

say() { printf '\n== %s\n' "$*"; }

find_python() {
  local candidates=(python3.11 python3.12 python3.13 python3) candidate
  [[ -z ${PYTHON:-} ]] || candidates=("$PYTHON")
  for candidate in "${candidates[@]}"; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "error: Python 3.11, 3.12 or 3.13 is needed, and $candidate is" \
    "$("$candidate" --version 2>/dev/null || echo 'not to be found'): name one with PYTHON=/path/to/python" >&2
  return 1
}

# What an installation depends on: the same text as at the last one means that there is nothing to do.
recipe() {
  printf '%s\n' "$root" "$@"
  cat "$root/setup.cfg" "$root/pyproject.toml"
}

# prepare_venv EXTRAS [REQUIREMENT...]: the requirements first, then this package with its extras, editable, so that
# a later change to the code needs no new installation.
prepare_venv() {
  local extras=$1 requirements=("${@:2}") stamp=$venv/installed-$1.txt start=$SECONDS python
  local options=(--disable-pip-version-check)
  if cmp -s "$stamp" <(recipe "$@"); then
    say "$venv is up to date"
    return
  fi
  if ! "$venv/bin/python" -m pip --version &>/dev/null; then
    python=$(find_python)
    say "making a virtual environment in $venv with $("$python" --version)"
    "$python" -m venv "$venv"
  fi
  # Progress bars are for people.
  [[ -t 1 ]] || options+=(-qq)
  if ((${#requirements[@]})); then
    say "installing ${requirements[*]}"
    "$venv/bin/python" -m pip install "${options[@]}" "${requirements[@]}"
  fi
  say "installing keras_t2t[$extras] (the first time: minutes, and up to 4 GB of disk)"
  "$venv/bin/python" -m pip install "${options[@]}" --editable "${root}[$extras]"
  recipe "$@" >"$stamp.new"
  mv "$stamp.new" "$stamp"
  say "installed in $((SECONDS - start)) s"
}
