#!/usr/bin/env bash
# Writes a list of what is in the steps' images (SPDX 2.3, JSON), asking nothing of the network.
#   containers/sbom.sh [STEP...]       default: every step
#   PREFIX=wals                        what containers/build.sh named the images with
#   OUTPUT=build/sbom                  folder for STEP.spdx.json
#   DOCKER=docker                      the client
set -euo pipefail
cd "$(dirname "$0")/.."

mapfile -t steps < <(printf '%s\n' components/*/component.py | cut -d / -f 2)
[ $# -eq 0 ] || steps=("$@")
prefix=${PREFIX:-wals}
output=${OUTPUT:-build/sbom}
docker=${DOCKER:-docker}
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)

mkdir -p "$output"
for step in "${steps[@]}"; do
  image=$prefix/$step:$version
  id=$("$docker" image inspect --format '{{.Id}}' "$image" 2>/dev/null) || {
    echo "sbom.sh: error: there is no image $image; build it with containers/build.sh" >&2
    exit 2
  }
  "$docker" run --rm --interactive --network none --entrypoint python3 "$image" - "$image" "$id" \
    <containers/sbom.py >"$output/$step.spdx.json"
  echo "$output/$step.spdx.json"
done
