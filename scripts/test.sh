#!/usr/bin/env bash
# Installs keras_t2t with all that its tests need, then runs ruff and the tests on TensorFlow, JAX and PyTorch.
# Everything runs, whatever failed before; the exit status is 1 if anything did.
#
#   scripts/test.sh [arguments of pytest, paths as seen from the repository's root]
#   VENV=/some/folder PYTHON=python3.12 scripts/test.sh --all-variants
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/venv.sh"
cd "$root"

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

step "ruff check" "$venv/bin/ruff" check .
step "ruff format --check" "$venv/bin/ruff" format --check .
for backend in tensorflow jax torch; do
  step "tests on $backend" run_tests "$backend" "$@"
  summary+=("$(tail -n 1 "$log")")
done

say "summary"
printf '%s\n' "${summary[@]}"
exit "$failed"
