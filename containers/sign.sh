#!/usr/bin/env bash
# Signs the pushed images and attests their lists of packages, with cosign 2.4 or later.
#   containers/sign.sh
#   KEY=...                            a private key's file, or gcpkms://..., awskms://..., hashivault://...;
#                                      default: the identity that cosign finds, as in GitHub's and Google's builds
#   IMAGES=build/images.json           file that containers/push.sh wrote
#   SBOM=build/sbom                    folder that containers/sbom.sh wrote
#   COSIGN=cosign                      the command
#   COSIGN_OPTIONS=...                 options of both signing and attesting
set -euo pipefail
cd "$(dirname "$0")/.."

images=${IMAGES:-build/images.json}
sbom=${SBOM:-build/sbom}
cosign=${COSIGN:-cosign}
read -ra options <<<"${COSIGN_OPTIONS-}"
[ -z "${KEY-}" ] || options+=(--key "$KEY")

fail() {
  echo "sign.sh: error: $1" >&2
  exit "$2"
}

"$cosign" version >/dev/null 2>&1 || fail "COSIGN '$cosign' cannot be run; install cosign" 2
[ -f "$images" ] || fail "$images does not exist; push the images with containers/push.sh" 2
mapfile -t pushed < <(sed -n 's/^ *"\(.*\)": "\(.*@sha256:[0-9a-f]\{64\}\)",\{0,1\}$/\1 \2/p' "$images")
[ ${#pushed[@]} -gt 0 ] || fail "$images names no image by its digest; push the images with containers/push.sh" 2
# Before anything is signed.
for image in "${pushed[@]}"; do
  list=$sbom/${image%% *}.spdx.json
  [ -f "$list" ] || fail "$list does not exist; list the packages with containers/sbom.sh" 2
done

for image in "${pushed[@]}"; do
  step=${image%% *} digest=${image#* }
  "$cosign" sign --yes "${options[@]}" "$digest" || fail "$digest cannot be signed" 1
  "$cosign" attest --yes "${options[@]}" --type spdxjson --predicate "$sbom/$step.spdx.json" "$digest" ||
    fail "the packages of $digest cannot be attested" 1
  echo "$digest"
done
