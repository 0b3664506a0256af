#!/usr/bin/env bash
# Installs keras_t2t with all that its tests need, then runs ruff, the type checker and the tests on TensorFlow, JAX and
# PyTorch. Everything runs, whatever failed before; the exit status is 1 if anything did.
#
#   scripts/test.sh [--quick | --full] [arguments of pytest, paths as seen from the repository's root]
#   VENV=/some/folder PYTHON=python3.12 scripts/test.sh --quick
#
#   --quick  an answer in three minutes: PyTorch only, which compiles nothing, without the tests that are marked as slow
#   --full   more than CI runs, for two hours: the long tests, all that a backend can run on that backend, all 14 variants
#            on each, and --quick under each other Python that is at hand
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/venv.sh"
cd "$root"

mode=
case ${1:-} in --quick | --full)
  mode=$1
  shift
  ;;
esac

# A plain `torch` would bring several gigabytes of CUDA libraries with it.
prepare_venv test torch==2.13.0

failed=0
summary=()
scratch=$(mktemp -d)
log=$scratch/log
trap 'rm -rf "$scratch"' EXIT
# Much of JAX's time goes into compiling the same small operations in every process.
export JAX_COMPILATION_CACHE_DIR=$scratch/jax
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0 JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES=-1

# step NAME COMMAND...: runs the command and notes how it went and for how long.
step() {
  local name=$1 start=$SECONDS outcome=passed
  say "$name"
  "${@:2}" || outcome=FAILED
  [[ $outcome == passed ]] || failed=1
  summary+=("== $name: $outcome, $((SECONDS - start)) s")
}

# Each backend apart, since Keras takes one when it is imported; two workers, since compiling keeps one core busy.
# shellcheck disable=SC2317  # `step` calls it
run_tests() {
  local backend=$1 status=0
  # PyTorch's threads spin while they wait for one another: one for each worker.
  KERAS_BACKEND=$backend OMP_NUM_THREADS=1 "$venv/bin/python" -m pytest -n 2 --dist worksteal "${@:2}" | tee "$log" || status=$?
  # 5 is "no test": right where all that were asked for need TensorFlow.
  [[ $status -eq 0 || ($status -eq 5 && $backend != tensorflow) ]]
}

# python_at_hand VERSION: an interpreter of that version, on the path or of pyenv.
python_at_hand() {
  local candidate
  for candidate in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python; do
    if "$candidate" -c '' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  return 1
}

backends=(tensorflow jax torch)
options=()
case $mode in
  --quick)
    backends=(torch)
    options=(-m "not slow")
    ;;
  --full) options=(--everything) ;;
esac

step "ruff check" "$venv/bin/ruff" check .
step "ruff format --check" "$venv/bin/ruff" format --check .
step "types" "$venv/bin/basedpyright" --pythonpath "$venv/bin/python"
for backend in "${backends[@]}"; do
  step "tests on $backend" run_tests "$backend" "${options[@]}" "$@"
  summary+=("$(tail -n 1 "$log")")
done

if [[ $mode == --full ]]; then
  this=$("$venv/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  for version in 3.11 3.12 3.13; do
    [[ $version != "$this" ]] || continue
    if python=$(python_at_hand "$version"); then
      step "--quick under Python $version" env PYTHON="$python" VENV="$scratch/$version" scripts/test.sh --quick "$@"
    else
      summary+=("== Python $version: not at hand, not tested")
    fi
  done
fi

say "summary"
printf '%s\n' "${summary[@]}"
exit "$failed"
