#!/bin/sh
# Makes .venv from requirements.txt, unless it is there and made from exactly this list.
set -eu
if cmp -s requirements.txt .venv/requirements.installed; then
    echo "api: dependencies are up to date"
    exit 0
fi
rm -rf .venv
python3 -m venv .venv
.venv/bin/pip install --quiet --disable-pip-version-check -r requirements.txt
cp requirements.txt .venv/requirements.installed
echo "api: dependencies installed"
