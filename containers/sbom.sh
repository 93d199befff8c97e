#!/usr/bin/env bash
# Lists the packages in the steps' images (SPDX 2.3, JSON), without network access.
#   containers/sbom.sh [STEP...]       default: every step
#   PREFIX=wals                        prefix that containers/build.sh gave the images
#   OUTPUT=build/sbom                  folder for STEP.spdx.json
#   DOCKER=docker                      client of the container engine
set -euo pipefail
cd "$(dirname "$0")/.."

mapfile -t steps < <(containers/steps.sh)
[ $# -eq 0 ] || steps=("$@")
prefix=${PREFIX:-wals}
output=${OUTPUT:-build/sbom}
docker=${DOCKER:-docker}
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)

mkdir -p "$output"
for step in "${steps[@]}"; do
  image=$prefix/$step:$version
  id=$("$docker" image inspect --format '{{.Id}}' "$image" 2>/dev/null) || {
    echo "sbom.sh: error: image $image does not exist; build it with containers/build.sh" >&2
    exit 2
  }
  "$docker" run --rm --interactive --network none --entrypoint python3 "$image" - "$image" "$id" \
    <containers/sbom.py >"$output/$step.spdx.json"
  echo "$output/$step.spdx.json"
done
