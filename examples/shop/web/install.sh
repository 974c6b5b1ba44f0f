#!/bin/sh
# Fills node_modules from package.json, unless that has been done with exactly this list.
set -eu
if cmp -s package.json node_modules/package.json.installed; then
    echo "web: dependencies are up to date"
    exit 0
fi
npm install --no-package-lock --no-audit --no-fund --loglevel=error
cp package.json node_modules/package.json.installed
echo "web: dependencies installed"
