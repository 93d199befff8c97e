#!/usr/bin/env bash
# Prints the steps that have an image: the folders of components/ with requirements of the same name.
set -euo pipefail
cd "$(dirname "$0")/.."

for requirements in requirements/*.in; do
  step=$(basename "$requirements" .in)
  [ ! -d "components/$step" ] || echo "$step"
done
