#!/usr/bin/env bash
# Installs keras_t2t into a virtual environment, trains a small T2T-ViT on real images and exports it for the edge.
#
#   scripts/quickstart.sh [the arguments of examples/quickstart.py]
#   VENV=/some/folder PYTHON=python3.12 scripts/quickstart.sh --epochs 2
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/venv.sh"

prepare_venv plot,export
say "running examples/quickstart.py $*"
exec "$venv/bin/python" "$root/examples/quickstart.py" "$@"
