#!/usr/bin/env bash
# Kubeflow Pipelines on a kind cluster of this machine.
#   deploy/kind/kfp.sh up              make the cluster and install Kubeflow Pipelines
#   deploy/kind/kfp.sh load [CSV]      put the steps' images into it, and ratings as /data/ratings.csv
#   deploy/kind/kfp.sh run [NAME=VALUE...]   run the compiled pipeline there and wait for its end
#   deploy/kind/kfp.sh down            remove the cluster
# Needs docker, kind and kubectl; run also needs .venv (make setup).
set -euo pipefail
cd "$(dirname "$0")/../.."

cluster=wals
context=kind-$cluster
release=2.17.0
manifests=github.com/kubeflow/pipelines/manifests/kustomize
port=${PORT:-8080}
minutes=${MINUTES:-60}
docker=${DOCKER:-docker}
# Names of their own, so that an image with ratings inside is never taken for the one to push.
prefix=kind.local/wals
mapfile -t steps < <(printf '%s\n' components/*/component.py | cut -d / -f 2)
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)

fail() {
  echo "kfp.sh: error: $1" >&2
  exit "$2"
}

need() {
  local tool
  for tool in "$@"; do
    command -v "$tool" >/dev/null || fail "there is no $tool; install it" 2
  done
}

on_cluster() {
  kubectl --context "$context" "$@"
}

up() {
  need kind kubectl "$docker"
  if ! kind get clusters 2>/dev/null | grep -qx "$cluster"; then
    kind create cluster --config deploy/kind/cluster.yaml --wait 5m
  fi
  on_cluster apply -k "$manifests/cluster-scoped-resources?ref=$release"
  on_cluster wait crd/applications.app.k8s.io --for condition=established --timeout 60s
  on_cluster apply -k "$manifests/env/platform-agnostic?ref=$release"
  on_cluster --namespace kubeflow wait deployment --all --for condition=available --timeout "${minutes}m"
  echo "Kubeflow Pipelines $release is up; see it with: kubectl --context $context --namespace kubeflow port-forward service/ml-pipeline-ui $port:80"
}

load() {
  need kind "$docker"
  local ratings=${1:-data/ml-latest-small/ratings.csv} step folder
  [ -f "$ratings" ] || fail "there is no file $ratings" 2
  for step in "${steps[@]}"; do
    "$docker" image inspect "wals/$step:$version" >/dev/null 2>&1 ||
      fail "there is no image wals/$step:$version; build it with make images" 2
  done
  folder=$(mktemp -d)
  # shellcheck disable=SC2064 # the folder of now
  trap "rm -rf '$folder'" EXIT
  cp "$ratings" "$folder/ratings.csv"
  "$docker" build --quiet --file deploy/kind/Dockerfile.extract --build-arg IMAGE="wals/extract:$version" \
    --tag "$prefix/extract:$version" "$folder" >/dev/null
  for step in "${steps[@]}"; do
    [ "$step" = extract ] || "$docker" tag "wals/$step:$version" "$prefix/$step:$version"
    kind load docker-image --name "$cluster" "$prefix/$step:$version"
  done
}

run() {
  need kubectl
  local kfp=.venv/bin/kfp forward state
  [ -x "$kfp" ] || fail "there is no $kfp; run make setup" 2
  .venv/bin/python compile.py --target kubeflow --image-prefix "$prefix" --output-dir build/kind
  # Not through on_cluster, whose shell would be what $! names, and kubectl would outlive this script.
  kubectl --context "$context" --namespace kubeflow port-forward service/ml-pipeline-ui "$port:80" >/dev/null &
  forward=$!
  # shellcheck disable=SC2064 # the process of now
  trap "kill $forward 2>/dev/null || true" EXIT
  until (: >"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
    kill -0 "$forward" 2>/dev/null || fail "port $port cannot be forwarded; is the cluster up?" 1
    sleep 1
  done
  # Lines with links come before the JSON.
  "$kfp" --endpoint "http://127.0.0.1:$port" --output json run create --experiment-name wals \
    --package-file build/kind/wals-train.kubeflow.yaml --timeout "$((60 * minutes))" \
    "source=/data/ratings.csv" "$@" | sed -n '/^{/,$p' >build/kind/run.json
  state=$(.venv/bin/python -c 'import json; print(json.load(open("build/kind/run.json"))["state"])')
  [ "$state" = SUCCEEDED ] || fail "the run ended as $state; build/kind/run.json tells its steps" 1
  echo "The run succeeded; its report is in Runs > wals at http://127.0.0.1:$port while the port is forwarded."
}

down() {
  need kind
  kind delete cluster --name "$cluster"
}

case ${1-} in
  up | load | run | down) "$@" ;;
  *) fail "give one of: up, load, run, down" 2 ;;
esac
