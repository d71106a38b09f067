#!/bin/sh
# Fills the image's virtual environment; each target of the Dockerfile runs it in its build stage, in the folder with pyproject.toml.
#
#   install.sh dependencies    what pyproject.toml asks for, in the versions of constraints.txt, and what EXTRA_PACKAGES names
#   install.sh package         ostinato itself
set -eu

venv=/opt/ostinato/venv
# The environment needs no pip of its own: the base image's works for it.
pip() { python3 -m pip --python "$venv/bin/python" --disable-pip-version-check --no-cache-dir "$@"; }

case "$1" in
  dependencies)
    python3 -m venv --without-pip "$venv"
    python3 -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' > requirements.txt
    # The variables hold several words, or none.
    # shellcheck disable=SC2086
    pip install ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} -c constraints.txt -r requirements.txt ${EXTRA_PACKAGES:-}
    ;;
  package)
    # What builds the package is pinned too: pip reads the first variable up to 25.2, the second one since.
    PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt pip install --no-deps .
    ;;
  *)
    echo "install.sh: $1: must be dependencies or package" >&2
    exit 2
    ;;
esac
