#!/usr/bin/env bash
# Builds the documentation into site/. A broken link or a missing reference is an error.
#
#   scripts/docs.sh [arguments of mkdocs build]
#   VENV=/some/folder PYTHON=python3.12 scripts/docs.sh --site-dir /some/other/folder
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/venv.sh"
cd "$root"

prepare_venv docs
say "building the documentation"
"$venv/bin/mkdocs" build --strict "$@"
